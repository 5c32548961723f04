"""Loading an image of the layout into a Docker Engine, and finding it there: by digest alone."""

from __future__ import annotations

from dataclasses import dataclass

import docker
import requests
import urllib3
from docker.errors import DockerException, ImageNotFound

from plinth.core.errors import EngineError, PlinthError
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.evidence.verify.gate import Gate
from plinth.formats.oci.layout import ImageReference
from plinth.formats.oci.manifest import read_manifest
from plinth.formats.oci.model import GZIP, ZSTD
from plinth.graph.workspace import Workspace
from plinth.publish.engine.archive import archive
from plinth.publish.engine.client import connect
from plinth.recipe.built import find_reference
from plinth.recipe.forms import MARK, split

_FIRST_WITH_ZSTD = 23
"""The major version of the first Docker Engine that reads layers in zstd."""

# While messages are read, docker-py passes on what urllib3 raises.
_FAILURES = (DockerException, requests.RequestException, urllib3.exceptions.HTTPError)
_SILENCE = 1800
"""Seconds an engine may say nothing: Docker's older stores do so until they have copied the whole
archive."""


@dataclass(frozen=True)
class Loaded:
    """An image in an engine: its name there, the digest the engine knows it by, and whether it was
    sent now."""

    name: str
    id: str
    sent: bool


def find_loaded(engine: docker.DockerClient, store: BlobStore, image: ImageReference) -> str | None:
    """The digest by which the engine has the image, None where it has not: the manifest's with
    containerd's image store, the config's with the older ones. What has its name does not count."""
    manifest = read_manifest(store, image.manifest)
    for digest in (image.manifest.oci, manifest.config.digest.oci):
        if id_of(engine, digest) == digest:
            return digest
    return None


def id_of(engine: docker.DockerClient, name: str) -> str | None:
    """The id of what the engine has under a name or digest, None where it has nothing."""
    try:
        return str(engine.images.get(name).id)
    except ImageNotFound:
        return None


def load(
    ws: Workspace,
    image_id: str,
    *,
    gate: Gate | None = None,
    config: Config | None = None,
    client: docker.DockerClient | None = None,
) -> Loaded:
    """Load `image_id` into the engine and give it its name there; an image that the engine has is
    not sent again. With a `gate` it is verified first, and what was verified is what is sent.

    Raises:
        LayoutError: the image is not built.
        VerificationError: it does not verify.
        IntegrityError: a blob of the image is missing or damaged.
        EngineError: no engine answers, or it did not take the image, and has nothing of it.
    """
    image = find_reference(ws, image_id)
    if gate is not None:
        gate.admit_built(ws, image, config or Config())
    engine = client or connect()
    try:
        found = find_loaded(engine, ws.layout, image)
        if found is None:
            _ensure_reads(engine, ws.layout, image)
        else:
            _name(engine, found, image.image_name)
            return Loaded(image.image_name, found, sent=False)
        return Loaded(image.image_name, _send(engine, ws.layout, image), sent=True)
    except _FAILURES as error:
        raise EngineError(
            "the engine failed to load the image", where=image_id, found=str(error)[:500]
        ) from None


def _ensure_reads(engine: docker.DockerClient, store: BlobStore, image: ImageReference) -> None:
    """Refuse an image in zstd where the engine is a Docker that cannot read it, before it is sent.

    Raises:
        EngineError: it is.
    """
    if read_manifest(store, image.manifest).compression != ZSTD:
        return
    # podman calls itself otherwise, and has read zstd since long before it had this service.
    engines = [one for one in engine.version()["Components"] if one.get("Name") == "Engine"]
    for version in (str(one.get("Version")) for one in engines):
        major = version.partition(".")[0]
        if major.isdecimal() and int(major) < _FIRST_WITH_ZSTD:
            raise EngineError(
                "this Docker Engine cannot read images in zstd; nothing was sent",
                where=image.name,
                expected=f"Docker Engine {_FIRST_WITH_ZSTD} or later, or podman",
                found=f"Docker Engine {version}",
                remedy=f"load its form in gzip: plinth build {split(image.name)[0]}{MARK}{GZIP}, "
                f"and plinth load {split(image.name)[0]}{MARK}{GZIP}",
            )


def _name(engine: docker.DockerClient, digest: str, name: str) -> None:
    repository, _, version = name.rpartition(":")
    engine.images.get(digest).tag(repository, version)


def _send(engine: docker.DockerClient, store: BlobStore, image: ImageReference) -> str:
    """Load the image, which the engine has not, and return its digest there. Where that fails, the
    engine is left as it was."""
    before = id_of(engine, image.image_name)
    usual, engine.api.timeout = engine.api.timeout, _SILENCE
    try:
        # With its progress: an engine that says nothing while it unpacks is taken for a dead one.
        for message in engine.api.load_image(archive(store, image), quiet=False) or ():
            refused = _refused(message)
            if refused:
                raise EngineError(
                    "the engine refused the image", where=image.name, found=refused[:500]
                )
        found = find_loaded(engine, store, image)
        if found is None:
            raise EngineError(
                "the engine loaded the archive but does not have the image",
                where=image.name,
                expected=image.manifest.oci,
            )
        _name(engine, found, image.image_name)
    except BaseException as error:
        left = _undo(engine, store, image, before)
        if isinstance(error, PlinthError):
            error.remedy = "; ".join(filter(None, (left, error.remedy)))
            raise
        if isinstance(error, _FAILURES):
            raise EngineError(
                "the engine failed to load the image",
                where=image.name,
                found=str(error)[:500],
                remedy=left,
            ) from None
        raise
    finally:
        engine.api.timeout = usual
    return found


def _refused(message: dict[str, object]) -> str:
    """What an engine's message gives as its reason, empty where nothing is wrong. With containerd's
    store a layer that cannot be unpacked, such as on a full disk, is progress like any other."""
    progress = str(message.get("stream", "")).strip()
    return str(message.get("error") or (progress if progress.startswith("Error ") else ""))


def _undo(
    engine: docker.DockerClient, store: BlobStore, image: ImageReference, before: str | None
) -> str:
    """Take away the image that a failed load left, and give its name back to the image `before`,
    which had it; returns what a person should know of that. podman keeps unpacked layers for the
    next load of them, and has no request to remove them."""
    try:
        left = find_loaded(engine, store, image)
        if left is not None:
            engine.images.remove(left, force=True)
        # An engine that was sent a damaged image may have made another of it.
        if id_of(engine, image.image_name) not in (None, before):
            engine.images.remove(image.image_name, force=True)
        if before is not None:
            _name(engine, before, image.image_name)
    except (*_FAILURES, PlinthError):
        return f"the engine may hold a part of it: docker image rm {image.image_name}"
    return "no image of it was left in the engine"
