"""A base's lock: read as it was written, refused where it is missing, malformed or stale."""

from __future__ import annotations

import copy
import datetime
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from plinth.core.digest import Digest
from plinth.core.errors import LockError, PlinthError, ProblemsError, StaleLockError
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.fetch.interpreter import find_tree
from plinth.graph.workspace import Workspace
from plinth.lock.base import lock_base, lock_interpreter
from plinth.recipe.base import BaseSpec, load_base
from plinth.recipe.locks.base import (
    BaseLock,
    LockedDeb,
    _parsed,
    inputs_of,
    read_lock,
    write_lock,
)
from support.debs import Archive, Package
from support.http_server import serving

ROOT = Path(__file__).resolve().parents[3]
NAME = "debian12-py37"
SHOWN = f"locks/base/{NAME}.toml"
REMEDY = "lock again: doit lock:base"
Document = dict[str, Any]


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """A checkout with one base and its lock, both the real ones."""
    for place in (f"base/{NAME}.toml", SHOWN):
        (tmp_path / place).parent.mkdir(parents=True)
        shutil.copyfile(ROOT / place, tmp_path / place)
    return Workspace(tmp_path, tmp_path / "build")


def spec(ws: Workspace) -> BaseSpec:
    return load_base(ws.bases, NAME)


def edit(path: Path, change: Callable[[Document], object]) -> None:
    document = tomli.loads(path.read_text())
    change(document)
    path.write_text(tomli_w.dumps(document))


def refused(ws: Workspace, kind: type[PlinthError]) -> PlinthError:
    with pytest.raises(kind) as raised:
        read_lock(ws, spec(ws))
    assert raised.value.where == SHOWN
    assert REMEDY in raised.value.remedy
    return raised.value


def test_the_committed_lock_is_read(ws: Workspace) -> None:
    lock = read_lock(ws, spec(ws))
    assert [package.name for package in lock.packages][:3] == ["adduser", "apt", "base-files"]
    assert set(lock.indexes) == {"bookworm", "bookworm-updates", "bookworm-security"}
    assert lock.tree is not None
    assert lock.inputs == inputs_of(spec(ws))


def test_no_lock_says_how_to_make_one(ws: Workspace) -> None:
    (ws.root / SHOWN).unlink()
    error = refused(ws, LockError)
    assert error.what == f"there is no lock for the base {NAME}"
    assert not isinstance(error, StaleLockError)


def set_package(key: str, value: object) -> Callable[[Document], object]:
    return lambda document: document["packages"][0].update({key: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("inputs"), "inputs"),
        (lambda d: d.update(inputs=3), "inputs"),
        (lambda d: d.pop("inputs-sha256"), "inputs-sha256"),
        (lambda d: d["inputs"].update(format=datetime.date(2026, 1, 1)), "date"),
        (lambda d: d.update(indexes=["x"]), "indexes"),
        (lambda d: d.update(packages="x"), ""),
        (lambda d: d["packages"][0].pop("sha256"), "sha256"),
        (lambda d: d["packages"][0].pop("suite"), "suite"),
        (set_package("sha256", "00"), "not a sha256 digest"),
        (set_package("sha256", 7), ""),
        (set_package("size", "many"), ""),
        (set_package("size", -1), "not a sha256 digest"),
        (set_package("path", 7), ""),
        (set_package("path", "/etc/passwd"), "pool path '/etc/passwd' escapes the archive"),
        (set_package("path", "pool/../../x"), "pool path 'pool/../../x' escapes the archive"),
        (set_package("path", "http://evil/x"), "pool path 'http://evil/x' escapes the archive"),
        (lambda d: d["interpreter"].pop("tree"), "tree"),
        (lambda d: d["interpreter"].update(tree="sha256:x"), "not a sha256 digest"),
        (lambda d: d.update(interpreter="x"), ""),
    ],
)
def test_a_malformed_lock_is_refused(
    ws: Workspace, change: Callable[[Document], object], message: str
) -> None:
    edit(ws.root / SHOWN, change)
    error = refused(ws, ProblemsError)
    assert f"{SHOWN}: malformed: " in error.what
    assert message in error.what
    assert error.remedy == f"delete it and {REMEDY}"


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["inputs"].update(architecture="arm64"),
        lambda d: d["inputs"]["rootfs.packages"].append("curl"),
        lambda d: d.update({"inputs-sha256": "0" * 64}),
    ],
)
def test_a_lock_whose_inputs_do_not_match_their_checksum_is_refused(
    ws: Workspace, change: Callable[[Document], object]
) -> None:
    edit(ws.root / SHOWN, change)
    # A specification that agrees with the edited inputs does not make the lock good.
    edit(ws.bases / f"{NAME}.toml", lambda d: d["rootfs"]["packages"].append("curl"))
    error = refused(ws, LockError)
    assert not isinstance(error, StaleLockError)
    assert "was edited by hand" in error.what
    assert error.found == tomli.loads((ws.root / SHOWN).read_text())["inputs-sha256"]


@pytest.mark.parametrize("content", [b"packages = [", b"\xff\xfe", b"", b"inputs-sha256 = 3"])
def test_what_is_no_lock_at_all_is_refused(ws: Workspace, content: bytes) -> None:
    (ws.root / SHOWN).write_bytes(content)
    assert "malformed: " in refused(ws, ProblemsError).what


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=5,
)
KEYS = st.sampled_from(["inputs", "packages", "interpreter", "indexes"])
GOOD: Document = {
    "inputs": {"format": 1},
    "indexes": {"stable": "sha256:0"},
    "interpreter": {"tree": "sha256:" + "0" * 64, "size": 1},
    "packages": [
        {
            "name": "app",
            "version": "1.0",
            "architecture": "amd64",
            "suite": "stable",
            "path": "pool/app.deb",
            "size": 1,
            "sha256": "0" * 64,
        }
    ],
}


@settings(deadline=None, max_examples=50)
@given(KEYS, VALUES)
def test_whatever_is_in_a_field_is_read_or_refused_and_never_a_crash(
    key: str, value: object
) -> None:
    document = copy.deepcopy(GOOD)
    document[key] = value
    # What `read_lock` takes for malformed.
    refusals = (PlinthError, KeyError, TypeError, AttributeError)
    try:
        lock = _parsed(document)
    except refusals:
        return
    assert isinstance(lock.inputs, dict)
    assert isinstance(lock.indexes, dict)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["rootfs"]["packages"].append("curl"), "rootfs.packages: curl added"),
        (lambda d: d["rootfs"]["packages"].remove("bash"), "rootfs.packages: bash removed"),
        (
            lambda d: d["rootfs"].update(suites=["trixie"]),
            "rootfs.suites: bookworm, bookworm-updates, bookworm-security became trixie",
        ),
        (lambda d: d["rootfs"].update(distribution="devuan"), "'debian' became 'devuan'"),
        (lambda d: d["rootfs"]["omit"].update(bash="no"), "rootfs.omit: "),
        (lambda d: d["python"].update(version="3.8"), "python.version: '3.7' became '3.8'"),
    ],
)
def test_a_stale_lock_is_refused_with_what_changed(
    ws: Workspace, change: Callable[[Document], object], message: str
) -> None:
    edit(ws.bases / f"{NAME}.toml", change)
    error = refused(ws, StaleLockError)
    assert error.what == f"the lock of the base {NAME} was made from another specification"
    assert message in error.found
    assert "\n" not in error.found


def test_what_decides_no_byte_leaves_the_lock_fresh(ws: Workspace) -> None:
    edit(ws.bases / f"{NAME}.toml", lambda d: d.update(summary="other words"))
    edit(ws.bases / f"{NAME}.toml", lambda d: d["python"].update(requirements=["pip"]))
    assert read_lock(ws, spec(ws)).packages


def test_a_base_is_locked_from_a_signed_archive_and_then_left_alone(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Package("app", fields={"Depends": "libc6, debconf"})
    libc6 = Package("libc6", "2.36-9")
    archive = Archive(tmp_path / "archive")
    archive.add("stable", app, libc6)
    archive.add("stable-security", Package("debconf"))
    archive.publish()
    archive.key.write_keyring(tmp_path / "keyrings" / "test-keyring.gpg")
    monkeypatch.setattr("plinth.fetch.apt.archive.KEYRINGS", tmp_path / "keyrings")
    python = tmp_path / ("prefix-" + "x" * 20) / "bin" / "python3.7"
    python.parent.mkdir(parents=True)
    python.write_text(
        f"#!/bin/sh\nprintf '%s\\n3.7\\nCPython\\n%s\\n' {python} {python.parents[1]}\n"
    )
    python.chmod(0o755)

    def change(document: Document) -> None:
        document["rootfs"].update(
            suites=["stable", "stable-security"],
            keyring="test-keyring",
            packages=["app"],
            omit={"debconf": "not here"},
        )

    edit(ws.bases / f"{NAME}.toml", change)
    lines: list[str] = []
    with serving(archive.root) as server:
        config = Config(apt={"debian": server.url}, python={"3.7": str(python)})
        assert lock_base(ws, NAME, config=config, progress=lines.append)
        asked = len(server.asked)
        assert not lock_base(ws, NAME, config=config, progress=lines.append)
        assert len(server.asked) == asked
    assert lines == [
        "reading the signed index of stable",
        "reading the signed index of stable-security",
        f"{SHOWN}: 2 packages",
        f"{SHOWN} is fresh: nothing to do",
    ]
    lock = read_lock(ws, spec(ws))
    assert isinstance(lock, BaseLock)
    assert lock.packages == tuple(
        LockedDeb(p.name, p.version, "amd64", "stable", p.path(), Digest.of(p.deb))
        for p in (app, libc6)
    )
    assert server.url not in (ws.root / SHOWN).read_text()
    assert str(tmp_path) not in (ws.root / SHOWN).read_text()


def installed(folder: Path, text: str) -> Config:
    """Settings of a machine with a CPython 3.7, as far as can be seen from outside."""
    python = folder / "bin" / "python3.7"
    for path, content in ((python, ""), (folder / "lib" / "python3.7" / "os.py", text)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    python.write_text(f"#!/bin/sh\nprintf '%s\\n' {python} 3.7 CPython {folder}\n")
    python.chmod(0o755)
    return Config(python={"3.7": str(python)})


def test_the_interpreter_alone_is_locked_and_the_rest_stays(ws: Workspace, tmp_path: Path) -> None:
    before = read_lock(ws, spec(ws))
    told: list[str] = []
    config = installed(tmp_path / "an-interpreter-of-this-machine", "# one\n")
    tree = find_tree("3.7", config).tree
    assert lock_interpreter(ws, NAME, config=config, progress=told.append)
    assert read_lock(ws, spec(ws)) == replace(before, tree=tree)
    assert told == [f"{SHOWN}: {config.python['3.7']}, {tree.oci}"]
    assert not lock_interpreter(ws, NAME, config=config, progress=told.append)
    assert told[-1] == f"{SHOWN} is locked to it: nothing to do"
    # With the committed interpreter again it is the committed lock.
    write_lock(ws, NAME, before)
    assert (ws.root / SHOWN).read_bytes() == (ROOT / SHOWN).read_bytes()


def test_a_base_without_a_lock_has_no_interpreter_to_lock_alone(
    ws: Workspace, tmp_path: Path
) -> None:
    (ws.root / SHOWN).unlink()
    config = installed(tmp_path / "an-interpreter-of-this-machine", "")
    with pytest.raises(LockError, match=f"there is no lock for the base {NAME}"):
        lock_interpreter(ws, NAME, config=config, progress=quiet)
    shutil.copyfile(ROOT / "base/ubuntu18.04-py37.toml", ws.bases / "ubuntu18.04-py37.toml")
    assert not lock_interpreter(ws, "ubuntu18.04-py37", config=config, progress=quiet)


@pytest.mark.parametrize("date", [3, ["2026"], {"a": 1}, datetime.date(2026, 1, 1)])
def test_a_date_that_is_no_text_is_refused(ws: Workspace, date: object) -> None:
    edit(ws.root / SHOWN, lambda d: d.update(date=date))
    assert "date a text" in refused(ws, ProblemsError).what
