"""Attaching bundles in a registry: to the image they are about, and no other."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plinth.commands.main import main
from plinth.core.digest import Digest
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.evidence.statement import COSIGN, PROVENANCE, SBOM, statement
from plinth.fetch.registry.registry import Registry
from plinth.fetch.sources.source import open_source
from plinth.formats.oci.image import Image
from plinth.formats.oci.referrers import BUNDLE, attach_to_layout
from support.fake_registry import FakeRegistry, fake_registry
from support.oci_images import make_image


def bundle(kind: str, subject: Digest) -> bytes:
    """What looks like a bundle; whether signatures verify is not for `attach` to say."""
    payload = base64.b64encode(statement("team/one", subject, kind, {})).decode()
    return json.dumps({"dsseEnvelope": {"payload": payload}}).encode()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BlobStore:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLINTH_CONFIG", str(tmp_path / "none.toml"))
    return BlobStore(tmp_path / "oci")


@pytest.fixture
def image(store: BlobStore) -> Image:
    """An image with three bundles."""
    made = make_image(store, "one")
    kinds = (COSIGN, PROVENANCE, SBOM)
    bundles = [(kind, bundle(kind, made.manifest.digest)) for kind in kinds]
    attach_to_layout(store, made.manifest, bundles)
    return made


@pytest.fixture
def registry(store: BlobStore, image: Image, tmp_path: Path) -> Iterator[tuple[str, FakeRegistry]]:
    """A registry with the image, and the image's place in it."""
    with fake_registry(tmp_path / "registry") as (server, held):
        held.put_image("team/one", store, image)
        yield f"{server.url.removeprefix('http://')}/team/one", held


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["attach", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_bundles_go_to_the_same_image_and_are_said_to_be_there(
    registry: tuple[str, FakeRegistry], image: Image, capsys: pytest.CaptureFixture[str]
) -> None:
    place = registry[0]
    assert main(["attach", "oci:oci:one", f"{place}:latest"]) == 0
    head, *lines, end = capsys.readouterr().out.splitlines()
    assert head == f"attached to {place}@{image.manifest.digest.oci}, not verified"
    assert end == "listed by the registry's referrers API"
    said = {digest: called for called, digest in map(str.split, lines)}
    with open_source(f"{place}:latest", Config()) as source:
        found = list(source.referrers(BUNDLE))
    assert {one.digest.oci: one.predicate_type for one in found if one.digest} == {
        digest: {"signature": COSIGN, "provenance": PROVENANCE, "sbom": SBOM}[called]
        for digest, called in said.items()
    }
    assert [one.problems for one in found] == [()] * 3
    # Once more changes nothing.
    assert main(["attach", "oci:oci:one", f"{place}@{image.manifest.digest.oci}"]) == 0
    with open_source(f"{place}:latest", Config()) as source:
        assert len(list(source.referrers(BUNDLE))) == 3


def test_bundles_of_files_stand_in_for_those_attached(
    registry: tuple[str, FakeRegistry],
    image: Image,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "x.json"
    file.write_bytes(bundle("https://example.org/review", image.manifest.digest))
    assert main(["attach", "oci:oci:one", registry[0], "--bundle", str(file)]) == 0
    assert "https://example.org/review" in capsys.readouterr().out
    with open_source(registry[0], Config()) as source:
        assert [one.data for one in source.referrers(BUNDLE)] == [file.read_bytes()]


def test_another_image_is_refused(
    registry: tuple[str, FakeRegistry],
    store: BlobStore,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place, held = registry
    before = set(held.manifests)
    other = make_image(store, "two")
    attach_to_layout(store, other.manifest, [(COSIGN, bundle(COSIGN, other.manifest.digest))])
    said = refused(capsys, "oci:oci:two", f"{place}:latest")
    assert "the registry has a different image" in said
    assert other.manifest.digest.oci in said
    assert set(held.manifests) == before


def test_a_bundle_about_another_image_is_refused(
    registry: tuple[str, FakeRegistry],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place, held = registry
    before = set(held.manifests)
    for data, message in (
        (bundle(COSIGN, Digest("0" * 64, 1)), "it is about another image"),
        (b"[]", "not a bundle with a statement in it"),
        (b'{"dsseEnvelope":{"payload":"e30="}}', "not an in-toto statement"),
    ):
        (tmp_path / "x.json").write_bytes(data)
        said = refused(capsys, "oci:oci:one", place, "--bundle", str(tmp_path / "x.json"))
        assert message in said
    assert set(held.manifests) == before


def test_places_that_will_not_do(
    registry: tuple[str, FakeRegistry],
    store: BlobStore,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = registry[0]
    make_image(store, "bare")
    assert "no bundle is attached to the image" in refused(capsys, "oci:oci:bare", place)
    said = refused(capsys, "oci:oci:one", f"{place}:none")
    assert f"{place}:none: there is no such image" in said
    assert "skopeo copy oci:oci:one" in said
    assert "this is not in a registry" in refused(capsys, "oci:oci:one", "oci:oci:one")


def test_a_damaged_bundle_in_the_layout_is_refused(
    registry: tuple[str, FakeRegistry],
    store: BlobStore,
    image: Image,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = bundle(SBOM, image.manifest.digest)
    store.path(Digest.of(data)).unlink()
    store.path(Digest.of(data)).write_bytes(data + b" ")
    assert "its manifest names" in refused(capsys, "oci:oci:one", registry[0])


def test_what_others_listed_may_have_any_form(
    store: BlobStore, registry: tuple[str, FakeRegistry], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Registry.referrers
    odd: list[dict[str, Any]] = [{"digest": {}}, {"digest": ["x"]}, {}]
    monkeypatch.setattr(Registry, "referrers", lambda *given: iter([*odd, *real(*given)]))
    assert main(["attach", f"oci:{store.root}:one", f"{registry[0]}:latest"]) == 0
