"""An image in an archive or folder: an OCI layout, what `docker save` writes, or both at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from plinth.core.errors import AmbiguityError, LayoutError
from plinth.fetch.sources.layout import INDEX_FILE, MARKER, LayoutSource
from plinth.fetch.sources.model import ImageSource, SourceLayer
from plinth.formats.oci.attached import Referrer
from plinth.formats.oci.documents import MAX_MANIFEST, parsed, repository_name, several
from plinth.formats.oci.files import Files, FolderFiles, TarFiles, read
from plinth.formats.oci.reference import ArchiveReference, LayoutReference, answers, share, unasked
from plinth.formats.oci.strict import ARCHIVE_KEYS

_DOCKER, _LEGACY = "manifest.json", "repositories"


def open_archive(reference: str, wanted: ArchiveReference) -> ImageSource:
    """The image `wanted`.

    Raises:
        AmbiguityError: readers would differ about it.
        LayoutError: there is no such archive, it is damaged, or it has no such image.
    """
    if not wanted.path.is_file():
        raise LayoutError("there is no such file", where=str(wanted.path))
    files = TarFiles(wanted.path)
    has_docker = _has_docker(files)
    listed = _images(files) if has_docker and files.links else []
    layers = {layer for image in listed for layer in _texts(image.get("Layers"))}
    for name, target in files.links.items():
        if target not in layers:
            raise AmbiguityError("a link to no layer", where=f"{files.where}: {name}", found=target)
    # Not every reader of layouts asks for the marker; this one refuses a layout without.
    if files.size(MARKER) is not None or files.size(INDEX_FILE) is not None:
        return _with_docker(LayoutSource(reference, files, wanted), files, wanted)
    if has_docker:
        return DockerArchive(reference, files, wanted)
    raise LayoutError(
        "neither an OCI layout nor what docker save writes",
        where=str(wanted.path),
        expected=f"{MARKER} or {_DOCKER} in it",
    )


def open_layout(reference: str, wanted: LayoutReference) -> ImageSource:
    """The image `wanted`. In a folder, too, a manifest.json counts: packed, it is an archive of
    both forms.

    Raises:
        AmbiguityError: readers would differ about it.
        LayoutError: there is no layout, it is damaged, or it has no such image.
    """
    files = FolderFiles(wanted.path)
    return _with_docker(LayoutSource(reference, files, wanted), files, wanted)


def _with_docker(
    layout: LayoutSource, files: Files, wanted: ArchiveReference | LayoutReference
) -> ImageSource:
    """The image of `layout`, compared with manifest.json, if that is there."""
    if not _has_docker(files):
        return layout
    same = _compare(layout, files, wanted)
    tags = [tag for image in same for tag in _texts(image.get("RepoTags"))]
    if not wanted.digest:
        layout.called = (*layout.called, *unasked(tags, wanted.name))
    # An engine that keeps its layers unpacked makes a manifest of its own while saving.
    return DockerArchive(layout.name, files, wanted, layout) if layout.is_unpacked() else layout


def _has_docker(files: Files) -> bool:
    """Whether there is a manifest.json.

    Raises:
        AmbiguityError: there is none, but what engines before Docker 1.10 wrote, which `docker
            load` of Docker 20.10 takes then.
    """
    if files.size(_DOCKER) is not None:
        return True
    if files.size(_LEGACY) is not None:
        raise AmbiguityError(
            f"{_LEGACY} without {_DOCKER}",
            where=files.where,
            expected=f"no file {_LEGACY}, or a {_DOCKER} beside it, which engines prefer",
            remedy="save the image again with an engine, or verify where it came from",
        )
    return False


def _images(files: Files) -> list[dict[str, Any]]:
    where = f"{files.where}: {_DOCKER}"
    images = parsed(read(files, _DOCKER, MAX_MANIFEST + 1), where, ARCHIVE_KEYS)
    if not isinstance(images, list) or not all(isinstance(image, dict) for image in images):
        raise LayoutError("not a list of images", where=where)
    return images


def _compare(
    layout: LayoutSource, files: Files, wanted: ArchiveReference | LayoutReference
) -> list[dict[str, Any]]:
    """The layout's image in manifest.json, once or more: an archive of both forms has the same
    image in both, for some engines read one, some the other.

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
        tags = [tag for image in same for tag in _texts(image.get("RepoTags"))]
        names = [wanted.name, *layout.names, layout.title, *tags] if wanted.name else ()
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
    return same


def _shown(image: dict[str, Any]) -> str:
    layers = len(_texts(image.get("Layers")))
    names = " ".join(_texts(image.get("RepoTags")))
    return f"{image.get('Config')!s:.200} and {layers} layers {names}".rstrip()


class DockerArchive:
    """An image in what `docker save` writes: a config and layers, and no manifest. In an archive
    of both forms, `layout` is the other one."""

    compressed, place, by_digest = False, "", False

    def __init__(
        self,
        reference: str,
        files: Files,
        wanted: ArchiveReference | LayoutReference,
        layout: LayoutSource | None = None,
    ) -> None:
        self.name = reference
        self.asked = repository_name(wanted.name)
        self._files = files
        self._where = f"{files.where}: {_DOCKER}"
        self._images = _images(files)
        self._image = self._chosen(self._images, wanted)
        self._layout = layout
        self.called: Sequence[str] = unasked(_texts(self._image.get("RepoTags")), wanted.name)
        if layout is not None:
            self.called = layout.called

    def _chosen(
        self, images: list[dict[str, Any]], wanted: ArchiveReference | LayoutReference
    ) -> dict[str, Any]:
        if wanted.digest:
            raise LayoutError(
                "a docker archive has no manifest, so no digest to ask for", where=self._where
            )
        found = [
            image
            for image in images
            if not wanted.name
            or any(answers(tag, wanted.name) for tag in _texts(image.get("RepoTags")))
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

    def others(self, title: str) -> Sequence[str]:
        """See `ImageSource`."""
        names = [*_texts(self._image.get("RepoTags")), *filter(None, [title])]
        listed = [
            _shown(image)
            for image in self._images
            if any(image.get(key) != self._image.get(key) for key in ("Config", "Layers"))
            and share(_texts(image.get("RepoTags")), names)
        ]
        return [*listed, *(self._layout.others(title) if self._layout else ())]

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
            name,
        )

    def referrers(self, artifact_type: str, only: Collection[str] = ()) -> Iterator[Referrer]:
        """See `ImageSource`; there is no place for any."""
        return iter(())


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
