"""Which image of an index is meant, and documents that say nothing clear."""

from __future__ import annotations

from typing import Any

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import AmbiguityError, LayoutError
from plinth.formats.oci.documents import (
    annotations_of,
    descriptor,
    entries,
    for_platform,
    is_image,
    is_index,
    named,
    names,
    namesakes,
    parsed,
    repository_name,
    shown,
    the_one,
)
from plinth.formats.oci.model import MANIFEST

HEX = "1" * 64
INDEX = "application/vnd.oci.image.index.v1+json"
REF, CALLED = "org.opencontainers.image.ref.name", "io.containerd.image.name"
Json = dict[str, Any]


def image(ref: str = "", called: str = "", **more: Any) -> Json:
    annotations = {key: value for key, value in ((REF, ref), (CALLED, called)) if value}
    return {"mediaType": MANIFEST, "annotations": annotations, **more}


def platform(os: str, architecture: str) -> Json:
    return {"platform": {"os": os, "architecture": architecture}}


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (image(), True),
        ({"mediaType": "application/vnd.docker.distribution.manifest.v2+json"}, True),
        (image(**platform("linux", "amd64")), True),
        (image(**platform("windows", "amd64")), True),
        (image(**platform("a", "amd64")), True),
        # BuildKit's attestations.
        (image(**platform("unknown", "unknown")), False),
        (image(artifactType="text/plain"), False),
        (image(platform="unknown"), True),
        ({"mediaType": INDEX}, False),
        ({"mediaType": "text/plain"}, False),
        ({}, False),
    ],
)
def test_what_may_be_an_image(entry: Json, expected: bool) -> None:
    assert is_image(entry) is expected


def test_what_is_an_index() -> None:
    assert is_index({"mediaType": INDEX})
    assert is_index({"mediaType": "application/vnd.docker.distribution.manifest.list.v2+json"})
    assert not is_index(image())
    assert not is_index({})


def test_a_reference_goes_before_what_engines_call_it() -> None:
    one, two = image("a"), image("b", "team/a")
    full = image(called="registry.example/team/c:1")
    listed = [two, one, full]
    assert named(listed, "a") == [one]
    assert named([two, full], "team/a") == [two]
    assert named([two, full], "a") == [two]
    assert named(listed, "c:1") == named(listed, "team/c:1") == [full]
    assert named(listed, "c") == named(listed, "eam/c:1") == []


def test_the_names_in_an_index() -> None:
    listed = [
        image("a"),
        image(called="team/b:1"),
        image(),
        image("c", artifactType="text/plain"),
        {**image("d"), "mediaType": INDEX},
        # What refers to an image is listed under a tag of its digest.
        {**image(f"sha256-{HEX}"), "mediaType": INDEX},
        image(f"sha256-{HEX}"),
    ]
    assert list(names(listed)) == ["a", "team/b:1", "d", f"sha256-{HEX}"]


def test_of_an_index_the_entry_for_linux_on_amd64() -> None:
    arm, amd, windows = (
        image(**platform(*pair))
        for pair in (("linux", "arm64"), ("linux", "amd64"), ("windows", "amd64"))
    )
    attestation = image(**platform("unknown", "unknown"))
    assert for_platform([arm, attestation], "x") == (arm, [])
    assert for_platform([arm, windows, amd, attestation], "x") == (amd, [arm, windows])
    assert for_platform([image()], "x") == (image(), [])
    with pytest.raises(LayoutError, match="an index within an index"):
        for_platform([{"mediaType": INDEX}], "x")
    for listed in ([], [attestation], [{**amd, "artifactType": "text/plain"}]):
        with pytest.raises(LayoutError, match="found no images"):
            for_platform(listed, "x")


@pytest.mark.parametrize(
    "other",
    [
        image(**platform("linux", "amd64")),
        image(**platform("linux", "amd64"), artifactType="text/plain"),
        {"mediaType": "text/plain", **platform("linux", "amd64")},
        {"mediaType": INDEX, **platform("linux", "amd64")},
        image(**platform("Linux", "AMD64")),
        image(**platform("linux", "x86_64")),
        image(**platform("", "amd64")),
        image(platform={"os": "linux", "architecture": "amd64", "variant": "v2"}),
        image(platform={"os": "linux"}),
        image(platform={}),
        image(platform=None),
        image(artifactType="text/plain"),
        image(),
    ],
)
def test_two_entries_that_an_engine_could_take_are_refused(other: Json) -> None:
    ours = image(digest="sha256:ours", **platform("linux", "amd64"))
    for listed in ([ours, other], [other, ours]):
        with pytest.raises(AmbiguityError, match="could be the image for linux/amd64") as raised:
            for_platform(listed, "x")
        assert raised.value.found.split("\n") == [shown(entry) for entry in listed]


def test_of_several_other_platforms_none_is_chosen() -> None:
    listed = [image(**platform("linux", "arm64")), image(**platform("linux", "s390x"))]
    with pytest.raises(AmbiguityError, match="2 entries of the index are for other platforms"):
        for_platform(listed, "x")


def test_one_name_is_of_one_entry() -> None:
    one, two = image("a", digest="sha256:1"), image("a", digest="sha256:2")
    assert the_one([one], "a", "x") is one
    with pytest.raises(AmbiguityError, match="the index has 2 entries of one name, 'a'") as raised:
        the_one([one, two], "a", "x")
    assert raised.value.found.split("\n") == [f"{MANIFEST} sha256:{n} a" for n in (1, 2)]


def test_namesakes_have_the_name_that_engines_give_or_the_title() -> None:
    one = image("one", "team/a:latest", digest="sha256:1")
    same = image("same", "team/a:latest", digest="sha256:1")
    others = [
        image("x", "docker.io/team/a:latest", digest="sha256:2"),
        image("team/a", digest="sha256:3", artifactType="text/plain"),
    ]
    strangers = [image("one:latest", "team/b:latest", digest="sha256:4"), image("a")]
    assert namesakes([one, same, *others, *strangers], one, "") == others
    assert namesakes([image("y"), *others], image("y", digest="sha256:9"), "") == []
    assert namesakes(others, image("y", digest="sha256:9"), "team/a") == others


def test_a_name_in_full_is_the_familiar_one() -> None:
    one, two = image("x", "docker.io/team/a:latest"), image("y", "team/b:1")
    assert named([one, two], "team/a") == named([one, two], "docker.io/team/a:latest") == [one]
    assert named([one, two], "docker.io/team/b:1") == [two]


def test_an_index_that_is_a_manifest_as_well_is_refused() -> None:
    for key in ("config", "layers"):
        with pytest.raises(AmbiguityError, match="an index and a manifest in one document"):
            entries({"manifests": [], key: []}, "x")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a", "a"),
        ("a:1", "a"),
        ("team/a:1", "a"),
        ("localhost:5000/team/a", "a"),
        (f"h.example/a@sha256:{HEX}", "a"),
        (f"h.example/a:1@sha256:{HEX}", "a"),
        ("", ""),
    ],
)
def test_repository_names(name: str, expected: str) -> None:
    assert repository_name(name) == expected


def test_annotations_are_texts() -> None:
    assert annotations_of({"annotations": {"a": "b", "c": 7}}) == {"a": "b"}
    nothing: object
    for nothing in ({}, {"annotations": []}, {"annotations": None}, [], None):
        assert annotations_of(nothing) == {}


def test_descriptors() -> None:
    assert descriptor({"digest": f"sha256:{HEX}", "size": 7}, "x") == Digest(HEX, 7)
    assert descriptor({"digest": f"sha256:{HEX}", "size": 0}, "x") == Digest(HEX, 0)
    wrong: object
    for wrong in (
        None,
        [],
        {},
        {"digest": f"sha256:{HEX}"},
        {"digest": f"sha256:{HEX}", "size": "7"},
        {"digest": f"sha256:{HEX}", "size": True},
        {"digest": f"sha256:{HEX}", "size": -1},
        {"digest": f"sha512:{HEX}", "size": 7},
        {"digest": f"sha256:{HEX[1:]}", "size": 7},
    ):
        with pytest.raises(LayoutError, match="not a descriptor") as raised:
            descriptor(wrong, "x")
        assert raised.value.where == "x"


@pytest.mark.parametrize("escape", [r"\ud800", r"\uDFFF", r"\udc00\ud800", r"a\uDbff"])
def test_half_of_a_surrogate_pair_is_refused(escape: str) -> None:
    for text in (f'["{escape}"]', f'{{"{escape}": 1}}'):
        with pytest.raises(LayoutError, match="not JSON: ") as raised:
            parsed(text.encode(), "here")
        assert raised.value.where == "here"
    assert parsed(rb'["\ud83d\ude00", "\\ud800"]', "here") == ["\U0001f600", r"\ud800"]


def test_an_index_is_a_list_of_objects() -> None:
    assert entries({"manifests": [image()]}, "x") == [image()]
    assert entries({"manifests": []}, "x") == []
    wrong: Json
    for wrong in ({}, {"manifests": {}}, {"manifests": [image(), "x"]}):
        with pytest.raises(LayoutError, match="not an OCI image index"):
            entries(wrong, "x")
