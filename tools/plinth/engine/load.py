"""Loading an image of the layout into a Docker Engine, streamed: nothing is written twice."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator

import docker
import requests
from docker.errors import DockerException

from plinth.digest import CHUNK, Digest
from plinth.engine.client import connect
from plinth.errors import EngineError, LayoutError
from plinth.oci.layout import ImageReference, descriptor_digest, read_manifest, references
from plinth.store import BlobStore
from plinth.workspace import Workspace


def find_reference(ws: Workspace, image_id: str) -> ImageReference:
    """The built image `image_id`.

    Raises:
        LayoutError: it is not built.
    """
    found = references(ws.layout).get(image_id)
    if found is None:
        raise LayoutError(
            f"{image_id} is not built",
            where=str(ws.layout.root),
            remedy=f"build it: doit build:{image_id}",
        )
    return found


def load(ws: Workspace, image_id: str, *, client: docker.DockerClient | None = None) -> str:
    """Load `image_id` into the engine and return the name it has there.

    Raises:
        LayoutError: the image is not built.
        EngineError: no engine answers, or it took something else than the image.
    """
    reference = find_reference(ws, image_id)
    manifest = read_manifest(ws.layout, reference.manifest)
    config = descriptor_digest(manifest["config"])
    engine = client or connect()
    try:
        if not _has(engine, config):
            answer = engine.api.load_image(_archive(ws.layout, manifest, reference.image_name))
            for message in answer or ():
                if "error" in message:
                    raise EngineError(
                        "the engine refused the image", where=image_id, found=message["error"]
                    )
        image = engine.images.get(config.oci)
        repository, _, version = reference.image_name.rpartition(":")
        image.tag(repository, version)
    except (DockerException, requests.RequestException) as error:
        raise EngineError(
            "the engine failed to load the image", where=image_id, found=str(error)[:500]
        ) from None
    return reference.image_name


def _has(engine: docker.DockerClient, config: Digest) -> bool:
    try:
        engine.images.get(config.oci)
    except docker.errors.ImageNotFound:
        return False
    return True


def _archive(store: BlobStore, manifest: dict[str, object], name: str) -> Iterator[bytes]:
    """A `docker save` archive: config, layers as they are (gzip), manifest.json."""
    config = descriptor_digest(manifest["config"])  # type: ignore[arg-type]
    layers = [descriptor_digest(entry) for entry in manifest["layers"]]  # type: ignore[attr-defined]
    listing = json.dumps(
        [
            {
                "Config": f"{config.hex}.json",
                "RepoTags": [name],
                "Layers": [f"{layer.hex}.tar.gz" for layer in layers],
            }
        ]
    ).encode()
    yield from _entry("manifest.json", len(listing), iter([listing]))
    yield from _entry(f"{config.hex}.json", config.size, iter([store.get(config)]))
    for layer in dict.fromkeys(layers):
        yield from _entry(f"{layer.hex}.tar.gz", layer.size, _chunks(store, layer))
    yield bytes(2 * tarfile.BLOCKSIZE)


def _entry(name: str, size: int, content: Iterator[bytes]) -> Iterator[bytes]:
    info = tarfile.TarInfo(name)
    info.size = size
    yield info.tobuf(tarfile.USTAR_FORMAT)
    yield from content
    yield bytes(-size % tarfile.BLOCKSIZE)


def _chunks(store: BlobStore, digest: Digest) -> Iterator[bytes]:
    with store.path(digest).open("rb") as stream:
        while chunk := stream.read(CHUNK):
            yield chunk
