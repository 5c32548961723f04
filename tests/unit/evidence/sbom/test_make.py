"""The SBOM of a small image: what it says, and what it refuses to say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import plinth
from plinth.core.digest import Digest, canonical_json
from plinth.core.errors import SbomError
from plinth.evidence.sbom.inputs import SbomInputs
from plinth.evidence.sbom.make import make_sbom
from plinth.recipe.accelerator import Accelerator, Archive
from plinth.recipe.base import ImageRootfs, StandalonePython
from plinth.recipe.locks.accelerator import AcceleratorLock, LockedVendorFile
from plinth.recipe.locks.pylock import LockedPackage
from support.layer_files import (
    LAYERS,
    SmallImage,
    archive,
    changed,
    inputs,
    locked_deb,
    locked_wheel,
    small_image,
    wheel,
    with_locks,
    without,
    write_image,
)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> SmallImage:
    return write_image(tmp_path_factory.mktemp("image"), small_image())


def made(given: SbomInputs) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(make_sbom(given))
    return document


def component(document: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in document["components"] if one["name"] == name]
    assert isinstance(found, dict)
    return found


def properties(entry: dict[str, Any]) -> dict[str, str]:
    return {one["name"].removeprefix("dev.plinth:"): one["value"] for one in entry["properties"]}


def test_the_image_and_the_tool(image: SmallImage) -> None:
    document = made(inputs(image))
    about = document["metadata"]["component"]
    assert about["name"] == "test/small-test-base-cpu-inference"
    assert about["version"] == image.manifest.digest.oci
    assert (
        about["purl"]
        == f"pkg:oci/small-test-base-cpu-inference@{image.manifest.digest.oci}?arch=amd64"
    )
    assert about["hashes"] == [{"alg": "SHA-256", "content": image.manifest.digest.hex}]
    assert document["metadata"]["timestamp"] == "2026-10-20T00:00:00+00:00"
    (tool,) = document["metadata"]["tools"]["components"]
    assert (tool["name"], tool["version"]) == ("plinth", plinth.__version__)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")


def test_every_thing_with_purl_hash_and_layer(image: SmallImage) -> None:
    document = made(inputs(image))
    layers = [layer.digest.oci for layer in image.manifest.layers]
    for name, purl, sha256, layer, kind in (
        ("demo", "pkg:pypi/demo@1.0", Digest.of(b"demo").hex, 3, "wheel"),
        ("other", "pkg:pypi/other@2.0", Digest.of(b"other").hex, 4, "sdist, built by plinth"),
        (
            "hello",
            "pkg:deb/debian/hello@1:2.10-3?arch=amd64&distro=debian-12",
            Digest.of(b"hello").hex,
            0,
            "deb",
        ),
        (
            "libgl1",
            "pkg:deb/debian/libgl1@1.6.0-1?arch=amd64&distro=debian-12",
            Digest.of(b"libgl1").hex,
            5,
            "deb",
        ),
        ("debian", "pkg:generic/debian@12", layers[0].removeprefix("sha256:"), 0, "layer"),
    ):
        found = component(document, name)
        assert found["purl"] == purl
        assert found["hashes"] == [{"alg": "SHA-256", "content": sha256}]
        about = properties(found)
        assert about["layer"] == str(layer)
        assert about["hash.of"] == kind
    python = component(document, "cpython")
    assert python["purl"] == "pkg:generic/cpython@3.7.16"
    tree = inputs(image).recipe.base_lock.tree
    assert tree is not None
    assert python["hashes"][0]["content"] == tree.hex
    assert properties(component(document, "other"))["file"] == "other-2.0.tar.gz"


def test_layers_are_described_once(image: SmallImage) -> None:
    document = made(inputs(image))
    said = properties(document["metadata"]["component"])
    for number, (layer, held) in enumerate(zip(image.manifest.layers, image.contents, strict=True)):
        described = f"{layer.digest.oci} sha256:{held.diff_id} {LAYERS[number]}"
        assert said[f"layer.{number}"] == described
        assert held.diff_id not in json.dumps(document["components"])
    assert f"layer.{len(image.contents)}" not in said


def test_generated_files_are_there_and_dpkgs_own_are_not(image: SmallImage) -> None:
    document = made(inputs(image))
    files = {one["name"]: one for one in document["components"] if one["type"] == "file"}
    assert list(files) == [
        one["name"] for one in document["components"] if one["type"] == "file"
    ], "each once"
    assert sorted(files) == [
        "/etc/passwd",
        "/opt/python/lib/python3.7/site-packages",
        "/tmp",  # noqa: S108
        "/usr/lib/libGL.so",
        "/usr/lib/os-release",
        "/usr/local/bin/runsvdir",
        "/var/azureml-app",
    ]
    program = files["/usr/local/bin/runsvdir"]
    assert program["hashes"][0]["content"] == Digest.of(b"#!/bin/sh\n").hex
    assert properties(program)["entry.mode"] == "0755"
    assert properties(files["/usr/lib/libGL.so"])["entry.target"] == "libGL.so.1"
    assert properties(files["/tmp"])["entry.mode"] == "1777"  # noqa: S108


def test_the_graph(image: SmallImage) -> None:
    document = made(inputs(image))
    graph = {one["ref"]: one.get("dependsOn", []) for one in document["dependencies"]}
    assert graph["pkg:pypi/demo@1.0"] == ["pkg:pypi/other@2.0"]
    top = graph[document["metadata"]["component"]["bom-ref"]]
    assert "pkg:pypi/demo@1.0" in top
    assert "pkg:pypi/other@2.0" not in top
    hello = "pkg:deb/debian/hello@1:2.10-3?arch=amd64&distro=debian-12"
    assert hello in graph["pkg:generic/debian@12"]
    reached = set(top)
    for ref in list(top):
        reached.update(graph[ref])
    assert reached == {one["bom-ref"] for one in document["components"]}


def test_the_order_of_nothing_matters(image: SmallImage) -> None:
    given = inputs(image)
    data = make_sbom(given)
    assert data == canonical_json(json.loads(data))
    lock = replace(given.recipe.lock, packages=given.recipe.lock.packages[::-1])
    annotations = dict(reversed([*given.manifest.annotations.items()]))
    manifest = replace(given.manifest, annotations=annotations)
    assert make_sbom(replace(with_locks(given, lock=lock), manifest=manifest)) == data


def test_a_standalone_interpreter_has_its_archives_digest(image: SmallImage) -> None:
    given = inputs(image)
    python = StandalonePython("3.7", "release", "tag", "cpython.tar.zst", Digest.of(b"archive"))
    lock = replace(given.recipe.base_lock, tree=None)
    found = component(
        made(with_locks(given, base=replace(given.recipe.base, python=python), base_lock=lock)),
        "cpython",
    )
    assert found["hashes"][0]["content"] == Digest.of(b"archive").hex
    assert properties(found)["hash.of"] == "archive"
    assert properties(found)["file"] == "cpython.tar.zst"


def test_a_pulled_base(tmp_path: Path) -> None:
    """Its layer leaves files out and holds packages that no lock of ours has."""
    layers = small_image()
    layers[LAYERS[0]] = without(layers[LAYERS[0]], "usr/bin/hello")
    image = write_image(tmp_path, layers)
    given = inputs(image)
    rootfs = ImageRootfs(
        "default", "library/ubuntu", "1" * 64, Digest.of(b"manifest"), Digest.of(b"config"),
        image.contents[0].digest, image.contents[0].diff_id,
    )  # fmt: skip
    lock = replace(given.recipe.base_lock, packages=())
    document = made(
        with_locks(given, base=replace(given.recipe.base, rootfs=rootfs), base_lock=lock)
    )
    found = component(document, "debian")
    assert found["purl"] == f"pkg:oci/ubuntu@{Digest.of(b'manifest').oci}"
    assert found["hashes"][0]["content"] == Digest.of(b"manifest").hex
    assert properties(component(document, "hello"))["files.absent"] == "1"
    assert "hashes" not in component(document, "hello")


def test_an_accelerator_set_is_its_vendors(image: SmallImage) -> None:
    given = inputs(image)
    archive = Archive("vendor-ubuntu1804", "/", (), "vendor", "", ("libgl1",))
    package = replace(locked_deb("libgl1", "1.6.0-1"), suite="/")
    extra = Accelerator("set", "set", "", "amd64", (archive,), {}, (), {}, {}, ())
    lock = AcceleratorLock((package,), (), {}, {})
    given = with_locks(given, os_packages=(), accelerator=extra, accelerator_lock=lock)
    found = component(made(given), "libgl1")
    assert found["purl"] == "pkg:deb/vendor-ubuntu1804/libgl1@1.6.0-1?arch=amd64"


def with_archive(tmp_path: Path, **fields: object) -> SbomInputs:
    """An image with files of a vendor's archive, and what is locked of it."""
    layers = {**small_image(), "cuda 11.0.3": archive()}
    given = inputs(write_image(tmp_path, layers))
    file = LockedVendorFile("cuda", "11.0.3", "vendor", "11.0.3/cuda.run", "a" * 64, 10)
    extra = Accelerator("set", "set", "", "amd64", (), {}, (), {}, {}, ())
    lock = AcceleratorLock((), (), {}, {}, (replace(file, **fields),))  # type: ignore[arg-type]
    return with_locks(given, accelerator=extra, accelerator_lock=lock)


def test_a_vendors_archive_is_a_component_with_its_digest(tmp_path: Path) -> None:
    given = with_archive(tmp_path)
    found = component(made(given), "cuda")
    assert found["purl"] == "pkg:generic/cuda@11.0.3"
    assert found["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert found["licenses"] == [{"license": {"acknowledgement": "declared", "name": "its terms"}}]
    assert properties(found)["file"] == "cuda.run"
    assert properties(found)["archive"] == f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"version": "11.0.2"}, "cuda: 11.0.2 of sha256:aaaa"),
        ({"sha256": "b" * 64}, "cuda: 11.0.3 of sha256:bbbb"),
        ({"name": "cudnn"}, "cuda: a layer holds 11.0.3, no lock has it"),
        ({"name": "cudnn"}, "cudnn: 11.0.3 is locked, and no layer holds it"),
    ],
)
def test_archives_that_are_not_what_was_locked(
    tmp_path: Path, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(SbomError) as caught:
        make_sbom(with_archive(tmp_path, **fields))
    assert [p for p in caught.value.problems if str(p).startswith(message)], caught.value.problems


Change = Callable[[SbomInputs], SbomInputs]


def packages(*wanted: LockedPackage) -> Change:
    """The lock of other Python packages."""

    def change(given: SbomInputs) -> SbomInputs:
        return with_locks(given, lock=replace(given.recipe.lock, packages=wanted))

    return change


DEMO, OTHER = locked_wheel("demo", "1.0", ["other"]), locked_wheel("other", "2.0", sdist=True)
GL = locked_deb("libgl1", "1.6.0-1")
LOCKS: dict[str, tuple[Change, str]] = {
    "wheel not there": (
        packages(DEMO, OTHER, locked_wheel("third", "3.0")),
        "third: 3.0 is locked, and no layer holds it",
    ),
    "wheel not locked": (packages(DEMO), "other: a layer holds 2.0, no lock has it"),
    "other version": (
        packages(DEMO, locked_wheel("other", "2.1")),
        "other: 2.1 is locked, a layer holds 2.0",
    ),
    "deb not there": (
        lambda given: with_locks(given, os_packages=(GL, locked_deb("third", "3"))),
        "third: 3 is locked, and no layer holds it",
    ),
    "deb not locked": (
        lambda given: with_locks(given, os_packages=()),
        "libgl1: a layer holds 1.6.0-1, no lock has it",
    ),
    "deb of another version": (
        lambda given: with_locks(given, os_packages=(locked_deb("libgl1", "1.6.0-2"),)),
        "libgl1: 1.6.0-2 for amd64 is locked, a layer holds 1.6.0-1 for amd64",
    ),
    "other interpreter": (
        lambda given: with_locks(
            given, base_lock=replace(given.recipe.base_lock, tree=Digest.of(b"another"))
        ),
        "interpreter: its tree is sha256:",
    ),
    "a layer too few": (
        lambda given: replace(given, contents=given.contents[:-1]),
        "layers: the manifest has another number",
    ),
}


@pytest.mark.parametrize(("change", "message"), LOCKS.values(), ids=LOCKS.keys())
def test_layers_that_are_not_what_was_locked(
    image: SmallImage, change: Change, message: str
) -> None:
    with pytest.raises(SbomError) as caught:
        make_sbom(change(inputs(image)))
    assert [p for p in caught.value.problems if message in str(p)], caught.value.problems


def test_layers_that_contradict_themselves(tmp_path: Path) -> None:
    layers = small_image()
    system, python = layers[LAYERS[0]], layers[LAYERS[1]]
    layers[LAYERS[0]] = without(changed(system, "etc/hello.conf", data=b"?"), "usr/bin/hello")
    layers[LAYERS[1]] = without(python, "opt/python/bin/python3.7")
    layers["demo again"] = wheel("demo", "1.0")
    with pytest.raises(SbomError) as caught:
        make_sbom(inputs(write_image(tmp_path, layers)))
    text = str(caught.value)
    assert "dpkg's list of hello says MD5" in text
    assert "hello: its list names /bin/hello, which is not there" in text
    assert "interpreter: expected one in one layer, found 0" in text
    assert "demo 1.0: two layers hold it" in text
