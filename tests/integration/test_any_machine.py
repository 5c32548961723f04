"""The first command on machines unlike the one the locks were made on, see docs/base.md."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import tomli_w

from integration.conftest import ROOT
from plinth.formats.oci.layout import references
from plinth.formats.oci.manifest import read_manifest
from plinth.recipe.record import read_record
from support import needs, small_checkout
from support.canonical import BASE
from support.elves import shared
from support.http_server import Handler, serving
from support.index_server import IndexServer
from support.patience import at_most
from support.small_checkout import SmallCheckout

IMAGE = "minimal"
STEPS = ("token", "manifests", "blobs")
LOCAL = f"{small_checkout.BASE}-local"


def without_python(folder: Path, **more: str) -> dict[str, str]:
    """The environment of a machine that has no CPython 3.7."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder / "home"),
        "PYENV_ROOT": str(folder / "pyenv"),
        "PYTHONPATH": str(ROOT / "tools"),
        **more,
    }


def settings(path: Path, document: Mapping[str, object]) -> Path:
    path.write_text(tomli_w.dumps(document))
    return path


@dataclass(frozen=True)
class Machine:
    """A machine with a small checkout, and a build of CPython 3.7 of its own."""

    checkout: SmallCheckout
    python: Path

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=self.checkout.root,
            env={
                **without_python(self.checkout.root.parent),
                "PATH": os.environ["PATH"],
                "PLINTH_CONFIG": str(self.checkout.settings),
                "PLINTH_TRUST": str(self.checkout.root.parent / "trust"),
                **environment,
            },
            check=False,
            capture_output=True,
            text=True,
        )

    def plinth(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run("plinth", *arguments, **environment)

    def digest(self) -> str:
        return references(self.checkout.ws.layout)[small_checkout.IMAGE].manifest.oci


def machine(folder: Path, build: str = "one") -> Machine:
    """A machine in `folder`; its interpreter is another `build` than the locked one."""
    checkout = small_checkout.make(folder / "checkout")
    python = folder / "an-interpreter-of-this-machine" / "bin" / "python3.7"
    (python.parents[1] / "lib" / "python3.7").mkdir(parents=True)
    python.parent.mkdir()
    (python.parents[1] / "lib" / "python3.7" / "os.py").write_text(f"name = 'posix'  # {build}\n")
    python.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        f"*python_implementation*) printf '%s\\n' {python} 3.7 CPython {python.parents[1]} ;;\n"
        f'*) exec {sys.executable} "$@" ;;\n'
        "esac\n"
    )
    python.chmod(0o755)
    document = {"files": {"wheels": str(checkout.wheels)}, "python": {"3.7": str(python)}}
    settings(checkout.settings, document)
    for package in small_checkout.DEBS:
        checkout.ws.cache.put(package.deb)
    return Machine(checkout, python)


def test_another_build_of_the_interpreter_builds_under_a_name_of_its_own(tmp_path: Path) -> None:
    here = machine(tmp_path)
    locks = {path: path.read_bytes() for path in here.checkout.ws.locks.rglob("*.toml")}
    done = here.plinth("build", small_checkout.IMAGE)
    assert done.returncode == 0, done.stderr
    assert f"name      azureml/small-{LOCAL}-cpu-inference:latest" in done.stdout
    assert f"building on {LOCAL}, which is part of the image's name" in done.stderr
    assert {path: path.read_bytes() for path in here.checkout.ws.locks.rglob("*.toml")} == locks
    ws = here.checkout.ws
    reference = references(ws.layout)[small_checkout.IMAGE]
    annotations = read_manifest(ws.layout, reference.manifest).annotations
    assert annotations["dev.plinth.base"] == LOCAL
    assert annotations["org.opencontainers.image.base.name"] == LOCAL
    record = read_record(ws, small_checkout.IMAGE)
    assert record is not None
    assert record.base == LOCAL
    assert here.plinth("catalog").returncode == 0
    assert f"- base: `{LOCAL}`" in (here.checkout.root / "docs" / "catalog.md").read_text()
    # Nothing to do, and nothing built where all is there.
    for _ in range(2):
        done = here.run("doit", f"build:{small_checkout.IMAGE}")
        assert done.returncode == 0, done.stdout + done.stderr
    assert "-- build:small" in done.stdout


def test_the_locked_base_can_be_insisted_on_and_is_refused(tmp_path: Path) -> None:
    here = machine(tmp_path)
    assert here.plinth("build", small_checkout.IMAGE).returncode == 0
    for done in (
        here.plinth("build", small_checkout.IMAGE, "--base", small_checkout.BASE),
        here.run("doit", f"build:{small_checkout.IMAGE}", f"base={small_checkout.BASE}"),
    ):
        assert done.returncode == 1
        assert "another build than the one the base small is locked to" in (
            done.stdout + done.stderr
        )
        assert "Traceback" not in done.stdout + done.stderr


def test_an_interpreter_of_another_system_is_refused_when_the_base_is_there(
    tmp_path: Path,
) -> None:
    here = machine(tmp_path)
    extension = here.python.parents[1] / "lib" / "python3.7" / "lib-dynload" / "_ssl.so"
    extension.parent.mkdir()
    extension.write_bytes(shared(needed=["libssl.so.1.1"]))
    done = here.plinth("build", small_checkout.IMAGE)
    assert done.returncode == 1
    assert "was built for another system than that of the base" in done.stderr
    assert "needs libssl.so.1.1, which is not in the image" in done.stderr
    assert "install a CPython 3.7" in done.stderr
    # Wheels were on their way meanwhile; no image was made of them.
    assert not (here.checkout.root / "build/oci/index.json").exists()


def test_one_machine_makes_one_digest_and_another_interpreter_another(tmp_path: Path) -> None:
    digests = []
    for name, build in (("one", "one"), ("elsewhere", "one"), ("other", "two")):
        (tmp_path / name).mkdir()
        there = machine(tmp_path / name, build)
        done = there.plinth("build", small_checkout.IMAGE, "--jobs", "1")
        assert done.returncode == 0, done.stderr
        digests.append(there.digest())
    assert digests[0] == digests[1] != digests[2]


def test_an_image_on_a_local_base_is_signed_verified_and_built_again(tmp_path: Path) -> None:
    here = machine(tmp_path)
    for command in (
        ("build", small_checkout.IMAGE),
        ("trust", "init", "--identity", "me@example.org"),
        ("sign", small_checkout.IMAGE, "--trust", "embedded"),
    ):
        # The trust domain is on this machine, where a company's proxy cannot reach it.
        done = here.plinth(*command, HTTP_PROXY="http://127.0.0.1:9")
        assert done.returncode == 0, done.stderr
    verify = (
        "verify",
        f"oci:{here.checkout.ws.layout.root}:{small_checkout.IMAGE}",
        *("--trust", "embedded", "--checkout", str(here.checkout.root)),
        *("--inputs", str(here.checkout.ws.cache.root), "--rebuild"),
    )
    done = here.plinth(*verify)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the same to the last bit" in done.stdout
    assert "the interpreter is the building machine's own" in done.stdout
    # On a machine with another interpreter the rebuild says what it lacks, and does not approve.
    changed = here.python.parents[1] / "lib" / "python3.7" / "os.py"
    changed.write_text("name = 'posix'  # upgraded\n")
    done = here.plinth(*verify)
    assert done.returncode == 1
    assert "the image was built with another CPython 3.7" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    # Nor does it sign what it did not build.
    old = here.digest()
    assert here.plinth("build", small_checkout.IMAGE).returncode == 0
    assert here.digest() != old
    assert here.plinth("sign", small_checkout.IMAGE, "--trust", "embedded").returncode == 0
    assert here.plinth(*verify).returncode == 0


class Promises(Handler):
    """Answers for everything, and has no blob."""

    def answer(self) -> None:
        """Answer."""
        self.reply(404 if "/blobs/" in self.path else 200)


def test_where_the_canonical_base_fails_later_the_other_base_is_named(tmp_path: Path) -> None:
    needs.program("bwrap")
    with serving(tmp_path, Promises) as server:
        document = {
            "registries": {"default": server.url},
            "files": {"python-build-standalone": server.url},
        }
        path = settings(tmp_path / "settings.toml", document)
        build = tmp_path / "build"
        asked = []
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, "-m", "plinth", "build", IMAGE],
                cwd=ROOT,
                env=without_python(tmp_path, PLINTH_CONFIG=str(path), PLINTH_BUILD=str(build)),
                check=False,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 1
            assert "the registry answered 404" in done.stderr
            assert "or build on debian12-py37: install a CPython 3.7" in done.stderr
            asked.append(sum("/manifests/" in line for line in server.asked))
    # A yes that turned out wrong is not believed again.
    assert asked == [1, 2]


@pytest.mark.parametrize("command", ["build", "lock"])
@pytest.mark.parametrize("places", ["refused", "switched off"])
def test_a_machine_on_which_no_base_is_possible_is_told_so_before_any_download(
    tmp_path: Path, command: str, places: str
) -> None:
    with IndexServer() as index, serving(tmp_path) as archive:
        refused = "http://127.0.0.1:9"
        named = {"registries": {"default": refused}, "files": {"python-build-standalone": refused}}
        document = {
            "index-url": index.url,
            "apt": {"debian": archive.url},
            **(named if places == "refused" else {"public": False}),
        }
        path = settings(tmp_path / "settings.toml", document)
        arguments = [command, "sklearn-0.24.1"]
        if command == "lock":
            arguments += ["--upgrade-package", "numpy"]
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "plinth", *arguments],
            cwd=ROOT,
            env=without_python(
                tmp_path, PLINTH_CONFIG=str(path), PLINTH_BUILD=str(tmp_path / "build")
            ),
            check=False,
            capture_output=True,
            text=True,
        )
        took = time.monotonic() - began
        # Whether it answers is asked; no file is.
        assert all("/files/" not in line for line in index.asked)
        assert len(index.asked) == (command == "build")
        assert archive.asked == []
    assert done.returncode == 1
    assert "install a CPython 3.7 (uv python install 3.7" in done.stderr
    if command == "build":
        assert f"neither {BASE} nor debian12-py37 can be built on this machine" in done.stderr
        assert "plinth import FILE" in done.stderr
    assert took < at_most(3)
