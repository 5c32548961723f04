"""Writing an sdist (PEP 625) of files: the same bytes on every machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from packaging.utils import canonicalize_name

from plinth.core.errors import WheelError
from plinth.formats import gzip
from plinth.formats.layer.header import FILE, Owner, header, is_too_long, padding

MAX_FILES = 20_000
MAX_BYTES = 256 << 20
"""How many files, and bytes of them, a source may have."""

_OWNER = Owner(0, 0)
_END = bytes(1024)


def sdist_name(name: str, version: str) -> str:
    """The file name of an sdist."""
    return f"{canonicalize_name(name).replace('-', '_')}-{version}.tar.gz"


def write_sdist(files: Mapping[str, tuple[bytes, bool]], filename: str) -> bytes:
    """The sdist called `filename` of `files`: content, and whether it is a program, by path.

    Raises:
        WheelError: they are too many or too large, or a path is too long.
    """
    size = sum(len(data) for data, _ in files.values())
    if len(files) > MAX_FILES or size > MAX_BYTES:
        raise WheelError(
            "the source is too large",
            where=filename,
            expected=f"up to {MAX_FILES} files and {MAX_BYTES} bytes",
            found=f"{len(files)} files, {size} bytes",
        )
    top = filename.removesuffix(".tar.gz")
    return gzip.member(b"".join(_pieces(files, top, filename)))


def _pieces(files: Mapping[str, tuple[bytes, bool]], top: str, filename: str) -> Iterator[bytes]:
    for path in sorted(files):
        data, program = files[path]
        if is_too_long(f"{top}/{path}"):
            raise WheelError("path too long", where=f"{filename}: {path}")
        mode = 0o755 if program else 0o644
        yield header(f"{top}/{path}", FILE, size=len(data), mode=mode, owner=_OWNER)
        yield data
        yield padding(len(data))
    yield _END
