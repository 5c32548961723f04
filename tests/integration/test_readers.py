"""Everyone else's tools read what we write: gzip, GNU tar, tarfile, skopeo, umoci, Docker."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import pytest

from integration.conftest import EACH, IMAGES, SETS, Checkout, build
from plinth.formats.oci.layout import references
from plinth.formats.oci.manifest import read_manifest
from plinth.formats.oci.validate import validate
from plinth.publish.engine.load import load
from plinth.publish.engine.smoke import test_image as smoke
from plinth.recipe.image import load_image
from support import needs


def run(*command: str) -> str:
    done = subprocess.run(command, check=False, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def layers_of(built: Checkout, images: Sequence[str]) -> list[Path]:
    store = built.ws.layout
    found = references(store)
    return [
        store.path(digest)
        for digest in {
            layer.digest
            for image in images
            for layer in read_manifest(store, found[image].manifest).layers
        }
    ]


@pytest.mark.network
def test_the_layout_is_valid(built: Checkout) -> None:
    assert validate(built.ws.layout.root) == []


@pytest.mark.network
@pytest.mark.parametrize("images", SETS)
def test_gzip_gnu_tar_and_tarfile_read_every_layer(images: Sequence[str]) -> None:
    layers = sorted(layers_of(build(*images), images), key=lambda path: -path.stat().st_size)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        assert sum(pool.map(_read_by_all, layers)) > len(layers)


def _read_by_all(path: Path) -> int:
    """How many members the layer has, by all three readers."""
    with path.open("rb") as stream:
        subprocess.run(["gzip", "-t"], stdin=stream, check=True)
    listed = run("tar", "--list", "--gzip", "--quoting-style=literal", "-f", str(path))
    with gzip.open(path) as plain, tarfile.open(fileobj=plain, mode="r|") as tar:
        names = [member.name + "/" * member.isdir() for member in tar]
    assert listed.splitlines() == names
    # Docker 20.10 and podman refuse a layer with a path twice.
    assert len({name.rstrip("/") for name in names}) == len(names)
    return len(names)


@pytest.mark.network
def test_shared_packages_are_shared_layers_and_a_common_beginning(built: Checkout) -> None:
    store = built.ws.layout
    one, two = (
        [layer.digest for layer in read_manifest(store, references(store)[name].manifest).layers]
        for name in IMAGES
    )
    assert two[: len(one)] == one


@pytest.mark.network
def test_umoci_unpacks(built: Checkout, tmp_path: Path) -> None:
    needs.program("umoci")
    image = f"{built.ws.layout.root}:minimal"
    run("umoci", "unpack", "--rootless", "--image", image, str(tmp_path / "bundle"))
    rootfs = tmp_path / "bundle" / "rootfs"
    assert (rootfs / "opt/python/bin/azmlinfsrv").is_file()
    assert (rootfs / "etc/passwd").read_text().count("dockeruser") == 2


@pytest.mark.judge("skopeo")
@pytest.mark.network
def test_skopeo_inspects_and_copies_to_a_registry(built: Checkout, registry: str) -> None:
    source = f"oci:{built.ws.layout.root}:sklearn-0.24.1"
    seen = json.loads(run("skopeo", "inspect", source))
    expected = f"sha256:{built.digests()['sklearn-0.24.1']}"
    assert seen["Digest"] == expected
    target = f"docker://{registry}/plinth/sklearn:test"
    run("skopeo", "copy", "--dest-tls-verify=false", source, target)
    back = json.loads(run("skopeo", "inspect", "--tls-verify=false", target))
    assert back["Digest"] == expected


@pytest.mark.engine
@pytest.mark.judge("skopeo")
@pytest.mark.network
def test_skopeo_copies_to_an_engine_that_runs_it(
    built: Checkout, engine: docker.DockerClient
) -> None:
    host = os.environ["PLINTH_TEST_DOCKER_HOST"]
    source = f"oci:{built.ws.layout.root}:minimal"
    run("skopeo", "copy", f"--dest-daemon-host={host}", source, "docker-daemon:plinth-test:skopeo")
    output = engine.containers.run("plinth-test:skopeo", ["id"], remove=True)
    assert output.decode() == "uid=1000(dockeruser) gid=1000(dockeruser) groups=1000(dockeruser)\n"


@pytest.mark.engine
@pytest.mark.network
@pytest.mark.parametrize("image_id", EACH)
def test_images_load_and_score(engine: docker.DockerClient, image_id: str) -> None:
    built = build(image_id)
    loaded = load(built.ws, image_id, client=engine)
    assert engine.images.get(loaded.name).id == loaded.id
    before = {container.id for container in engine.containers.list(all=True)}
    lines: list[str] = []
    spec = load_image(built.ws.images, image_id)
    smoke(built.ws, spec, client=engine, progress=lines.append)
    assert any("POST /score answered" in line for line in lines)
    assert {container.id for container in engine.containers.list(all=True)} <= before


def test_without_an_engine_there_is_one_clear_error(tmp_path: Path, built: Checkout) -> None:
    done = built.doit("load:minimal", env={"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    assert done.returncode != 0
    assert "no Docker Engine answers" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
