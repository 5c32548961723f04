"""Writing the archive: one pass, little memory, equal bytes wherever equal things are exported."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from plinth.core.digest import CHUNK, Digest
from plinth.core.errors import IntegrityError
from plinth.core.regular import open_regular
from plinth.core.store import atomic_write
from plinth.formats.layer.header import DIRECTORY, END, FILE, ROOT, header, padding
from plinth.publish.airgap.collect import Cargo
from plinth.publish.airgap.form import MARKER, Content, blob_path


def write_archive(cargo: Cargo, path: Path) -> Digest:
    """Write the archive of `cargo` to `path`, whole or not at all; returns its digest.

    Its entries are sorted by name, of time 0, owned by root.

    Raises:
        IntegrityError: a blob in the store is not what its name says.
        OSError: it cannot be written.
    """
    contents: dict[str, tuple[Digest, Content]] = {
        blob_path(digest): (digest, content) for digest, content in cargo.blobs.items()
    }
    for name, data in (("index.json", cargo.index()), ("oci-layout", MARKER)):
        contents[name] = (Digest.of(data), data)
    state, size = hashlib.sha256(), 0
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        for chunk in _archive(contents):
            stream.write(chunk)
            state.update(chunk)
            size += len(chunk)
    return Digest(state.hexdigest(), size)


def _archive(contents: dict[str, tuple[Digest, Content]]) -> Iterator[bytes]:
    for folder in ("blobs", "blobs/sha256"):
        yield header(folder, DIRECTORY, mode=0o755, owner=ROOT)
    for name, (digest, content) in sorted(contents.items()):
        yield header(name, FILE, size=digest.size, mode=0o644, owner=ROOT)
        if isinstance(content, bytes):
            yield content
        else:
            yield from _verified(content, digest)
        yield padding(digest.size)
    yield END


def _verified(path: Path, digest: Digest) -> Iterator[bytes]:
    """The bytes of a blob, which must be that blob once all were read."""
    state, size = hashlib.sha256(), 0
    with open_regular(path) as stream:
        while chunk := stream.read(CHUNK):
            state.update(chunk)
            size += len(chunk)
            if size > digest.size:
                break
            yield chunk
    if (state.hexdigest(), size) != (digest.hex, digest.size):
        raise IntegrityError(
            "blob on disk is damaged; no archive was written",
            where=str(path),
            expected=f"{digest.oci}, {digest.size} bytes",
            found=f"sha256:{state.hexdigest()}, {size} bytes",
            remedy="delete the file; the next build makes or fetches it again",
        )
