"""A push with a SOCI index: attached beside the bundles, and found where the snapshotter looks."""

from __future__ import annotations

import base64
import datetime
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from plinth.commands import registry
from plinth.core.errors import FetchError, PlinthError, VerificationError
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.evidence.verify.gate import Gate
from plinth.fetch.registry.referrers import attach_to_registry
from plinth.fetch.registry.registry import Registry
from plinth.fetch.sources.source import open_source
from plinth.formats.oci.image import Image
from plinth.formats.oci.model import LAYER_GZIP, MANIFEST, Descriptor
from plinth.formats.oci.referrers import BUNDLE, referrers_name
from plinth.formats.soci.index import INDEX, Ztoc
from plinth.graph.workspace import Workspace
from plinth.publish.registry.pull import pull_image
from plinth.publish.registry.push import Pushed, push_image
from support.oci_images import image_of, make_image
from support.soci import small_layer
from unit.publish.registry.conftest import Place

DAY = datetime.date(2026, 3, 4)


@pytest.fixture
def image(ws: Workspace) -> Image:
    return image_of(ws.layout, "one", [small_layer(ws.layout, name) for name in ("a", "b")])


@pytest.fixture
def ztocs(ws: Workspace, image: Image) -> list[Ztoc]:
    """As of the upper layer alone."""
    digest = ws.cache.put(b"zTOC")
    return [Ztoc(image.layers[1].descriptor, digest, ws.cache.path(digest))]


def push(ws: Workspace, place: Place, ztocs: list[Ztoc]) -> Pushed:
    def never() -> Gate:
        raise AssertionError("nothing is signed")

    to = urlsplit(place[0].url).netloc
    return push_image(
        ws, "one", to, config=Config(), gate=never, ztocs=ztocs, today=DAY, progress=quiet
    )


def listed(place: Place, image: Image) -> list[dict[str, Any]]:
    there = Registry(place[0].url, "team/one")
    return list(there.referrers(image.manifest.digest, INDEX))


@pytest.mark.parametrize("api", [True, False], ids=["API", "tag"])
def test_the_index_refers_to_the_image(
    ws: Workspace, place: Place, image: Image, ztocs: list[Ztoc], *, api: bool
) -> None:
    place[1].api = api
    pushed = push(ws, place, ztocs)
    assert pushed.soci is not None
    subject = image.manifest.digest
    kind, data = place[1].manifests[pushed.soci.oci]
    # The bytes that soci writes: the snapshotter compares what it writes of it with the digest.
    noted = (
        f'{{"com.amazon.soci.image-layer-digest":"{image.layers[1].digest.oci}",'
        f'"com.amazon.soci.image-layer-mediaType":"{LAYER_GZIP}",'
        '"com.amazon.soci.span-size":"4194304"}'
    )
    empty = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert kind == MANIFEST
    assert data.decode() == (
        f'{{"schemaVersion":2,"mediaType":"{MANIFEST}",'
        f'"config":{{"mediaType":"{INDEX}","digest":"{empty}","size":2}},'
        f'"layers":[{{"mediaType":"application/octet-stream","digest":"{ztocs[0].digest.oci}",'
        f'"size":4,"annotations":{noted}}}],'
        f'"subject":{{"mediaType":"{MANIFEST}","digest":"{subject.oci}","size":{subject.size}}},'
        '"annotations":{"com.amazon.soci.build-tool-identifier":"plinth"}}'
    )
    (entry,) = listed(place, image)
    assert (entry["digest"], entry["artifactType"]) == (pushed.soci.oci, INDEX)
    assert place[1].blobs[ztocs[0].digest.oci] == b"zTOC"
    tags = {"20260304.v1"} | (set() if api else {referrers_name(subject)})
    assert place[1].tags["team/one"].keys() == tags


def test_a_push_without_has_none(ws: Workspace, place: Place, image: Image) -> None:
    assert push(ws, place, []).soci is None
    assert listed(place, image) == []


def test_the_same_push_again_sends_nothing(
    ws: Workspace, place: Place, image: Image, ztocs: list[Ztoc]
) -> None:
    first = push(ws, place, ztocs)
    received = place[1].received
    assert push(ws, place, ztocs).soci == first.soci
    assert place[1].received == received
    assert len(listed(place, image)) == 1


@pytest.mark.parametrize("api", [True, False], ids=["API", "tag"])
def test_bundles_and_the_index_stand_side_by_side(
    ws: Workspace, place: Place, image: Image, ztocs: list[Ztoc], tmp_path: Path, *, api: bool
) -> None:
    """Whatever is attached first; readers of bundles see these alone, a pull takes no index."""
    place[1].api = api
    there = Registry(place[0].url, "team/one")

    def attach(kind: str) -> bytes:
        payload = json.dumps({"subject": kind}).encode()
        envelope = {"dsseEnvelope": {"payload": base64.b64encode(payload).decode()}}
        bundle = json.dumps(envelope).encode()
        subject = Descriptor(MANIFEST, image.manifest.digest)
        attach_to_registry(there, subject, [(kind, bundle)])
        return bundle

    push(ws, place, [])
    bundles = [attach("https://example.com/first")]
    push(ws, place, ztocs)
    bundles.append(attach("https://example.com/second"))
    host = urlsplit(place[0].url).netloc
    with open_source(f"docker://{host}/team/one:20260304.v1", Config()) as source:
        found = list(source.referrers(BUNDLE))
    assert sorted(one.data for one in found) == sorted(bundles)
    assert not any(one.problems for one in found)
    assert len([one for one in listed(place, image) if one["artifactType"] == INDEX]) == 1
    pulled = pull_image(
        f"{host}/team/one:20260304.v1",
        tmp_path / "pulled",
        config=Config(),
        gate=None,
        name="one",
        progress=quiet,
    )
    assert (pulled.digest, pulled.bundles) == (image.manifest.digest, 2)


def test_an_index_that_is_not_listed_is_an_error(
    ws: Workspace, place: Place, ztocs: list[Ztoc], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the image has no tag yet."""
    monkeypatch.setattr(Registry, "referrers", lambda *_: iter([]))
    with pytest.raises(FetchError, match="took the SOCI index, and does not list it"):
        push(ws, place, ztocs)
    assert "team/one" not in place[1].tags


def test_what_others_listed_may_have_any_form(
    ws: Workspace, place: Place, ztocs: list[Ztoc], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Registry.referrers
    odd: list[dict[str, Any]] = [{"digest": {}}, {"digest": ["x"]}, {}]
    monkeypatch.setattr(Registry, "referrers", lambda *given: iter([*odd, *real(*given)]))
    assert push(ws, place, ztocs).soci is not None


def test_the_form_in_zstd_is_refused_before_anything_is_sent(ws: Workspace, place: Place) -> None:
    make_image(ws.layout, "first")
    make_image(ws.layout, "two+zstd", compression="zstd")
    with pytest.raises(PlinthError, match="SOCI reads layers in gzip alone"):
        verb(ws, place, ["first", "two+zstd"])
    assert not place[0].asked


def test_every_layer_has_its_part_however_small(
    ws: Workspace, place: Place, image: Image, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(VerificationError, match="it is not signed"):
        verb(ws, place, ["one"])
    assert "SOCI index" in capsys.readouterr().err
    assert len(listed(place, image)) == 1


def verb(ws: Workspace, place: Place, ids: list[str]) -> None:
    """`plinth push --soci`."""
    registry.push(
        ws,
        ids,
        to=urlsplit(place[0].url).netloc,
        mount_from=(),
        compression="",
        soci=True,
        no_verify=False,
        jobs=2,
        policy="",
        trust="",
    )
