"""Sigstore bundles."""

from __future__ import annotations

import functools
from pathlib import Path

from sigstore_models.trustroot.v1 import TrustedRoot

from plinth.evidence.choice import Believed
from plinth.evidence.verify.bundle import BundleVerifier
from plinth.evidence.verify.policy import Signers

ROOT = Path(__file__).parent / "trusted_root.json"


@functools.cache
def verifier() -> BundleVerifier:
    """A verifier of the test's own root."""
    root = TrustedRoot.from_json(ROOT.read_bytes())
    return BundleVerifier(Believed("the test's root", root), Signers(("me@example.org",)))


def parse(data: bytes, folder: Path) -> None:
    """Verify the bundle in `data`."""
    verifier().verify(data, "bundle")
