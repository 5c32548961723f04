"""Scanning a layer that came without a scan: its shared objects, read from its blob."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

from plinth.core.digest import CHUNK
from plinth.core.errors import IntegrityError
from plinth.core.tarfile import tarfile
from plinth.formats.elf.scan import LayerScan
from plinth.formats.gunzip import gunzipped_tar


def read_scan(path: Path, name: str) -> LayerScan:
    """The scan of the layer blob at `path`, called `name`.

    Raises:
        IntegrityError: it is damaged.
    """
    found = LayerScan()
    try:
        with gunzipped_tar(path) as tar:
            for member in tar:
                inside = member.name.removeprefix("./")
                if member.issym():
                    found.links[inside] = member.linkname
                elif member.islnk():
                    target = member.linkname.removeprefix("./")
                    if target in found.objects:
                        found.objects[inside] = found.objects[target]
                elif member.isfile():
                    content = tar.extractfile(member)
                    if content is not None:
                        found.add(inside, [*_chunks(content)])
    except (OSError, tarfile.TarError) as error:
        raise IntegrityError(f"unreadable layer: {error}", where=name) from None
    return found


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK):
        yield chunk
