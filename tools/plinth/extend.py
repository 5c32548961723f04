"""`plinth extend`: an image of one's own on top of one of the catalogue, locked and derived."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tomli_w

from plinth.errors import PlinthError, Problem, ProblemsError, SpecError
from plinth.spec.image import load_image
from plinth.store import atomic_write
from plinth.workspace import Workspace


def read_requirements(path: Path) -> list[str]:
    """The requirements in a requirements.txt: names and versions, one a line.

    Raises:
        ProblemsError: it cannot be read, or a line is an option or a path: what decides a lock
            belongs into the specification.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ProblemsError(str(path), [Problem("", f"cannot be read: {error}")]) from None
    found, problems = [], []
    for number, line in enumerate(lines, 1):
        text = line.split(" #")[0].strip()
        if not text or text.startswith("#"):
            continue
        if text.startswith("-") or text.startswith((".", "/")):
            problems.append(Problem(f"line {number}", f"only names and versions, not {text!r}"))
        found.append(text)
    if problems:
        raise ProblemsError(str(path), problems)
    return found


def write_extension(
    ws: Workspace,
    extends: str,
    name: str,
    *,
    requirements: Sequence[str],
    packages: Sequence[str],
) -> None:
    """Write `images/<name>.toml`, which adds Python `requirements` and OS `packages` to the image
    `extends`; the same once more changes nothing.

    Raises:
        SpecError: the result is not a valid specification; nothing is left behind.
        PlinthError: another image has that name.
    """
    document = {
        "extends": extends,
        "summary": f"{extends} with {', '.join([*requirements, *packages]) or 'nothing more'}",
        "python": {"requirements": list(requirements)},
        "os": {"packages": list(packages)},
    }
    path = ws.images / f"{name}.toml"
    text = f"# Made by plinth extend {extends}; yours to edit.\n{tomli_w.dumps(document)}"
    old = path.read_text(encoding="utf-8") if path.exists() else None
    if old is not None and f'extends = "{extends}"' not in old:
        raise PlinthError(
            f"there is an image {name} already, and it does not extend {extends}",
            where=f"images/{name}.toml",
            remedy="choose another name with --name",
        )
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    try:
        load_image(ws.images, name)
    except SpecError:
        if old is None:
            path.unlink()
        else:
            path.write_text(old, encoding="utf-8")
        raise
