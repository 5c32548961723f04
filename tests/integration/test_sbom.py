"""SBOMs of the catalogue: valid CycloneDX, the same everywhere, and true by another reader."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from integration.conftest import EACH, IMAGES, Checkout, build
from plinth.evidence.sbom.inputs import SbomInputs
from plinth.evidence.sbom.make import gather, make_sbom, sbom_of
from plinth.formats.oci.layout import references
from plinth.formats.oci.manifest import read_manifest
from plinth.inspect.conform import strays
from plinth.inspect.contents.cache import ContentsCache
from plinth.recipe.built import find_reference, recipe_of

_SCRIPT = """
import sys
from pathlib import Path
from plinth.inspect.conform import strays
from plinth.inspect.contents.cache import ContentsCache
from plinth.evidence.sbom.make import sbom_of
from plinth.graph.workspace import Workspace
ws, cache = Workspace(Path(sys.argv[1]), Path(sys.argv[2])), ContentsCache(Path(sys.argv[3]))
sys.stdout.buffer.write(sbom_of(ws, sys.argv[4], cache))
"""
VARIANTS: dict[str, tuple[dict[str, str], int, int]] = {
    "east": ({"TZ": "Pacific/Kiritimati", "LANG": "C", "PYTHONHASHSEED": "1"}, 0o077, 1),
    "west": ({"TZ": "Pacific/Niue", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "77"}, 0o000, 0),
    "turkish": ({"LANG": "tr_TR.UTF-8", "PYTHONHASHSEED": "1234", "TZ": "UTC"}, 0o027, 0),
}
"""Environment, umask, and how many CPUs the process may use (0: all)."""


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ContentsCache:
    return ContentsCache(tmp_path_factory.mktemp("contents"))


@pytest.mark.network
@pytest.mark.parametrize("image_id", EACH)
def test_an_sbom_is_valid_and_true(cache: ContentsCache, image_id: str) -> None:
    built = build(image_id)
    image = find_reference(built.ws, image_id)
    given = gather(built.ws, image, recipe_of(built.ws, image), cache)
    data = make_sbom(given)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode()) is None
    assert strays(given.recipe, given.manifest, given.contents) == []
    document = json.loads(data)
    named = Counter(one["name"] for one in document["components"] if one["type"] == "library")
    assert named.keys() == given.wheels.keys() | given.debs.keys()
    for one in document["components"]:
        if one["type"] == "library":
            assert one["hashes"], one["name"]
            assert one["purl"], one["name"]
    _has_a_closed_graph(document)


def _has_a_closed_graph(document: dict[str, Any]) -> None:
    refs = {one["bom-ref"] for one in document["components"]}
    root = document["metadata"]["component"]["bom-ref"]
    graph = {one["ref"]: one.get("dependsOn", []) for one in document["dependencies"]}
    reached, waiting = {root}, [root]
    while waiting:
        for ref in graph[waiting.pop()]:
            if ref not in reached:
                reached.add(ref)
                waiting.append(ref)
    assert reached == refs | {root}


@pytest.mark.network
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_bytes_everywhere(
    built: Checkout, cache: ContentsCache, tmp_path: Path, variant: str
) -> None:
    environment, umask, cpus = VARIANTS[variant]
    ws = built.ws

    def limit() -> None:
        if cpus:
            os.sched_setaffinity(0, [*os.sched_getaffinity(0)][:cpus])

    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, ws.root, ws.build, tmp_path, "minimal"],
        env={"PATH": os.environ["PATH"], **environment},
        cwd=tmp_path,
        umask=umask,
        preexec_fn=limit,
        check=True,
        capture_output=True,
    )
    assert done.stdout == sbom_of(ws, "minimal", cache)


@pytest.mark.network
@pytest.mark.parametrize("image_id", IMAGES)
def test_every_row_by_another_reader(built: Checkout, cache: ContentsCache, image_id: str) -> None:
    """Python's own tar and CSV readers find the same rows, and nothing wrong with them."""
    image = find_reference(built.ws, image_id)
    given = gather(built.ws, image, recipe_of(built.ws, image), cache)
    rows = sums = files = 0
    for held in _hashed_layers(built, image_id):
        files += len(held)
        listed: dict[str, list[str]] = {}
        for path, (data, _, _) in held.items():
            if path.endswith(".dist-info/RECORD"):
                for there, digest in _listed(path, data):
                    listed.setdefault(there, []).append(digest)
            elif path.startswith("var/lib/dpkg/") and path.endswith(".md5sums"):
                sums += _compare_sums(data, held)
        for there, digests in listed.items():
            # Of wheels that have a file in common, one has its own there.
            found = digests.count(_sha256(held[there][1]))
            assert found, there
            rows += found
    assert rows == sum(wheel.rows for layer in given.contents for wheel in layer.wheels) > 2_000
    assert files == sum(layer.files for layer in given.contents)
    configuration = _configuration(given, built)
    assert sums + configuration == sum(deb.sums for one in given.contents for deb in one.debs)


Held = dict[str, tuple[bytes, bytes, str]]
"""Content (of records only), SHA-256 and MD5 of a layer's files by path."""


def _hashed_layers(built: Checkout, image_id: str) -> Iterator[Held]:
    store = built.ws.layout
    manifest = read_manifest(store, references(store)[image_id].manifest)
    for layer in manifest.layers:
        held: Held = {}
        with tarfile.open(store.path(layer.digest)) as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.isfile() else None
                if stream is not None:
                    data = stream.read()
                    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
                    kept = data if member.name.endswith(("RECORD", ".md5sums", "status")) else b""
                    held[member.name] = kept, hashlib.sha256(data).digest(), md5
        yield held


def _listed(path: str, data: bytes) -> Iterator[tuple[str, str]]:
    """The files that a RECORD has a hash of, by path, and the hash."""
    library = path.rsplit("/", 2)[0]
    for name, hash_, _ in csv.reader(data.decode().splitlines()):
        if hash_:
            yield os.path.normpath(f"{library}/{name}"), hash_


def _sha256(digest: bytes) -> str:
    return f"sha256={base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def _compare_sums(data: bytes, held: Held) -> int:
    compared = 0
    for line in data.decode().splitlines():
        md5, path = line.split("  ", 1)
        place = path if path in held else f"usr/{path}"
        if place in held:
            assert held[place][2] == md5, path
            compared += 1
    return compared


def _configuration(given: SbomInputs, built: Checkout) -> int:
    """How many configuration files dpkg's status has the MD5 of."""
    for held in _hashed_layers(built, given.manifest.annotations["dev.plinth.image"]):
        if "var/lib/dpkg/status" in held:
            status = held["var/lib/dpkg/status"][0].decode()
            return len(re.findall(r"^ /\S+ [0-9a-f]{32}$", status, re.MULTILINE))
    return 0
