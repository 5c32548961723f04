"""A push ends with tags that tell the truth, and `latest` names nothing that is not verified."""

from __future__ import annotations

import base64
import datetime
import gzip
import json
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from plinth.commands.main import main
from plinth.core.digest import Digest
from plinth.core.errors import (
    FetchError,
    ImageNameError,
    LayoutError,
    VerificationError,
)
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.evidence.verify.gate import Gate, open_gate
from plinth.evidence.verify.policy import Policy, in_force
from plinth.formats.layer.model import Layer
from plinth.formats.oci.documents import IMAGE_NAME, REF_NAME
from plinth.formats.oci.layout import editing
from plinth.formats.oci.referrers import attach_to_layout
from plinth.formats.oci.validate import validate
from plinth.graph.workspace import Workspace
from plinth.publish.registry.listing import list_tags, table
from plinth.publish.registry.pull import in_registry, pull_image
from plinth.publish.registry.push import Pushed, push_image, target
from support.oci_images import image_of, make_image
from unit.publish.registry.conftest import Place

DAY = datetime.date(2026, 3, 4)


def host(place: Place) -> str:
    return urlsplit(place[0].url).netloc


def never() -> Gate:
    raise AssertionError("nobody is to be asked whether what is not signed verifies")


def nobody() -> Gate:
    return open_gate(in_force(Config(), Policy()))


def push(ws: Workspace, place: Place, image: str, day: datetime.date = DAY) -> Pushed:
    to = f"{host(place)}/prefix"
    return push_image(ws, image, to, config=Config(), gate=never, today=day, progress=quiet)


def test_an_image_that_is_not_signed_has_a_dated_tag_and_is_not_latest(
    ws: Workspace, place: Place
) -> None:
    image = make_image(ws.layout, "one")
    pushed = push(ws, place, "one")
    assert (pushed.tag, pushed.new, pushed.latest) == ("20260304.v1", True, False)
    assert pushed.refused.startswith(
        "it is not signed; sign it (plinth sign one --trust TRUST) and push again with --trust "
        "TRUST or --policy FILE. TRUST is public "
    )
    assert pushed.place == f"{host(place)}/prefix/team/one"
    assert place[1].tags["prefix/team/one"] == {"20260304.v1": image.manifest.digest.oci}
    again = push(ws, place, "one")
    assert (again.tag, again.new, again.tally.sent) == ("20260304.v1", False, 0)


def test_what_the_next_image_shares_is_mounted(ws: Workspace, place: Place) -> None:
    make_image(ws.layout, "one")
    make_image(ws.layout, "two")
    assert push(ws, place, "one").tally.mounted == 0
    tally = push(ws, place, "two").tally
    # The two layers; the config says another name.
    assert (tally.mounted, tally.sent) == (2, 1)


def test_bundles_that_cannot_be_verified_keep_latest_where_it_is(
    ws: Workspace, place: Place
) -> None:
    image = make_image(ws.layout, "one")
    payload = json.dumps(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "one", "digest": {"sha256": image.manifest.digest.hex}}],
            "predicateType": "https://slsa.dev/provenance/v1",
        }
    )
    bundle = {"dsseEnvelope": {"payload": base64.b64encode(payload.encode()).decode()}}
    attach_to_layout(
        ws.layout,
        image.manifest,
        [("https://slsa.dev/provenance/v1", json.dumps(bundle).encode())],
    )
    pushed = push_image(
        ws, "one", host(place), config=Config(), gate=nobody, today=DAY, progress=quiet
    )
    assert not pushed.latest
    assert pushed.refused.startswith("it could not be verified: no trusted root was given")
    assert list(place[1].tags["team/one"]) == ["20260304.v1"]


def test_the_other_form_of_an_image_has_tags_of_its_own(ws: Workspace, place: Place) -> None:
    plain = make_image(ws.layout, "one")
    packed = make_image(ws.layout, "one+zstd", "team/one", compression="zstd")
    assert plain.config == packed.config
    with editing(ws.layout) as index:
        for entry in index:
            if entry["annotations"][REF_NAME] == "one+zstd":
                entry["annotations"][IMAGE_NAME] = "docker.io/team/one:latest-zstd"
    assert validate(ws.layout.root) == []
    pushed = [push(ws, place, name) for name in ("one", "one+zstd")]
    assert [one.tag for one in pushed] == ["20260304.v1", "20260304.v1-zstd"]
    assert [one.newest for one in pushed] == ["latest", "latest-zstd"]
    assert pushed[1].refused.startswith(
        "it is not signed; sign it (plinth sign one+zstd --trust TRUST)"
    )
    # The config is there already; the layers are others.
    assert (pushed[1].tally.sent, pushed[1].tally.there) == (2, 1)
    assert place[1].tags["prefix/team/one"] == {
        "20260304.v1": plain.manifest.digest.oci,
        "20260304.v1-zstd": packed.manifest.digest.oci,
    }


def test_an_image_that_is_not_built_is_not_pushed(ws: Workspace, place: Place) -> None:
    with pytest.raises(LayoutError) as raised:
        push(ws, place, "one")
    assert raised.value.remedy == "build it: doit build:one"
    assert not place[0].asked


def test_a_layer_that_is_gone_is_noticed_before_anything_is_sent(
    ws: Workspace, place: Place
) -> None:
    image = make_image(ws.layout, "one")
    ws.layout.path(image.layers[1].digest).unlink()
    with pytest.raises(LayoutError) as raised:
        push(ws, place, "one")
    assert image.layers[1].digest.hex in raised.value.where
    assert not place[0].asked


@pytest.mark.parametrize(
    ("to", "repository"),
    [
        ("registry.example", "azureml/x"),
        ("registry.example/", "azureml/x"),
        ("docker://localhost:5000/a/b", "a/b/azureml/x"),
    ],
)
def test_the_published_name_comes_after_the_prefix(to: str, repository: str) -> None:
    assert target(to, "azureml/x").repository == repository


@pytest.mark.parametrize("to", ["", "/", "nohost", "registry.example/Upper", "http://a.example"])
def test_what_is_no_place_is_refused(to: str) -> None:
    with pytest.raises(ImageNameError):
        target(to, "azureml/x")


def test_tags_are_listed_with_what_differs(ws: Workspace, place: Place) -> None:
    first = make_image(ws.layout, "one", title="team/one").manifest.digest
    push(ws, place, "one")
    second = make_image(ws.layout, "one", title="team/other").manifest.digest
    push(ws, place, "one")
    push(ws, place, "one", DAY + datetime.timedelta(1))
    where = in_registry(f"{host(place)}/prefix/team/one")
    tags = list_tags(where, Config())
    assert [(tag.tag, tag.digest, tag.date) for tag in tags] == [
        ("20260305.v1", second.oci, "2026-03-05"),
        ("20260304.v2", second.oci, "2026-03-04"),
        ("20260304.v1", first.oci, "2026-03-04"),
    ]
    assert [one.package for one in tags[0].held] == ["layer 0", "layer 1"]
    lines = table(where, tags).split("\n")
    assert lines[2].strip() == "2 packages: layer 0, layer 1"
    assert lines[4].strip() == "the same image as 20260305.v1"
    assert lines[6].strip() == "the same packages"


def titled(ws: Workspace, *titles: str) -> None:
    """An image of layers with these titles; what follows a `#` changes the layer alone."""
    layers = []
    for title in titles:
        data = title.encode()
        digest, diff_id = ws.layout.put(gzip.compress(data, mtime=0)), Digest.of(data).hex
        layers.append(Layer(title.partition("#")[0], digest, diff_id, len(data)))
    image_of(ws.layout, "one", layers)


def test_layers_of_several_packages_are_counted_and_compared(ws: Workspace, place: Place) -> None:
    system, group = "debian12-py37 system", "debs 1 and 2 more"
    older = ("server 1.0 and 34 more#a", "numpy 1.19.5", "7 OS packages, jq to libjq1")
    newer = ("server 1.0 and 34 more#b", "numpy 1.20", "8 OS packages, jq to libjq1", group)
    titled(ws, system, "more here", *older)
    push(ws, place, "one")
    titled(ws, system, *newer)
    push(ws, place, "one", DAY + datetime.timedelta(1))
    titled(ws, system, "linker configuration")
    push(ws, place, "one", DAY + datetime.timedelta(2))
    where = in_registry(f"{host(place)}/prefix/team/one")
    tags = list_tags(where, Config())
    assert [one.count for one in tags] == [0, 47, 43]
    assert [line.strip() for line in table(where, tags).split("\n")[2::2]] == [
        "its layers name no packages",
        f"47 packages: server 1.0 and 34 more, numpy 1.20, 8 OS packages, jq to libjq1, {group}",
        "server 1.0 and 34 more (above: another layer), numpy 1.19.5 (above: 1.20), 7 OS packages, "
        "jq to libjq1 (above: 8 OS packages, jq to libjq1), no debs",
    ]
    shown = tags[1].to_json()
    assert isinstance(shown, dict)
    assert (shown["packages"], shown["count"]) == (["server 1.0", "numpy 1.20", "debs 1"], 47)
    assert isinstance(shown["layers"], list)
    first = shown["layers"][0]
    assert isinstance(first, dict)
    assert (first["title"], first["packages"]) == ("server 1.0 and 34 more", 35)


def test_what_is_in_no_registry_is_not_pulled() -> None:
    for text in ("oci:build/oci:one", "docker-archive:one.tar", "oci-archive:one.tar:one"):
        with pytest.raises(ImageNameError, match="not in a registry") as raised:
            in_registry(text)
        assert "oci:" not in str(raised.value.expected)


def test_of_no_tags_there_is_no_list(place: Place) -> None:
    with pytest.raises(FetchError):
        list_tags(in_registry(f"{host(place)}/team/none"), Config())


def test_what_was_pushed_is_pulled_by_tag_and_by_digest(
    ws: Workspace, place: Place, tmp_path: Path
) -> None:
    image = make_image(ws.layout, "one")
    push(ws, place, "one")
    there = f"{host(place)}/prefix/team/one"
    for number, suffix in enumerate((":20260304.v1", f"@{image.manifest.digest.oci}")):
        layout = tmp_path / f"pulled-{number}"
        pulled = pull_image(there + suffix, layout, config=Config(), gate=None, progress=quiet)
        assert (pulled.name, pulled.digest) == ("one", image.manifest.digest)
        assert validate(layout) == []
        umoci = shutil.which("umoci")
        if umoci:
            subprocess.run([umoci, "stat", "--image", f"{layout}:one"], check=True)


def test_what_does_not_verify_gets_no_name(
    ws: Workspace, place: Place, tmp_path: Path, published_root: Path
) -> None:
    make_image(ws.layout, "one")
    push(ws, place, "one")
    layout = tmp_path / "pulled"

    gate = open_gate(in_force(Config(policy=str(published_root)), Policy()))
    there = f"{host(place)}/prefix/team/one:20260304.v1"
    with pytest.raises(VerificationError):
        pull_image(there, layout, config=Config(), gate=gate, progress=quiet)
    assert not (layout / "index.json").exists()


@pytest.fixture
def published_root(tmp_path: Path) -> Path:
    """The policy of a trust domain."""
    from plinth.authority.domain import init_domain
    from plinth.authority.export import exported

    domain = init_domain(tmp_path / "domain", "me@example.org")
    for name, data in exported(domain.state, "http://127.0.0.1:1").items():
        (tmp_path / name).write_bytes(data)
    return tmp_path / "policy.toml"


def test_nobody_chosen_is_an_error_before_anything_is_pulled(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = f"{host(place)}/team/one"
    assert main(["pull", reference, "--layout", str(tmp_path / "x")]) == 1
    assert "no trusted root was given" in capsys.readouterr().err
    assert not place[0].asked
