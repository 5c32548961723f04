"""Syft and our SBOM name the same packages of an image; each difference is listed here, with its
reason."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from field.test_judges_layout import loaded
from integration.conftest import ALL, build
from plinth.evidence.sbom.make import sbom_of
from plinth.inspect.contents.cache import ContentsCache
from support import judges
from support.forge import Json

BY_DAY = "minimal"
"""The image that every run looks at; by night all are."""

Package = tuple[str, str, str]
"""Kind, name, version."""

WINDOWS = {
    "distlib's launchers, in pip": {"Simple Launcher"},
    "setuptools' launchers": {
        *("cli", "cli-32", "cli-64", "cli-arm64"),
        *("gui", "gui-32", "gui-64", "gui-arm64"),
    },
    "distutils' installers, in CPython": {
        *("wininst-10.0", "wininst-10.0-amd64", "wininst-14.0", "wininst-14.0-amd64"),
        *("wininst-6.0", "wininst-7.1", "wininst-8.0", "wininst-9.0", "wininst-9.0-amd64"),
    },
}
"""What Syft alone names: programs for Windows, each of which it takes for a package. Our SBOM has
them as files of the package that brings them, whose name and version it states."""

INTERPRETER = "cpython"
"""What our SBOM alone names. Syft knows an interpreter by its version between two zero bytes of the
program; in one that pyenv builds, the version stands within paths only."""


def by_us(sbom: Json) -> set[Package]:
    """The packages of our SBOM, and its interpreter. The other components are the system and single
    files that belong to no package; Syft lists packages alone."""
    kinds = {"pkg:deb": "deb", "pkg:pypi": "python"}
    return {
        (kinds.get(one["purl"].partition("/")[0], one["type"]), one["name"], one["version"])
        for one in sbom["components"]
        if one["type"] in ("library", "platform")
    }


def by_syft(scan: Json) -> set[Package]:
    """The packages that Syft found."""
    return {
        (
            one["type"],
            canonicalize_name(one["name"]) if one["type"] == "python" else one["name"],
            one["version"],
        )
        for one in scan["artifacts"]
    }


def names(packages: Iterable[Package], *kinds: str) -> set[str]:
    """The names of packages, all of which are of these kinds."""
    found = {kind for kind, _, _ in packages}
    assert found <= set(kinds), packages
    return {name for _, name, _ in packages}


@pytest.mark.network
@pytest.mark.judge("syft")
@pytest.mark.parametrize(
    "image", [i if i == BY_DAY else pytest.param(i, marks=pytest.mark.nightly) for i in ALL]
)
def test_syft_finds_the_packages_of_our_sbom(
    image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYFT_CHECK_FOR_APP_UPDATE", "false")
    ws = build(image).ws
    path = loaded(ws, image, tmp_path / "image.tar")
    scan = json.loads(judges.run("syft", "scan", "--quiet", f"oci-archive:{path}", "-o", "json"))
    sbom = json.loads(sbom_of(ws, image, ContentsCache(tmp_path / "contents")))
    theirs, ours = by_syft(scan), by_us(sbom)
    (system,) = (one for one in sbom["components"] if one["type"] == "operating-system")
    assert scan["distro"]["id"] == system["name"]
    assert scan["distro"]["version"].startswith(system["version"])
    assert len(theirs & ours) > 100
    assert names(theirs - ours, "binary") == set().union(*WINDOWS.values())
    assert names(ours - theirs, "platform") == {INTERPRETER}
