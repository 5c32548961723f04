"""Looking at the catalogue as it is built, and deleting beside a build."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.conftest import EACH, ROOT, Checkout, build
from plinth.formats.oci.layout import references
from plinth.formats.oci.validate import validate
from plinth.graph.workspace import Workspace
from plinth.inspect.gc import collect
from plinth.inspect.usage import packages, usage
from plinth.inspect.why import chains, python_needs
from plinth.recipe.recipe import Recipe


@pytest.fixture
def copy(built: Checkout, tmp_path: Path) -> Iterator[Workspace]:
    """The checkout with a build folder of its own, by hard links: deleting there is safe."""
    target = tmp_path / "build"
    shutil.copytree(built.ws.build, target, copy_function=os.link, symlinks=True)
    for path in (target / "oci" / "index.json", *target.glob("cache/images/*.json")):
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
    yield Workspace(ROOT, target)
    shutil.rmtree(target)


def plinth(ws: Workspace, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "plinth", *arguments],
        cwd=ws.root,
        env={**os.environ, "PLINTH_BUILD": str(ws.build)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("image_id", EACH)
def test_every_locked_package_of_an_image_has_a_reason(image_id: str) -> None:
    ws = build(image_id).ws
    recipe = Recipe.load(ws, image_id)
    needs = python_needs(ws, recipe)
    assert needs.versions == {package.name: package.version for package in recipe.wheels}
    for name in needs.versions:
        assert next(chains(needs, name, 1), None), name
    # Words of requirements are missing only where an sdist would have them.
    sdists = {package.name for package in recipe.wheels if package.is_sdist}
    for child, parents in needs.edges.items():
        for parent, words in parents.items():
            assert words or parent in sdists, f"{parent} needs {child}"


def test_packages_of_the_layers_are_those_of_the_locks(copy: Workspace) -> None:
    found = usage(copy, ["minimal"])
    held = {(use.kind, use.name): use.version for use in packages(copy, found.layers)}
    recipe = Recipe.load(copy, "minimal")
    for package in recipe.wheels:
        assert held["Python", package.name] == package.version
    for deb in recipe.debs:
        assert held["OS", deb.name] == deb.version


def test_the_catalogue_lives_and_builds_again_from_what_was_kept(copy: Workspace) -> None:
    before = {name: ref.manifest for name, ref in references(copy.layout).items()}
    index = copy.layout.root / "index.json"
    document = json.loads(index.read_bytes())
    # All images but one lose their names.
    document["manifests"] = [
        entry
        for entry in document["manifests"]
        if entry["annotations"]["org.opencontainers.image.ref.name"] == "minimal"
    ]
    index.write_text(json.dumps(document))
    found = collect(copy, delete=True, min_age=0, waiting=lambda: None)
    assert sum(one.size for one in found) > 80_000_000
    assert validate(copy.layout.root) == []
    # Nothing has to be fetched, and minimal is not even built.
    done = plinth(copy, "build", "minimal")
    assert done.returncode == 0, done.stderr
    assert "fetching" not in done.stderr
    assert ", 0 built, " in done.stdout
    done = plinth(copy, "build", "sklearn-0.24.1")
    assert done.returncode == 0, done.stderr
    assert "fetching" not in done.stderr
    assert references(copy.layout)["sklearn-0.24.1"].manifest == before["sklearn-0.24.1"]


@pytest.mark.parametrize("rounds", [1, pytest.param(5, marks=pytest.mark.nightly)])
def test_a_build_beside_gc_ends_well(copy: Workspace, rounds: int) -> None:
    """Everything is nobody's, of whatever age, and deleted again and again while it is built."""
    index = copy.layout.root / "index.json"
    code = (
        "from plinth.inspect.gc import collect\n"
        "from plinth.graph.workspace import Workspace\n"
        "while True:\n"
        "    collect(Workspace.find(), delete=True, min_age=0, waiting=lambda: None)\n"
    )
    for _ in range(rounds):
        document = json.loads(index.read_bytes())
        index.write_text(json.dumps({**document, "manifests": []}))
        eater = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=copy.root,
            env={**os.environ, "PLINTH_BUILD": str(copy.build)},
        )
        try:
            done = plinth(copy, "build", "minimal")
        finally:
            alive = eater.poll() is None
            eater.kill()
            eater.wait()
        assert alive, "gc fell over"
        assert done.returncode == 0, done.stderr
        assert validate(copy.layout.root) == []
        assert set(references(copy.layout)) == {"minimal"}


def test_doctor_finds_that_this_machine_builds(built: Checkout) -> None:
    done = plinth(built.ws, "doctor", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    states = {one["subject"]: one["state"] for one in json.loads(done.stdout)}
    assert states["base debian12-py37"] == "ok"
