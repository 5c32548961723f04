"""BuildGrid's server as the cache, and its client as a second opinion on what plinth stores."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from plinth.core.digest import Digest
from plinth.core.remote_settings import RemoteSettings
from plinth.core.store import BlobStore
from plinth.graph.actions import Action
from plinth.graph.reapi import messages
from plinth.graph.remote.client import Remote
from support import reapi_servers
from unit.graph.remote.test_tier import (  # noqa: F401 - fixtures
    Machine,
    NewMachine,
    expected,
    machine,
    template,
)

# Its environment takes longer to make than all other tests of servers take together.
pytestmark = [pytest.mark.network, pytest.mark.large]

INSTANCE = "team/main"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[reapi_servers.Server]:
    folder = tmp_path_factory.mktemp("buildgrid")
    with reapi_servers.buildgrid(folder, instance=INSTANCE) as server:
        yield server


@pytest.fixture
def remote(server: reapi_servers.Server) -> Iterator[Remote]:
    with Remote(RemoteSettings(cache=server.address, instance=INSTANCE), environment={}) as remote:
        yield remote


def bgd(server: reapi_servers.Server, *arguments: str) -> str:
    """What BuildGrid's own client says."""
    group, *rest = arguments
    place = ("--remote", server.address.replace("grpc://", "http://"), "--instance-name", INSTANCE)
    command = [str(reapi_servers.buildgrid_programs() / "bgd"), group, *place, *rest]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_capabilities(remote: Remote) -> None:
    found = remote.capabilities()
    assert found.updates
    assert not found.executes
    assert found.version.startswith("2.")


def test_blobs_of_all_sizes_go_there_and_back(remote: Remote, tmp_path: Path) -> None:
    drawn = random.Random(3)  # noqa: S311
    blobs = {
        Digest.of(data): data
        for data in (drawn.randbytes(size) for size in (0, 1, 1000, 1 << 20, 5_000_000))
    }
    assert remote.missing(blobs) == set(blobs) - {Digest.of(b"")}
    assert remote.upload(blobs) == sum(map(len, blobs.values()))
    assert remote.missing(blobs) == set()
    assert remote.read(blobs) == blobs
    store = BlobStore(tmp_path)
    for digest, data in blobs.items():
        remote.fetch(digest, store)
        assert store.get(digest) == data


def test_its_client_reads_what_plinth_stores(
    server: reapi_servers.Server, remote: Remote, tmp_path: Path
) -> None:
    data = b"content of a layer"
    action = Action("layer", {"wheel": Digest.of(b"a")}, {"x": 1}, ("layer",))
    remote.upload({Digest.of(data): data, **action.encoded.blobs})
    result = messages.ActionResult()
    result.output_files.add(path="outputs/layer", digest=messages.to_message(Digest.of(data)))
    assert remote.store_result(action.digest, result)
    wanted = {"layer": Digest.of(data), "action": action.digest}
    arguments = [
        text
        for name, digest in wanted.items()
        for text in (f"{digest.hex}/{digest.size}", str(tmp_path / name))
    ]
    bgd(server, "cas", "download-file", *arguments)
    assert (tmp_path / "layer").read_bytes() == data
    assert Digest.of((tmp_path / "action").read_bytes()) == action.digest
    root = action.encoded.root.digest
    said = bgd(server, "actioncache", "get", f"{action.digest.hex}/{action.digest.size}")
    assert "Hit" in said
    assert Digest.of(messages.encode(result)).hex in said
    assert remote.missing([root]) == set()


def test_a_machine_builds_from_what_another_made(
    server: reapi_servers.Server,
    machine: NewMachine,  # noqa: F811
    expected: Digest,  # noqa: F811
) -> None:
    first: Machine = machine(server.address, instance=INSTANCE)
    assert first.build().image.manifest.digest == expected
    other = machine(server.address, inputs=False, instance=INSTANCE)
    built = other.build()
    assert built.image.manifest.digest == expected
    assert not any(layer.built for layer in built.image.layers)
    assert first.notes == other.notes == []
