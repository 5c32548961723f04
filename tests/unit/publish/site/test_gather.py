"""What is read from SBOMs, and when there is nothing to show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plinth.core.errors import PlinthError
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.evidence.sbom.make import make_sbom
from plinth.graph.workspace import Workspace
from plinth.inspect.contents.cache import ContentsCache
from plinth.publish.site.gather import gather, read_packages
from plinth.publish.site.model import Image, Package
from plinth.publish.site.write import verify_by
from support.layer_files import inputs, small_image, write_image


def test_packages_come_from_the_sbom(tmp_path: Path) -> None:
    image = write_image(tmp_path, small_image())
    packages, entries = read_packages(make_sbom(inputs(image)))
    by_name = {package.name: package for package in packages}
    assert by_name["demo"].version == "1.0"
    assert by_name["demo"].kind == "wheel"
    assert by_name["hello"].licences
    assert by_name["cpython"].kind == "interpreter"
    assert len(by_name["demo"].sha256) == 64
    assert by_name["demo"].size > 0
    assert entries > 0
    assert not any(package.kind == "entry" for package in packages)


def test_licences_of_every_form_are_one_line_each() -> None:
    licences = [
        {"license": {"id": "MIT"}},
        {"license": {"name": "Long\nand  <b>wide</b>\u2028text"}},
        {"expression": "Apache-2.0 OR BSD-3-Clause"},
    ]
    properties = [{"name": "dev.plinth:kind", "value": "wheel"}]
    component = {"name": "a", "version": "1", "properties": properties, "licenses": licences}
    packages, entries = read_packages(json.dumps({"components": [component]}).encode())
    said = ("MIT", "Long and <b>wide</b> text", "Apache-2.0 OR BSD-3-Clause")
    assert packages == (Package("wheel", "a", "1", said),)
    assert entries == 0


def test_a_checkout_where_nothing_is_built_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "one.toml").write_text("")
    ws = Workspace(tmp_path, tmp_path / "build")
    with pytest.raises(PlinthError, match="no image of the checkout is built"):
        gather(ws, progress=quiet)


def test_names_of_images() -> None:
    image = Image(
        "a", "a", "", "cpu", "", (), "host:5000/azureml/a:latest", "b", "b", "", "", 0, "",
        (), (), 0, b"",
    )  # fmt: skip
    assert image.repository == "host:5000/azureml/a"
    assert image.curated == "AzureML-a"


def test_nothing_is_verified_where_nobody_chose_a_root(tmp_path: Path) -> None:
    ws = Workspace(tmp_path, tmp_path / "build")
    assert verify_by(ws, Config(), ContentsCache(tmp_path)) is None


def test_a_policy_that_names_nobody_is_refused(tmp_path: Path) -> None:
    ws = Workspace(tmp_path, tmp_path / "build")
    policy = tmp_path / "policy.toml"
    policy.write_text('identity = "me@example.org"\ntrusted-root = "gone.json"\n')
    with pytest.raises(PlinthError, match="trusted root"):
        verify_by(ws, Config(), ContentsCache(tmp_path), policy=str(policy))
