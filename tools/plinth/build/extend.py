"""`plinth extend`: an image of one's own on top of one of the catalogue, locked and derived."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tomli_w

from plinth.core.errors import PlinthError, Problem, ProblemsError, SpecError
from plinth.core.store import atomic_write
from plinth.graph.workspace import Workspace
from plinth.recipe.asked.requirements import logical_lines
from plinth.recipe.base import NAME
from plinth.recipe.image import load_image


def read_requirements(path: Path) -> list[str]:
    """The requirements in a requirements.txt: names and versions, one a line.

    Raises:
        ProblemsError: it cannot be read, or a line is an option or a path: what decides a lock
            belongs into the specification.
    """
    try:
        lines = [*logical_lines(path.read_text(encoding="utf-8-sig"))]
    except (OSError, UnicodeDecodeError) as error:
        raise ProblemsError(str(path), [Problem("", f"cannot be read: {error}")]) from None
    found, problems = [], []
    for line in lines:
        text = line.text
        if text.startswith(("-", ".", "/")):
            problems.append(
                Problem(f"line {line.number}", f"only names and versions, not {text!r}")
            )
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
        PlinthError: another image has that name, or this one was edited.
    """
    if not NAME.fullmatch(name):
        # Before anything is written: a name with a slash would be a folder.
        problem = Problem("", f"{name!r} cannot be an image id: lower case, digits, '.', '-', '_'")
        raise SpecError(f"images/{name}.toml", [problem])
    document = {
        "extends": extends,
        "summary": f"{extends} with {', '.join([*requirements, *packages]) or 'nothing more'}",
        "python": {"requirements": list(requirements)},
        "os": {"packages": list(packages)},
    }
    path = ws.images / f"{name}.toml"
    text = f"# Made by plinth extend {extends}; yours to edit.\n{tomli_w.dumps(document)}"
    old = path.read_text(encoding="utf-8") if path.exists() else None
    if old == text:
        return
    if old is not None:
        raise PlinthError(
            f"there is an image {name} already, and it is another one",
            where=f"images/{name}.toml",
            remedy=f"edit that file and run doit lock:{name} and doit build:{name}, remove it, "
            "or choose another name with --name",
        )
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    try:
        load_image(ws.images, name)
    except SpecError:
        path.unlink()
        raise
