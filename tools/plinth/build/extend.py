"""`plinth extend`: an image of one's own on top of one of the catalogue, locked and derived."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import tomli_w

from plinth.build.contract_files import CONDA
from plinth.core.errors import PlinthError, Problem, ProblemsError, SpecError
from plinth.core.report import Progress
from plinth.core.store import atomic_write
from plinth.graph.workspace import Workspace
from plinth.recipe.asked.requirements import logical_lines
from plinth.recipe.base import NAME
from plinth.recipe.image import load_image, load_target


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
    return _plain(str(path), ((f"line {line.number}", line.text) for line in lines))


def read_conda_file(ws: Workspace, extends: str, path: Path, progress: Progress) -> list[str]:
    """The requirements in a conda environment file, for an image on top of `extends`.

    The command `conda` of the images reads it, out of base/rootfs: what a container would install
    is what is locked. `progress` is told what each package became.

    Raises:
        ProblemsError: it cannot be read, or asks for what no package index has.
        SpecError: there is no image `extends`.
    """
    python = load_target(ws.bases, load_image(ws.images, extends).base).python
    reader = ws.bases / "rootfs" / CONDA / "bin" / "conda"
    done = subprocess.run(
        [sys.executable, "-IB", str(reader), "plinth-read", str(path), f"--python={python}"],
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise PlinthError(
            "the command conda failed", where=str(reader), found=done.stderr
        ) from None
    if done.returncode:
        problems = [Problem("", detail) for detail in found["details"]]
        what = found["what"].removeprefix(f"{path}: ")
        raise ProblemsError(str(path), [Problem("", what), *problems])
    for note in found["notes"]:
        progress(f"{path}: {note}")
    return [*found["packages"], *_of_pip(path, found["pip"])]


def _of_pip(path: Path, lines: Sequence[str]) -> list[str]:
    """The requirements of a pip section, those of files that it names among them."""
    found: list[str] = []
    for line in lines:
        option, _, value = line.partition(" ")
        if option in ("-r", "--requirement"):
            found += read_requirements(Path(value))
        else:
            found += _plain(str(path), (("pip", one.text) for one in logical_lines(line)))
    return found


def _plain(where: str, lines: Iterable[tuple[str, str]]) -> list[str]:
    """Lines that are requirements, each given with its place in `where`.

    Raises:
        ProblemsError: one is an option or a path.
    """
    found, problems = [], []
    for at, text in lines:
        if text.startswith(("-", ".", "/")):
            problems.append(Problem(at, f"only names and versions, not {text!r}"))
        found.append(text)
    if problems:
        raise ProblemsError(where, problems)
    return found


def read_bindings(texts: Sequence[str]) -> dict[str, str]:
    """Which named index each project comes from, of texts `PROJECT=INDEX`.

    Raises:
        PlinthError: one has another form, or a project is there twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        project, _, index = (part.strip() for part in text.partition("="))
        # An index of that name nobody could have meant: `pip`'s == is no binding.
        sound = bool(project and index) and "=" not in index
        if not sound or project in found:
            raise PlinthError(
                f"{project} is bound twice" if sound else "invalid binding",
                where=f"--bind {text}",
                expected="PROJECT=INDEX, an index that the settings name under [indexes]",
            )
        found[project] = index
    return found


def write_extension(
    ws: Workspace,
    extends: str,
    name: str,
    *,
    requirements: Sequence[str],
    packages: Sequence[str],
    indexes: Mapping[str, str],
) -> bool:
    """Write `images/<name>.toml`, which adds Python `requirements` and OS `packages` to the image
    `extends`, with the named `indexes` of projects; False where the same was there already.

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
        "python": {
            "requirements": list(requirements),
            **({"indexes": dict(indexes)} if indexes else {}),
        },
        "os": {"packages": list(packages)},
    }
    path = ws.images / f"{name}.toml"
    text = f"# Made by plinth extend {extends}; yours to edit.\n{tomli_w.dumps(document)}"
    old = path.read_text(encoding="utf-8") if path.exists() else None
    if old == text:
        return False
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
    return True


@contextmanager
def undone_on_failure(ws: Workspace, name: str, progress: Progress) -> Iterator[None]:
    """Take back the specification of the image `name`, which was just written, and what the block
    leaves in its folder of locks, where the block fails: what was there before stays, and so does
    a specification that somebody edits meanwhile."""
    path, folder = ws.images / f"{name}.toml", ws.locks / name
    written, before = path.read_bytes(), _files(folder)
    try:
        yield
    except BaseException:
        if not path.exists() or path.read_bytes() != written:
            raise
        for file in _files(folder).keys() - before.keys():
            file.unlink()
        for file, content in before.items():
            with atomic_write(file) as temporary:
                temporary.write_bytes(content)
        with suppress(OSError):
            # One that has files, or was never there.
            folder.rmdir()
        path.unlink()
        progress(
            f"nothing of {name} was left: images/{name}.toml, which this command wrote, and its "
            "lock were removed; change the request and run it again"
        )
        raise


def _files(folder: Path) -> dict[Path, bytes]:
    found = folder.iterdir() if folder.is_dir() else ()
    return {path: path.read_bytes() for path in found if path.is_file()}
