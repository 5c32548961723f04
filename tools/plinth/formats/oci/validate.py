"""`validate(layout)`: is a layout what the OCI image specification and its own digests say?

Ships in the library; tests and verification call the same function.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError, LayoutError, Problem
from plinth.core.regular import open_regular
from plinth.core.store import BlobStore
from plinth.formats.layer.blob import plain_digest
from plinth.formats.oci.documents import (
    MAX_MANIFEST,
    SUBJECT,
    all_annotations,
    annotations_of,
    descriptor,
    document,
    is_image,
)
from plinth.formats.oci.layout import entry_name, marker_problem, read_index
from plinth.formats.oci.model import CONFIG, INDEX, LAYERS, MANIFEST
from plinth.formats.oci.referrers import BUNDLE, EMPTY, EMPTY_CONFIG, MAX_BUNDLE, SOCI
from plinth.formats.oci.strict import CONFIG_KEYS, MANIFEST_KEYS

_REFERRERS = "sha256-"


def validate(root: Path) -> list[Problem]:
    """Every problem of the layout in folder `root`; an empty list means it is valid.

    Checks the marker file, the index, each manifest and config it reaches, each blob's size and
    digest, that every layer decompresses to the diff_id its config names, and that what is listed
    as attached to an image is a Sigstore bundle that refers to it, or a SOCI index whose files are
    there. Each layer is read once, however many images share it.
    """
    return list(_Validator(BlobStore(root)).run())


class _Validator:
    def __init__(self, store: BlobStore) -> None:
        self.store = store
        self.diff_ids: dict[Digest, str] = {}

    def run(self) -> Iterator[Problem]:
        if wrong := marker_problem(self.store):
            yield Problem("oci-layout", wrong)
        try:
            entries = read_index(self.store)["manifests"]
        except LayoutError as error:
            yield Problem("index.json", error.what)
            return
        seen: dict[str, int] = {}
        for number, entry in enumerate(entries):
            where = f"index.json: manifests[{number}]"
            name = entry_name(entry) or ""
            if name and seen.setdefault(name, number) != number:
                yield Problem(where, f"its name, {name!r}, is that of manifests[{seen[name]}]")
            subject = annotations_of(entry).get(SUBJECT)
            if name.startswith(_REFERRERS):
                yield from self.referrers(where, entry, name)
            elif subject is None and _artifact_type(entry) in SOCI:
                # As oras lists what it copies along with an image.
                yield from self.artifact(where, entry, None)
            elif subject is not None and not is_image(entry):
                yield from self.artifact(where, entry, subject)
                if entry in entries[:number]:
                    yield Problem(where, "listed twice")
            else:
                yield from self.manifest(where, entry)

    def document(self, where: str, entry: object, kind: str) -> Iterator[Problem | dict[str, Any]]:
        """The JSON object behind a descriptor, or the problem with it."""
        try:
            if not isinstance(entry, dict) or entry.get("mediaType") != kind:
                yield Problem(where, f"expected a descriptor of {kind}")
                return
            known = CONFIG_KEYS if kind == CONFIG else MANIFEST_KEYS
            all_annotations(entry, "")
            limit = MAX_BUNDLE if kind == BUNDLE else MAX_MANIFEST
            digest = descriptor(entry, "")
            if digest.size > limit:
                yield Problem(where, f"larger than {limit} bytes")
                return
            found = document(self.store.get(digest), "", known, limit)
        except (IntegrityError, LayoutError, OSError) as error:
            yield Problem(where, str(error))
            return
        if kind in (MANIFEST, INDEX) and found.get("schemaVersion") != 2:
            yield Problem(where, "schemaVersion is not 2")
        else:
            yield found

    def manifest(self, where: str, entry: object) -> Iterator[Problem]:
        for manifest in self.document(where, entry, MANIFEST):
            if isinstance(manifest, Problem):
                yield manifest
                return
            layers = manifest.get("layers")
            if not isinstance(layers, list):
                yield Problem(f"{where}.layers", "expected a list")
                return
            for config in self.document(f"{where}.config", manifest.get("config"), CONFIG):
                if isinstance(config, Problem):
                    yield config
                    return
                yield from self.layers(where, layers, config)

    def referrers(self, where: str, entry: object, name: str) -> Iterator[Problem]:
        """What is attached to the image whose digest is in `name` (distribution-spec, "Referrers
        Tag Schema")."""
        for index in self.document(where, entry, INDEX):
            if isinstance(index, Problem):
                yield index
                return
            if index.get("mediaType") != INDEX:
                yield Problem(where, f"mediaType is not {INDEX}")
            listed = index.get("manifests")
            if not isinstance(listed, list):
                yield Problem(f"{where}.manifests", "expected a list")
                return
            subject = f"sha256:{name.removeprefix(_REFERRERS)}"
            for number, artifact in enumerate(listed):
                at = f"{where}.manifests[{number}]"
                yield from self.artifact(at, artifact, subject)
                if artifact in listed[:number]:
                    yield Problem(at, "listed twice")

    def artifact(self, where: str, entry: object, subject: str | None) -> Iterator[Problem]:
        """A manifest listed as attached to the image `subject`, if it is listed for one: a bundle's
        or that of a SOCI index (image-spec, manifest.md, "Guidelines for Artifact Usage")."""
        for manifest in self.document(where, entry, MANIFEST):
            if isinstance(manifest, Problem):
                yield manifest
                return
            if _artifact_type(manifest) in SOCI:
                yield from self.soci(where, entry, manifest, subject)
                return
            if manifest.get("artifactType") != BUNDLE:
                yield Problem(where, f"artifactType is not {BUNDLE}")
            # Older tools that copy a list leave fields out, which is no contradiction.
            if isinstance(entry, dict) and entry.get("artifactType", BUNDLE) != BUNDLE:
                yield Problem(where, "listed with another artifactType than its manifest has")
            noted = annotations_of(manifest)
            for key, value in annotations_of(entry).items():
                if key != SUBJECT and noted.get(key) != value:
                    yield Problem(where, f"listed with another {key} than its manifest has")
            yield from self.subject(f"{where}.subject", manifest.get("subject"), subject)
            for problem in self.document(f"{where}.config", manifest.get("config"), EMPTY):
                if isinstance(problem, Problem):
                    yield problem
                elif descriptor(manifest["config"], "") != Digest.of(EMPTY_CONFIG):
                    yield Problem(f"{where}.config", "not the empty config")
            layers = manifest.get("layers")
            if not isinstance(layers, list) or len(layers) != 1:
                yield Problem(f"{where}.layers", "expected one")
                return
            for bundle in self.document(f"{where}.layers[0]", layers[0], BUNDLE):
                if isinstance(bundle, Problem):
                    yield bundle

    def soci(
        self, where: str, entry: object, manifest: dict[str, Any], subject: str | None
    ) -> Iterator[Problem]:
        """The manifest of a SOCI index, and the zTOCs that it names."""
        kind = _artifact_type(manifest)
        if isinstance(entry, dict) and entry.get("artifactType", kind) != kind:
            yield Problem(where, "listed with another artifactType than its manifest has")
        if subject is not None or "subject" in manifest:
            yield from self.subject(f"{where}.subject", manifest.get("subject"), subject)
        layers = manifest.get("layers")
        if not isinstance(layers, list):
            yield Problem(f"{where}.layers", "expected a list")
            return
        files = {f"layers[{number}]": one for number, one in enumerate(layers)}
        for name, one in {"config": manifest.get("config"), **files}.items():
            try:
                named = descriptor(one, "")
                _check(self.store.path(named), named)
            except (IntegrityError, LayoutError, OSError) as error:
                yield Problem(f"{where}.{name}", str(error))

    def subject(self, where: str, entry: object, digest: str | None) -> Iterator[Problem]:
        """The image referred to, `digest` where one is expected. It may be gone: a rebuilt image
        leaves its signatures."""
        try:
            if not isinstance(entry, dict) or entry.get("mediaType") != MANIFEST:
                yield Problem(where, f"expected a descriptor of {MANIFEST}")
                return
            found = descriptor(entry, "")
            if digest is not None and found.oci != digest:
                yield Problem(where, f"it is {found.oci}, listed for {digest}")
            elif self.store.path(found).exists():
                self.store.get(found)
        except (IntegrityError, LayoutError) as error:
            yield Problem(where, str(error))

    def layers(self, where: str, layers: list[object], config: dict[str, Any]) -> Iterator[Problem]:
        rootfs = config.get("rootfs")
        diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
        if not isinstance(diff_ids, list) or len(diff_ids) != len(layers):
            yield Problem(f"{where}.config.rootfs.diff_ids", f"expected {len(layers)} entries")
            return
        for number, (entry, diff_id) in enumerate(zip(layers, diff_ids, strict=True)):
            at = f"{where}.layers[{number}]"
            try:
                if not isinstance(entry, dict) or entry.get("mediaType") not in LAYERS:
                    yield Problem(at, f"expected a descriptor of {' or '.join(LAYERS)}")
                    continue
                found = self.diff_id(descriptor(entry, ""))
            except (IntegrityError, LayoutError, OSError) as error:
                yield Problem(at, str(error) or type(error).__name__)
                continue
            if diff_id != f"sha256:{found}":
                yield Problem(at, f"uncompressed it is sha256:{found}, its config says {diff_id}")

    def diff_id(self, digest: Digest) -> str:
        """The SHA-256 of the uncompressed layer, once its own digest has been checked."""
        if digest not in self.diff_ids:
            self.diff_ids[digest] = _inflate(self.store.path(digest), digest)
        return self.diff_ids[digest]


def _artifact_type(entry: object) -> object:
    """What a manifest is of, or a descriptor says that it is: where there is no `artifactType`, the
    type of the config (image-spec, manifest.md)."""
    if not isinstance(entry, dict):
        return None
    config = entry.get("config")
    return entry.get("artifactType") or (isinstance(config, dict) and config.get("mediaType"))


def _inflate(path: Path, expected: Digest) -> str:
    _check(path, expected)
    return plain_digest(path).hex


def _check(path: Path, expected: Digest) -> None:
    try:
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
    except FileNotFoundError:
        raise IntegrityError("blob is not in the layout", where=expected.oci) from None
    # One of another size, which may be any, is not read.
    found = Digest.of_file(path) if size == expected.size else None
    if found != expected:
        raise IntegrityError(
            "blob on disk is damaged",
            where=str(path),
            expected=f"{expected.oci}, {expected.size} bytes",
            found=f"{found.oci}, {found.size} bytes" if found else f"{size} bytes",
        )
