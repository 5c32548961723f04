"""The recipe of an image that is built: on the base it stands on, with the set it holds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from plinth.build.image import build_image
from plinth.core.digest import Digest
from plinth.core.errors import PlinthError
from plinth.core.report import quiet
from plinth.core.settings import load
from plinth.evidence.provenance import Provenance, parse
from plinth.evidence.sbom.make import sbom_of
from plinth.evidence.sign import prepare
from plinth.evidence.statement import PROVENANCE
from plinth.evidence.verify.rebuild import check_rebuild
from plinth.graph.workspace import Workspace
from plinth.recipe.accelerator import load_accelerator
from plinth.recipe.built import find_reference, recipe_of
from plinth.recipe.locks.accelerator import AcceleratorLock, inputs_of, write_lock
from plinth.recipe.locks.base import LockedDeb
from plinth.recipe.record import read_record, write_record
from support.debs import Package
from support.sessions import session_of
from support.small_checkout import IMAGE, SmallCheckout, make, wheel

SET = "cuda1"
SET_TEXT = """\
kind = "accelerator"
label = "cuda1"
summary = "a set"
architecture = "amd64"
folders = ["/usr/lib/set"]

[environment]
CUDA_VERSION = "1"

[[archives]]
name = "debian"
suite = "bookworm"
keyring = "none"
packages = ["libset1"]
"""


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A checkout with a set that is locked, all of whose inputs are at hand."""
    (tmp_path / "wheels").mkdir()
    one = wheel(tmp_path / "wheels", "one", "1.0")
    made = make(tmp_path / "checkout", [one])
    made.seed(debs=True)
    ws = made.ws
    ws.cache.put_file(one)
    package = Package("libset1", files={"usr/share/set": b"x"})
    deb = LockedDeb(
        "libset1", package.version, "amd64", "bookworm", package.path(), Digest.of(package.deb)
    )
    ws.cache.put(package.deb)
    (ws.bases / f"{SET}.toml").write_text(SET_TEXT)
    inputs = inputs_of(load_accelerator(ws.bases, SET))
    write_lock(ws, SET, AcceleratorLock((deb,), (), {}, inputs))
    monkeypatch.setenv("PLINTH_CONFIG", str(made.settings))
    return ws


def build(ws: Workspace, accelerator: str = "") -> None:
    build_image(ws, IMAGE, config=load(), accelerator=accelerator, jobs=1, progress=quiet)


def ask_for_the_set(ws: Workspace) -> None:
    path = ws.images / f"{IMAGE}.toml"
    path.write_text(path.read_text().replace('"cpu"', f'"{SET}"'))


def accelerator(ws: Workspace) -> str:
    found = recipe_of(ws, find_reference(ws, IMAGE)).accelerator
    return found.name if found else ""


def provenance_of(ws: Workspace, image: str) -> Provenance:
    """What is stated of a built image, read as a verifier does."""
    statements = dict(prepare(session_of(ws), image, load()).statements)
    return parse(json.loads(statements[PROVENANCE])["predicate"])


def test_a_set_that_a_build_insisted_on_is_in_all_that_is_stated(ws: Workspace) -> None:
    build(ws, SET)
    assert accelerator(ws) == SET
    names = [component["name"] for component in json.loads(sbom_of(ws, IMAGE))["components"]]
    assert "libset1" in names
    assert provenance_of(ws, IMAGE).accelerator == SET


@pytest.mark.parametrize("recorded", [True, False])
def test_a_set_that_was_left_out_stays_out_though_it_is_locked(
    ws: Workspace, recorded: bool
) -> None:
    ask_for_the_set(ws)
    build(ws, "cpu")
    if not recorded:
        (ws.build / "cache" / "images" / f"{IMAGE}.json").unlink()
    assert accelerator(ws) == ""
    assert b"libset1" not in sbom_of(ws, IMAGE)


@pytest.mark.parametrize("recorded", [True, False])
def test_the_set_of_the_specification_is_found_also_without_a_record(
    ws: Workspace, recorded: bool
) -> None:
    ask_for_the_set(ws)
    build(ws)
    if not recorded:
        (ws.build / "cache" / "images" / f"{IMAGE}.json").unlink()
    assert accelerator(ws) == SET
    assert b"libset1" in sbom_of(ws, IMAGE)


def test_an_image_that_extends_another_is_built_again_from_its_provenance(
    ws: Workspace, tmp_path: Path
) -> None:
    (ws.images / "mine.toml").write_text(f'extends = "{IMAGE}"\nsummary = "a test"\n')
    SmallCheckout(ws.root).lock([*(tmp_path / "wheels").iterdir()], "mine")
    build_image(ws, "mine", config=load(), jobs=1, progress=quiet)
    provenance = provenance_of(ws, "mine")
    assert {f"images/{IMAGE}.toml", f"locks/{IMAGE}/pylock.toml"} <= provenance.sources.keys()
    (tmp_path / "again").mkdir()
    check = check_rebuild(
        provenance,
        provenance.manifest,
        [],
        tmp_path / "again",
        config=load(),
        inputs=ws.cache,
        progress=quiet,
    )
    assert check.problems == ()
    assert "the same to the last bit" in check.detail


def test_an_image_nobody_knows_how_it_was_built_is_not_signed(ws: Workspace) -> None:
    build(ws)
    record = read_record(ws, IMAGE)
    assert record is not None
    write_record(ws, IMAGE, replace(record, manifest="0" * 64))
    with pytest.raises(PlinthError, match="how the image was built is not known"):
        prepare(session_of(ws), IMAGE, load())
