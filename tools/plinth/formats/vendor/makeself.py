"""Where in a makeself archive its tar is: what its shell script says of itself, not executed.

makeself 2.1 to 2.5 write a script whose first lines assign variables; behind the script, whose
number of lines it names, is one compressed tar that reaches to the end of the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import BinaryIO

from plinth.core.errors import PackageError

MAX_HEADER = 1 << 20
"""The longest script that is read (bytes): one with a long licence has 100 kB."""

COMPRESSORS = {
    "gzip": "gzip",
    "pigz": "gzip",
    "bzip2": "bzip2",
    "pbzip2": "bzip2",
    "xz": "xz",
    "zstd": "zstd",
    "none": "",
}
"""makeself's name of a compression, and the format it gives."""

Match = Callable[[bytes], "re.Match[bytes] | None"]

_VERSION = re.compile(rb"# This script was generated using Makeself 2\.[1-5](\.\S*)?")
_SKIP = re.compile(rb'skip="(\d{1,6})"')
# Older ones have the number itself wherever the script needs it.
_HEAD = re.compile(rb"offset=`head -n (\d{1,6}) \"\$[01]\" \| wc -c")
_SIZES = re.compile(rb'filesizes="([\d ]*)"')
_COMPRESS = re.compile(rb'\s*echo COMPRESS=\\?"?([a-z0-9-]+)\\?"?')
_ENCRYPTED = re.compile(rb'decrypt_cmd="(.+)"')
_SEARCHED = 20_000


@dataclass(frozen=True)
class Payload:
    """The compressed tar of a makeself archive: where it begins, its bytes, its compression
    (a value of `COMPRESSORS`)."""

    offset: int
    size: int
    compression: str


def payload(stream: BinaryIO, name: str) -> Payload:
    """The payload of the makeself archive `stream`, called `name` in messages.

    Raises:
        PackageError: it is none; its script contradicts itself or the file's length; or its
            payload is encrypted or compressed in a way that is not read.
    """
    length = stream.seek(0, 2)
    stream.seek(0)
    head = stream.read(MAX_HEADER)
    lines = head.split(b"\n")
    if not head.startswith(b"#!") or len(lines) < 2 or not _VERSION.fullmatch(lines[1]):
        raise PackageError(
            "not a makeself archive",
            where=name,
            expected="a script that makeself 2.1 to 2.5 made",
            found=head[:60].split(b"\n")[0].decode("ascii", "backslashreplace"),
        )
    written = _matches(_skipped, lines[:_SEARCHED])
    count = int(written[0]) if written else 0
    if not 2 <= count < len(lines):
        raise PackageError(
            "the script ends nowhere",
            where=name,
            expected=f"at most {MAX_HEADER} bytes",
            found=f"{count} lines" if written else "no number of lines",
        )
    script = lines[:count]
    _only("how many lines it has", set(_matches(_skipped, script)), name)
    sizes = _only("how long its payload is", _matches(_SIZES.fullmatch, script), name)
    compressor = _only("how it is compressed", _matches(_COMPRESS.fullmatch, script), name)
    offset = sum(len(line) + 1 for line in script)
    if not sizes.isdigit() or offset + int(sizes) != length:
        raise PackageError(
            "the file is not as long as its script says",
            where=name,
            expected=f"{offset} bytes of script, then {sizes or 'one payload'}",
            found=f"{length} bytes",
        )
    if _matches(_ENCRYPTED.fullmatch, script):
        raise PackageError("the payload is encrypted", where=name)
    if compressor not in COMPRESSORS:
        known = ", ".join(COMPRESSORS)
        raise PackageError(
            "the payload's compression is not read", where=name, expected=known, found=compressor
        )
    return Payload(offset, int(sizes), COMPRESSORS[compressor])


def _skipped(line: bytes) -> re.Match[bytes] | None:
    return _SKIP.fullmatch(line) or _HEAD.search(line)


def _matches(match: Match, lines: Iterable[bytes]) -> list[str]:
    """The group of each line that `match` finds something in."""
    found = filter(None, map(match, lines))
    return [one[1].decode("ascii", "backslashreplace") for one in found]


def _only(what: str, found: Iterable[str], name: str) -> str:
    values = sorted(found)
    if len(values) != 1:
        # Which of several counts, a shell decides by what it executes.
        raise PackageError(
            f"the script does not state once {what}",
            where=name,
            found=", ".join(values[:4]) or "nothing",
        )
    return values[0]
