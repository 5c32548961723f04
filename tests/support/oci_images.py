"""Small images made in tests, in a layout and in the forms engines and tools write."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from plinth.core.digest import Digest
from plinth.core.store import BlobStore
from plinth.formats import zstd
from plinth.formats.layer.model import Layer
from plinth.formats.oci.documents import IMAGE_NAME, REF_NAME, SUBJECT
from plinth.formats.oci.image import Image, Runtime, assemble
from plinth.formats.oci.layout import editing, tag
from plinth.formats.oci.model import GZIP, INDEX, LAYER_GZIP, LAYER_ZSTD, ZSTD, Descriptor
from plinth.formats.oci.reference import familiar
from plinth.formats.oci.referrers import attached, listing, referrers_name

RUNTIME = Runtime("dockeruser", "/", {"PATH": "/bin"}, ["true"], [5001], "SIGTERM")
TARS = (b"\0" * 1024, b"\0" * 10240)
"""The layers of `make_image`, unpacked."""


def make_image(store: BlobStore, name: str, title: str = "", *, compression: str = GZIP) -> Image:
    """An image of two layers in the layout, under `name`; different names, different images."""
    in_zstd = compression == ZSTD
    layers = [
        Layer(
            f"layer {number}",
            store.put(zstd.frame(tar) if in_zstd else gzip.compress(tar, mtime=0)),
            hashlib.sha256(tar).hexdigest(),
            len(tar),
            media_type=LAYER_ZSTD if in_zstd else LAYER_GZIP,
        )
        for number, tar in enumerate(TARS)
    ]
    return image_of(store, name, layers, title)


def image_of(store: BlobStore, name: str, layers: Sequence[Layer], title: str = "") -> Image:
    """An image of `layers` in the layout, under `name`."""
    image = assemble(
        store,
        layers,
        architecture="amd64",
        created="2026-11-01T00:00:00Z",
        runtime=RUNTIME,
        annotations={"org.opencontainers.image.title": title or f"team/{name}"},
    )
    tag(store, name, image.manifest, image_name=f"team/{name}:latest", architecture="amd64")
    return image


def as_before(store: BlobStore, subject: Digest) -> Digest:
    """Write the layout's index as earlier versions did: what is attached to `subject` in an index
    of its own, which has a name, and names of images without a registry; returns that index."""
    with editing(store) as index:
        listed = attached(index, subject, store)
        index[:] = [entry for entry in index if entry not in listed]
        for entry in listed:
            del entry["annotations"][SUBJECT]
        digest = store.put(listing(listed, []))
        for entry in index:
            noted = entry["annotations"]
            if IMAGE_NAME in noted:
                noted[IMAGE_NAME] = familiar(noted[IMAGE_NAME])
        name = {REF_NAME: referrers_name(subject)}
        index.append(Descriptor(INDEX, digest, name).to_json())
    return digest


def tarred(path: Path, files: Mapping[str, bytes], *links: tuple[str, str, bytes]) -> Path:
    """A tar file of `files`, then of links: name, target, type; in gzip where its name says so."""
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, target, kind in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)
    return path


def layout_files(store: BlobStore) -> dict[str, bytes]:
    """The files of a layout by name, as they go into an archive."""
    paths = [store.root / "oci-layout", store.root / "index.json", *store.blobs.iterdir()]
    return {str(path.relative_to(store.root)): path.read_bytes() for path in paths}


def docker_files(store: BlobStore, image: Image, *names: str) -> dict[str, bytes]:
    """The files `docker save` writes for the image: unpacked layers, config, `manifest.json`."""
    listing = [
        {
            "Config": f"{image.config.hex}.json",
            "RepoTags": list(names),
            "Layers": [f"{layer.digest.hex}/layer.tar" for layer in image.layers],
        }
    ]
    return {
        f"{image.config.hex}.json": store.get(image.config),
        **{
            f"{layer.digest.hex}/layer.tar": tar
            for layer, tar in zip(image.layers, TARS, strict=True)
        },
        "manifest.json": json.dumps(listing).encode(),
    }
