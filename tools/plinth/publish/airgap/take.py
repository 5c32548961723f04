"""Taking an archive in: first blobs, each of them verified; then names, all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plinth.core.digest import CHUNK, Digest
from plinth.core.errors import AirgapError, IntegrityError
from plinth.core.report import Progress, counted, human_size
from plinth.core.settings import Config
from plinth.core.store import BlobStore, atomic_write
from plinth.evidence.verify.gate import Gate
from plinth.evidence.verify.request import Request
from plinth.fetch.sources.source import open_source
from plinth.formats.oci.documents import descriptor
from plinth.formats.oci.layout import editing, entry_name, read_index
from plinth.formats.oci.reference import ArchiveReference
from plinth.formats.oci.referrers import attach
from plinth.formats.wheel.admit import admit
from plinth.formats.wheel.filename import parse_wheel
from plinth.inspect.contents.cache import contents_cache
from plinth.publish.airgap.form import Trust, blob_path
from plinth.publish.airgap.read import ArchiveFiles, Manifest, read_manifest


@dataclass(frozen=True)
class Taken:
    """What an import left: the names of its images, how many blobs were written and how many were
    there, the folder of the root that came along (None for none), and whether inputs came."""

    images: tuple[str, ...]
    written: int
    there: int
    trust: Trust | None
    trust_folder: Path | None
    inputs: bool


def take(
    archive: Path,
    build: Path,
    *,
    replace: bool,
    gate: Gate | None = None,
    config: Config | None = None,
    progress: Progress,
) -> Taken:
    """Take the archive into the folder `build`: images into the layout `build/oci`, inputs into
    the store `build/cache`, a trusted root and its policy into a folder of their own in
    `build/trust`.

    Blobs that are there are not written again, so an import that was cut off goes on where it
    was. With `replace`, names that stand for other images there stand for these. A `gate` verifies
    each image first.

    Raises:
        VerificationError: an image does not verify; nothing of the archive was kept.
        AirgapError: the archive is damaged or hostile, and nothing of it was kept; or a name in it
            stands for another image.
        IntegrityError: a blob is not what its name says; it was not kept, nor was any name.
        WheelError: a wheel in it is unsound; it was not kept, nor was any name.
        LayoutError: a document of the archive, or the layout that is there, is malformed.
    """
    files = ArchiveFiles(archive)
    manifest = read_manifest(files)
    layout, cache = BlobStore(build / "oci"), BlobStore(build / "cache")
    if not replace and (layout.root / "index.json").exists():
        # Told before gigabytes are copied; asked again when it counts.
        _check_names(read_index(layout)["manifests"], manifest, layout)
    for name, entry in sorted(manifest.images.items()) if gate else ():
        _admit(archive, name, str(entry["digest"]), gate, config or Config())
    written = there = 0
    for store, blobs in ((cache, manifest.cache), (layout, manifest.layout)):
        store.prepare()
        store.sweep()
        missing = store.missing(blobs)
        if missing:
            size = human_size(sum(digest.size for digest in missing))
            progress(f"writing {counted(len(missing), 'blob')}, {size}, into {store.root}")
        for digest in sorted(missing):
            _copy(files, store, digest, manifest.wheels.get(digest, ""))
        written += len(missing)
        there += len(blobs) - len(missing)
    folder = _keep_trust(build, manifest.trust)
    with editing(layout) as index:
        if not replace:
            _check_names(index, manifest, layout)
        _merge(index, manifest, layout)
    return Taken(
        tuple(sorted(manifest.images)), written, there, manifest.trust, folder, manifest.inputs
    )


def _admit(archive: Path, name: str, digest: str, gate: Gate | None, config: Config) -> None:
    with open_source(ArchiveReference(archive, name), config) as source:
        request = Request(name, cache=contents_cache(), config=config)
        if gate is not None and gate.admit(source, request).digest != digest:
            raise AirgapError("the archive changed while it was read", where=str(archive))


def _copy(files: ArchiveFiles, store: BlobStore, digest: Digest, wheel: str) -> None:
    """Let a blob enter the store; as `wheel`, its file name where it is called one, it is
    inspected like a downloaded wheel first."""

    def check(path: Path) -> None:
        try:
            name, version, _, _ = parse_wheel(wheel)
        except ValueError as error:
            raise AirgapError(
                f"it calls an input {wheel[:200]!r}, which is no wheel's name: {str(error)[:200]}",
                where=files.where,
                remedy="export it again",
            ) from None
        admit(path, wheel, name, str(version))

    with files.open(blob_path(digest), digest.size) as source, store.writer() as writer:
        while chunk := source.read(CHUNK):
            writer.write(chunk)
        try:
            writer.commit(digest, admit=check if wheel else None)
        except IntegrityError as error:
            error.where = f"{files.where}: {blob_path(digest)}"
            error.remedy = "copy the archive again: it was changed on its way, or made by nobody"
            raise


def _check_names(index: Sequence[dict[str, Any]], manifest: Manifest, layout: BlobStore) -> None:
    for entry in index:
        name = entry_name(entry)
        coming = manifest.images.get(name or "")
        if coming is not None and coming["digest"] != entry.get("digest"):
            raise AirgapError(
                f"{name} is another image here",
                where=str(layout.root),
                expected=f"{coming['digest']}, as in the archive",
                found=str(entry.get("digest")),
                remedy="import into an empty folder with --into, or give its name away: --replace",
            )


def _merge(index: list[dict[str, Any]], manifest: Manifest, layout: BlobStore) -> None:
    """Let the names in the index stand for what came; what is attached to an image grows by what
    is new."""
    index[:] = [entry for entry in index if entry_name(entry) not in manifest.images]
    index += manifest.images.values()
    for entry in manifest.images.values():
        coming = manifest.attached.get(entry["digest"], [])
        attach(index, descriptor(entry, "the archive"), coming, layout)


def _keep_trust(build: Path, trust: Trust | None) -> Path | None:
    """Leave the root that came along in a folder of its own, for somebody to decide about."""
    if trust is None:
        return None
    folder = build / "trust" / trust.folder
    for name, data in trust.files().items():
        with atomic_write(folder / name) as path:
            path.write_bytes(data)
    return folder
