"""All files of a layer, hashed as they pass, with the few whose text is needed later."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from plinth.core.errors import LayoutError, Problem
from plinth.formats.layer.form import TarForm
from plinth.formats.python.place import PREFIX
from plinth.formats.tar import HARDLINK, Content, Member, Source, members
from plinth.formats.vendor.layer import RECORDS
from plinth.inspect.contents.model import DIRECTORY, FILE, OTHER, SYMLINK, Entry

MAX_KEPT, MAX_KEPT_ALL = 32 << 20, 256 << 20
"""Bytes of one file that is kept, and of all of them."""

MAX_PROBLEMS = 1_000
_KEPT = re.compile(
    rf"{PREFIX}/lib/python3\.\d+/site-packages/[^/]+\.dist-info/(METADATA|RECORD)"
    rf"|{PREFIX}/include/python3[^/]*/patchlevel\.h"
    r"|var/lib/dpkg/(status|status\.d/[^/]+|info/[^/]+\.(list|md5sums))"
    r"|usr/share/doc/[^/]+/copyright|usr/lib/os-release|etc/os-release|etc/passwd|etc/group"
    rf"|{RECORDS}/[^/]+\.json"
)


@dataclass
class Files:
    """A layer's entries by path; MD5 (hex) of files outside Python's folder; the content of those
    that say what belongs to whom; what is wrong with any; and how the tar is not of plinth's form,
    see `TarForm`."""

    entries: dict[str, Entry] = field(default_factory=dict)
    md5: dict[str, str] = field(default_factory=dict)
    kept: dict[str, bytes] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    difference: str = ""

    def wrong(self, path: str, message: str) -> None:
        """Note a problem of the file at `path`."""
        self.problems.append(Problem(path, message))
        if len(self.problems) > MAX_PROBLEMS:
            raise LayoutError(f"the layer has more than {MAX_PROBLEMS} problems", where=path)


def read_files(plain: Source, *, legacy: bool = True) -> Files:
    """All files of the layer `plain`; `legacy` computes MD5 too, which dpkg's lists need.

    Raises:
        LayoutError: the layer is damaged, or readers would differ about it.
    """
    found, form = Files(), TarForm()
    room = MAX_KEPT_ALL
    for member, pieces in members(plain):
        form.entry(member, plain.between)
        path = _path(member, found)
        if not path:
            continue
        entry = _entry(member, path, pieces, found, legacy=legacy)
        if path in found.entries:
            found.wrong(path, "two entries have this path")
        found.entries[path] = entry
        room -= len(found.kept.get(path, b""))
        if room < 0:
            raise LayoutError("package records are too large", where=path)
    form.end(plain.between, plain.position)
    found.difference = form.difference
    _parents(found)
    return found


def _path(member: Member, found: Files) -> str:
    """An entry's path relative to /, empty for the root itself."""
    name, path = _shown(member.name), _shown(member.path)
    if name != member.name:
        found.wrong(name, "its name is not UTF-8")
    if not path and member.kind == DIRECTORY and not name.startswith("/"):
        return ""
    parts = path.split("/")
    if name.startswith("/") or not {"", ".", ".."}.isdisjoint(parts):
        found.wrong(name, "its path is not relative, normal and inside the root")
    if any(part.startswith(".wh.") for part in parts):
        found.wrong(name, "a whiteout: it would hide files of the layers below")
    return path or "/"


def _shown(name: str) -> str:
    """`name` with bytes that are not UTF-8 made visible."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _entry(member: Member, path: str, pieces: Content, found: Files, *, legacy: bool) -> Entry:
    common = member.mode, member.uid, member.gid
    for key in member.extra:
        found.wrong(path, f"its extended header says {key!r}, which no package gives a file")
    if member.kind == FILE:
        sha256 = _hashed(path, member.size, pieces, found, legacy=legacy)
        return Entry(path, FILE, *common, member.size, sha256)
    if member.kind == DIRECTORY:
        return Entry(path, DIRECTORY, *common)
    target = _shown(member.target)
    if member.kind == SYMLINK:
        return Entry(path, SYMLINK, *common, target=target)
    if member.kind == HARDLINK:
        other = found.entries.get(_shown(member.target_path))
        if other is not None and other.kind == FILE:
            if common != (other.mode, other.uid, other.gid):
                # Some tools give the one file of both what its first name says, some the last.
                found.wrong(
                    path,
                    f"a hard link with mode {member.mode:04o} and owner {member.uid}:{member.gid}; "
                    f"{target!r}, which it is a link to, has {other.mode:04o} and "
                    f"{other.uid}:{other.gid}",
                )
            if other.path in found.md5:
                found.md5[path] = found.md5[other.path]
            if other.path in found.kept:
                found.kept[path] = found.kept[other.path]
            return Entry(path, FILE, other.mode, other.uid, other.gid, other.size, other.sha256)
        found.wrong(path, f"a hard link to {target!r}, which is no file of this layer above it")
    else:
        found.wrong(path, "a device or special file")
    return Entry(path, OTHER, *common, target=target)


def _hashed(path: str, size: int, pieces: Content, found: Files, *, legacy: bool) -> str:
    """The SHA-256 of a file; its MD5 and its content are put where they belong."""
    sha256 = hashlib.sha256()
    # dpkg's lists have MD5; they come after the files they name, so all are hashed.
    md5 = None
    if legacy and not path.startswith(f"{PREFIX}/"):
        md5 = hashlib.md5(usedforsecurity=False)
    kept: list[memoryview] | None = [] if legacy and _KEPT.fullmatch(path) else None
    if kept is not None and size > MAX_KEPT:
        raise LayoutError("a package record is too large", where=path, found=f"{size} bytes")
    for piece in pieces:
        sha256.update(piece)
        if md5 is not None:
            md5.update(piece)
        if kept is not None:
            kept.append(piece)
    if md5 is not None:
        found.md5[path] = md5.hexdigest()
    if kept is not None:
        found.kept[path] = b"".join(kept)
    return sha256.hexdigest()


def _parents(found: Files) -> None:
    """Note entries that lie under what is no folder: they would land somewhere else."""
    entries = found.entries
    sound: set[str] = set()
    for path in entries:
        folder = path.rpartition("/")[0]
        while folder and folder not in sound:
            above = entries.get(folder)
            if above is not None and above.kind != DIRECTORY:
                found.wrong(path, f"it lies under {folder}, which is a {above.kind}")
                break
            sound.add(folder)
            folder = folder.rpartition("/")[0]
