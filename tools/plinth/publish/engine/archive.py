"""An image as one tar that every engine loads: an OCI layout, and beside it the `manifest.json` of
`docker save`, whose entries point into the layout's blobs. It is streamed, and written nowhere.

Engines with containerd's image store read the layout and keep the manifest, so the digest that was
built and signed; older engines know `manifest.json` alone (moby, image/tarexport).
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator

from plinth.core.digest import CHUNK, Digest, Json, canonical_json
from plinth.core.errors import IntegrityError
from plinth.core.regular import open_regular
from plinth.core.store import BlobStore
from plinth.fetch.sources.layout import MARKER, blob_name
from plinth.formats.oci.documents import IMAGE_NAME, REF_NAME
from plinth.formats.oci.layout import ImageReference
from plinth.formats.oci.manifest import read_manifest
from plinth.formats.oci.model import INDEX, MANIFEST, Descriptor
from plinth.formats.oci.reference import canonical


def archive(store: BlobStore, image: ImageReference) -> Iterator[bytes]:
    """The tar of the image, and of nothing else that is in the layout, piece by piece.

    Raises:
        IntegrityError: a blob is missing or damaged; the tar ends there, so no engine loads it.
        LayoutError: the image's manifest is malformed.
    """
    manifest = read_manifest(store, image.manifest)
    noted = {IMAGE_NAME: canonical(image.image_name), REF_NAME: image.name}
    entry = Descriptor(MANIFEST, image.manifest, noted).to_json()
    index: Json = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    listing: Json = {
        "Config": blob_name(manifest.config.digest),
        "RepoTags": [image.image_name],
        "Layers": [blob_name(layer.digest) for layer in manifest.layers],
    }
    for name, data in (
        (MARKER, canonical_json({"imageLayoutVersion": "1.0.0"})),
        ("index.json", canonical_json(index)),
        ("manifest.json", canonical_json([listing])),
    ):
        yield from _entry(name, len(data), iter([data]))
    for blob in dict.fromkeys((image.manifest, *manifest.blobs)):
        yield from _entry(blob_name(blob), blob.size, _chunks(store, blob))
    yield bytes(2 * tarfile.BLOCKSIZE)


def _entry(name: str, size: int, content: Iterator[bytes]) -> Iterator[bytes]:
    info = tarfile.TarInfo(name)
    info.size = size
    yield info.tobuf(tarfile.USTAR_FORMAT)
    yield from content
    yield bytes(-size % tarfile.BLOCKSIZE)


def _chunks(store: BlobStore, blob: Digest) -> Iterator[bytes]:
    """A blob's bytes; they are hashed on their way, for some engines believe names."""
    path, found, size = store.path(blob), hashlib.sha256(), 0
    try:
        with open_regular(path) as stream:
            while chunk := stream.read(min(CHUNK, blob.size - size + 1)):
                found.update(chunk)
                size += len(chunk)
                if size > blob.size:
                    # An engine would take what is behind the blob for more of the archive.
                    break
                yield chunk
    except FileNotFoundError:
        raise IntegrityError(
            "a blob of the image is missing", where=str(path), remedy="build the image again"
        ) from None
    if (found.hexdigest(), size) != (blob.hex, blob.size):
        raise IntegrityError(
            "a blob of the image is damaged",
            where=str(path),
            expected=f"{blob.oci}, {blob.size} bytes",
            found=f"sha256:{found.hexdigest()}, {size} bytes"
            if size <= blob.size
            else f"more than {blob.size} bytes",
            remedy="plinth doctor --mend, and build the image again",
        )
