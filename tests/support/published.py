"""Images signed as `plinth sign` does it, and what their signer hands to verifiers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from plinth.authority.domain import Domain, init_domain
from plinth.authority.export import exported
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.evidence.sign import sign_images
from plinth.graph.workspace import Workspace
from support.forge import IDENTITY, Copy, link_tree

IMAGE, OTHER = "minimal", "sklearn-0.24.1"


@dataclass(frozen=True)
class Published:
    """Two signed images in a build folder of their own, and what their signer gives verifiers:
    `trust` holds trusted_root.json and client_trust_config.json."""

    ws: Workspace
    domain: Domain
    trust: Path

    @property
    def layout(self) -> Path:
        return self.ws.layout.root

    @property
    def root(self) -> Path:
        return self.trust / "trusted_root.json"

    @property
    def issuer(self) -> str:
        return self.domain.issuer

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which plinth finds this build folder from the checkout."""
        return {**os.environ, "PLINTH_BUILD": str(self.ws.build)}

    def image(self, name: str = IMAGE) -> Copy:
        return Copy(self.layout, name)

    def bundle(self, called: str, image: str = IMAGE) -> Path:
        """The file `plinth sign` left of one statement: signature, provenance or sbom."""
        return self.attestations(image) / f"{called}.sigstore.json"

    def attestations(self, image: str = IMAGE) -> Path:
        return self.ws.build / "attestations" / image


def publish(ws: Workspace, folder: Path) -> Published:
    """Sign the images of `ws`, whose build folder is linked into `folder`, not written to."""
    for name in ("oci", "cache/actions", "cache/blobs", "cache/images"):
        link_tree(ws.build / name, folder / "build" / name)
    mine = Workspace(ws.root, folder / "build")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLINTH_TRUST", str(folder / "domain"))
        domain = init_domain(folder / "domain", IDENTITY)
        # The other first, so that the log has a tree when the image comes into it.
        sign_images(mine, [OTHER, IMAGE], trust="embedded", config=Config(), progress=quiet)
    return Published(mine, domain, export(domain, folder / "trust"))


def export(domain: Domain, folder: Path) -> Path:
    """What `plinth trust export` writes, in `folder`."""
    folder.mkdir()
    for name, data in exported(domain.state, "http://127.0.0.1:1").items():
        (folder / name).write_bytes(data)
    return folder


def edited(path: Path, target: Path, place: Sequence[str], change: Callable[[str], str]) -> Path:
    """The JSON file at `path`, with the text at `place` in it changed, at `target`."""
    document = json.loads(path.read_bytes())
    *above, last = (int(key) if key.isdigit() else key for key in place)
    at = document
    for key in above:
        at = at[key]
    at[last] = change(at[last])
    target.write_text(json.dumps(document))
    return target
