"""An SBOM as bytes: the same for the same content, in whatever order it was put together."""

from __future__ import annotations

import json

from cyclonedx.model.bom import Bom
from cyclonedx.output.json import JsonV1Dot6

from plinth.core.digest import canonical_json


def output(bom: Bom, *, dated: bool = True) -> bytes:
    """The document as canonical CycloneDX 1.6 JSON; not `dated`, it says no time: the library
    would put in that of the writing where `bom` has none."""
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    if not dated:
        document["metadata"].pop("timestamp", None)
    for key, by in (("components", "bom-ref"), ("dependencies", "ref")):
        document[key].sort(key=lambda entry: entry[by])
    return canonical_json(document)
