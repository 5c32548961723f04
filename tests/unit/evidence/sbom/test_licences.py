"""Licences as packages write them, as CycloneDX has them."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component
from cyclonedx.output.json import JsonV1Dot6

from plinth.evidence.sbom.licences import licences


def shown(declared: Sequence[str], *, debian: bool = False) -> list[str]:
    component = Component(name="x", licenses=licences(declared, debian=debian))
    document = json.loads(JsonV1Dot6(Bom(components=[component])).output_as_string())
    found = []
    for entry in document["components"][0].get("licenses", []):
        inner = entry.get("license", entry)
        assert inner.pop("acknowledgement") == "declared"
        found += [f"{key}={value}" for key, value in inner.items()]
    return found


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ([], []),
        (["MIT"], ["id=MIT"]),
        (["mit"], ["id=MIT"]),
        (["MIT License"], ["id=MIT"]),
        (["Apache 2.0"], ["id=Apache-2.0"]),
        (["BSD-3"], ["id=BSD-3-Clause"]),
        (["Apache-2.0 OR BSD-3-Clause"], ["expression=Apache-2.0 OR BSD-3-Clause"]),
        (["Apache-2.0 OR nonsense here"], ["name=Apache-2.0 OR nonsense here"]),
        (["BSD"], ["name=BSD"]),
        (["Dual License", "MIT License"], ["id=MIT", "name=Dual License"]),
        # An expression beside others is only a name: CycloneDX takes one or the other.
        (["A OR B", "MIT"], ["id=MIT", "name=A OR B"]),
    ],
)
def test_python(declared: list[str], expected: list[str]) -> None:
    assert sorted(shown(declared)) == expected


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (["GPL-2+"], ["id=GPL-2.0-or-later"]),
        (["GPL-3"], ["id=GPL-3.0-only"]),
        (["LGPL-2.1+"], ["id=LGPL-2.1-or-later"]),
        (["GFDL-1.3+"], ["id=GFDL-1.3-or-later"]),
        (["LGPL-2"], ["id=LGPL-2.0-only"]),
        (["Expat"], ["id=MIT"]),
        (["Artistic"], ["id=Artistic-1.0"]),
        (["GPL-1+ or Artistic"], ["name=GPL-1+ or Artistic"]),
        (
            ["public-domain", "GPL-2+ with exception"],
            ["name=GPL-2+ with exception", "name=public-domain"],
        ),
        (["Expat", "MIT"], ["id=MIT"]),
    ],
)
def test_debian(declared: list[str], expected: list[str]) -> None:
    assert sorted(shown(declared, debian=True)) == expected
