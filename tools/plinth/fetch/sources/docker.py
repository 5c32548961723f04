"""An image in a tar archive: what `docker save` writes, or a layout in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plinth.core.errors import AmbiguityError, LayoutError
from plinth.fetch.sources.layout import INDEX_FILE, MARKER, LayoutSource
from plinth.fetch.sources.model import ImageSource, SourceLayer
from plinth.formats.oci.documents import MAX_MANIFEST, parsed, repository_name, several
from plinth.formats.oci.files import Files, TarFiles, read
from plinth.formats.oci.reference import ArchiveReference, share
from plinth.formats.oci.referrers import Referrer
from plinth.formats.oci.strict import ARCHIVE_KEYS

_DOCKER = "manifest.json"


def open_archive(reference: str, wanted: ArchiveReference) -> ImageSource:
    """The image `wanted`.

    Raises:
        LayoutError: there is no such archive, it is damaged, or it has no such image.
    """
    if not wanted.path.is_file():
        raise LayoutError("there is no such file", where=str(wanted.path))
    files = TarFiles(wanted.path)
    docker = files.size(_DOCKER) is not None
    # Not every reader of layouts asks for the marker; this one refuses a layout without.
    if files.size(MARKER) is not None or files.size(INDEX_FILE) is not None:
        layout = LayoutSource(reference, files, wanted)
        if docker:
            _compare(layout, files, wanted)
        # An engine that keeps its layers unpacked makes a manifest of its own while saving.
        if not (docker and layout.is_unpacked()):
            return layout
    if docker:
        return DockerArchive(reference, files, wanted)
    raise LayoutError(
        "neither an OCI layout nor what docker save writes",
        where=str(wanted.path),
        expected=f"{MARKER} or {_DOCKER} in it",
    )


def _images(files: Files) -> list[dict[str, Any]]:
    where = f"{files.where}: {_DOCKER}"
    images = parsed(read(files, _DOCKER, MAX_MANIFEST + 1), where, ARCHIVE_KEYS)
    if not isinstance(images, list) or not all(isinstance(image, dict) for image in images):
        raise LayoutError("not a list of images", where=where)
    return images


def _compare(layout: LayoutSource, files: Files, wanted: ArchiveReference) -> None:
    """An archive of both forms has the same image in both: some engines read one, some the other.

    Raises:
        AmbiguityError: manifest.json lacks the layout's image, or has another that an engine could
            take for it.
    """
    blobs = layout.blobs()
    same: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    for image in _images(files):
        held = [image.get("Config"), *_texts(image.get("Layers"))]
        (same if held == blobs else others).append(image)
    if same:
        names = [wanted.name, *layout.names] if wanted.name else ()
        others = [
            image
            for image in others
            if not wanted.digest and (not names or share(_texts(image.get("RepoTags")), names))
        ]
    if others or not same:
        raise AmbiguityError(
            f"index.json and {_DOCKER} have different images",
            where=files.where,
            expected=f"{blobs[0]} and {len(blobs) - 1} layers, as index.json leads to",
            found="\n".join(map(_shown, others)) or f"no image in {_DOCKER}",
            remedy="save the image again with an engine, or verify where it came from",
        )


def _shown(image: dict[str, Any]) -> str:
    layers = len(_texts(image.get("Layers")))
    names = " ".join(_texts(image.get("RepoTags")))
    return f"{image.get('Config')!s:.200} and {layers} layers {names}".rstrip()


class DockerArchive:
    """An image in what `docker save` writes: a config and layers, and no manifest."""

    compressed = False
    beside: Sequence[str] = ()
    called = ""

    def __init__(self, reference: str, files: Files, wanted: ArchiveReference) -> None:
        self.name = reference
        self.asked = repository_name(wanted.name)
        self._files = files
        self._where = f"{files.where}: {_DOCKER}"
        self._image = self._chosen(_images(files), wanted)

    def _chosen(self, images: list[dict[str, Any]], wanted: ArchiveReference) -> dict[str, Any]:
        if wanted.digest:
            raise LayoutError(
                "a docker archive has no manifest, so no digest to ask for", where=self._where
            )
        # Some tools put a registry in front of the name they were given.
        found = [
            image
            for image in images
            if not wanted.name
            or share(_texts(image.get("RepoTags")), [wanted.name])
            or any(f"/{tag}".endswith(f"/{wanted.name}") for tag in _texts(image.get("RepoTags")))
        ]
        if len(found) != 1:
            raise LayoutError(
                several(len(found)),
                where=self._where,
                found=", ".join(tag for image in images for tag in _texts(image.get("RepoTags")))
                or "none has a name",
                remedy="name one behind a colon: docker-archive:FILE:NAME",
            )
        return found[0]

    def manifest(self) -> None:
        """See `ImageSource`."""

    def config(self) -> bytes:
        """See `ImageSource`."""
        name = self._image.get("Config")
        if not isinstance(name, str):
            raise LayoutError("the image has no Config", where=self._where)
        return read(self._files, name, MAX_MANIFEST + 1)

    def layers(self) -> Sequence[SourceLayer]:
        """See `ImageSource`."""
        names = self._image.get("Layers")
        if not isinstance(names, list) or _texts(names) != names:
            raise LayoutError("the image has no Layers", where=self._where)
        return [self._layer(name) for name in names]

    def _layer(self, name: str) -> SourceLayer:
        return SourceLayer(
            None,
            lambda: self._files.open(name, self._files.size(name) or 0),
            lambda: self._files.path(name),
        )

    def referrers(self, artifact_type: str) -> Sequence[Referrer]:
        """See `ImageSource`; there is no place for any."""
        return ()


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
