"""Over an air gap: exported on one machine; on the other imported, verified, built again and run.

The other machine has no network interface, no CPython 3.7, no store, and no trust domain.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

from integration.conftest import ROOT, Checkout
from plinth.authority.domain import init_domain
from plinth.core.digest import Digest
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.core.settings import load as load_config
from plinth.core.store import BlobStore
from plinth.evidence.sign import sign_images
from plinth.fetch.interpreter import find_python
from plinth.formats.oci.layout import references
from support.canonical import BASE, make
from support.containers import SCORE, application, serving
from support.forge import IDENTITY
from support.published import IMAGE, OTHER, Published


@dataclass(frozen=True)
class Far:
    """The machine behind the gap, and the folder that is current there."""

    folder: Path
    hidden: tuple[Path, ...]

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        clean = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(home), "LC_ALL": "C.UTF-8"}
        box = ["bwrap", "--dev-bind", "/", "/", "--unshare-net"]
        for path in self.hidden:
            box += ["--tmpfs", str(path)]
        return subprocess.run(
            [*box, "--", *command],
            cwd=self.folder,
            env={**clean, **environment},
            check=False,
            text=True,
            capture_output=True,
        )

    def plinth(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "plinth", *arguments)


@dataclass(frozen=True)
class Sent:
    """An archive, and what its sender said when it was written."""

    archive: Path
    said: str


def export(published: Published, archive: Path, *arguments: str) -> Sent:
    done = subprocess.run(
        [sys.executable, "-m", "plinth", "export", *arguments, "--out", str(archive)],
        cwd=ROOT,
        env={**published.environment, "PLINTH_TRUST": str(published.ws.build.parent / "domain")},
        check=False,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    return Sent(archive, done.stdout)


@pytest.fixture(scope="module")
def sent(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Sent:
    archive = tmp_path_factory.mktemp("sent") / "images.tar"
    return export(published, archive, IMAGE, "--trust", "embedded")


@pytest.fixture
def far(published: Published, tmp_path: Path) -> Far:
    python = find_python("3.7", load_config()).parents[1]
    return Far(tmp_path, (python, ROOT / "build", published.ws.build.parent))


@pytest.mark.network
def test_the_far_side_has_nothing_but_plinth(far: Far, published: Published) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect = f"import socket; socket.create_connection({server.getsockname()!r})"
        assert far.run(sys.executable, "-c", connect).returncode == 1
    for path in (published.layout, ROOT / "build" / "oci", *far.hidden):
        assert far.run("ls", "-A", str(path)).stdout == ""
    found = far.run(sys.executable, "-m", "plinth", "--version")
    assert found.returncode == 0, found.stderr


@pytest.mark.network
def test_imported_verified_and_built_again(sent: Sent, far: Far, published: Published) -> None:
    done = far.plinth("import", str(sent.archive), "--into", "there")
    assert done.returncode == 0, done.stderr
    fingerprint = Digest.of_file(published.root).hex
    for said in (sent.said, done.stdout):
        assert f"sha256:{fingerprint}" in said
    assert IDENTITY in done.stdout
    assert published.issuer in done.stdout
    there = BlobStore(far.folder / "there" / "oci")
    assert set(references(there)) == {IMAGE}
    assert references(there)[IMAGE].manifest == published.image().digest

    # The command that import says.
    command = done.stdout.splitlines()[-1].split()
    assert command[:2] == ["plinth", "verify"]
    assert command[-3:] == ["--rebuild", "--inputs", "there/cache"]
    verified = far.plinth(*command[1:])
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "verified: 15 checks" in verified.stdout
    assert "the same to the last bit" in verified.stdout
    # Not by chance: without the inputs nothing can be built there.
    verified = far.plinth(*command[1:-2])
    assert verified.returncode == 1
    assert "REJECTED: rebuild" in verified.stdout
    assert "it could not be built again" in verified.stdout


@pytest.mark.network
def test_equal_archives_whatever_the_machine(
    sent: Sent, published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Pacific/Chatham")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    before = os.umask(0o077)
    try:
        again = export(published, tmp_path / "again.tar", IMAGE, "--trust", "embedded")
    finally:
        os.umask(before)
    assert Digest.of_file(again.archive) == Digest.of_file(sent.archive)


@pytest.mark.network
def test_several_images_share_what_they_share(
    sent: Sent, published: Published, far: Far, tmp_path: Path
) -> None:
    both = export(published, tmp_path / "both.tar", OTHER, IMAGE, "--no-inputs")
    alone = export(published, tmp_path / "alone.tar", OTHER, "--no-inputs")
    first = export(published, tmp_path / "first.tar", IMAGE, "--no-inputs")
    sizes = [one.archive.stat().st_size for one in (both, alone, first)]
    assert sizes[0] < sizes[1] + sizes[2]
    # One after the other is the same as both at once.
    for number, archive in enumerate((first.archive, alone.archive, both.archive)):
        into = "twice" if number < 2 else "once"
        done = far.plinth("import", str(archive), "--into", into)
        assert done.returncode == 0, done.stderr
    twice, once = ((far.folder / name / "oci") for name in ("twice", "once"))
    assert (twice / "index.json").read_bytes() == (once / "index.json").read_bytes()
    assert {p.name for p in BlobStore(twice).blobs.iterdir()} == {
        p.name for p in BlobStore(once).blobs.iterdir()
    }


@pytest.mark.network
@pytest.mark.engine
@pytest.mark.nightly
def test_loaded_and_run_from_a_checkout_behind_the_gap(
    sent: Sent,
    far: Far,
    published: Published,
    clone: Callable[..., Checkout],
    engine: docker.DockerClient,
    tmp_path: Path,
) -> None:
    """`doit load` builds first, from what was imported: the checkout's own store was empty."""
    checkout = clone(tmp_path / "checkout")
    shutil.rmtree(checkout.ws.build)
    inside = Far(checkout.root, far.hidden)
    assert inside.plinth("import", str(sent.archive)).returncode == 0
    name = references(checkout.ws.layout)[IMAGE].image_name
    with contextlib.suppress(docker.errors.ImageNotFound):
        engine.images.remove(name, force=True)
    host = os.environ["PLINTH_TEST_DOCKER_HOST"]
    done = inside.run(*checkout.command(f"load:{IMAGE}"), DOCKER_HOST=host)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "building the Python 3.7 layer" in done.stdout + done.stderr
    assert references(checkout.ws.layout)[IMAGE].manifest == published.image().digest
    with serving(engine, name, application(tmp_path / "app", {"score.py": SCORE})) as server:
        assert server.answer({"data": [1, 2]})["sum"] == 3


@pytest.mark.network
@pytest.mark.nightly
def test_the_canonical_base_needs_neither_registry_nor_interpreter(
    far: Far, built: Checkout, clone: Callable[..., Checkout], tmp_path: Path
) -> None:
    """Its one layer and its pinned interpreter travel like any input."""
    checkout = clone(tmp_path / "checkout")
    base = make(built.ws, tmp_path)
    base.pin(checkout.ws)
    checkout.ws.layout.put_file(base.layer, base.rootfs.layer)
    checkout.ws.cache.put_file(base.archive, Digest.of_file(base.archive))
    for task in ("lock:base", f"build:{IMAGE}"):
        done = checkout.doit(task, env={"PLINTH_CONFIG": str(tmp_path / "none.toml")})
        assert done.returncode == 0, done.stdout + done.stderr
    assert BASE in references(checkout.ws.layout)[IMAGE].image_name
    domain = tmp_path / "domain"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLINTH_TRUST", str(domain))
        sender = Published(checkout.ws, init_domain(domain, IDENTITY), tmp_path / "trust")
        sign_images(checkout.ws, [IMAGE], trust="embedded", config=Config(), progress=quiet)
        command = [sys.executable, "-m", "plinth", "export", IMAGE, "--trust", "embedded"]
        done = subprocess.run(
            [*command, "--out", str(tmp_path / "a.tar")],
            cwd=checkout.root,
            check=False,
            text=True,
            capture_output=True,
        )
    assert done.returncode == 0, done.stderr
    assert "note" not in done.stdout
    behind = Far(far.folder, (*far.hidden, checkout.root, domain))
    done = behind.plinth("import", "a.tar", "--into", "there")
    assert done.returncode == 0, done.stderr
    assert sender.issuer in done.stdout
    verified = behind.plinth(*done.stdout.splitlines()[-1].split()[1:])
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "the same to the last bit" in verified.stdout
