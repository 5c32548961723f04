"""An SBOM and the one that image and locks give: each field that differs, by its path."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plinth.core.digest import canonical_json
from plinth.evidence.sbom.check import check_sbom
from plinth.evidence.sbom.make import make_sbom
from support.layer_files import inputs, small_image, with_locks, write_image


@pytest.fixture(scope="module")
def sbom(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_sbom(inputs(write_image(tmp_path_factory.mktemp("image"), small_image())))


def check(document: object, sbom: bytes) -> list[str]:
    return [str(problem) for problem in check_sbom(canonical_json(document), sbom)]  # type: ignore[arg-type]


def test_the_same_bytes_have_no_problem(sbom: bytes) -> None:
    assert check(json.loads(sbom), sbom) == []


def _twice(bom: Any) -> None:
    bom["components"].append(copy.deepcopy(bom["components"][0]))


CASES: dict[str, tuple[Callable[[Any], object], str]] = {
    "specVersion: the SBOM has ": (lambda bom: bom.update(specVersion="1.5"), '"1.5", image'),
    "serialNumber: the SBOM has nothing": (lambda bom: bom.pop("serialNumber"), '"urn:uuid:'),
    "more: the SBOM has {}": (lambda bom: bom.update(more={}), "give nothing"),
    "version: the SBOM has true": (lambda bom: bom.update(version=True), "give 1"),
    "components[pkg:pypi/demo@1.0]": (
        lambda bom: bom["components"].remove(
            next(one for one in bom["components"] if one["name"] == "demo")
        ),
        "has nothing",
    ),
    # What two have cannot be called by it.
    "components[": (_twice, "give nothing"),
    "components: the SBOM has 7": (lambda bom: bom.update(components=7), "give [{"),
}


@pytest.mark.parametrize("begin", CASES)
def test_the_field_that_differs_is_named(sbom: bytes, begin: str) -> None:
    change, message = CASES[begin]
    document = json.loads(sbom)
    change(document)
    said = check(document, sbom)
    assert said[0].startswith(begin), said
    assert any(message in one for one in said), said


def test_bytes_that_no_value_explains(sbom: bytes) -> None:
    (problem,) = check_sbom(sbom + b"\n", sbom)
    assert problem.message == "no value differs, the bytes do"


def test_the_sbom_of_another_image(tmp_path: Path, sbom: bytes) -> None:
    layers = small_image()
    layers.popitem()
    other = write_image(tmp_path, layers)
    said = [
        str(one) for one in check_sbom(sbom, make_sbom(with_locks(inputs(other), os_packages=())))
    ]
    assert any(one.startswith("metadata.component.version: ") for one in said)
    assert any(one.startswith("components[pkg:deb/") for one in said)
