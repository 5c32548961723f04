"""Images and bundles that plinth pushed, read in registries by the tools that people have."""

from __future__ import annotations

import datetime
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from field import trees
from field.conftest import IMAGE, attached, listed, pushed
from integration.conftest import ALL, build
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.evidence.statement import PREDICATES
from plinth.evidence.verify.gate import open_gate
from plinth.evidence.verify.policy import Policy
from plinth.formats.oci.layout import references
from plinth.formats.oci.referrers import BUNDLE
from plinth.publish.registry.push import push_image
from support import judges
from support.docker_registry import docker_registry
from support.forge import IDENTITY
from support.published import Published


@dataclass(frozen=True)
class Place:
    """A pushed image in a registry: `HOST/REPOSITORY`, by its digest `sha256:…`."""

    repository: str
    digest: str

    @property
    def reference(self) -> str:
        return f"{self.repository}@{self.digest}"


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.judge(name))
        for name in ("docker-registry", "registry")
    ],
)
def place(
    request: pytest.FixtureRequest, signed: Published, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """The signed image, pushed as `plinth push` does it."""
    folder, program = tmp_path_factory.mktemp("registry"), judges.program(request.param)
    with docker_registry(folder, program=program) as running:
        policy = Policy((IDENTITY,), signed.issuer, trusted_root=str(signed.root))
        pushed = push_image(
            signed.ws,
            IMAGE,
            f"{running.host}/team",
            config=Config(),
            gate=lambda: open_gate(policy),
            today=datetime.date(2026, 3, 4),
            progress=quiet,
        )
        assert pushed.latest, pushed.refused
        yield Place(pushed.place, pushed.digest.oci)


@pytest.mark.judge("crane")
def test_crane_finds_the_image_valid(place: Place) -> None:
    said = judges.run("crane", "validate", "--insecure", "--remote", place.reference)
    assert said.decode().startswith("PASS: ")


@pytest.mark.judge("crane")
def test_crane_reads_the_manifest_that_was_built(place: Place, signed: Published) -> None:
    built = references(signed.ws.layout)[IMAGE].manifest
    wanted = signed.ws.layout.get(built)
    for reference in (f"{place.repository}:latest", place.reference):
        assert judges.run("crane", "manifest", "--insecure", reference) == wanted


@pytest.mark.judge("crane")
def test_crane_exports_the_files_of_all_layers(place: Place, signed: Published) -> None:
    exported = trees.of_tar(
        io.BytesIO(judges.run("crane", "export", "--insecure", place.reference, "-"))
    )
    assert exported == trees.of_layers(signed.ws.layout, IMAGE)
    assert len(exported) > 10


@pytest.mark.nightly
@pytest.mark.network
@pytest.mark.judge("crane", "registry")
@pytest.mark.parametrize("image", ALL)
def test_crane_finds_an_image_of_the_catalogue_valid(image: str, tmp_path: Path) -> None:
    ws = build(image).ws
    with pushed(ws, image, tmp_path) as place:
        said = judges.run("crane", "validate", "--insecure", "--remote", place)
        assert said.decode().startswith("PASS: ")
        judges.run("crane", "export", "--insecure", place, tmp_path / "exported.tar")
        with (tmp_path / "exported.tar").open("rb") as stream:
            assert trees.of_tar(stream) == trees.of_layers(ws.layout, image)


def test_the_layout_lists_each_statement(signed: Published) -> None:
    assert {kind for _, _, kind in attached(signed)} == set(PREDICATES)


@pytest.mark.judge("regctl")
def test_regctl_lists_the_bundles(place: Place, signed: Published) -> None:
    host = f"reg={place.repository.partition('/')[0]},tls=disabled"
    asked = ["artifact", "list", "--host", host, "--filter-artifact-type", BUNDLE]
    said = judges.run("regctl", *asked, "--format", "{{json .Descriptors}}", place.reference)
    assert listed(json.loads(said)) == attached(signed)


@pytest.mark.judge("oras")
def test_oras_discovers_the_bundles(place: Place, signed: Published) -> None:
    said = judges.run("oras", "discover", "--plain-http", "--format", "json", place.reference)
    assert listed(json.loads(said)["referrers"]) == attached(signed)


@pytest.mark.judge("cosign")
def test_cosign_shows_the_bundles_in_its_tree(place: Place, signed: Published) -> None:
    said = judges.run("cosign", "tree", place.reference).decode()
    for _, digest, kind in attached(signed):
        assert digest in said
        assert kind in said
