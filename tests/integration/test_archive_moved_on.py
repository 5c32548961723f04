"""Packages that a base is locked to and that its archive dropped, see docs/base.md: from the
distribution's snapshot service, or resolved afresh under another name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import tomli_w

from plinth.formats.oci.layout import references
from plinth.formats.oci.manifest import read_manifest
from plinth.recipe.base import load_base
from plinth.recipe.locks.base import read_lock, write_lock
from support import small_checkout
from support.debs import Archive
from support.http_server import serving
from support.small_checkout import DEBS, SmallCheckout

BASE, IMAGE = small_checkout.BASE, small_checkout.IMAGE
LOCAL = f"{BASE}-local"
DATE, STAMP = "2026-11-02T03:04:05Z", "20261102T030405Z"
NEWER = [replace(package, version="1.1") for package in DEBS]


@dataclass(frozen=True)
class Place:
    """A folder with an archive that moved on, and with what it was in the folder `snapshot`, as
    they are served; and a checkout that is locked to the latter."""

    root: Path
    checkout: SmallCheckout

    def run(
        self, *arguments: str, url: str, snapshots: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run plinth where the archive is at `url`, and the snapshot service at `snapshots`."""
        settings: Mapping[str, object] = {
            "files": {"wheels": str(self.checkout.wheels)},
            "python": {"3.7": str(self.checkout.root / "none")},
            "apt": {"debian": url},
            "keyrings": {"none": str(self.root / "keyring.pgp")},
            **({"snapshots": {"debian": snapshots}} if snapshots else {}),
        }
        self.checkout.settings.write_text(tomli_w.dumps(settings))
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=self.checkout.root,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.root / "home"),
                "PYTHONPATH": str(small_checkout.ROOT / "tools"),
                "PLINTH_CONFIG": str(self.checkout.settings),
                "PLINTH_TRUST": str(self.root / "trust"),
            },
            check=False,
            capture_output=True,
            text=True,
        )

    def built(self, *arguments: str, url: str, snapshots: str = "") -> tuple[str, str]:
        """The digest of the image that a build makes, and what it says."""
        done = self.run("plinth", "build", IMAGE, *arguments, url=url, snapshots=snapshots)
        assert done.returncode == 0, done.stderr
        return self.digest(), done.stderr

    def digest(self) -> str:
        return references(self.checkout.ws.layout)[IMAGE].manifest.oci


@pytest.fixture
def place(tmp_path: Path) -> Place:
    checkout = small_checkout.make(tmp_path / "checkout")
    checkout.seed(debs=False)
    spec = load_base(checkout.ws.bases, BASE)
    write_lock(checkout.ws, BASE, replace(read_lock(checkout.ws, spec), date=DATE))
    past = Archive(tmp_path / "served" / "snapshot" / STAMP)
    past.add("bookworm", *DEBS)
    now = Archive(tmp_path / "served")
    now.add("bookworm", *NEWER)
    now.publish("bookworm")
    now.key.write_keyring(tmp_path / "keyring.pgp")
    return Place(tmp_path, checkout)


def test_the_snapshot_service_is_asked_for_the_locks_own_date(place: Place) -> None:
    with serving(place.root / "served") as server:
        digest, said = place.built(url=server.url, snapshots=f"{server.url}/snapshot/{{date}}/")
        taken = [line for line in server.asked if f"/snapshot/{STAMP}/" in line]
    assert LOCAL not in said
    assert len(taken) == 2 * len(DEBS)
    # What it is built from elsewhere, where the archive still has all.
    place.checkout.ws.layout.root.rename(place.root / "built")
    (place.checkout.ws.build / "cache").rename(place.root / "cache")
    place.checkout.seed(debs=True)
    assert place.built(url="http://127.0.0.1:9")[0] == digest


def test_without_one_they_are_resolved_afresh_under_another_name(place: Place) -> None:
    ws = place.checkout.ws
    locks = {path: path.read_bytes() for path in ws.locks.rglob("*.toml")}
    with serving(place.root / "served") as server:
        # A service that does not answer is none.
        digest, said = place.built(url=server.url, snapshots="http://127.0.0.1:9/{date}")
        assert (
            "note: packages that the base small is locked to have left the archive "
            "(base-passwd 1.0, base-files 1.0): all are resolved afresh from its signed index"
        ) in said
        assert f"building on {LOCAL}, which is part of the image's name" in said
        annotations = read_manifest(ws.layout, references(ws.layout)[IMAGE].manifest).annotations
        assert annotations["dev.plinth.base"] == LOCAL
        assert annotations["org.opencontainers.image.base.name"] == LOCAL
        assert f"small-{LOCAL}-cpu-inference" in references(ws.layout)[IMAGE].image_name
        assert {path: path.read_bytes() for path in ws.locks.rglob("*.toml")} == locks
        # Once more: the same, and the index is not read again.
        before = len(server.asked)
        assert place.built(url=server.url)[0] == digest
        assert all("/dists/" not in line for line in server.asked[before:])
        assert place.run("plinth", "catalog", url=server.url).returncode == 0
        assert f"- base: `{LOCAL}`" in (place.checkout.root / "docs" / "catalog.md").read_text()
        # Signed, verified and built again from what the provenance carries.
        for command in (
            ("trust", "init", "--identity", "me@example.org"),
            ("sign", IMAGE, "--trust", "embedded"),
        ):
            done = place.run("plinth", *command, url=server.url)
            assert done.returncode == 0, done.stderr
        done = place.run(
            *("plinth", "verify", f"oci:{ws.layout.root}:{IMAGE}", "--trust", "embedded"),
            *("--checkout", str(place.checkout.root)),
            *("--inputs", str(ws.cache.root), "--rebuild"),
            url="http://127.0.0.1:9",
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "the same to the last bit" in done.stdout
    # Nothing is asked where all is made, and explain says what a build would.
    done = place.run("plinth", "explain", IMAGE, url="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr


def test_the_locked_base_can_be_insisted_on_and_is_refused(place: Place) -> None:
    with serving(place.root / "served") as server:
        done = place.run("plinth", "build", IMAGE, "--base", BASE, url=server.url)
    assert done.returncode == 1
    assert "packages that the base small is locked to have left the archive" in done.stderr
    assert f"leave out base=, which builds on {LOCAL}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (place.checkout.ws.layout.root / "index.json").exists()


def test_an_archive_that_cannot_be_reached_is_no_archive_that_moved_on(place: Place) -> None:
    done = place.run("plinth", "build", IMAGE, url="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "the archive http://127.0.0.1:9/dists/bookworm cannot be reached" in done.stderr
    assert LOCAL not in done.stderr
    assert "apt.debian" in done.stderr


def test_an_index_that_cannot_be_verified_says_which_packages_are_gone(place: Place) -> None:
    (place.root / "keyring.pgp").unlink()
    with serving(place.root / "served") as server:
        done = place.run("plinth", "build", IMAGE, url=server.url)
    assert done.returncode == 1
    assert (
        "packages that the base small is locked to have left the archive (base-passwd 1.0, "
        "base-files 1.0), and they cannot be resolved afresh"
    ) in done.stderr
    assert "keyrings.none" in done.stderr
