"""What an archive for an air gap is: an OCI layout in a tar, every blob of it named by its index.

Beside the images and their bundles, the index names three kinds of artifact: the
inputs of an image, an interpreter, and what a verifier needs to believe (docs/airgap.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plinth.core.digest import Digest, Json, canonical_json
from plinth.core.errors import Problem, ProblemsError
from plinth.evidence.trusted_root import MAX_ROOT
from plinth.evidence.verify.policy import Policy, Signers, parse_policy
from plinth.formats.oci.documents import SUBJECT
from plinth.formats.oci.model import MANIFEST, TITLE, Descriptor
from plinth.formats.oci.referrers import EMPTY, EMPTY_CONFIG

INPUTS = "application/vnd.plinth.inputs.v1"
"""An artifact: the files an image is built from; its subject is the image."""

INTERPRETER = "application/vnd.plinth.interpreter.v1"
"""An artifact: a tree as `plinth.formats.python.stored` keeps it; its config is the list of
files."""

TRUST = "application/vnd.plinth.trust.v1"
"""An artifact: a trusted root, and a policy where there is one, by their titles."""

ROOT_FILE, POLICY_FILE = "trusted_root.json", "policy.toml"
MAX_TRUST = MAX_ROOT
"""The largest trusted root or policy (bytes)."""

_MORE = (
    f'expected identity, issuer and trusted-root = "{ROOT_FILE}", which is the root that came with '
    "it, and nothing else"
)

MARKER = b'{"imageLayoutVersion":"1.0.0"}'
"""The file `oci-layout` (image-spec, image-layout.md)."""

_TREE = "application/vnd.plinth.tree.v1+json"
_DATA = "application/octet-stream"


@dataclass(frozen=True)
class Piece:
    """One blob of an artifact: its digest and what it is called, which may be nothing."""

    digest: Digest
    name: str = ""

    def descriptor(self) -> Descriptor:
        """The piece in an artifact's manifest."""
        return Descriptor(_DATA, self.digest, {TITLE: self.name} if self.name else {})


def artifact(
    kind: str,
    pieces: Sequence[Piece],
    *,
    subject: Descriptor | None = None,
    tree: Digest | None = None,
) -> bytes:
    """The manifest of an artifact (image-spec, manifest.md, "Guidelines for Artifact Usage")."""
    config = Descriptor(_TREE, tree) if tree else Descriptor(EMPTY, Digest.of(EMPTY_CONFIG))
    document: dict[str, Json] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": kind,
        "config": config.to_json(),
        "layers": [piece.descriptor().to_json() for piece in pieces],
    }
    if subject is not None:
        document["subject"] = subject.to_json()
    return canonical_json(document)


def artifact_entry(kind: str, manifest: bytes) -> dict[str, Any]:
    """The artifact in an index. Engines that load the archive neither make an image of it nor
    keep it beside one: it names no subject they could follow."""
    entry = Descriptor(MANIFEST, Digest.of(manifest), {SUBJECT: ""}).to_json()
    return {**entry, "artifactType": kind}


@dataclass(frozen=True)
class Trust:
    """What travels for a verifier to believe, as files; `policy` is empty where there is none."""

    root: bytes
    policy: bytes = b""

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the root's file, as `sha256sum` has it."""
        return Digest.of(self.root).hex

    @property
    def folder(self) -> str:
        """Where it is left: no other root or policy is ever put over it."""
        return Digest.of(canonical_json([self.fingerprint, Digest.of(self.policy).hex])).hex

    @property
    def signers(self) -> Signers | None:
        """Whom the policy is there for, None where there is none. It says who signs by the root
        beside it, and nothing else: the fingerprint that people compare is of no other root.

        Raises:
            ProblemsError: it says more, or is no policy.
        """
        if not self.policy:
            return None
        said = parse_policy(self.policy, Path(POLICY_FILE))
        wanted = Policy(said.identities, said.issuer, ROOT_FILE)
        if said != wanted or not said.identities or not said.issuer:
            raise ProblemsError(POLICY_FILE, [Problem("", _MORE)])
        return Signers(said.identities, said.issuer)

    def files(self) -> dict[str, bytes]:
        """The files by name."""
        return {ROOT_FILE: self.root, **({POLICY_FILE: self.policy} if self.policy else {})}


def blob_path(digest: Digest) -> str:
    """Where the archive has a blob (image-spec, image-layout.md)."""
    return f"blobs/sha256/{digest.hex}"


Content = Path | bytes
"""Where a blob is, or what it is."""
