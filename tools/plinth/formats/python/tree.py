"""The interpreter as it goes into an image: a CPython's files, freed of the machine they lay on."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from plinth.core.digest import Digest, canonical_json
from plinth.core.errors import InterpreterError
from plinth.formats.python.place import PREFIX

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
    all of site-packages with whatever the machine keeps there. The prefix it was installed to
    is rewritten to the image's, in text and, in place, in binaries.

    Raises:
        InterpreterError: a file cannot be freed of the machine's prefix.
    """
    prefix = executable.parent.parent
    old = os.fsencode(prefix)
    new = f"/{PREFIX}".encode()
    # The path of its library, which the executable must find in the image.
    if len(new) + len("/lib") >= len(old):
        raise InterpreterError(
            "the interpreter's prefix is too short to rewrite",
            where=str(prefix),
            expected=f"more than {len(new) + len('/lib')} characters",
            remedy="install the interpreter under a longer path",
        )
    found = []
    for path in _paths(prefix, version):
        relative = path.relative_to(prefix).as_posix()
        if path.is_symlink():
            found.append(TreeFile(relative, 0o777, b"", os.readlink(path)))  # noqa: PTH115
            continue
        mode = 0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644
        data = path.read_bytes()
        if old in data:
            binary = b"\0" in data
            data = _rewritten(data, old, new) if binary else data.replace(old, new)
        found.append(TreeFile(relative, mode, data))
    found.append(TreeFile("bin/python", 0o777, b"", f"python{version}"))
    found.append(TreeFile("bin/python3", 0o777, b"", f"python{version}"))
    return sorted(found, key=lambda file: file.path)


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
    if folders[:2] != ["lib", f"python{version}"] and folders[:1] != ["include"]:
        return False
    return not (
        _DROPPED_FOLDERS & set(folders)
        or any(folder.startswith("config-") for folder in folders)
        or name.startswith(_DROPPED_FILES)
        or name.endswith((".a", ".pyc"))
    )


def _paths(prefix: Path, version: str) -> Iterator[Path]:
    for folder, folders, names in os.walk(prefix):
        folders[:] = sorted(name for name in folders if name not in _DROPPED_FOLDERS)
        for name in sorted(names):
            path = Path(folder) / name
            if is_wanted(path.relative_to(prefix).as_posix(), version):
                yield path


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
