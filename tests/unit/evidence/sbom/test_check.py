"""An SBOM and an image that do not fit: each difference found from either side, and named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plinth.core.digest import Digest, canonical_json
from plinth.evidence.sbom.check import check_sbom
from plinth.evidence.sbom.make import make_sbom
from plinth.formats.debian.deb import File
from plinth.formats.layer.header import DOCKERUSER
from plinth.recipe.base import ImageRootfs
from support.layer_files import (
    DPKG,
    LAYERS,
    SITE,
    Files,
    SmallImage,
    changed,
    inputs,
    more,
    small_image,
    text,
    wheel,
    with_locks,
    without,
    write_image,
)

SYSTEM, PYTHON, CONTRACT, DEMO, OTHER, GL = LAYERS


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> SmallImage:
    return write_image(tmp_path_factory.mktemp("image"), small_image())


@pytest.fixture(scope="module")
def sbom(image: SmallImage) -> bytes:
    return make_sbom(inputs(image))


def check(document: bytes, image: SmallImage) -> list[str]:
    found = check_sbom(document, image.manifest, image.contents)
    return [str(problem) for problem in found]


def has(problems: list[str], *parts: str) -> bool:
    return any(all(part in problem for part in parts) for problem in problems)


def test_what_fits_has_no_problem(image: SmallImage, sbom: bytes) -> None:
    assert check(sbom, image) == []
    # Neither order nor white space matter.
    assert check(json.dumps(json.loads(sbom), indent=4).encode(), image) == []


Layers = dict[str, Files]
MODULE = f"{SITE}/demo/__init__.py"
BYTECODE = f"{SITE}/demo/__pycache__/__init__.cpython-37.pyc"


def layer(title: str, change: Callable[[Files], Files]) -> Callable[[Layers], Layers]:
    return lambda layers: {**layers, title: change(layers[title])}


IMAGES: dict[str, tuple[Callable[[Layers], Layers], tuple[str, ...]]] = {
    "module": (
        layer(DEMO, lambda files: changed(files, MODULE, data=b"y = 2\n")),
        ("layer 'demo 1.0'", MODULE, "RECORD says sha256=", "its content has"),
    ),
    "module and its RECORD": (
        lambda layers: {**layers, DEMO: wheel("demo", "1.0", code=b"y = 2\n")},
        ("demo 1.0: dev.plinth:files.sha256", "the SBOM says", "layer 'demo 1.0'"),
    ),
    "bytecode": (
        layer(DEMO, lambda files: changed(files, BYTECODE, data=b"evil")),
        ("demo 1.0: dev.plinth:files.sha256", "the SBOM says", "layer 'demo 1.0'"),
    ),
    "set user id": (
        layer(DEMO, lambda files: changed(files, "opt/python/bin/demo", mode=0o4755)),
        ("demo 1.0: dev.plinth:files.sha256",),
    ),
    "a module more": (
        layer(DEMO, lambda files: more(files, text(f"{SITE}/evil.pth", b"import evil"))),
        (f"/{SITE}/evil.pth: layer 'demo 1.0'", "holds it, the SBOM lacks it"),
    ),
    "wheel of another version": (
        lambda layers: {**layers, OTHER: wheel("other", "2.1")},
        ("other 2.1: the SBOM says version '2.0'", "layer 'other 2.0'", "holds '2.1'"),
    ),
    "wheel gone": (
        lambda layers: {**layers, OTHER: {}},
        ("other 2.0: the SBOM says that layer 'other 2.0'", "holds it, it does not"),
    ),
    "wheel more": (
        layer(OTHER, lambda files: {**files, **wheel("third", "3.0")}),
        ("third 3.0: layer 'other 2.0'", "holds it, the SBOM lacks it"),
    ),
    "wheel in another layer": (
        lambda layers: {**layers, DEMO: {}, OTHER: {**layers[OTHER], **layers[DEMO]}},
        ("demo 1.0: dev.plinth:layer.digest: the SBOM says sha256:", "layer 'other 2.0'"),
    ),
    "layers under other titles": (
        lambda layers: {**layers, DEMO: layers[OTHER], OTHER: layers[DEMO]},
        ("demo 1.0: dev.plinth:layer.title: the SBOM says demo 1.0", "layer 'other 2.0'"),
    ),
    "wheel twice": (
        lambda layers: {**layers, "again": wheel("other", "1.9")},
        ("other 1.9: layer 'again'", "holds it, the SBOM lacks it"),
    ),
    "program of a package": (
        layer(SYSTEM, lambda files: changed(files, "usr/bin/hello", data=b"evil")),
        ("layer 'test system'", "usr/bin/hello: dpkg's list of hello says MD5", "it has"),
    ),
    "program of a package gone": (
        layer(SYSTEM, lambda files: without(files, "usr/bin/hello")),
        ("layer 'test system'", "hello 1:2.10-3: its list names /bin/hello", "not there"),
    ),
    "package on top gone": (
        layer(GL, lambda files: {"usr/lib/libGL.so": files["usr/lib/libGL.so"]}),
        ("libgl1 1.6.0-1: the SBOM says that layer 'libgl1 1.6.0-1'", "it does not"),
    ),
    "script of a package": (
        layer(SYSTEM, lambda files: changed(files, f"{DPKG}/info/hello.postinst", data=b"evil")),
        ("hello 1:2.10-3: dev.plinth:files.sha256",),
    ),
    "dpkg's database": (
        layer(SYSTEM, lambda files: changed(files, f"{DPKG}/available", data=b"evil")),
        ("debian 12: dev.plinth:dpkg.sha256", "layer 'test system'"),
    ),
    "generated file": (
        layer(SYSTEM, lambda files: changed(files, "etc/passwd", data=b"root::0:0:::\n")),
        ("/etc/passwd: the SBOM says sha256:", "in layer 'test system'", "it is sha256:"),
    ),
    "generated file gone": (
        layer(SYSTEM, lambda files: without(files, "etc/passwd")),
        ("/etc/passwd: the SBOM says that layer 'test system'", "holds it, it does not"),
    ),
    "generated file more": (
        layer(CONTRACT, lambda files: more(files, text("etc/ld.so.preload", b"/evil.so"))),
        ("/etc/ld.so.preload: layer 'contract'", "holds it, the SBOM lacks it"),
    ),
    "generated file over another": (
        layer(CONTRACT, lambda files: more(files, text("etc/passwd", b"root::0:0:::\n"))),
        ("/etc/passwd: layer 'contract'", "holds it, the SBOM lacks it"),
    ),
    "link": (
        layer(GL, lambda files: changed(files, "usr/lib/libGL.so", target="/evil.so")),
        ("/usr/lib/libGL.so: dev.plinth:entry.target: the SBOM says libGL.so.1", "/evil.so"),
    ),
    "mode of a folder": (
        layer(SYSTEM, lambda files: changed(files, "tmp", mode=0o777)),
        ("tmp: dev.plinth:entry.mode: the SBOM says 1777", "has 0777"),
    ),
    "owner": (
        layer(CONTRACT, lambda files: changed(files, "usr/local/bin/runsvdir", owner=DOCKERUSER)),
        ("/usr/local/bin/runsvdir: dev.plinth:entry.owner: the SBOM says 0:0", "1001:1001"),
    ),
    "standard library": (
        layer(PYTHON, lambda f: changed(f, "opt/python/lib/python3.7/os.py", data=b"evil")),
        ("cpython 3.7.16: dev.plinth:tree: the SBOM says sha256:", "layer 'test python'"),
    ),
    "site customization": (
        layer(PYTHON, lambda f: more(f, text("opt/python/lib/python3.7/usercustomize.py", b""))),
        ("cpython 3.7.16: dev.plinth:tree", "layer 'test python'"),
    ),
    "interpreter gone": (
        lambda layers: {**layers, PYTHON: {}},
        ("cpython 3.7.16: the SBOM says that layer 'test python'", "it does not"),
    ),
    "whiteout": (
        layer(CONTRACT, lambda files: more(files, text("etc/.wh.passwd", b""))),
        ("layer 'contract'", "etc/.wh.passwd: a whiteout"),
    ),
    "under a link": (
        layer(SYSTEM, lambda files: more(files, File("bin/sh", "file", 0o755, DOCKERUSER))),
        ("layer 'test system'", "bin/sh: it lies under bin, which is a symlink"),
    ),
}


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_that_is_not_what_its_sbom_says(
    tmp_path: Path, image: SmallImage, sbom: bytes, name: str
) -> None:
    change, parts = IMAGES[name]
    tampered = write_image(tmp_path, change(small_image()))
    # As if the manifest were still the signed one: what is read differs all the same.
    if len(tampered.contents) == len(image.contents):
        kept = replace(tampered, manifest=image.manifest)
        assert check(sbom, kept), name
    problems = check(sbom, tampered)
    assert has(problems, *parts), problems
    assert has(
        problems,
        "metadata.component.sha256",
        image.manifest.digest.hex,
        tampered.manifest.digest.hex,
    )


Document = dict[str, Any]


def one(document: Document, name: str) -> Document:
    (found,) = [c for c in document["components"] if c["name"] == name]
    assert isinstance(found, dict)
    return found


def put(document: Document, name: str, key: str, value: str) -> None:
    (entry,) = [p for p in one(document, name)["properties"] if p["name"] == f"dev.plinth:{key}"]
    entry["value"] = value


def drop(document: Document, name: str) -> None:
    document["components"].remove(one(document, name))


def add(document: Document, **fields: Any) -> None:
    document["components"].append({**one(document, "demo"), "bom-ref": "new", **fields})


DOCUMENTS: dict[str, tuple[Callable[[Document], Any], tuple[str, ...]]] = {
    "package dropped": (
        lambda d: drop(d, "demo"),
        ("demo 1.0: layer 'demo 1.0'", "holds it, the SBOM lacks it"),
    ),
    "deb dropped": (lambda d: drop(d, "hello"), ("hello 1:2.10-3: layer 'test system'", "lacks")),
    "file dropped": (
        lambda d: drop(d, "/etc/passwd"), ("/etc/passwd: layer 'test system'", "lacks it")
    ),
    "interpreter dropped": (lambda d: drop(d, "cpython"), ("cpython 3.7.16", "lacks it")),
    "system dropped": (lambda d: drop(d, "debian"), ("debian 12", "lacks it")),
    "package added": (
        lambda d: add(d, name="third", version="3.0", purl="pkg:pypi/third@3.0"),
        ("third 3.0: the SBOM says that layer 'demo 1.0'", "holds it, it does not"),
    ),
    "package twice": (
        lambda d: d["components"].append(one(d, "demo")),
        ("components[", "pkg:pypi/demo@1.0 is there twice"),
    ),
    "package twice by another name": (
        lambda d: add(d),
        ("demo 1.0: the SBOM has it more than once in layer 'demo 1.0'",),
    ),
    "version": (
        lambda d: one(d, "demo").update(version="1.1", purl="pkg:pypi/demo@1.1"),
        ("demo 1.0: the SBOM says version '1.1'", "layer 'demo 1.0'", "holds '1.0'"),
    ),
    "purl of another": (
        lambda d: one(d, "demo").update(purl="pkg:pypi/safe@1.0"),
        ("purl", "pkg:pypi/safe@1.0 is not the pypi package demo 1.0"),
    ),
    "no purl": (lambda d: one(d, "demo").pop("purl"), ("purl", "expected a text, found None")),
    "not a purl": (lambda d: one(d, "demo").update(purl="demo"), ("purl", "not a purl")),
    "layer": (
        lambda d: put(d, "demo", "layer.digest", f"sha256:{'0' * 64}"),
        ("demo 1.0: the SBOM says that layer 'demo 1.0'", "the manifest has no such layer"),
    ),
    "diff_id": (
        lambda d: put(d, "demo", "layer.diff_id", f"sha256:{'0' * 64}"),
        ("demo 1.0: dev.plinth:layer.diff_id: the SBOM says sha256:0000",),
    ),
    "title": (
        lambda d: put(d, "demo", "layer.title", "harmless"),
        ("demo 1.0: dev.plinth:layer.title: the SBOM says harmless",),
    ),
    "kind": (lambda d: put(d, "demo", "kind", "toy"), ("demo: dev.plinth:kind is 'toy'",)),
    "files": (
        lambda d: put(d, "demo", "files.sha256", "0" * 64),
        ("demo 1.0: dev.plinth:files.sha256: the SBOM says 0000",),
    ),
    "hash of a file": (
        lambda d: one(d, "/etc/passwd").update(
            hashes=[{"alg": "SHA-256", "content": "0" * 64}]
        ),
        ("/etc/passwd: the SBOM says sha256:0000", "in layer 'test system'"),
    ),
    "no hash of a file": (
        lambda d: one(d, "/etc/passwd").pop("hashes"),
        ("/etc/passwd: the SBOM says sha256:(none)",),
    ),
    "weak hash": (
        lambda d: one(d, "/etc/passwd").update(hashes=[{"alg": "MD5", "content": "0" * 32}]),
        ("hashes: expected one SHA-256",),
    ),
    "tree": (
        lambda d: put(d, "cpython", "tree", f"sha256:{'0' * 64}"),
        ("cpython 3.7.16: dev.plinth:tree: the SBOM says sha256:0000",),
    ),
    "property twice": (
        lambda d: one(d, "demo")["properties"].append(one(d, "demo")["properties"][0]),
        ("properties[", "is there twice"),
    ),
    "another image's digest": (
        lambda d: d["metadata"]["component"].update(version=f"sha256:{'0' * 64}"),
        ("metadata.component.version: the SBOM is of 'sha256:0000",),
    ),
    "another image's hash": (
        lambda d: d["metadata"]["component"]["hashes"][0].update(content="0" * 64),
        ("metadata.component.sha256: the SBOM is of '0000",),
    ),
    "another image's name": (
        lambda d: d["metadata"]["component"].update(name="other"),
        ("metadata.component.name: the SBOM is of 'other'",),
    ),
    "another image's purl": (
        lambda d: d["metadata"]["component"].update(purl="pkg:oci/x@sha256:1"),
        ("metadata.component.purl: the SBOM is of pkg:oci/x@sha256:1",),
    ),
    "another base": (
        lambda d: d["metadata"]["component"]["properties"][0].update(value="ubuntu"),
        ("dev.plinth:base: the SBOM says 'ubuntu', the image has 'test-base'",),
    ),
    "another time": (
        lambda d: d["metadata"].update(timestamp="2026-10-21T00:00:00+00:00"),
        ("metadata.timestamp: expected that of the image, 2026-10-20T00:00:00Z",),
    ),
    "another serial number": (
        lambda d: d.update(serialNumber="urn:uuid:00000000-0000-0000-0000-000000000000"),
        ("serialNumber: expected urn:uuid:",),
    ),
    "another specification": (
        lambda d: d.update(specVersion="1.4"), ("specVersion: expected 1.6, found '1.4'",)
    ),
    "no image": (lambda d: d.pop("metadata"), ("metadata: expected an object",)),
    "no components": (lambda d: d.update(components={}), ("components: expected an array",)),
    "components of texts": (
        lambda d: d.update(components=["demo"]), ("components[0]: expected an object",)
    ),
    "properties of texts": (
        lambda d: one(d, "demo").update(properties=["x"]),
        ("properties: expected an array of objects",),
    ),
    "hashes of texts": (
        lambda d: one(d, "demo").update(hashes="x"),
        ("hashes: expected an array of objects",),
    ),
    "a number for a name": (
        lambda d: one(d, "demo").update(name=1), ("name: expected a text, found 1",)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DOCUMENTS)
def test_an_sbom_that_is_not_of_its_image(image: SmallImage, sbom: bytes, name: str) -> None:
    change, parts = DOCUMENTS[name]
    document = json.loads(sbom)
    change(document)
    problems = check(canonical_json(document), image)
    assert has(problems, *parts), problems


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff", b"[]", b"1", b"null", b"{}", b"[" * 100_000, b'{"bomFormat": 1}']
)
def test_what_is_no_sbom_is_one_problem(image: SmallImage, data: bytes) -> None:
    (problem,) = check(data, image)
    assert "JSON" in problem or "CycloneDX" in problem


def test_a_truncated_sbom(image: SmallImage, sbom: bytes) -> None:
    for cut in range(1, len(sbom), len(sbom) // 20):
        (problem,) = check(sbom[:cut], image)
        assert "not JSON" in problem


def test_the_sbom_of_another_image(tmp_path: Path, image: SmallImage) -> None:
    layers = small_image()
    layers[CONTRACT] = changed(layers[CONTRACT], "usr/local/bin/runsvdir", data=b"#!/bin/bash\n")
    other = write_image(tmp_path, layers)
    problems = check(make_sbom(inputs(other)), image)
    assert has(
        problems, "metadata.component.sha256", other.manifest.digest.hex, image.manifest.digest.hex
    )
    assert has(problems, "/usr/local/bin/runsvdir: the SBOM says sha256:")


def test_a_layer_too_few(image: SmallImage, sbom: bytes) -> None:
    problems = check(sbom, replace(image, contents=image.contents[:-1]))
    assert problems == ["layers: the manifest has 6, 5 were read"]


def test_unpacked_layers_are_told_by_their_tar(image: SmallImage, sbom: bytes) -> None:
    """In a docker archive no blob has the digest that the manifest names."""
    unpacked = tuple(replace(one, digest=Digest.of(b"tar")) for one in image.contents)
    assert check(sbom, replace(image, contents=unpacked)) == []


def test_what_a_pulled_base_leaves_out(tmp_path: Path) -> None:
    layers = small_image()
    layers[SYSTEM] = without(layers[SYSTEM], "usr/bin/hello")
    image = write_image(tmp_path, layers)
    given = inputs(image)
    digest, diff_id = image.contents[0].digest, image.contents[0].diff_id
    rootfs = ImageRootfs("default", "ubuntu", "1" * 64, Digest.of(b"m"), digest, digest, diff_id)
    lock = replace(given.recipe.base_lock, packages=())
    given = with_locks(given, base=replace(given.recipe.base, rootfs=rootfs), base_lock=lock)
    assert check(make_sbom(given), image) == []
