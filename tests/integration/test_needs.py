"""What a build needs and a machine lacks: all of it in one message, within seconds, before the
first download; nothing of it is asked where nothing has to be made."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import tomli_w

from plinth.build.image import build_image
from plinth.core.digest import Digest
from plinth.core.errors import LackingError, PlinthError
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.formats.oci.layout import references
from plinth.recipe.locks.pylock import LockedFile, dump, load
from support import needs, small_checkout
from support.http_server import Handler, serving
from support.patience import at_most
from support.small_checkout import IMAGE, SmallCheckout

NOWHERE = "http://127.0.0.1:9"
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who refuses is heard on a busy machine, too."""
    monkeypatch.setattr("plinth.build.needs._DEADLINE", at_most(2))


@pytest.fixture
def checkout(tmp_path: Path) -> SmallCheckout:
    """A checkout with nothing in its store but the interpreter."""
    made = small_checkout.make(tmp_path / "checkout")
    made.seed(debs=False)
    return made


def config(checkout: SmallCheckout, **settings: object) -> Config:
    """Settings of which every place refuses, unless `settings` names another."""
    given: Mapping[str, object] = {
        "python": {"3.7": str(checkout.root / "none")},
        "index_url": NOWHERE,
        "apt": {"debian": NOWHERE},
        **settings,
    }
    return Config(**given)  # type: ignore[arg-type]


def build(checkout: SmallCheckout, settings: Config) -> None:
    build_image(checkout.ws, IMAGE, config=settings, jobs=2, progress=quiet)


def refused(checkout: SmallCheckout, settings: Config) -> PlinthError:
    """What a build says; it fetches nothing and takes less than three seconds."""
    held = {path.name for path in checkout.ws.cache.blobs.iterdir()}
    began = time.monotonic()
    with pytest.raises(PlinthError) as raised:
        build(checkout, settings)
    assert time.monotonic() - began < at_most(3)
    assert {path.name for path in checkout.ws.cache.blobs.iterdir()} == held
    assert not (checkout.ws.layout.root / "index.json").exists()
    return raised.value


def as_sdist(checkout: SmallCheckout, name: str = "package0") -> None:
    """Let the lock say that a package is a source distribution."""
    path = checkout.ws.locks / IMAGE / "pylock.toml"
    lock = load(path)
    packages = [
        replace(
            one,
            is_sdist=True,
            file=LockedFile(f"{name}-1.0.tar.gz", one.file.digest, one.file.upload_time),
        )
        if one.name == name
        else one
        for one in lock.packages
    ]
    path.write_text(dump(replace(lock, packages=tuple(packages))))


def test_all_that_is_missing_is_one_message_with_the_easiest_first(
    checkout: SmallCheckout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    as_sdist(checkout)
    shutil.rmtree(checkout.ws.cache.blobs)
    checkout.ws.cache.prepare()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 1000))
    error = refused(checkout, config(checkout))
    assert isinstance(error, LackingError)
    assert error.where == IMAGE
    assert error.what == ("this machine lacks 4 things that the build needs; nothing was fetched")
    interpreter, tried, sandbox, index, disk = error.found.splitlines()
    assert interpreter == "there is no CPython 3.7 on this machine"
    assert tried.startswith("tried ")
    assert "bubblewrap" in sandbox
    assert index.startswith("the package index, for 8 files (")
    assert index.endswith(" cannot be reached (Connection refused)")
    assert disk.startswith("1.0 kB are free in ")
    ways = error.remedy.splitlines()
    assert [way[:2] for way in ways] == ["1.", "2.", "3.", "4."]
    for way, word in zip(ways, ("bubblewrap", "make room", "index-url", "uv python"), strict=True):
        assert word in way


def test_places_that_refuse_are_named_with_their_settings(checkout: SmallCheckout) -> None:
    error = refused(checkout, config(checkout))
    index, archive = error.found.splitlines()
    assert index.startswith("the package index, for 8 files (")
    assert archive == (
        f"the archive {NOWHERE}/dists/bookworm cannot be reached (Connection refused)"
    )
    assert "index-url" in error.remedy
    assert "apt.debian" in error.remedy


def test_one_thing_is_said_as_it_is(checkout: SmallCheckout) -> None:
    error = refused(checkout, config(checkout, files={"wheels": str(checkout.wheels)}))
    assert error.what == (
        f"the archive {NOWHERE}/dists/bookworm cannot be reached (Connection refused)"
    )
    assert error.remedy.startswith("check the network, or name an archive in the settings")


class Silent(Handler):
    """Accepts, and does not answer."""

    ended = threading.Event()

    def answer(self) -> None:
        """Wait until nobody waits any more."""
        self.ended.wait(60)
        self.close_connection = True


def test_a_place_that_is_silent_may_be_slow(
    checkout: SmallCheckout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plinth.build.needs._DEADLINE", 2)
    with serving(tmp_path, Silent) as server:
        try:
            error = refused(checkout, config(checkout, index_url=server.url))
        finally:
            Silent.ended.set()
    # The other one refuses.
    assert error.what.startswith(f"the archive {NOWHERE}")


def test_where_nothing_has_to_be_fetched_nobody_is_asked(
    checkout: SmallCheckout, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout.seed(debs=True)
    settings = config(checkout, files={"wheels": str(checkout.wheels)})
    build(checkout, settings)
    first = references(checkout.ws.layout)[IMAGE].manifest
    # The wheels may go: their layers are made. Nor is there room for anything.
    for path in checkout.wheels.iterdir():
        checkout.ws.cache.path(Digest.of_file(path)).unlink()
    shutil.rmtree(checkout.wheels)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 0))
    build(checkout, config(checkout))
    assert references(checkout.ws.layout)[IMAGE].manifest == first


def test_a_sandbox_is_looked_for_only_where_an_sdist_has_to_be_built(
    checkout: SmallCheckout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    checkout.seed(debs=True)
    settings = config(checkout, files={"wheels": str(checkout.wheels)})
    as_sdist(checkout)
    (checkout.wheels / "package0-1.0-py3-none-any.whl").rename(
        checkout.wheels / "package0-1.0.tar.gz"
    )
    error = refused(checkout, settings)
    assert "bubblewrap" in error.what
    assert "apt-get install bubblewrap" in error.remedy


def test_a_stock_machine_offline_is_told_all_in_three_seconds(tmp_path: Path) -> None:
    """The README's command in this very checkout, by a program that reaches nobody."""
    needs.program("bwrap")
    settings = tmp_path / "settings.toml"
    settings.write_text(tomli_w.dumps({"index-url": "https://index.example/simple"}))
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PLINTH_CONFIG": str(settings),
        "PLINTH_BUILD": str(tmp_path / "build"),
        "PYTHONPATH": str(small_checkout.ROOT / "tools"),
        # There is no host of that name, and no network to ask.
        "PLINTH_PUBLIC": "true",
    }
    command = [sys.executable, "-m", "doit", "build:sklearn-0.24.1"]
    began = time.monotonic()
    done = subprocess.run(
        ["bwrap", "--dev-bind", "/", "/", "--unshare-net", *command],
        cwd=small_checkout.ROOT,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    took = time.monotonic() - began
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "this machine lacks 2 things that the build needs; nothing was fetched" in said
    assert "neither ubuntu18.04-py37 nor debian12-py37 can be built on this machine" in said
    assert "the package index, for 53 files" in said
    assert "Traceback" not in said
    left = [path for path in (tmp_path / "build").rglob("*") if path.is_file()]
    assert {path.name for path in left} <= {"doit.db", "lease.lock"}
    assert took < at_most(3)
