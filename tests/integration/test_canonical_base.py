"""The canonical base for real: pulled by digest from a registry, with a standalone CPython.

What stands for the originals, see `support.canonical`, is in a registry and in a folder.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import docker
import pytest
import requests

from integration.conftest import Checkout
from plinth.core.digest import Digest
from plinth.core.report import quiet
from plinth.formats.oci.model import MANIFEST
from plinth.publish.engine.load import load
from plinth.publish.engine.smoke import test_image as smoke
from plinth.recipe.image import load_image
from support.canonical import BASE, REPOSITORY
from support.canonical import make as make_canonical
from support.containers import SCORE, application, serving


def push(url: str, repository: str, blobs: Sequence[bytes], manifest: bytes) -> None:
    """Push an image as the distribution specification says."""
    for data in blobs:
        begun = requests.post(f"{url}/v2/{repository}/blobs/uploads/", timeout=60)
        assert begun.status_code == 202
        ended = requests.put(
            begun.headers["Location"],
            params={"digest": Digest.of(data).oci},
            data=data,
            headers={"Content-Type": "application/octet-stream"},
            timeout=60,
        )
        assert ended.status_code == 201
    answer = requests.put(
        f"{url}/v2/{repository}/manifests/{Digest.of(manifest).oci}",
        data=manifest,
        headers={"Content-Type": MANIFEST},
        timeout=60,
    )
    assert answer.status_code == 201


@dataclass(frozen=True)
class Canonical:
    """A checkout whose canonical base is pinned to what is at hand, and settings that name it."""

    checkout: Checkout
    settings: Path

    def doit(self, *arguments: str) -> str:
        """What a task prints; it must succeed."""
        done = self.checkout.doit(*arguments, env={"PLINTH_CONFIG": str(self.settings)})
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


Make = Callable[[], Canonical]


@pytest.fixture(scope="module")
def make(
    built: Checkout,
    clone: Callable[..., Checkout],
    registry: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Make:
    """A function that makes such a checkout, with nothing built."""
    folder = tmp_path_factory.mktemp("canonical")
    url = f"http://{registry}"
    (folder / "mirror").mkdir()
    base = make_canonical(built.ws, folder / "mirror")
    push(url, REPOSITORY, [base.config, base.layer.read_bytes()], base.manifest)
    settings = folder / "config.toml"
    # The first mirror is down: the next is asked.
    settings.write_text(
        f'[registries]\ndefault = ["http://127.0.0.1:9", "{url}"]\n'
        f'[files]\npython-build-standalone = "{folder}/mirror"\n'
    )

    def make() -> Canonical:
        made = Canonical(clone(tmp_path_factory.mktemp("clone") / "checkout"), settings)
        base.pin(made.checkout.ws)
        return made

    return make


@pytest.fixture(scope="module")
def canonical(make: Make) -> Canonical:
    """Such a checkout, with the minimal image."""
    made = make()
    said = made.doit("build:minimal")
    assert f"name      azureml/minimal-{BASE}-cpu-inference:latest" in said
    assert "library/ubuntu (unmodified)" in said
    return made


@pytest.mark.network
def test_what_is_in_the_store_needs_no_registry_any_more(
    canonical: Canonical, tmp_path: Path
) -> None:
    before = canonical.checkout.digests()
    said = replace(canonical, settings=tmp_path / "none.toml").doit("build:minimal")
    assert "built on" not in said
    assert canonical.checkout.digests() == before


@pytest.mark.network
@pytest.mark.nightly
def test_the_image_is_the_same_elsewhere(canonical: Canonical, make: Make) -> None:
    elsewhere = make()
    elsewhere.doit("build:minimal", f"base={BASE}")
    assert elsewhere.checkout.digests() == canonical.checkout.digests()


@pytest.mark.engine
@pytest.mark.network
def test_it_serves(canonical: Canonical, engine: docker.DockerClient, tmp_path: Path) -> None:
    ws = canonical.checkout.ws
    loaded = load(ws, "minimal", client=engine)
    assert BASE in loaded.name
    smoke(ws, load_image(ws.images, "minimal"), client=engine, progress=quiet)
    # The base has no such account; Dockerfiles on top name it.
    for user in ("", "dockeruser"):
        shown = engine.containers.run(loaded.name, ["id"], user=user, remove=True).decode()
        assert shown == "uid=1000(dockeruser) gid=1000(dockeruser) groups=1000(dockeruser)\n"
    with serving(engine, loaded.name, application(tmp_path / "app", {"score.py": SCORE})) as server:
        # gunicorn keeps the socket of its front where it reads its settings again.
        rows = server.container.top(ps_args="-eo pid,ppid,cmd")["Processes"]
        (front,) = (pid for pid, _, command in rows if "plinth-front" in command)
        (master,) = (int(pid) for pid, parent, _ in rows if parent == front)
        os.kill(master, signal.SIGHUP)
        time.sleep(1)
        server.until_healthy()
        assert server.answer({"data": [1, 2]})["sum"] == 3
    engine.images.remove(loaded.name)
