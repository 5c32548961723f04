"""`admit`: the check every wheel passes before it enters the store.

A wheel is foreign input. What is refused here never gets a name in the store, so no later step
has to doubt paths, sizes or hashes again; layers recheck lengths and CRC-32 while they are made.
"""

from __future__ import annotations

import hashlib
import stat
import unicodedata
import zipfile
from pathlib import Path

from isal import isal_zlib
from packaging.utils import canonicalize_name, canonicalize_version

from plinth.formats.layer.header import is_too_long
from plinth.formats.wheel import metadata, record
from plinth.formats.wheel.archive import DEFLATED, STORED, WheelArchive

MAX_ENTRIES = 200_000
MAX_BYTES = 16 << 30
FREE_BYTES = 1 << 30
MAX_RATIO = 100
"""A wheel that unpacks to more than `FREE_BYTES`, and to more than so many times its own size, is a
bomb. A single file may be all zeros: deflate makes a thousandth of them."""


def admit(path: Path, filename: str, name: str, version: str) -> None:
    """Check that the wheel at `path` is sound and is the one the lock means.

    Raises:
        WheelError: naming the wheel, the entry and what is wrong with it.
    """
    with WheelArchive(path, filename) as wheel:
        _identity(wheel, name, version)
        _structure(wheel)
        _contents(wheel)


def _identity(wheel: WheelArchive, name: str, version: str) -> None:
    wanted = (canonicalize_name(name), canonicalize_version(version))
    if (wheel.name, canonicalize_version(wheel.version)) != wanted:
        raise wheel.wrong(
            "the file name is not of the package the lock names",
            expected=f"{name} {version}",
            found=f"{wheel.name} {wheel.version}",
        )
    info = wheel.dist_info
    about = metadata.parse(metadata.read(wheel))
    if not about.is_of(name, version):
        raise wheel.wrong(
            "the metadata is of another package",
            f"{info}/METADATA",
            expected=f"{name} {version}",
            found=f"{about.name} {about.version}",
        )
    wheel_headers = metadata.headers(wheel.read(wheel.find(f"{info}/WHEEL")))
    stated = str(wheel_headers.get("Wheel-Version", ""))
    if stated.split(".")[0] != "1":
        raise wheel.wrong(
            "unsupported Wheel-Version",
            f"{info}/WHEEL",
            expected="1.x",
            found=stated,
        )


def _structure(wheel: WheelArchive) -> None:
    if len(wheel.infos) > MAX_ENTRIES:
        raise wheel.wrong(f"{len(wheel.infos)} entries are more than the {MAX_ENTRIES} allowed")
    total = sum(info.file_size for info in wheel.infos)
    if total > MAX_BYTES:
        raise wheel.wrong(f"{total} bytes unpacked are more than the {MAX_BYTES} allowed")
    if total > max(FREE_BYTES, MAX_RATIO * wheel.size):
        raise wheel.wrong(
            "decompression bomb",
            expected=f"at most {FREE_BYTES} bytes unpacked, or {MAX_RATIO} times its size",
            found=f"{wheel.size} bytes that unpack to {total}",
        )
    seen: dict[str, str] = {}
    spans = []
    for info in wheel.infos:
        _entry(wheel, info)
        # Two names a file system may take for one are as bad as two equal names.
        folded = unicodedata.normalize("NFC", info.filename).casefold()
        if folded in seen:
            raise wheel.wrong(
                "duplicate entry" if seen[folded] == info.filename else "entries collide",
                info.filename,
                found=seen[folded],
            )
        seen[folded] = info.filename
        begin, end = wheel.span(info)
        spans.append((info.header_offset, begin, end, info.filename))
    previous = 0
    for offset, _, end, name in sorted(spans):
        if offset < previous:
            raise wheel.wrong("entry overlaps another", name)
        previous = end
    names = set(seen.values())
    for name in names:
        parts = name.rstrip("/").split("/")
        for depth in range(1, len(parts)):
            if "/".join(parts[:depth]) in names:
                raise wheel.wrong("a file is used as a folder", name)


def _entry(wheel: WheelArchive, info: zipfile.ZipInfo) -> None:
    name = info.filename
    parts = name.removesuffix("/").split("/")
    if info.orig_filename != name or "\\" in name or "\0" in info.orig_filename:
        raise wheel.wrong("backslash or NUL in a path", repr(info.orig_filename))
    if name.startswith("/") or ":" in parts[0]:
        raise wheel.wrong("absolute path", name)
    if any(part in ("", ".", "..") for part in parts):
        raise wheel.wrong("path escapes or is not normal", name)
    if is_too_long(name):
        raise wheel.wrong("path too long", name[:80] + "…", found=f"{len(name.encode())} bytes")
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise wheel.wrong("control character in a path", repr(name))
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "symbolic link" if kind == stat.S_IFLNK else "special file"
        raise wheel.wrong(f"{what}: wheels hold regular files only", name)
    if info.flag_bits & 0x1:
        raise wheel.wrong("encrypted entry", name)
    if info.compress_type not in (STORED, DEFLATED):
        raise wheel.wrong(f"unsupported compression method {info.compress_type}", name)
    if info.compress_type == STORED and info.file_size != info.compress_size:
        raise wheel.wrong("stored entry with two sizes", name)
    encoding = "utf-8" if info.flag_bits & 0x800 else "cp437"
    wheel.span(info)
    if wheel.local_name(info) != name.encode(encoding, "replace"):
        raise wheel.wrong("local header names another file than the central directory", name)


def _contents(wheel: WheelArchive) -> None:
    info = wheel.dist_info
    rows: dict[str, record.Row] = {}
    for row in record.read(wheel):
        # Some tools list a file twice, alike.
        if rows.setdefault(row.path, row) != row:
            raise wheel.wrong("listed twice in RECORD, each time otherwise", row.path)
    exempt = {f"{info}/RECORD", f"{info}/RECORD.jws", f"{info}/RECORD.p7s"}
    for entry in wheel.files:
        found = rows.pop(entry.filename, None)
        digest = hashlib.new(record.algorithm(found.hash if found else "") or "sha256")
        crc = 0
        for _, plain in wheel.pieces(entry):
            digest.update(plain)
            crc = isal_zlib.crc32(plain, crc)
        if crc != entry.CRC:
            raise wheel.wrong("CRC-32 does not match", entry.filename)
        if entry.filename in exempt:
            continue
        if found is None:
            raise wheel.wrong("file is not in RECORD", entry.filename)
        actual = record.encode(digest.digest(), digest.name)
        # Weaker algorithms are forbidden by the specification.
        if found.hash.rstrip("=") != actual:
            raise wheel.wrong(
                "RECORD has another hash",
                entry.filename,
                expected=found.hash or "a hash by SHA-256 or better",
                found=actual,
            )
        if found.size and found.size != str(entry.file_size):
            raise wheel.wrong(
                "RECORD has another size",
                entry.filename,
                expected=found.size,
                found=str(entry.file_size),
            )
    missing = [path for path in rows if not path.endswith("/") and path not in exempt]
    if missing:
        raise wheel.wrong("RECORD lists a file that is not there", missing[0])
