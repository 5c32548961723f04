"""A checkout's build folder with one small image, signed as far as its provenance can be read."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from plinth.core.digest import Digest
from plinth.core.settings import Config
from plinth.evidence.provenance import Provenance
from plinth.evidence.statement import COSIGN, PROVENANCE, statement
from plinth.formats.oci.layout import references
from plinth.formats.oci.model import MANIFEST, Descriptor
from plinth.formats.oci.referrers import attach_to_layout
from plinth.formats.python.stored import keep_tree
from plinth.formats.python.tree import TreeFile, tree_digest
from plinth.graph.workspace import Workspace
from plinth.publish.airgap.collect import Cargo, collect
from plinth.publish.airgap.form import Trust
from plinth.recipe.materials import TREE, Material
from support.helpers import wheel_files, zipped
from support.oci_images import make_image

IMAGE, OTHER = "small", "other"
NAME = "demo-1.0-py3-none-any.whl"
WHEEL = zipped(wheel_files({"demo.py": b"x = 1\n"}))
DEB = b"a package"
PYTHON = [
    TreeFile("bin/python", 0o777, b"", "python3.7"),
    TreeFile("bin/python3.7", 0o755, b"\x7fELF"),
    TreeFile("lib/python3.7/os.py", 0o644, b"x = 1\n"),
]
POLICY = b"""\
identity = "me@example.org"
issuer = "https://i.example.org"
trusted-root = "trusted_root.json"
"""
TRUST = Trust(b'{"a": "root"}', POLICY)


def bundle(payload: bytes) -> bytes:
    """A bundle that nobody signed."""
    return json.dumps({"dsseEnvelope": {"payload": base64.b64encode(payload).decode()}}).encode()


@dataclass(frozen=True)
class Checkout:
    """A build folder with the image `small`, which is signed, and `other`, which is not."""

    ws: Workspace

    def image(self, name: str = IMAGE) -> Digest:
        return references(self.ws.layout)[name].manifest

    def collect(
        self,
        *ids: str,
        trust: Trust | None = TRUST,
        inputs: bool = True,
        config: Config | None = None,
    ) -> Cargo:
        return collect(self.ws, ids or [IMAGE], trust, inputs=inputs, config=config or Config())


def make_checkout(folder: Path) -> Checkout:
    """The checkout in `folder`; equal ones in all folders."""
    ws = Workspace(folder, folder / "build")
    for name in (IMAGE, OTHER):
        make_image(ws.layout, name)
    checkout = Checkout(ws)
    sign(checkout)
    return checkout


def sign(checkout: Checkout) -> None:
    ws, image = checkout.ws, checkout.image()
    tree = keep_tree(ws.cache, PYTHON)
    assert tree == tree_digest(PYTHON)
    materials = [
        Material("pkg:pypi/demo@1.0", NAME, ws.cache.put(WHEEL)),
        Material("pkg:deb/debian/demo@1.0", "demo.deb", ws.cache.put(DEB)),
        Material("pkg:generic/cpython@3.7", "interpreter tree", tree, {"kind": TREE}),
        # What is made from a base image's specification is in no store.
        Material("pkg:oci/base@sha256", "manifest", Digest.of(b"made")),
    ]
    provenance = Provenance(
        IMAGE, "base", "", {}, materials, None, "https://b.example.org", "1", b"{}"
    ).to_json()
    bundles = [
        (kind, bundle(statement("team/small", image, kind, predicate)))
        for kind, predicate in ((PROVENANCE, provenance), (COSIGN, {}))
    ]
    attach_to_layout(ws.layout, Descriptor(MANIFEST, image), bundles)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return make_checkout(tmp_path / "checkout")
