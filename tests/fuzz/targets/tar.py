"""Tar headers: ours, written, and read by our reader."""

from __future__ import annotations

from pathlib import Path

from plinth.formats.layer.header import DIRECTORY, END, FILE, SYMLINK, Owner, header
from plinth.formats.tar import Source, members

KINDS = {FILE: "file", SYMLINK: "symlink", DIRECTORY: "directory"}


def parse(data: bytes, folder: Path) -> None:
    """Write the header `data` asks for; what is written is read as it was meant."""
    kind = (FILE, SYMLINK, DIRECTORY)[data[0] % 3 if data else 0]
    path, _, target = data[1:].decode("utf-8", "replace").partition("\n")
    target = target.replace("\0", "") if kind == SYMLINK else ""
    mode = len(data) & 0o7777
    written = header(path, kind, mode=mode, owner=Owner(len(data), 7), target=target)
    ((member, _),) = members(Source([written + END]))
    assert member.kind == KINDS[kind]
    assert member.path == path.rstrip("/")
    assert (member.mode, member.uid, member.gid) == (mode, len(data), 7)
    assert member.target == target
