"""SOCI indexes spliced layers as they are, and containerd mounts them lazily: no digest changes."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from field.conftest import IMAGE, publish
from plinth.core.settings import Config
from plinth.fetch.sources.source import open_source
from plinth.formats.oci.manifest import read_manifest
from plinth.formats.oci.referrers import BUNDLE
from support import judges
from support.containerd import containerd
from support.docker_registry import docker_registry
from support.processes import listening
from support.published import Published


@contextlib.contextmanager
def snapshotter(folder: Path, registry: str) -> Iterator[Path]:
    """SOCI's snapshotter with its data in `folder`, by the socket that it listens at."""
    settings = folder / "soci.toml"
    settings.write_text(
        "[pull_modes.soci_v1]\nenable = true\n"
        f'[[resolver.host."{registry}".mirrors]]\nhost = "http://{registry}"\ninsecure = true\n'
    )
    # Paths of sockets are short.
    with tempfile.TemporaryDirectory(prefix="plinth-soci-") as state:
        socket = Path(state) / "socket"
        command = [judges.program("soci", "soci-snapshotter-grpc"), "--config", str(settings)]
        command += ["--address", str(socket), "--root", str(folder / "soci")]
        with listening(command, socket, folder / "soci.log"):
            yield socket


def mounted(folder: Path) -> int:
    """How many layers are mounted lazily below `folder`."""
    lines = Path("/proc/mounts").read_text().splitlines()
    return sum(f" {folder}/" in line and " fuse." in line for line in lines)


@pytest.mark.judge("soci", "containerd", "registry")
def test_soci_mounts_the_layers_that_were_built_lazily(signed: Published, tmp_path: Path) -> None:
    """Its index is attached in the registry beside the bundles."""
    digest = signed.image(IMAGE).digest
    builder, machine = tmp_path / "builder", tmp_path / "machine"
    builder.mkdir()
    machine.mkdir()
    with docker_registry(tmp_path, program=judges.program("registry")) as registry:
        repository = f"{registry.host}/{IMAGE}"
        publish(signed, IMAGE, repository, signed.image(IMAGE).bundles())
        pull = ["images", "pull", "--plain-http", f"{repository}:1"]
        with containerd(builder) as running:
            running.ctr(*pull)
            soci = ["--address", str(running.socket), "--root", str(builder / "soci")]
            judges.run("soci", *soci, "create", "--min-layer-size", "0", f"{repository}:1")
            judges.run("soci", *soci, "push", "--plain-http", f"{repository}:1")
        with open_source(f"{repository}:1", Config()) as source:
            kept = {one.predicate_type: one.data for one in source.referrers(BUNDLE)}
        assert kept == signed.image(IMAGE).bundles()
        with snapshotter(machine, registry.host) as socket, containerd(machine, socket) as running:
            running.ctr(*pull)
            assert mounted(machine) == len(read_manifest(signed.ws.layout, digest).layers)
            assert running.images() == {f"{repository}:1": digest.oci}
            running.ctr("images", "remove", "--sync", f"{repository}:1")
    assert mounted(machine) == 0
