"""`validate(layout)`: is a layout what the OCI image specification and its own digests say?

Ships in the library; tests and verification call the same function.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isal import igzip

from plinth.digest import CHUNK, Digest
from plinth.errors import IntegrityError, LayoutError, Problem
from plinth.oci.layout import descriptor_digest, read_index
from plinth.oci.model import CONFIG, LAYER_GZIP, MANIFEST
from plinth.store import BlobStore


def validate(root: Path) -> list[Problem]:
    """Every problem of the layout in folder `root`; an empty list means it is valid.

    Checks the marker file, the index, each manifest and config it reaches, each blob's size and
    digest, and that every layer decompresses to the diff_id its config names. Each blob is read
    once, however many images share it.
    """
    return list(_Validator(BlobStore(root)).run())


class _Validator:
    def __init__(self, store: BlobStore) -> None:
        self.store = store
        self.diff_ids: dict[Digest, str] = {}

    def run(self) -> Iterator[Problem]:
        marker = self.store.root / "oci-layout"
        try:
            version = json.loads(marker.read_bytes())["imageLayoutVersion"]
            if version != "1.0.0":
                yield Problem("oci-layout", f"imageLayoutVersion is {version!r}, not '1.0.0'")
        except (OSError, ValueError, KeyError, TypeError) as error:
            yield Problem("oci-layout", f"unreadable: {error}")
        try:
            entries = read_index(self.store)["manifests"]
        except LayoutError as error:
            yield Problem("index.json", error.what)
            return
        for number, entry in enumerate(entries):
            yield from self.manifest(f"index.json: manifests[{number}]", entry)

    def document(self, where: str, entry: object, kind: str) -> Iterator[Problem | dict[str, Any]]:
        """The JSON object behind a descriptor, or the problem with it."""
        try:
            if not isinstance(entry, dict) or entry.get("mediaType") != kind:
                yield Problem(where, f"expected a descriptor of {kind}")
                return
            document = json.loads(self.store.get(descriptor_digest(entry)))
        except (IntegrityError, ValueError, KeyError, TypeError, AttributeError) as error:
            yield Problem(where, str(error))
            return
        yield document if isinstance(document, dict) else Problem(where, "not a JSON object")

    def manifest(self, where: str, entry: object) -> Iterator[Problem]:
        for manifest in self.document(where, entry, MANIFEST):
            if isinstance(manifest, Problem):
                yield manifest
                return
            if manifest.get("schemaVersion") != 2:
                yield Problem(where, "schemaVersion is not 2")
            layers = manifest.get("layers")
            if not isinstance(layers, list):
                yield Problem(f"{where}.layers", "expected a list")
                return
            for config in self.document(f"{where}.config", manifest.get("config"), CONFIG):
                if isinstance(config, Problem):
                    yield config
                    return
                yield from self.layers(where, layers, config)

    def layers(self, where: str, layers: list[object], config: dict[str, Any]) -> Iterator[Problem]:
        rootfs = config.get("rootfs")
        diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
        if not isinstance(diff_ids, list) or len(diff_ids) != len(layers):
            yield Problem(f"{where}.config.rootfs.diff_ids", f"expected {len(layers)} entries")
            return
        for number, (entry, diff_id) in enumerate(zip(layers, diff_ids, strict=True)):
            at = f"{where}.layers[{number}]"
            try:
                if not isinstance(entry, dict) or entry.get("mediaType") != LAYER_GZIP:
                    yield Problem(at, f"expected a descriptor of {LAYER_GZIP}")
                    continue
                found = self.diff_id(descriptor_digest(entry))
            except (
                IntegrityError,
                KeyError,
                TypeError,
                AttributeError,
                OSError,
                EOFError,
                zlib.error,
            ) as error:
                yield Problem(at, str(error) or type(error).__name__)
                continue
            if diff_id != f"sha256:{found}":
                yield Problem(at, f"uncompressed it is sha256:{found}, its config says {diff_id}")

    def diff_id(self, digest: Digest) -> str:
        """The SHA-256 of the uncompressed layer, once its own digest has been checked."""
        if digest not in self.diff_ids:
            self.diff_ids[digest] = _inflate(self.store.path(digest), digest)
        return self.diff_ids[digest]


def _inflate(path: Path, expected: Digest) -> str:
    if not path.exists():
        raise IntegrityError("blob is not in the layout", where=expected.oci)
    found = Digest.of_file(path)
    if found != expected:
        raise IntegrityError(
            "blob on disk is damaged",
            where=str(path),
            expected=f"{expected.oci}, {expected.size} bytes",
            found=f"{found.oci}, {found.size} bytes",
        )
    inner = hashlib.sha256()
    with igzip.open(path, "rb") as stream:
        while chunk := stream.read(CHUNK):
            inner.update(chunk)
    return inner.hexdigest()
