"""Machines that share a server: steps run by its workers, results taken from it, one digest."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tomli_w

from integration.conftest import ALL, IMAGES, ROOT, Checkout, build
from plinth.core.settings import load as load_config
from plinth.formats.oci.layout import references
from plinth.formats.oci.manifest import read_manifest
from plinth.formats.oci.validate import validate
from support import reapi_servers
from support.apart import PORT, Wire, wire

SUMMARY = re.compile(r"remote: (\d+) results found, (\d+) steps run there, ")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[reapi_servers.Server]:
    """A server whose workers see nothing of this machine: an action's root is all there is."""
    with reapi_servers.casd(tmp_path / "casd", executes=True) as server:
        yield server


def settings(path: Path, **remote: str) -> dict[str, str]:
    """The environment with this machine's settings and a server."""
    own = load_config()
    document = {
        "index-url": own.index_url,
        "python": dict(own.python),
        "apt": dict(own.apt),
        "remote": remote,
    }
    path.write_text(tomli_w.dumps(document))
    clean = {key: value for key, value in os.environ.items() if key != "PLINTH_BUILD"}
    return {**clean, "PLINTH_CONFIG": str(path)}


def bare(path: Path) -> Checkout:
    """A checkout without a build folder: it has no input and no result."""
    path.mkdir()
    for name in ("images", "base", "locks", "tools"):
        (path / name).symlink_to(ROOT / name)
    shutil.copyfile(ROOT / "dodo.py", path / "dodo.py")
    return Checkout(path)


def layer_sizes(checkout: Checkout) -> dict[str, int]:
    """Bytes of every distinct layer that the checkout's images name."""
    store = checkout.ws.layout
    return {
        layer.digest.oci: layer.digest.size
        for reference in references(store).values()
        for layer in read_manifest(store, reference.manifest).layers
    }


def built_apart(checkout: Checkout, link: Wire, folder: Path, *tasks: str, **remote: str) -> str:
    """Build on a machine that reaches the server and nothing else; returns all that it said."""
    env = settings(
        folder / f"{checkout.root.name}.toml", cache=f"grpc://127.0.0.1:{PORT}", **remote
    )
    done = link.run(checkout.command(*tasks), cwd=checkout.root, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def summed(said: str) -> tuple[int, int]:
    """Results found and steps run by the server, over all builds that `said` is of."""
    found = SUMMARY.findall(said)
    return sum(int(one) for one, _ in found), sum(int(one) for _, one in found)


LOST = ("debian12-py37 python", "contract", "azureml-inference-server-http ")


@pytest.mark.network
def test_workers_make_the_layers_that_lack(
    server: reapi_servers.Server,
    built: Checkout,
    clone: Callable[..., Checkout],
    tmp_path: Path,
) -> None:
    checkout = clone(tmp_path / "checkout", results=True)
    store = built.ws.layout
    layers = read_manifest(store, references(store)["minimal"].manifest).layers
    lost = [layer.digest.hex for layer in layers if layer.title.startswith(LOST)]
    assert len(lost) == len(LOST)
    for action in checkout.ws.actions.root.glob("*.json"):
        if any(digest in action.read_text() for digest in lost):
            action.unlink()
    done = checkout.doit(
        "build:minimal", env=settings(tmp_path / "first.toml", executor=server.address)
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert checkout.digests() == {"minimal": built.digests()["minimal"]}
    assert summed(said) == (0, len(LOST)), said
    assert "built here instead" not in said


@pytest.mark.network
@pytest.mark.nightly
@pytest.mark.parametrize("image", IMAGES)
def test_workers_make_an_image_and_others_take_it(
    image: str,
    server: reapi_servers.Server,
    built: Checkout,
    clone: Callable[..., Checkout],
    tmp_path: Path,
) -> None:
    first = clone(tmp_path / "first")
    env = settings(tmp_path / "first.toml", executor=server.address)
    done = first.doit(f"build:{image}", env=env)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    expected = built.digests()[image]
    assert first.digests() == {image: expected}
    layers = len(layer_sizes(first))
    # Every layer was made by a worker, and none of them here.
    assert summed(said) == (0, layers), said
    assert "built here instead" not in said

    with wire(tmp_path / "wire", server.address) as link:
        other = bare(tmp_path / "other")
        said = built_apart(other, link, tmp_path, f"build:{image}")
        assert other.digests() == {image: expected}
        assert f"{layers} layers, 0 built" in said
        assert summed(said)[1] == 0
        # The layers, and 1 kB for what is said about each step.
        assert link.down <= sum(layer_sizes(other).values()) * 1.01 + 100_000
        assert validate(other.ws.layout.root) == []
        assert [*other.ws.cache.blobs.iterdir()] == []

    with wire(tmp_path / "wire-2", server.address) as link:
        least = bare(tmp_path / "least")
        built_apart(least, link, tmp_path, f"build:{image}", download="minimal")
        assert least.digests() == {image: expected}
        assert link.down <= 100_000
        # What reads the layers brings them.
        built_apart(least, link, tmp_path, f"sbom:{image}", download="minimal")
        assert validate(least.ws.layout.root) == []
        assert link.down <= sum(layer_sizes(least).values()) * 1.01 + 200_000


@pytest.mark.network
@pytest.mark.nightly
def test_nine_images_are_made_once(clone: Callable[..., Checkout], tmp_path: Path) -> None:
    built = build(*ALL)
    with reapi_servers.casd(tmp_path / "casd") as server:
        first = clone(tmp_path / "first")
        done = first.doit("build", env=settings(tmp_path / "first.toml", cache=server.address))
        assert done.returncode == 0, done.stdout + done.stderr
        assert first.digests() == built.digests()
        with wire(tmp_path / "wire", server.address) as link:
            other = bare(tmp_path / "other")
            said = built_apart(other, link, tmp_path, "build")
            assert other.digests() == built.digests()
            assert len(re.findall(r"layers, 0 built", said)) == len(ALL)
            assert link.down <= sum(layer_sizes(other).values()) * 1.01 + 1_000_000
            assert validate(other.ws.layout.root) == []
            needed = sum(layer_sizes(other).values())
            print(f"{link.down} bytes down, {link.up} up, {needed} needed")
