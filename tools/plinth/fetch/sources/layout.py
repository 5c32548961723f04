"""An image in an OCI layout, in a folder or in a tar archive (image-spec, image-layout.md)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError, LayoutError
from plinth.fetch.sources.model import SourceLayer
from plinth.formats.oci.attached import Referrer, find
from plinth.formats.oci.documents import (
    IMAGE_NAME,
    MAX_MANIFEST,
    REF_NAME,
    SUBJECT,
    annotations_of,
    called,
    descriptor,
    document,
    entries,
    for_platform,
    is_image,
    is_index,
    named,
    names,
    namesakes,
    repository_name,
    several,
    shown,
    the_one,
)
from plinth.formats.oci.files import Files, read
from plinth.formats.oci.manifest import Manifest, parse_manifest
from plinth.formats.oci.model import TITLE
from plinth.formats.oci.reference import ArchiveReference, LayoutReference, unasked
from plinth.formats.oci.referrers import referrers_name, refers

MARKER = "oci-layout"
INDEX_FILE = "index.json"


def blob_name(digest: Digest) -> str:
    """Where a layout keeps a blob (image-spec, image-layout.md)."""
    return f"blobs/sha256/{digest.hex}"


class LayoutSource:
    """An image in an OCI layout (image-spec, image-layout.md); `names` are those that its index
    gives it, empty where it was asked for by digest."""

    compressed = True
    place = ""

    def __init__(
        self, reference: str, files: Files, wanted: LayoutReference | ArchiveReference
    ) -> None:
        self.name = reference
        self.asked, self.by_digest = repository_name(wanted.name), bool(wanted.digest)
        self._platform = wanted.platform
        self.names: tuple[str, ...] = ()
        self.called: Sequence[str] = ()
        self._platforms: tuple[str, ...] = ()
        self._named: dict[str, Any] | None = None
        self._files = files
        if files.size(MARKER) is None:
            raise LayoutError("there is no OCI image layout here", where=files.where)
        self._index = self._entries(read(files, INDEX_FILE, MAX_MANIFEST + 1), INDEX_FILE)
        self._entry = self._chosen(wanted)
        self._digest = descriptor(self._entry, f"{files.where}: {INDEX_FILE}")

    def _entries(self, data: bytes, name: str) -> list[dict[str, Any]]:
        where = f"{self._files.where}: {name}"
        return entries(document(data, where), where)

    def _chosen(self, wanted: LayoutReference | ArchiveReference) -> dict[str, Any]:
        """The entry of the manifest, in `index.json` or an index it lists."""
        where = self._files.where
        if wanted.digest:
            return self._by_digest(wanted.digest)
        if wanted.name:
            entry = self._by_name(wanted.name)
        else:
            # Signatures are listed beside the images they are of. An engine takes what has a name
            # for an image, whatever its type.
            listed = [
                entry
                for entry in self._index
                if not _is_referrers(entry)
                and (is_image(entry) or is_index(entry) or called(entry))
            ]
            if len(listed) > 1 and not any(map(called, listed)):
                return self._for_platform(listed, INDEX_FILE)
            if len(listed) != 1:
                raise LayoutError(
                    several(len(listed)),
                    where=where,
                    remedy=f"name one of: {self._known}",
                )
            (entry,) = listed
        self.names, self._named = called(entry), entry
        alike = [one for one in self._index if one.get("digest") == entry.get("digest")]
        # Without a name for engines, the reference is theirs (podman load, containerd's import).
        self.called = unasked([name for one in alike for name in called(one)[-1:]], wanted.name)
        if is_index(entry):
            at = blob_name(descriptor(entry, where))
            return self._for_platform(self._nested(entry), at)
        if not is_image(entry):
            raise LayoutError("this is not an image", where=where, found=shown(entry))
        return entry

    def _for_platform(self, listed: list[dict[str, Any]], name: str) -> dict[str, Any]:
        entry, others = for_platform(listed, f"{self._files.where}: {name}", self._platform)
        self._platforms = tuple(map(shown, others))
        return entry

    @property
    def title(self) -> str:
        """The name that the image is published as, by its manifest; empty where it has none."""
        return self._manifest().annotations.get(TITLE, "")

    def others(self, title: str) -> Sequence[str]:
        """See `ImageSource`."""
        named = self._named
        found = [] if named is None else namesakes(self._index, named, title)
        return [*map(shown, found), *self._platforms]

    @property
    def _known(self) -> str:
        return ", ".join(names(self._index)) or "none has a name"

    def _by_name(self, name: str) -> dict[str, Any]:
        listed = named(self._index, name)
        if not listed:
            raise LayoutError(
                f"no image is called {name!r} here", where=self._files.where, found=self._known
            )
        return the_one(listed, name, f"{self._files.where}: {INDEX_FILE}")

    def _by_digest(self, wanted: str) -> dict[str, Any]:
        indexes = [entry for entry in self._index if is_index(entry) and not _is_referrers(entry)]
        nested = [entry for index in indexes for entry in self._nested(index)]
        for entry in [*self._index, *nested]:
            if entry.get("digest") == f"sha256:{wanted}":
                return entry
        raise LayoutError(
            "no image of this digest is here", where=self._files.where, found=f"sha256:{wanted}"
        )

    def _nested(self, entry: dict[str, Any]) -> list[dict[str, Any]]:
        digest = descriptor(entry, f"{self._files.where}: {INDEX_FILE}")
        return self._entries(self._document(digest), blob_name(digest))

    def _document(self, digest: Digest) -> bytes:
        """A blob that must be the one named: what chose it is the only one to compare it with."""
        data = read(self._files, blob_name(digest), min(digest.size, MAX_MANIFEST) + 1)
        if Digest.of(data) != digest:
            raise IntegrityError(
                "it is not what the index names",
                where=f"{self._files.where}: {blob_name(digest)}",
                expected=f"{digest.oci}, {digest.size} bytes",
                found=f"{Digest.of(data).oci}, {len(data)} bytes",
            )
        return data

    def manifest(self) -> bytes:
        """See `ImageSource`."""
        return self._document(self._digest)

    def _manifest(self) -> Manifest:
        return parse_manifest(self.manifest())

    def blobs(self) -> list[str]:
        """The names of the files of config and layers, bottom first."""
        return [*map(blob_name, self._manifest().blobs)]

    def is_unpacked(self) -> bool:
        """Whether the manifest is of uncompressed layers."""
        layers = self._manifest().layers
        return bool(layers) and layers[0].media_type.endswith(".tar")

    def config(self) -> bytes:
        """See `ImageSource`."""
        digest = self._manifest().config.digest
        return read(self._files, blob_name(digest), min(digest.size, MAX_MANIFEST) + 1)

    def layers(self) -> Sequence[SourceLayer]:
        """See `ImageSource`."""
        return [self._layer(layer.digest) for layer in self._manifest().layers]

    def _layer(self, digest: Digest) -> SourceLayer:
        name = blob_name(digest)

        def locate() -> Path | None:
            path = self._files.path(name)
            return path if path and self._files.size(name) == digest.size else None

        return SourceLayer(digest, lambda: self._files.open(name, digest.size + 1), locate)

    def referrers(self, artifact_type: str, only: Collection[str] = ()) -> Iterator[Referrer]:
        """See `ImageSource`; other tools list them in `index.json` without their subject, or in
        an index tagged `sha256-<hex>`."""
        name = referrers_name(self._digest)
        listed = [
            entry
            for entry in self._index
            if refers(entry, self._digest)
            or (entry.get("artifactType") == artifact_type and SUBJECT not in annotations_of(entry))
        ]
        for entry in named(self._index, name):
            try:
                listed += self._nested(entry)
            except (IntegrityError, LayoutError) as error:
                yield Referrer(f"{self._files.where}: {name}", problems=(str(error),))
        yield from find(listed, self._digest, artifact_type, self._blob, self._files.where, only)

    def _blob(self, digest: Digest, kind: str) -> bytes:
        return read(self._files, blob_name(digest), digest.size + 1)


def _is_referrers(entry: dict[str, Any]) -> bool:
    """Whether it is a list of what is attached to an image, by its tag (distribution-spec,
    "Referrers Tag Schema"), and has no other name that an engine could run it by."""
    tag = re.compile(r"sha256-[0-9a-f]{64}")
    noted = annotations_of(entry)
    return (
        is_index(entry)
        and tag.fullmatch(noted.get(REF_NAME, "")) is not None
        and not noted.get(IMAGE_NAME)
    )
