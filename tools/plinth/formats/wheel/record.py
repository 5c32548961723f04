"""`RECORD`: the list of a wheel's files with hash and size (PyPA, recording installed projects)."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
from collections.abc import Iterable
from typing import NamedTuple

from plinth.formats.wheel.archive import WheelArchive

_SHA256 = re.compile(r"sha256=([A-Za-z0-9_-]{43})")

ALGORITHMS = (
    "sha256",
    "sha384",
    "sha512",
    "sha3_256",
    "sha3_384",
    "sha3_512",
    "blake2b",
    "blake2s",
)
"""Those of Python's that are SHA-256 or better (binary distribution format, "RECORD")."""


class Row(NamedTuple):
    """One row: path, `sha256=<urlsafe base64>` or empty, size in bytes as text or empty."""

    path: str
    hash: str
    size: str


def hash_of(data: bytes) -> str:
    """The hash of `data` in RECORD's form."""
    return encode(hashlib.sha256(data).digest())


def encode(digest: bytes, algorithm: str = "sha256") -> str:
    """A digest in RECORD's form."""
    return f"{algorithm}=" + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def algorithm(hash_: str) -> str:
    """Which of `ALGORITHMS` a row's hash is of; empty for any other."""
    name = hash_.partition("=")[0]
    return name if name in ALGORITHMS else ""


def sha256_of(hash_: str) -> str:
    """The SHA-256 (hexadecimal) that a row's hash is.

    Raises:
        ValueError: it is of another form, or of another length.
    """
    match = _SHA256.fullmatch(hash_)
    if match is None:
        raise ValueError(f"{hash_[:100]!r} is not a SHA-256 in RECORD's form")
    return base64.urlsafe_b64decode(f"{match[1]}=").hex()


def is_plain(row: Row) -> bool:
    """Whether a row has what `row_of` gives: a SHA-256 without padding, and a size."""
    return algorithm(row.hash) == "sha256" and not row.hash.endswith("=") and bool(row.size)


def row_of(path: str, data: bytes) -> Row:
    """The row for a file."""
    return Row(path, hash_of(data), str(len(data)))


def parse(data: bytes) -> tuple[list[Row], list[str]]:
    """The rows of the RECORD `data`, and a sentence for each problem."""
    rows, problems = [], []
    try:
        reader = csv.reader(io.StringIO(data.decode(), newline=""), strict=True)
        for number, row in enumerate(filter(None, reader), 1):
            if len(row) == 3:
                rows.append(Row(*row))
            else:
                problems.append(f"row {number} has {len(row)} fields, not 3")
    except (UnicodeDecodeError, csv.Error) as error:
        problems.append(f"not CSV in UTF-8: {error}")
    return rows, problems


def read(wheel: WheelArchive) -> list[Row]:
    """The rows of the wheel's own RECORD.

    Raises:
        WheelError: there is none, or it is not CSV of three fields in UTF-8.
    """
    entry = f"{wheel.dist_info}/RECORD"
    rows, problems = parse(wheel.read(wheel.find(entry)))
    if problems:
        raise wheel.wrong(problems[0], entry)
    return rows


def write(rows: Iterable[Row]) -> bytes:
    """RECORD's bytes as pip writes them: rows sorted, CSV, lines ended by CR LF."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(sorted(rows))
    return text.getvalue().encode()
