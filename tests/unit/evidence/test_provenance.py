"""SLSA provenance: what it says, that it can be read again, and what is refused."""

from __future__ import annotations

import base64
import copy
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plinth.build.plan import labels
from plinth.core.digest import Digest, Json, canonical_json
from plinth.core.errors import ProblemsError
from plinth.evidence.git import GitState
from plinth.evidence.provenance import BUILD_TYPE, Provenance, ProvenanceError, parse
from plinth.evidence.verify.provenance import check_checkout, check_inputs, claimed_recipe
from plinth.formats import gzip, zstd
from plinth.formats.oci.model import CONFIG, Descriptor
from plinth.graph.workspace import Workspace
from plinth.recipe.files import MAX_BYTES, write_sources
from plinth.recipe.locks.base import Local, local_folder, write_local
from plinth.recipe.locks.pylock import every_file
from plinth.recipe.locks.stale import check
from plinth.recipe.materials import materials
from plinth.recipe.recipe import Recipe

ROOT = Path(__file__).resolve().parents[3]
IMAGE, BASE = "sklearn-0.24.1", "debian12-py37"
LOCAL = f"{BASE}-local"
MANIFEST = b'{"schemaVersion":2}'


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(ROOT, tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def provenance(ws: Workspace) -> Provenance:
    recipe = Recipe.load(ws, IMAGE, base=BASE)
    return Provenance(
        IMAGE,
        BASE,
        "",
        recipe.files,
        materials(recipe),
        GitState("c" * 40, True, "https://example.org/a.git"),
        "https://example.org/builder",
        "1.2",
        MANIFEST,
    )


def test_the_form_in_zstd_says_so_and_names_its_compressor(provenance: Provenance) -> None:
    said = json.loads(canonical_json(replace(provenance, compression="zstd").to_json()))
    definition = said["buildDefinition"]
    assert definition["externalParameters"]["compression"] == "zstd"
    assert definition["internalParameters"]["zstd"] == zstd.COMPRESSOR
    assert parse(said) == replace(provenance, compression="zstd")
    # Of another plinth it may be another one.
    definition["internalParameters"]["zstd"] = "libzstd 9"
    assert parse(said).compression == "zstd"
    # That of gzip is as it was before there was another.
    plain = again(provenance)["buildDefinition"]
    assert plain["externalParameters"].keys() == {"image", "base", "accelerator"}
    assert plain["internalParameters"].keys() == {"compressor"}


@pytest.mark.parametrize("said", ["gzip", "xz", "", 1, None, ["zstd"]])
def test_another_compression_is_refused(provenance: Provenance, said: object) -> None:
    document = again(provenance)
    document["buildDefinition"]["externalParameters"]["compression"] = said
    with pytest.raises(ProvenanceError, match="compression"):
        parse(document)


def again(provenance: Provenance) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(canonical_json(provenance.to_json()))
    return found


def test_it_is_read_as_it_was_written(provenance: Provenance) -> None:
    assert parse(again(provenance)) == provenance


def test_every_input_of_the_locks_is_a_dependency(ws: Workspace, provenance: Provenance) -> None:
    found = again(provenance)["buildDefinition"]["resolvedDependencies"]
    named = {entry["digest"].get("sha256") for entry in found}
    wheels = every_file(check(ws, IMAGE).packages)
    assert len(wheels) > 50
    assert {package.file.digest.hex for package in wheels} <= named
    purls = {entry.get("uri") for entry in found}
    assert "pkg:pypi/scikit-learn@0.24.1" in purls
    assert any(str(uri).startswith("pkg:deb/debian/libc6@") for uri in purls)
    assert any(entry.get("name") == "interpreter tree" for entry in found)


def test_what_slsa_asks_for_is_there(provenance: Provenance) -> None:
    document = again(provenance)
    definition, details = document["buildDefinition"], document["runDetails"]
    assert definition["buildType"] == BUILD_TYPE
    assert definition["externalParameters"] == {"image": IMAGE, "base": BASE, "accelerator": ""}
    assert details["builder"] == {
        "id": "https://example.org/builder",
        "version": {"plinth": "1.2"},
    }
    source = definition["resolvedDependencies"][0]
    assert source["uri"] == "git+https://example.org/a.git"
    assert source["digest"] == {"gitCommit": "c" * 40}
    assert source["annotations"] == {"clean": True}
    assert details["byproducts"][0]["digest"] == {"sha256": Digest.of(MANIFEST).hex}


def test_its_files_make_a_workspace_with_the_same_inputs(
    tmp_path: Path, provenance: Provenance
) -> None:
    ws = write_sources(provenance.sources, tmp_path)
    recipe = Recipe.load(ws, IMAGE, base=BASE)
    assert materials(recipe) == provenance.materials
    assert recipe.files == provenance.sources


def _content(document: dict[str, Any]) -> None:
    entry = next(
        entry
        for entry in document["buildDefinition"]["resolvedDependencies"]
        if entry["name"].endswith("pylock.toml")
    )
    entry["content"] = base64.b64encode(gzip.member(b"x")).decode()


def _set(*path: Any, value: object) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        inner: Any = document
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value

    return change


DEPENDENCIES = ("buildDefinition", "resolvedDependencies")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_content, "pylock.toml' has sha256:2d711642"),
        (_set("buildDefinition", "buildType", value="x"), "buildType: expected"),
        (_set("buildDefinition", value=[]), "buildDefinition: expected an object"),
        (_set("buildDefinition", "externalParameters", "image", value=1), "found 1"),
        (_set("buildDefinition", "externalParameters", "shell", value="x"), "not a parameter"),
        (_set("buildDefinition", "externalParameters", "base", value="../x"), "cannot be the name"),
        (_set("buildDefinition", "externalParameters", "image", value=""), "cannot be the name"),
        (_set("buildDefinition", "externalParameters", "accelerator", value="/"), "cannot be"),
        (_set(*DEPENDENCIES, value={}), "expected an array"),
        (_set(*DEPENDENCIES, -1, "digest", value={"sha256": "zz"}), "not a SHA-256"),
        (_set(*DEPENDENCIES, -1, "digest", value={"md5": "zz"}), "expected a text"),
        (_set(*DEPENDENCIES, -1, "annotations", value={}), "expected bytes, found None"),
        (_set(*DEPENDENCIES, 1, "content", value="%"), "not base64"),
        (_set(*DEPENDENCIES, 1, "content", value="\u00e9AAA"), "not base64"),
        (_set("runDetails", "byproducts", 0, "content", value="\ud83d\ude00"), "not base64"),
        (_set(*DEPENDENCIES, 2, value="x"), "expected an object"),
        (_set("runDetails", "byproducts", value=[]), "expected manifest.json"),
        (_set("runDetails", "builder", value={}), "runDetails.builder.id"),
        (_set("runDetails", value=None), "runDetails: expected an object"),
    ],
)
def test_what_is_malformed_is_named(
    provenance: Provenance, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    document = copy.deepcopy(again(provenance))
    change(document)
    with pytest.raises(ProvenanceError) as caught:
        parse(document)
    assert message in str(caught.value)


def test_files_are_packed_by_whatever_compressor(provenance: Provenance) -> None:
    document = again(provenance)
    (lock,) = (
        entry
        for entry in document["buildDefinition"]["resolvedDependencies"]
        if entry["name"] == f"locks/{IMAGE}/pylock.toml"
    )
    data = provenance.sources[lock["name"]]
    assert lock["digest"] == {"sha256": Digest.of(data).hex}
    assert lock["annotations"] == {"encoding": "gzip"}
    assert len(lock["content"]) < len(data) / 2
    # Of another plinth it is another one.
    other = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = other.compress(data) + other.flush()
    packed = gzip.MEMBER + body + gzip.trailer(zlib.crc32(data), len(data))
    assert packed != gzip.member(data)
    lock["content"] = base64.b64encode(packed).decode()
    assert parse(document) == provenance
    lock["annotations"] = {}
    with pytest.raises(ProvenanceError, match="as beside it"):
        parse(document)


def test_files_that_unpack_to_a_flood_are_refused(provenance: Provenance) -> None:
    document = again(provenance)
    entries = document["buildDefinition"]["resolvedDependencies"]
    packed = base64.b64encode(gzip.member(bytes(MAX_BYTES // 2))).decode()
    flood = {"sha256": Digest.of(bytes(MAX_BYTES // 2)).hex}
    for entry in [entry for entry in entries if "content" in entry][:2]:
        entry |= {"content": packed, "digest": flood}
    with pytest.raises(ProvenanceError, match="not its file's gzip: more than"):
        parse(document)


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "/etc/passwd",
        "images/../../x",
        "tools/plinth/x.py",
        "images/.x",
        "images//x",
        "base",
    ],
)
def test_files_do_not_leave_their_folder(tmp_path: Path, path: str) -> None:
    with pytest.raises(ProblemsError, match="not a path of a specification"):
        write_sources({path: b"x"}, tmp_path / "in")
    assert list(tmp_path.iterdir()) == []


def test_files_in_each_others_way_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="in the way"):
        write_sources({"images/a": b"x", "images/a/b": b"x"}, tmp_path)


def test_a_flood_of_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProblemsError, match="more than"):
        write_sources({"images/a": bytes(MAX_BYTES + 1)}, tmp_path)


def test_a_local_base_carries_what_names_its_interpreter_and_differs_in_that_alone(
    tmp_path: Path,
) -> None:
    ws = Workspace(ROOT, tmp_path)
    tree = Digest.of(b"another build")
    write_local(ws, LOCAL, Local(tree))
    locked, local = (Recipe.load(ws, IMAGE, base=base) for base in (BASE, LOCAL))
    noted = f"locks/base/{LOCAL}.toml"
    assert local.files.keys() - locked.files.keys() == {noted}
    assert locked.files.items() <= local.files.items()
    assert local.files[noted] == (local_folder(ws) / f"{LOCAL}.toml").read_bytes()
    (one,) = set(materials(local)) - set(materials(locked))
    assert (one.name, one.digest) == ("interpreter tree", tree)


def test_a_local_base_is_not_passed_off_as_the_locked_one(tmp_path: Path) -> None:
    ws = Workspace(ROOT, tmp_path)
    write_local(ws, LOCAL, Local(Digest.of(b"another build")))
    locked, local = (Recipe.load(ws, IMAGE, base=base) for base in (BASE, LOCAL))
    manifest: dict[str, Json] = {
        "schemaVersion": 2,
        "config": Descriptor(CONFIG, Digest.of(b"{}")).to_json(),
        "layers": [],
        "annotations": labels(local),
    }
    honest = Provenance(
        IMAGE,
        LOCAL,
        "",
        local.files,
        materials(local),
        None,
        "https://example.org/builder",
        "1.2",
        canonical_json(manifest),
    )

    def problems(claim: Provenance, folder: str) -> str:
        there = write_sources(claim.sources, tmp_path / folder)
        recipe = claimed_recipe(there, claim)
        return "\n".join(check_inputs(recipe, claim, claim.manifest).problems)

    assert problems(honest, "honest") == ""
    renamed = {**manifest, "annotations": labels(locked)}
    lie = replace(honest, base=BASE, manifest=canonical_json(renamed))
    found = problems(lie, "lie")
    assert "(interpreter tree): the lock has sha256:" in found
    assert f"it carries locks/base/{LOCAL}.toml, which has no say in this image" in found
    # Nor with the lock changed to fit: the checkout has another.
    fitted = dict(locked.files)
    path = f"locks/base/{BASE}.toml"
    tree = locked.base_lock.tree
    assert tree is not None
    fitted[path] = fitted[path].replace(tree.hex.encode(), Digest.of(b"another build").hex.encode())
    (told,) = check_checkout(replace(lie, sources=fitted), ROOT).problems
    assert told == f"{path}: another one than in {ROOT}"
    count = len(honest.sources) - 1
    detail = check_checkout(honest, ROOT / "tests").detail
    assert detail.startswith(f"0 of {count} files as in {ROOT / 'tests'}")
    # Of the honest one all files but the interpreter's are compared.
    assert check_checkout(honest, ROOT).problems == ()
