"""An image for lazy pulling: podman pulls it file by file, everybody else as ever."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import docker
import pytest

from integration.conftest import Checkout
from plinth.evidence.sbom.make import StoredLayer
from plinth.formats.oci.layout import references
from plinth.formats.oci.manifest import read_manifest
from plinth.formats.oci.model import Descriptor
from plinth.inspect.contents.read import read_layers
from plinth.publish.engine.load import load
from support import needs
from support.docker_registry import docker_registry
from support.estargz_reader import open_lazy
from support.forge import link_tree

IMAGE = "minimal"
OWN = {".no.prefetch.landmark", "stargz.index.json"}


@pytest.fixture(scope="module")
def lazy(built: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout whose minimal image is to be pulled lazily, built from layers made before."""
    folder = tmp_path_factory.mktemp("lazy")
    for name in ("images", "locks", "base", "tools"):
        shutil.copytree(built.root / name, folder / name)
    shutil.copyfile(built.root / "dodo.py", folder / "dodo.py")
    for name in ("oci", "cache/actions", "cache/blobs"):
        link_tree(built.ws.build / name, folder / "build" / name)
    path = folder / "images" / f"{IMAGE}.toml"
    path.write_text(f'layer-format = "estargz"\n{path.read_text()}')
    checkout = Checkout(folder)
    done = checkout.doit(f"build:{IMAGE}")
    assert done.returncode == 0, done.stderr
    return checkout


def descriptors(checkout: Checkout) -> Sequence[Descriptor]:
    layout = checkout.ws.layout
    return read_manifest(layout, references(layout)[IMAGE].manifest).layers


def test_a_reader_of_the_specification_reads_every_file(lazy: Checkout) -> None:
    for entry in descriptors(lazy):
        opened = open_lazy(lazy.ws.layout.path(entry.digest).read_bytes())
        assert entry.annotations["containerd.io/snapshot/stargz/toc.digest"] == (
            f"sha256:{opened.digest}"
        )
        for one in opened.table["entries"]:
            if one["type"] == "reg":
                opened.read(one["name"])


def test_what_the_layers_hold_is_what_it_was(lazy: Checkout, built: Checkout) -> None:
    before = descriptors(built)
    stored = [StoredLayer(lazy.ws.layout, e.digest) for e in (*before, *descriptors(lazy))]
    found = [one for one in read_layers(stored) if not isinstance(one, str)]
    assert len(found) == 2 * len(before)
    for plain, other in zip(found[: len(before)], found[len(before) :], strict=True):
        assert other.problems == ()
        assert (plain.toc, bool(other.toc)) == ("", True)
        assert plain.packages == other.packages
        assert plain.unaccounted == other.unaccounted


@pytest.mark.judge("podman")
def test_podman_pulls_it_file_by_file(lazy: Checkout, tmp_path: Path) -> None:
    podman, skopeo, umoci = map(needs.program, ("podman", "skopeo", "umoci"))
    # It refuses paths above 50 characters.
    short = tempfile.mkdtemp(prefix="podman-")
    settings = tmp_path / "storage.conf"
    settings.write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{tmp_path}/podman"\nrunroot = "{short}"\n'
        '[storage.options]\npull_options = {enable_partial_images = "true"}\n'
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(podman), "--events-backend", "none", *arguments],
            env={**os.environ, "CONTAINERS_STORAGE_CONF": str(settings)},
            check=False,
            text=True,
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr
        return done

    source = f"oci:{lazy.ws.layout.root}:{IMAGE}"
    with docker_registry(tmp_path / "registry") as registry:
        where = f"{registry.host}/lazy:1"
        copy = [skopeo, "copy", "-q", "--dest-tls-verify=false", source, f"docker://{where}"]
        subprocess.run(copy, check=True)
        try:
            pulled = run("--log-level", "debug", "pull", "--tls-verify=false", where)
            partly = pulled.stderr.count("Retrieved partial blob")
            assert partly == len(descriptors(lazy))
            mounted = Path(run("image", "mount", where).stdout.strip())
            unpack = [umoci, "unpack", "--rootless", "--image", source.removeprefix("oci:")]
            subprocess.run([*unpack, str(tmp_path / "plain")], check=True, capture_output=True)
            compare = ["diff", "-rq", "--no-dereference"]
            shown = subprocess.run(
                [*compare, str(mounted), str(tmp_path / "plain/rootfs")],
                check=False,
                text=True,
                capture_output=True,
            )
            # What belongs to the format is for no one to see.
            assert {line.rpartition(": ")[2] for line in shown.stdout.splitlines()} == OWN
        finally:
            run("image", "unmount", "--all")
            run("rmi", "--all", "--force")
            shutil.rmtree(short)


@pytest.mark.engine
def test_an_engine_runs_it_as_ever(
    lazy: Checkout, built: Checkout, engine: docker.DockerClient
) -> None:
    image = load(lazy.ws, IMAGE, client=engine).id
    command = ["python", "-c", "import flask; print('ran')"]
    try:
        assert engine.containers.run(image, command, remove=True) == b"ran\n"
    finally:
        # The name is the other image's, for all tests that come after.
        load(built.ws, IMAGE, client=engine)
