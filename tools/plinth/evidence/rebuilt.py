"""The statement that an image was built again, byte for byte (docs/provenance.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plinth.core.digest import Json
from plinth.evidence.statement import PAYLOAD_TYPE
from plinth.formats.oci.model import MANIFEST


@dataclass(frozen=True)
class Rebuilt:
    """What a rebuilder says: they built from the provenance whose statement has the SHA-256
    `provenance`, and the manifest that came out has the SHA-256 `manifest` (hexadecimal). `builder`
    and `version`: who ran which plinth."""

    provenance: str
    manifest: str
    builder: str
    version: str

    def to_json(self) -> Json:
        """The predicate. It has no time; the bundle has one."""
        return {
            "builtFrom": {"mediaType": PAYLOAD_TYPE, "digest": {"sha256": self.provenance}},
            "result": {"mediaType": MANIFEST, "digest": {"sha256": self.manifest}},
            "rebuilder": {"id": self.builder, "version": {"plinth": self.version}},
        }


def parse(predicate: Mapping[str, Any]) -> Rebuilt:
    """What the predicate says.

    Raises:
        ValueError: it is not exactly of this form.
    """
    try:
        found = Rebuilt(
            predicate["builtFrom"]["digest"]["sha256"],
            predicate["result"]["digest"]["sha256"],
            predicate["rebuilder"]["id"],
            predicate["rebuilder"]["version"]["plinth"],
        )
    except (KeyError, TypeError, IndexError):
        found = None
    if found is None or found.to_json() != predicate:
        raise ValueError("not exactly the form of docs/provenance.md, Rebuilt")
    return found
