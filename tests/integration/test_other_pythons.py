"""The first command, locks and extensions with other interpreters than the locked one, for real:
with a standalone one alone, and with another build of the machine's own. See docs/base.md."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration.conftest import Checkout
from integration.test_any_machine import IMAGE, settings, without_python
from plinth.core.settings import Config
from plinth.fetch.interpreter import find_python
from plinth.recipe.locks.pins import pins
from support.canonical import BASE, make
from support.world import world

pytestmark = [pytest.mark.nightly, pytest.mark.network]


@dataclass(frozen=True)
class Connected:
    """A machine without a CPython 3.7 that reaches stand-ins for Docker Hub and GitHub; its
    checkout pins what these have."""

    checkout: Checkout
    environment: Mapping[str, str]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.checkout.root,
            env=dict(self.environment),
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done


def test_a_connected_machine_without_the_interpreter_locks_and_extends(
    tmp_path: Path, built: Checkout, clone: Callable[..., Checkout]
) -> None:
    (tmp_path / "releases").mkdir()
    base = make(built.ws, tmp_path / "releases")
    checkout = clone(tmp_path / "clone")
    base.pin(checkout.ws)
    (tmp_path / "requirements.txt").write_text("tabulate==0.8.10\n")
    with world(tmp_path / "world", base.content()) as places:
        document = {
            "registries": {"default": places.urls["hub"]},
            "files": {"python-build-standalone": str(tmp_path / "releases")},
        }
        path = settings(tmp_path / "settings.toml", document)
        there = Connected(checkout, without_python(tmp_path, PLINTH_CONFIG=str(path)))
        there.run("plinth", "lock", "base")
        there.run("plinth", "lock", IMAGE)
        locks = {path: path.read_bytes() for path in checkout.ws.locks.rglob("requirements.txt")}
        there.run("plinth", "lock", IMAGE, "--upgrade-package", "tabulate")
        requirements = str(tmp_path / "requirements.txt")
        done = there.run("plinth", "extend", IMAGE, "-r", requirements, "--name", "mine")
    for path, data in locks.items():
        assert path.read_bytes() == data
        assert (built.root / path.relative_to(checkout.root)).read_bytes() == data
    assert f"name      mine-{BASE}-cpu-inference:latest" in done.stdout
    names = [
        pin.name for pin in pins((checkout.ws.locks / "mine" / "requirements.txt").read_text())
    ]
    assert "tabulate" in names


def another_build(folder: Path) -> Path:
    """This machine's CPython 3.7 as another build would be: with another prefix in its files."""
    python = find_python("3.7", Config())
    old = os.fsencode(python.parents[1])
    new = os.fsencode(folder) + b"/" + b"x" * (len(old) - len(os.fsencode(folder)) - 1)
    assert len(new) == len(old)
    for file in installed_files(python.parents[1]):
        target = Path(os.fsdecode(new)) / file.relative_to(python.parents[1])
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes().replace(old, new))
        target.chmod(file.stat().st_mode)
    return Path(os.fsdecode(new)) / "bin" / "python3.7"


def installed_files(prefix: Path) -> list[Path]:
    """The files of an installed CPython, without tests and packages."""
    dropped = {"test", "site-packages", "__pycache__", "ensurepip"}
    return [
        path
        for path in prefix.rglob("*")
        if path.is_file() and not path.is_symlink() and not dropped & set(path.parts)
    ]


def test_another_real_build_of_the_interpreter_makes_one_image_wherever_it_lies(
    built: Checkout, clone: Callable[..., Checkout], tmp_path: Path
) -> None:
    with tempfile.TemporaryDirectory(prefix="py", dir="/tmp") as folder:
        python = another_build(Path(folder))
        digests = []
        for number in range(2):
            checkout = clone(tmp_path / f"clone{number}")
            document = {"python": {"3.7": str(python)}}
            path = settings(tmp_path / f"settings{number}.toml", document)
            done = checkout.doit(f"build:{IMAGE}", env={"PLINTH_CONFIG": str(path)})
            assert done.returncode == 0, done.stdout + done.stderr
            assert "name      azureml/minimal-debian12-py37-local-cpu-inference" in done.stdout
            digests.append(checkout.digests()[IMAGE])
        assert digests[0] == digests[1] != built.digests()[IMAGE]
        refused = checkout.doit(
            f"build:{IMAGE}", "base=debian12-py37", env={"PLINTH_CONFIG": str(path)}
        )
    assert refused.returncode != 0
    assert "is another build than the one the base debian12-py37 is locked to" in refused.stdout
