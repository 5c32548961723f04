"""The first commands as users have them: without a passwd entry, without a home or with one that
cannot be written, without git, in a checkout that came as a tarball or cannot be written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from plinth.core.store import BlobStore
from plinth.formats.oci.layout import references
from support import needs, small_checkout
from support.helpers import checkout_files
from support.small_checkout import IMAGE, SmallCheckout

EVERYTHING = (shutil.which("bwrap") or "bwrap", "--dev-bind", "/", "/")
NOBODY = ("--unshare-user", "--uid", "12345", "--gid", "12345")
"""A user that no passwd entry names; as root's files are its own, it can write what we can."""


@dataclass(frozen=True)
class User:
    """Who runs commands in `checkout`, which has no git about it, as one from a tarball:
    `options` are bubblewrap's, `environment` is all there is but PATH."""

    checkout: SmallCheckout
    options: tuple[str, ...]
    environment: dict[str, str]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*EVERYTHING, *self.options, "--", *command],
            cwd=self.checkout.root,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(small_checkout.ROOT / "tools"),
                "PLINTH_CONFIG": str(self.checkout.settings),
                **self.environment,
            },
            check=False,
            capture_output=True,
            text=True,
        )
        assert "Traceback" not in done.stdout + done.stderr
        return done

    def plinth(self, *arguments: str) -> str:
        """What a command that works says."""
        done = self.run(sys.executable, "-m", "plinth", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr


def prepared(folder: Path) -> SmallCheckout:
    checkout = small_checkout.make(folder / "checkout")
    checkout.seed(debs=True)
    return checkout


def digest(checkout: SmallCheckout) -> str:
    return references(checkout.ws.layout)[IMAGE].manifest.oci


@pytest.fixture(scope="module", autouse=True)
def bubblewrap() -> None:
    """It makes these users."""
    needs.program("bwrap")


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest that everybody's image has."""
    checkout = prepared(tmp_path_factory.mktemp("usual"))
    User(checkout, (), {"HOME": str(checkout.root)}).plinth("build", IMAGE)
    return digest(checkout)


def read_only(*folders: Path) -> list[str]:
    return [word for folder in folders for word in ("--ro-bind", str(folder), str(folder))]


def user(kind: str, folder: Path) -> User:
    checkout = prepared(folder)
    home = folder / "home"
    home.mkdir()
    options: Sequence[str] = ()
    environment = {"HOME": str(home)}
    if kind == "without a passwd entry":
        options, environment = NOBODY, {}
    elif kind == "without a passwd entry, at home in /":
        options, environment = (*NOBODY, *read_only(home)), {"HOME": "/"}
    elif kind == "without HOME":
        # Of root's own home nothing is written, or read.
        options, environment = read_only(Path.home()), {}
    elif kind == "HOME is nowhere":
        environment = {"HOME": "/nowhere/at/all"}
    elif kind == "HOME is read-only":
        options = read_only(home)
    elif kind == "without git":
        environment |= {"PATH": "/nowhere"}
    return User(checkout, tuple(options), environment)


KINDS = [
    "without a passwd entry",
    pytest.param("without a passwd entry, at home in /", marks=pytest.mark.nightly),
    pytest.param("without HOME", marks=pytest.mark.nightly),
    pytest.param("HOME is nowhere", marks=pytest.mark.nightly),
    "HOME is read-only",
    "without git",
]


@pytest.mark.parametrize("kind", KINDS)
def test_whoever_builds_signs_and_verifies_has_the_one_digest(
    kind: str, usual: str, tmp_path: Path
) -> None:
    who = user(kind, tmp_path)
    who.plinth("build", IMAGE)
    assert digest(who.checkout) == usual
    who.plinth("explain", IMAGE)
    trust = {"PLINTH_TRUST": str(tmp_path / "trust")}
    signer = User(who.checkout, who.options, {**who.environment, **trust})
    made = signer.plinth("trust", "init")
    signer.plinth("sign", IMAGE, "--trust", "embedded")
    reference = f"oci:{who.checkout.ws.layout.root}:{IMAGE}"
    verified = signer.plinth("verify", reference, "--trust", "embedded")
    assert "verified: " in verified
    if "passwd" in kind:
        assert "trust domain of uid-12345@" in made
    assert signer.run(sys.executable, "-m", "doit", "list").returncode == 0


@pytest.mark.parametrize(
    ("options", "environment", "remedy"),
    [
        (NOBODY, {}, "set PLINTH_TRUST to a folder, or HOME"),
        (("--ro-bind", "/etc", "/etc"), {"HOME": "/etc"}, ""),
    ],
    ids=["nowhere", "read-only"],
)
def test_where_keys_cannot_be_kept_it_is_one_sentence(
    tmp_path: Path, options: tuple[str, ...], environment: dict[str, str], remedy: str
) -> None:
    who = User(prepared(tmp_path), options, environment)
    done = who.run(sys.executable, "-m", "plinth", "trust", "init")
    assert done.returncode == 1
    assert done.stderr.count("plinth: ") == 1
    assert remedy in done.stderr


def test_a_read_only_checkout_builds_where_it_is_told_to(usual: str, tmp_path: Path) -> None:
    checkout = prepared(tmp_path)
    who = User(checkout, tuple(read_only(checkout.root)), {"HOME": str(tmp_path)})
    for command in (("plinth", "build", IMAGE), ("doit", f"build:{IMAGE}")):
        done = who.run(sys.executable, "-m", *command)
        assert done.returncode == 1
        said = done.stdout + done.stderr
        assert "the build folder cannot be written" in said
        assert "set PLINTH_BUILD to a folder of your own" in said
    elsewhere = tmp_path / "elsewhere"
    (checkout.ws.build / "cache").rename(elsewhere)
    who = User(checkout, who.options, {**who.environment, "PLINTH_BUILD": str(tmp_path / "build")})
    (tmp_path / "build").mkdir()
    elsewhere.rename(tmp_path / "build" / "cache")
    who.plinth("build", IMAGE)
    assert references(BlobStore(tmp_path / "build" / "oci"))[IMAGE].manifest.oci == usual


def test_what_is_known_of_layers_is_kept_where_there_is_room(tmp_path: Path) -> None:
    who = user("HOME is read-only", tmp_path)
    who.plinth("build", IMAGE)
    reference = f"oci:{who.checkout.ws.layout.root}:{IMAGE}"
    results = who.checkout.ws.build / "cache" / "actions"
    before = {path.name for path in results.iterdir()}
    who.plinth("diff", reference, reference)
    assert not [*(tmp_path / "home").iterdir()]
    assert {path.name for path in results.iterdir()} - before


@pytest.mark.parametrize("lost", ["locks", "locks/base/small.toml", "locks/small/pylock.toml"])
def test_a_tarball_that_lacks_a_lock_is_told_so_in_words(tmp_path: Path, lost: str) -> None:
    who = user("without git", tmp_path)
    who.plinth("build", IMAGE)
    (who.checkout.root / lost).rename(tmp_path / "lost")
    for command in ("build", "explain", "sbom", "sign", "why"):
        more = {"sign": ("--trust", "embedded"), "why": ("package1",)}.get(command, ())
        done = who.run(sys.executable, "-m", "plinth", command, IMAGE, *more)
        assert done.returncode == 1
        assert done.stderr.count("plinth: ") == 1
        assert "doit lock:" in done.stderr


def test_the_files_of_a_checkout_are_found_without_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = checkout_files(small_checkout.ROOT)
    for name in listed:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(small_checkout.ROOT / name, tmp_path / name)
    for ignored in ("build/oci/index.json", ".venv/pyvenv.cfg", "tests/__pycache__/x.pyc"):
        (tmp_path / ignored).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / ignored).touch()
    assert checkout_files(tmp_path) == sorted(listed)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checkout_files(tmp_path) == sorted(listed)
