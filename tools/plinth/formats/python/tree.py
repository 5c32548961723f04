"""The interpreter as it goes into an image: a CPython's files, freed of the machine they lay on."""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plinth.core.digest import Digest, canonical_json
from plinth.core.errors import InterpreterError
from plinth.formats.elf.read import ElfError, ElfFile, Pieces, read_elf
from plinth.formats.python.place import PREFIX

_SYSTEM = Path("/usr")
"""The prefix of a distribution's own interpreters."""

_DROPPED_FOLDERS = {
    "__pycache__",
    "ensurepip",
    "idlelib",
    "site-packages",
    "test",
    "tests",
    "tkinter",
    "turtledemo",
}
_DROPPED_FILES = ("_ctypes_test.", "_test", "_tkinter.", "_xxtestfuzz.", "xxlimited.", "turtle.py")


@dataclass(frozen=True)
class TreeFile:
    """One file of the interpreter: path relative to its prefix, mode, content; or, for a
    symbolic link, its target."""

    path: str
    mode: int
    data: bytes
    target: str = ""


def read_tree(executable: Path, version: str) -> list[TreeFile]:
    """The files of the CPython at `executable` (its `bin/python<version>`), sorted by path.

    Left out: static libraries, test suites, Tk, ensurepip, build configuration, bytecode, and
    all of site-packages with whatever the machine keeps there. Libraries of its own prefix that it
    needs come along, as conda's do. The prefix it was installed to is rewritten to the image's, in
    text and, in place, in binaries where there is room; of a distribution's, which shares its
    prefix with all else, nothing is.

    Raises:
        InterpreterError: it would not find its libraries elsewhere.
    """
    prefix = executable.parent.parent
    read = (_read(prefix, path, version) for path in _paths(prefix, version))
    found = {file.path: file for file in read if file is not None}
    if prefix != _SYSTEM:
        _add_libraries(prefix, found)
    _check_libraries(prefix, found)
    site = found.get(f"lib/python{version}/site.py")
    if site is not None and b"dist-packages" in site.data:
        # Debian's own looks for packages in a folder of another name.
        path = f"lib/python{version}/dist-packages"
        found[path] = TreeFile(path, 0o777, b"", "site-packages")
    for path in ("bin/python", "bin/python3"):
        found[path] = TreeFile(path, 0o777, b"", f"python{version}")
    return [found[path] for path in sorted(found)]


def _read(prefix: Path, relative: str, version: str) -> TreeFile | None:
    """One file below `prefix`, freed of it; None for a link that leads elsewhere."""
    path = prefix / relative
    if path.is_symlink() and relative != f"bin/python{version}":
        target = os.readlink(path)  # noqa: PTH115
        inside = posixpath.normpath(posixpath.join(posixpath.dirname(relative), target))
        return TreeFile(relative, 0o777, b"", target) if is_wanted(inside, version) else None
    mode = 0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644
    return TreeFile(relative, mode, _freed(path.read_bytes(), prefix))


def _freed(data: bytes, prefix: Path) -> bytes:
    old, new = os.fsencode(prefix), f"/{PREFIX}".encode()
    if prefix == _SYSTEM or old not in data:
        return data
    if b"\0" not in data:
        return data.replace(old, new)
    # The longest that matters: where its library is, which it must find in the image.
    return _rewritten(data, old, new) if len(new) + len("/lib") < len(old) else data


def tree_digest(files: list[TreeFile]) -> Digest:
    """The identity of an interpreter: the digest of its files' paths, modes and contents."""
    return Digest.of(
        canonical_json(
            [
                [file.path, file.mode, file.target, hashlib.sha256(file.data).hexdigest()]
                for file in files
            ]
        )
    )


def write_tree(files: Sequence[TreeFile], folder: Path) -> None:
    """Write `files` below `folder`, so that the interpreter can run from there."""
    for file in files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.target:
            path.symlink_to(file.target)
        else:
            path.write_bytes(file.data)
            path.chmod(file.mode)


def is_wanted(path: str, version: str) -> bool:
    """Whether a file of an installed CPython, `path` relative to its prefix, goes into images."""
    *folders, name = path.split("/")
    if folders[:1] == ["bin"]:
        return name == f"python{version}"
    if folders == ["lib"]:
        return name.startswith(f"libpython{version}") and ".so" in name
    headers = (
        folders[:1] == ["include"] and folders[1:] and folders[1].startswith(f"python{version}")
    )
    if folders[:2] != ["lib", f"python{version}"] and not headers:
        return False
    return not (
        _DROPPED_FOLDERS & set(folders)
        or any(folder.startswith("config-") for folder in folders)
        or name.startswith(_DROPPED_FILES)
        or name.endswith((".a", ".pyc"))
    )


def _paths(prefix: Path, version: str) -> Iterator[str]:
    """The wanted files below `prefix`, relative to it. Others than these folders are not looked
    into: a distribution's prefix has the whole system in it."""
    headers = (path.name for path in prefix.glob(f"include/python{version}*"))
    for top in ("bin", "lib", f"lib/python{version}", *(f"include/{name}" for name in headers)):
        for folder, folders, names in os.walk(prefix / top):
            deeper = top.count("/")
            folders[:] = sorted(n for n in folders if deeper and n not in _DROPPED_FOLDERS)
            for name in sorted(names):
                path = Path(folder, name).relative_to(prefix).as_posix()
                if is_wanted(path, version):
                    yield path


def _add_libraries(prefix: Path, found: dict[str, TreeFile]) -> None:
    """Add the libraries of `prefix` that the files in `found` need, and those that these need."""
    waiting = list(found.values())
    while waiting:
        for name in _object(waiting.pop()).needed:
            path = f"lib/{name}"
            if path not in found and "/" not in name and (prefix / path).is_file():
                # A link is its file: what it is called is what it is found by.
                found[path] = TreeFile(path, 0o755, _freed((prefix / path).read_bytes(), prefix))
                waiting.append(found[path])


def _check_libraries(prefix: Path, found: Mapping[str, TreeFile]) -> None:
    """Refuse an interpreter whose libraries are found on its own machine alone."""
    for file in found.values():
        about = _object(file)
        folders = [*filter(None, f"{about.rpath}:{about.runpath}".split(":"))]
        if any(folder.startswith(("$ORIGIN", f"/{PREFIX}/")) for folder in folders):
            continue
        lost = any(name.startswith("libpython") or f"lib/{name}" in found for name in about.needed)
        held = prefix != _SYSTEM and any(Path(f).is_relative_to(prefix) for f in folders)
        if lost or held:
            raise InterpreterError(
                "the interpreter would not find its own libraries in an image",
                where=str(prefix / file.path),
                expected=f"search folders relative to it ($ORIGIN), or below its prefix, of more "
                f"than {len(PREFIX) + len('//lib')} characters",
                found=":".join(folders) or "none",
                remedy="take another build: uv's and conda's can be moved",
            )


def _object(file: TreeFile) -> ElfFile:
    if file.data.startswith(b"\x7fELF"):
        with contextlib.suppress(ElfError):
            return read_elf(Pieces([file.data])) or ElfFile()
    return ElfFile()


def _rewritten(data: bytes, old: bytes, new: bytes) -> bytes:
    """A binary with the C strings that hold `old` rewritten in place.

    Linkers let one string be the tail of another ("3.7.16" of a prefix that ends so), so bytes
    behind the new, shorter string's NUL stay as they were; a string whose rest is so long that
    even this could reach into such a tail is left alone.
    """
    result = bytearray(data)
    at = 0
    while (found := data.find(old, at)) >= 0:
        end = data.find(b"\0", found)
        end = len(data) if end < 0 else end
        string = data[found:end].replace(old, new) + b"\0"
        if len(string) <= len(old):
            result[found : found + len(string)] = string
        at = end
    return bytes(result)
