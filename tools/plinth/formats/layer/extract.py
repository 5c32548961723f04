"""A layer's files in a folder, and nowhere else.

Written by our own code, since this may be root's work on a stranger's layer: `tarfile`'s filter
for foreign archives takes devices, and writes through what an entry before put there.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path

from plinth.core.errors import IntegrityError, LayoutError
from plinth.formats.layer.blob import layer_tar
from plinth.formats.layer.header import MAX_PATH, check_path, is_too_long
from plinth.formats.tar import DIRECTORY, FILE, HARDLINK, SYMLINK, Content, Member

MAX_DEPTH = 255
"""Folders in one path. Python's own removal of a tree calls itself for each."""

# Set-id bits and what others may write are not for a folder that somebody else may enter.
_MODES = 0o755


def extract(layer: Path, folder: Path) -> None:
    """Unpack the layer blob at `layer` over what is in `folder`, without owners and set-id bits.

    What is there already gives way to what an entry says, as in a container (image-spec, layer.md,
    "Changeset over existing files"), and nothing is written through a link.

    Raises:
        IntegrityError: it is damaged, unpacks to too much, or holds what a folder is not given:
            paths that leave it or lead through links, hard links to other things than its files,
            devices and pipes.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with layer_tar(layer) as entries:
            unpack(entries, folder)
    except LayoutError as error:
        raise IntegrityError(
            f"unreadable layer: {error.brief}",
            where=str(layer),
            remedy="delete the file; the next build makes or fetches it again",
        ) from None


def unpack(entries: Iterable[tuple[Member, Content]], root: Path) -> None:
    """Put `entries` over what is in the folder `root`, as `extract` does.

    Raises:
        LayoutError: there is what a folder is not given.
        OSError: the folder cannot be written.
    """
    folders: dict[str, Member] = {}
    known: set[Path] = set()
    for member, content in entries:
        name = member.path
        if not name:
            continue
        path = _place(root, name, known)
        if member.kind != DIRECTORY and path in known:
            # It gives way, with all below it.
            known.clear()
        if member.kind == DIRECTORY:
            if path.is_symlink() or not path.is_dir():
                _remove(path)
                path.mkdir()
            folders[name] = member
        elif member.kind == SYMLINK:
            if not 0 < len(member.target) <= MAX_PATH:
                raise LayoutError("a link that leads nowhere", where=name)
            _remove(path)
            path.symlink_to(member.target)
        elif member.kind == HARDLINK:
            target = _place(root, member.target_path, known)
            if target.is_symlink() or not target.is_file():
                raise LayoutError("a hard link to what is no file", where=name)
            if target != path:
                _remove(path)
                path.hardlink_to(target)
        elif member.kind == FILE:
            _remove(path)
            _write(path, content, member)
        else:
            raise LayoutError("a device or special file", where=name)
    # Last, for what is written into a folder changes it.
    for name, member in reversed(folders.items()):
        path = root / name
        # It may have given way to something else, or a folder above it to a link.
        real = path.parent in known or not any(one.is_symlink() for one in _line(root, name)[:-1])
        if real and path.is_dir() and not path.is_symlink():
            path.chmod(member.mode & _MODES | stat.S_IRWXU)
            os.utime(path, (member.mtime, member.mtime))


def _place(root: Path, name: str, known: set[Path]) -> Path:
    """Where `name` is, below folders that are made where there are none, and are no links; those
    that are `known` are not looked at again.

    Raises:
        LayoutError: it is a path that leaves the root, or leads through what is no folder.
    """
    check_path(name)
    if is_too_long(name) or name.count("/") > MAX_DEPTH:
        raise LayoutError("a path is too long", where=f"{name[:80]}…")
    path = root / name
    above, folder = [], path.parent
    while folder != root and folder not in known:
        above.append(folder)
        folder = folder.parent
    for folder in reversed(above):
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise LayoutError("a parent of this path is not a directory", where=name)
        if not folder.exists():
            folder.mkdir()
            folder.chmod(_MODES)
        known.add(folder)
    return path


def _line(root: Path, name: str) -> list[Path]:
    """The folders below the root that lead to `name`, and its own place."""
    return list(accumulate(name.split("/"), Path.joinpath, initial=root))[1:]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write(path: Path, content: Content, member: Member) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as stream:
        stream.writelines(content)
        os.fchmod(stream.fileno(), member.mode & _MODES)
    os.utime(path, (member.mtime, member.mtime))
