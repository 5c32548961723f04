"""The image's user among the accounts of an operating system: passwd(5) and group(5)."""

from __future__ import annotations

from plinth.formats.layer.header import DOCKERUSER

USER = "dockeruser"
HOME = f"home/{USER}"
PASSWD, GROUP = "etc/passwd", "etc/group"
# No password, and no line of shadow(5) that would have one.
_LINES = {
    PASSWD: f"{USER}:*:{DOCKERUSER.uid}:{DOCKERUSER.gid}::/{HOME}:/bin/bash".encode(),
    GROUP: f"{USER}:*:{DOCKERUSER.gid}:".encode(),
}
ACCOUNTS = tuple(_LINES)
"""The files that have accounts, relative to /."""


def with_user(path: str, text: bytes) -> bytes:
    """`text`, which a base has at `path` (one of `ACCOUNTS`), with the line of the image's user in
    place of any other of its name; before one of its number, since programs take the first."""
    mine = _LINES[path]
    fields = mine.split(b":")
    found, placed = [], False
    for line in text.splitlines():
        other = line.split(b":")
        if other[0] == fields[0]:
            continue
        if not placed and other[2:3] == fields[2:3]:
            found.append(mine)
            placed = True
        found.append(line)
    if not placed:
        found.append(mine)
    return b"".join(line + b"\n" for line in found)
