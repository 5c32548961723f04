"""Reading an archive that anybody may have made: what it holds, before a byte of it is kept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from plinth.core.digest import Digest
from plinth.core.errors import AirgapError, IntegrityError, LayoutError, ProblemsError
from plinth.core.report import counted
from plinth.formats.oci.documents import (
    IMAGE_NAME,
    MAX_MANIFEST,
    REF_NAME,
    SUBJECT,
    annotations_of,
    descriptor,
    document,
    entries,
    is_image,
    is_index,
)
from plinth.formats.oci.files import TarFiles
from plinth.formats.oci.files import read as read_file
from plinth.formats.oci.manifest import Manifest as OciManifest
from plinth.formats.oci.manifest import parse_manifest
from plinth.formats.oci.model import INDEX, MANIFEST, TITLE, Descriptor
from plinth.formats.oci.reference import canonical, is_repository
from plinth.formats.tar import DIRECTORY, FILE, Member
from plinth.publish.airgap.form import (
    INPUTS,
    INTERPRETER,
    MAX_TRUST,
    POLICY_FILE,
    ROOT_FILE,
    TRUST,
    Trust,
    blob_path,
)
from plinth.recipe.forms import tag_of

_MEMBER = re.compile(r"oci-layout|index\.json|blobs/sha256/[0-9a-f]{64}")
_FOLDERS = {"", "blobs", "blobs/sha256"}
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}(\+(gzip|zstd))?")
_ARTIFACTS = (INPUTS, INTERPRETER, TRUST)


class ArchiveFiles(TarFiles):
    """The files of an archive, which has no business holding anything but a layout's."""

    def __init__(self, path: Path) -> None:
        self.blobs: set[str] = set()
        super().__init__(path)

    def _add(self, member: Member) -> None:
        if member.kind == DIRECTORY and member.path in _FOLDERS:
            return
        if member.kind != FILE or not _MEMBER.fullmatch(member.path):
            raise AirgapError(
                f"it holds {member.name[:200]!r}, which is no file of an OCI layout",
                where=self.where,
            )
        super()._add(member)
        if member.path.startswith("blobs/"):
            self.blobs.add(member.path)


@dataclass
class Manifest:
    """What an archive holds and was found sound, so far as it can be told from its documents.

    images: entries of its images by name. attached: entries of what is attached to each image, by
    the image's digest. layout, cache: the blobs for the layout, and for the store of inputs.
    wheels: the file names of those inputs that are called wheels.
    """

    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    attached: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    layout: set[Digest] = field(default_factory=set)
    cache: set[Digest] = field(default_factory=set)
    wheels: dict[Digest, str] = field(default_factory=dict)
    trust: Trust | None = None
    inputs: bool = False


def read_manifest(files: ArchiveFiles) -> Manifest:
    """What the archive holds: every document in it is read and verified, other blobs are not.

    Raises:
        AirgapError: it is not an archive of this form, lacks a blob that it names, or holds one
            that it does not.
        IntegrityError: a document in it is not what its name says.
        LayoutError: a document in it is malformed.
    """
    reader = _Reader(files)
    if files.size("oci-layout") is None or files.size("index.json") is None:
        reader.refuse("it holds no OCI layout, or it is cut short")
    index = document(read_file(files, "index.json", MAX_MANIFEST + 1), f"{files.where}: index.json")
    listed = entries(index, f"{files.where}: index.json")
    for entry in listed:
        if is_image(entry):
            reader.image(entry)
    for entry in listed:
        kind = entry.get("artifactType")
        if kind in _ARTIFACTS:
            reader.artifact(str(kind), entry)
        elif SUBJECT in annotations_of(entry) and not is_image(entry):
            reader.bundle(entry, annotations_of(entry)[SUBJECT])
        elif is_index(entry):
            reader.list_of_bundles(entry)
        elif not is_image(entry):
            reader.refuse(f"its index lists something of an unknown type: {entry!r:.200}")
    reader.check_blobs()
    return reader.found


class _Reader:
    def __init__(self, files: ArchiveFiles) -> None:
        self.files = files
        self.found = Manifest()
        self.documents: set[Digest] = set()

    def refuse(self, what: str) -> NoReturn:
        raise AirgapError(what, where=self.files.where, remedy="export it again, and copy it whole")

    def digest(self, entry: object) -> Digest:
        return descriptor(entry, self.files.where)

    def data(self, digest: Digest, limit: int) -> bytes:
        """A blob small enough to be held in memory, verified."""
        where = f"{self.files.where}: {blob_path(digest)}"
        if digest.size > limit:
            raise LayoutError(f"{digest.size} bytes are too many", where=where)
        if self.files.size(blob_path(digest)) is None:
            self.refuse(f"it lacks {digest.oci}")
        data = read_file(self.files, blob_path(digest), digest.size + 1)
        if Digest.of(data) != digest:
            raise IntegrityError(
                "it is not what its name says",
                where=where,
                expected=f"{digest.oci}, {digest.size} bytes",
                found=f"{Digest.of(data).oci}, {len(data)} bytes",
            )
        self.documents.add(digest)
        return data

    def manifest(self, entry: object) -> OciManifest:
        digest = self.digest(entry)
        data = self.data(digest, MAX_MANIFEST)
        return parse_manifest(data, digest.oci, media_type=MANIFEST)

    def image(self, entry: dict[str, Any]) -> None:
        name, called = (annotations_of(entry).get(key, "") for key in (REF_NAME, IMAGE_NAME))
        if not _NAME.fullmatch(name) or name.startswith("sha256-") or name in self.found.images:
            self.refuse(f"an image in it has no name of its own, but {name[:200]!r}")
        manifest = self.manifest(entry)
        title = manifest.annotations.get(TITLE, "")
        if not is_repository(title):
            self.refuse(f"no engine could name {name}: its manifest calls it {title[:200]!r}")
        # By this name engines will know it; the manifest's is the one that is signed.
        if canonical(called) != canonical(f"{title}:{tag_of(name)}"):
            self.refuse(f"its index calls {name} {called[:200]!r}, its manifest {title[:200]!r}")
        self.found.layout |= {manifest.digest, *manifest.blobs}
        kept: dict[str, Any] = Descriptor(MANIFEST, manifest.digest).to_json()
        platform = entry.get("platform")
        if isinstance(platform, dict):
            kept["platform"] = {
                key: platform[key]
                for key in ("architecture", "os")
                if isinstance(platform.get(key), str)
            }
        noted = {IMAGE_NAME: canonical(called), REF_NAME: name}
        self.found.images[name] = {**kept, "annotations": noted}

    def is_ours(self, subject: str) -> bool:
        """Whether a digest (OCI form) is of an image in the archive."""
        return any(entry["digest"] == subject for entry in self.found.images.values())

    def bundle(self, entry: dict[str, Any], subject: str) -> None:
        """What is attached to the image `subject`."""
        manifest = self.manifest(entry)
        digest = manifest.digest
        if manifest.subject is None or manifest.subject.digest.oci != subject:
            self.refuse(f"{digest.oci} does not refer to {subject[:200]!r}, as the index has it")
        if entry.get("mediaType") != MANIFEST or not self.is_ours(subject):
            self.refuse(f"{digest.oci} refers to an image it does not hold")
        listed = self.found.attached.setdefault(subject, [])
        if any(one["digest"] == digest.oci for one in listed):
            self.refuse(f"it lists {digest.oci} twice")
        # Not as a stranger wrote it: for one field of another form, no tool in Go reads the index
        # of the layout that it goes into.
        kept = Descriptor(MANIFEST, digest, annotations_of(entry)).to_json()
        listed.append(
            {**kept, "artifactType": manifest.artifact_type or manifest.config.media_type}
        )
        self.found.layout |= {digest, *manifest.blobs}

    def list_of_bundles(self, entry: dict[str, Any]) -> None:
        """The list of what is attached to an image, as earlier versions wrote it."""
        name = annotations_of(entry).get(REF_NAME, "")
        subject = f"sha256:{name.removeprefix('sha256-')}"
        if entry.get("mediaType") != INDEX or not self.is_ours(subject):
            self.refuse(f"it lists what is attached to an image it does not hold: {name[:200]!r}")
        digest = self.digest(entry)
        index = document(self.data(digest, MAX_MANIFEST), digest.oci)
        for one in entries(index, digest.oci):
            self.bundle(one, subject)

    def artifact(self, kind: str, entry: dict[str, Any]) -> None:
        manifest = self.manifest(entry)
        if manifest.artifact_type != kind:
            self.refuse(f"{manifest.digest.oci} is not of the type its index says")
        if kind == TRUST:
            self.trust(manifest.layers)
            self.documents.add(manifest.config.digest)
        elif kind == INPUTS:
            if manifest.subject is None or not self.is_ours(manifest.subject.digest.oci):
                self.refuse(f"{manifest.digest.oci} is about an image it does not hold")
            self.documents.add(manifest.config.digest)
            self.found.cache |= {layer.digest for layer in manifest.layers}
            for layer in manifest.layers:
                if layer.title.endswith(".whl"):
                    self.found.wheels[layer.digest] = layer.title
            self.found.inputs = True
        else:
            self.found.cache |= {*manifest.blobs}

    def trust(self, layers: Sequence[Descriptor]) -> None:
        held = {layer.title: self.data(layer.digest, MAX_TRUST) for layer in layers}
        if self.found.trust or len(held) != len(layers) or not held.get(ROOT_FILE):
            self.refuse("it says more than once, or not at all, which root to believe")
        if held.keys() - {ROOT_FILE, POLICY_FILE}:
            self.refuse(f"it holds, beside a trusted root, {', '.join(sorted(held))[:200]!r}")
        self.found.trust = Trust(held[ROOT_FILE], held.get(POLICY_FILE, b""))
        try:
            _ = self.found.trust.signers
        except ProblemsError as error:
            self.refuse(f"the policy in it cannot be used: {error.problems[0]}")

    def check_blobs(self) -> None:
        """Every blob that is named is there, in its size, and nothing else is."""
        wanted = self.found.layout | self.found.cache | self.documents
        for digest in sorted(wanted):
            size = self.files.size(blob_path(digest))
            if size is None:
                self.refuse(f"it lacks {digest.oci}")
            if size != digest.size:
                self.refuse(f"{digest.oci} has {size} bytes in it, and must have {digest.size}")
        extra = sorted(self.files.blobs - {blob_path(digest) for digest in wanted})
        if extra:
            self.refuse(
                f"it holds {counted(len(extra), 'blob')} that nothing names, such as {extra[0]}"
            )
        if not self.found.images:
            self.refuse("it holds no image")
