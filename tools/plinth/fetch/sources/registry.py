"""An image in a registry, as a source: its blobs come into a temporary store, verified."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from plinth.core.digest import Digest
from plinth.core.errors import FetchError, IntegrityError, PlinthError
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.fetch.registry.registry import Manifest as SentManifest
from plinth.fetch.registry.registry import Registry
from plinth.fetch.sources.model import ImageSource, SourceLayer
from plinth.formats.oci.attached import Referrer, find
from plinth.formats.oci.documents import (
    MAX_MANIFEST,
    descriptor,
    document,
    entries,
    for_platform,
    is_index,
    repository_name,
    same_type,
    shown,
)
from plinth.formats.oci.manifest import Manifest, parse_manifest
from plinth.formats.oci.model import MANIFEST
from plinth.formats.oci.reference import RegistryReference


@contextlib.contextmanager
def open_remote(
    reference: str, wanted: RegistryReference, config: Config, *, store: BlobStore | None = None
) -> Iterator[ImageSource]:
    """The image `wanted`, while the block runs; asked for at the URLs that `registries` in the
    settings has for the host, else at the host. Blobs come into `store`, where one is given, and
    those it has are not asked for.

    Raises:
        FetchError: no registry can be asked, or none has such an image.
        LayoutError: what the registry sends is not an image.
    """
    registry, found = _first(wanted, config.registry_urls(wanted.host) or (wanted.url,), config)
    at = f"{registry}: {wanted.place}"
    beside: tuple[str, ...] = ()
    listed = document(found.data, at)
    same_type(listed, found.media_type, at)
    if is_index({"mediaType": found.media_type}):
        entry, others = for_platform(entries(listed, at), str(registry), wanted.platform)
        beside = tuple(map(shown, others))
        place = descriptor(entry, at).oci
        nested = registry.manifest(place)
        at = f"{registry}@{place}"
        if nested is None:
            raise FetchError("the registry lacks a manifest it lists", where=at)
        found = nested
        same_type(document(found.data, at), found.media_type, at)
    data = found.data
    if store is not None:
        yield RemoteSource(reference, wanted, registry, data, store, beside)
        return
    with tempfile.TemporaryDirectory(prefix="plinth-pull-") as folder:
        yield RemoteSource(reference, wanted, registry, data, BlobStore(Path(folder)), beside)


def _first(
    wanted: RegistryReference, urls: Sequence[str], config: Config
) -> tuple[Registry, SentManifest]:
    """The first registry that has the image, and what it has."""
    last: FetchError | None = None
    for url in urls:
        registry = Registry(url, wanted.repository, tls=config.tls)
        try:
            found = registry.manifest(wanted.place)
        except FetchError as error:
            last = error
            continue
        if found is not None:
            return registry, found
        last = FetchError(
            f"the registry has no manifest {wanted.place!r} here", where=str(registry)
        )
    raise last or FetchError("no registry is configured", where=wanted.host)


class RemoteSource:
    """An image of a registry, its manifest at hand."""

    compressed = True
    called: Sequence[str] = ()

    def __init__(
        self,
        reference: str,
        wanted: RegistryReference,
        registry: Registry,
        manifest: bytes,
        store: BlobStore,
        beside: tuple[str, ...],
    ) -> None:
        self.name = reference
        self.place = f"{wanted.host}/{wanted.repository}"
        self.by_digest = bool(wanted.digest)
        self._beside = beside
        # Copies live under other names; the last part is the image's.
        self.asked = "" if wanted.digest else repository_name(wanted.repository)
        self._registry = registry
        self._manifest = manifest
        self._digest = Digest.of(manifest)
        self._store = store
        self._guard = threading.Lock()
        self._pulling: dict[Digest, threading.Lock] = {}

    def manifest(self) -> bytes:
        """See `ImageSource`."""
        return self._manifest

    def others(self, title: str) -> Sequence[str]:
        """See `ImageSource`."""
        return self._beside

    def _read(self) -> Manifest:
        return parse_manifest(self._manifest)

    def _pulled(self, digest: Digest) -> Path:
        # Readers of layers come from several threads; no blob is pulled twice.
        with self._guard:
            alone = self._pulling.setdefault(digest, threading.Lock())
        with alone:
            self._registry.pull_blob(digest, self._store)
        return self._store.path(digest)

    def config(self) -> bytes:
        """See `ImageSource`."""
        digest = self._read().config.digest
        if digest.size > MAX_MANIFEST:
            raise IntegrityError("too large for a config", where=digest.oci)
        return self._pulled(digest).read_bytes()

    def layers(self) -> Sequence[SourceLayer]:
        """See `ImageSource`; a layer is pulled when it is first looked at."""
        return [self._layer(layer.digest) for layer in self._read().layers]

    def _layer(self, digest: Digest) -> SourceLayer:
        def opener() -> BinaryIO:
            return self._pulled(digest).open("rb")

        def locate() -> Path | None:
            # Whoever goes on to open it hears what is wrong.
            with contextlib.suppress(PlinthError):
                return self._pulled(digest)
            return None

        return SourceLayer(digest, opener, locate)

    def referrers(self, artifact_type: str, only: Collection[str] = ()) -> Iterator[Referrer]:
        """See `ImageSource`; those asked for by digest need not be listed."""
        listed = (
            self._known(only) if only else self._registry.referrers(self._digest, artifact_type)
        )
        return find(listed, self._digest, artifact_type, self._blob, str(self._registry))

    def _known(self, only: Collection[str]) -> Iterator[dict[str, Any]]:
        for digest in only:
            found = self._registry.manifest(digest)
            if found is None:
                raise FetchError(
                    "the registry has no such bundle", where=f"{self._registry}@{digest}"
                )
            yield {"digest": digest, "size": len(found.data)}

    def _blob(self, digest: Digest, kind: str) -> bytes:
        return self._registry.blob(digest, manifest=kind == MANIFEST)
