"""Hostile sdists: refused by name when they are unpacked; wheels freed of what a machine adds."""

from __future__ import annotations

import gzip
import io
import os
import random
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plinth.build import sdists as sdist
from plinth.core.digest import Digest, Json
from plinth.core.errors import LockError, SandboxError, WheelError
from plinth.core.report import quiet
from plinth.core.result import ActionResult
from plinth.formats.python.place import Base, Interpreter
from plinth.formats.wheel.admit import admit
from plinth.formats.wheel.sdist import unpack
from plinth.graph.workspace import Workspace
from plinth.recipe.locks.pylock import LockedFile, LockedPackage
from support.debs import Entry, folder, hardlink, symlink, tarred
from support.helpers import wheel_files
from support.sessions import session_of

NAME = "demo-1.0.tar.gz"
WHEEL = "demo-1.0-py3-none-any.whl"
NOISE = random.Random(1).randbytes(20_000).hex().encode()  # noqa: S311
GOOD = (
    folder("demo-1.0"),
    Entry("demo-1.0/setup.py", b"print()\n"),
    Entry("demo-1.0/run", b"#!/bin/sh\n", 0o4755),
)


def written(tmp_path: Path, *entries: Entry) -> Path:
    (tmp_path / NAME).write_bytes(gzip.compress(tarred(entries)))
    return tmp_path / NAME


def unpacked(tmp_path: Path, path: Path) -> str:
    (tmp_path / "out").mkdir()
    return unpack(path, NAME, tmp_path / "out", taken=sdist._OURS)


def refused(tmp_path: Path, path: Path, message: str, name: str = "") -> None:
    """Unpacking fails with the message, names the entry, and has written nothing outside."""
    before = set(tmp_path.rglob("*"))
    with pytest.raises(WheelError) as raised:
        unpacked(tmp_path, path)
    assert message in str(raised.value)
    assert raised.value.where == (f"{NAME}: {name}" if name else NAME)
    after = {p for p in tmp_path.rglob("*") if tmp_path / "out" not in (p, *p.parents)}
    assert after == before


def test_a_sound_sdist_is_unpacked(tmp_path: Path) -> None:
    assert unpacked(tmp_path, written(tmp_path, *GOOD)) == "demo-1.0"
    out = tmp_path / "out" / "demo-1.0"
    assert (out / "setup.py").read_bytes() == b"print()\n"
    # Executable stays, set-user-id does not.
    assert (out / "run").stat().st_mode & 0o7777 == 0o755


def test_names_written_with_a_dot(tmp_path: Path) -> None:
    path = written(tmp_path, folder("./demo-1.0"), Entry("./demo-1.0/setup.py", b"x"))
    assert unpacked(tmp_path, path) == "demo-1.0"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (Entry("/tmp/evil", b"x"), "path escapes"),  # noqa: S108
        (Entry("../evil", b"x"), "path escapes"),
        (Entry("demo-1.0/../../evil", b"x"), "path escapes"),
        (folder("demo-1.0/.."), "path escapes"),
        (symlink("demo-1.0/link", "/etc"), "a link leads out of the sdist"),
        (symlink("demo-1.0/link", "../../evil"), "a link leads out of the sdist"),
        (hardlink("demo-1.0/link", "/etc/passwd"), "a link leads out of the sdist"),
        (Entry("demo-1.0/null", kind=tarfile.CHRTYPE), "a device or special file"),
        (Entry("demo-1.0/disk", kind=tarfile.BLKTYPE), "a device or special file"),
        (Entry("demo-1.0/pipe", kind=tarfile.FIFOTYPE), "a device or special file"),
        (Entry("demo-1.0/setup.py", b"other"), "an entry is there twice"),
        (Entry("./demo-1.0/setup.py", b"other"), "an entry is there twice"),
    ],
)
def test_hostile_entries(tmp_path: Path, entry: Entry, message: str) -> None:
    path = written(tmp_path, *GOOD, entry)
    refused(tmp_path, path, message, entry.path.removeprefix("./"))


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        ((), "nothing"),
        ((*GOOD, Entry("other/setup.py", b"x")), "demo-1.0, other"),
        ((Entry("demo-1.0", b"x"),), "demo-1.0"),
        ((folder("out"), Entry("out/setup.py", b"x")), "out"),
        ((folder("requirements"),), "requirements"),
        ((folder("driver.py"),), "driver.py"),
        ((folder("."),), "nothing"),
    ],
)
def test_not_one_top_folder(tmp_path: Path, entries: tuple[Entry, ...], found: str) -> None:
    with pytest.raises(WheelError) as raised:
        unpacked(tmp_path, written(tmp_path, *entries))
    assert str(raised.value).startswith(f"{NAME}: an sdist has one top folder")
    assert raised.value.found == found


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    path = written(tmp_path, *GOOD, Entry("demo-1.0/setup.py/x", b"x"))
    refused(tmp_path, path, "not a readable sdist", "demo-1.0/setup.py/x")


def test_a_bomb_of_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plinth.formats.wheel.sdist._MAX_BYTES", 1000)
    path = written(tmp_path, *GOOD, Entry("demo-1.0/big", bytes(1001)))
    refused(tmp_path, path, "unpacks to too much")
    assert not (tmp_path / "out" / "demo-1.0" / "big").exists()


def test_a_bomb_of_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plinth.formats.wheel.sdist._MAX_ENTRIES", 10)
    many = [Entry(f"demo-1.0/{number}") for number in range(20)]
    refused(tmp_path, written(tmp_path, *GOOD, *many), "unpacks to too much")
    assert len(list((tmp_path / "out" / "demo-1.0").iterdir())) <= 10


@pytest.mark.parametrize(
    ("headers", "where"),
    [
        ({"path": "demo-1.0/a\0b"}, ""),
        ({"mtime": "1e300"}, "demo-1.0/setup.py"),
        ({"mtime": "nan"}, "demo-1.0/setup.py"),
    ],
)
def test_headers_no_file_system_can_hold(
    tmp_path: Path, headers: Mapping[str, str], where: str
) -> None:
    with tarfile.open(tmp_path / NAME, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("demo-1.0/setup.py")
        info.pax_headers = dict(headers)
        tar.addfile(info)
    refused(tmp_path, tmp_path / NAME, "not a readable sdist", where)


@pytest.mark.parametrize("change", ["empty", "text", "not gzip", "half", "zeros"])
def test_an_unreadable_sdist(tmp_path: Path, change: str) -> None:
    path = written(tmp_path, *GOOD, Entry("demo-1.0/data", NOISE))
    data = path.read_bytes()
    half = len(data) // 2
    path.write_bytes(
        {
            "empty": b"",
            "text": b"not an archive",
            "not gzip": tarred(GOOD),
            "half": data[:half],
            "zeros": data[:half] + bytes(half),
        }[change]
    )
    refused(tmp_path, path, "not a readable sdist")


@pytest.mark.parametrize("name", ["demo-1.0.zip", "demo-1.0.tar", "demo-1.0.tar.bz2"])
def test_other_kinds_of_sdist(tmp_path: Path, name: str) -> None:
    with pytest.raises(WheelError) as raised:
        unpack(written(tmp_path, *GOOD), name, tmp_path)
    assert str(raised.value) == f"{name}: an sdist is a .tar.gz (PEP 625)"


def built(path: Path, moment: int, level: int, *, order: int = 1, mode: int = 0o100644) -> Path:
    """A wheel as a build backend leaves it: with times, an order and a zlib of its own."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        archive.writestr(zipfile.ZipInfo("demo/", (moment, 1, 1, 0, 0, 0)), b"")
        for name, data in list(wheel_files({"demo/__init__.py": b"x = 1\n" * 99}).items())[::order]:
            info = zipfile.ZipInfo(name, (moment, 2, 3, 4, 5, 6))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = mode << 16
            archive.writestr(info, data)
    return path


def test_a_built_wheel_is_the_same_whenever_and_wherever_it_was_built(tmp_path: Path) -> None:
    first = sdist._canonical(built(tmp_path / "a", 1990, 1))
    assert sdist._canonical(built(tmp_path / "b", 2020, 9, order=-1)) == first
    assert sdist._canonical(built(tmp_path / "c", 2020, 9, mode=0o100600)) == first
    assert sdist._canonical(built(tmp_path / "d", 2020, 9, mode=0o100775)) != first
    (tmp_path / WHEEL).write_bytes(first)
    admit(tmp_path / WHEEL, WHEEL, "demo", "1.0")
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        assert archive.read("demo/__init__.py") == b"x = 1\n" * 99
        assert "demo/" not in archive.namelist()


def test_canonical_bytes_are_a_fixed_point(tmp_path: Path) -> None:
    first = sdist._canonical(built(tmp_path / "a", 2020, 6))
    (tmp_path / "b").write_bytes(first)
    assert sdist._canonical(tmp_path / "b") == first


@pytest.mark.parametrize("trick", ["none", "two", "link", "folder", "linked folder"])
def test_a_build_cannot_pass_off_what_it_did_not_make(tmp_path: Path, trick: str) -> None:
    host, out = tmp_path / "host", tmp_path / "out"
    host.mkdir()
    (host / WHEEL).write_bytes(b"the host's own")
    if trick == "linked folder":
        out.symlink_to(host)
    else:
        out.mkdir()
    if trick == "two":
        for other in ("a.whl", "b.whl"):
            (out / other).write_bytes(b"")
    elif trick == "link":
        (out / WHEEL).symlink_to(host / WHEEL)
    elif trick == "folder":
        (out / WHEEL).mkdir()
    with pytest.raises(SandboxError) as raised:
        sdist._made(out, NAME, b"one\nlast words\n")
    assert str(raised.value).startswith(f"building {NAME} made no wheel")
    assert "last words" in raised.value.found


def test_the_one_wheel_a_build_made(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_bytes(b"")
    wheel = built(tmp_path / WHEEL, 2020, 6)
    assert sdist._made(tmp_path, NAME, b"") == wheel


BASE = Base("tiny", (), Interpreter("3.7", Digest.of(b"")))


def prepared(tmp_path: Path) -> tuple[Workspace, LockedPackage]:
    """A workspace whose store has a sound sdist, and the sdist's package."""
    ws = Workspace(tmp_path, tmp_path / "build")
    digest = ws.cache.put_file(written(tmp_path, *GOOD))
    return ws, LockedPackage("demo", "1.0", LockedFile(NAME, digest, ""), is_sdist=True)


def test_a_link_a_build_left_is_not_written_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws, package = prepared(tmp_path)
    (tmp_path / "precious").write_bytes(b"the host's own")

    # Stands for a build that ran in the sandbox, where all of the folder can be written.
    def run(*arguments: Any) -> Path:
        folder: Path = arguments[4]
        (folder / "out").mkdir()
        (folder / WHEEL).symlink_to(tmp_path / "precious")
        return built(folder / "out" / WHEEL, 2020, 6)

    monkeypatch.setattr(sdist, "_run", run)
    wheel = sdist.build_wheel(session_of(ws), package, BASE, environment={}, progress=quiet)
    assert (tmp_path / "precious").read_bytes() == b"the host's own"
    assert wheel.filename == WHEEL
    expected = sdist._canonical(built(tmp_path / "again", 1990, 1))
    assert ws.cache.get(wheel.digest) == expected
    assert sdist.cached_wheel(ws, package, BASE, {}) == wheel
    assert sdist.cached_wheel(ws, package, BASE, {"CFLAGS": ""}) is None


def test_folders_deeper_than_pythons_stack_that_a_build_left_go_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws, package = prepared(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()

    def run(*arguments: Any) -> Path:
        folder: Path = arguments[4]
        (folder / "out").mkdir()
        descriptor = os.open(folder, os.O_RDONLY)
        for _ in range(1_200):
            os.mkdir("d", dir_fd=descriptor)
            above, descriptor = descriptor, os.open("d", os.O_RDONLY, dir_fd=descriptor)
            os.close(above)
        os.close(descriptor)
        return built(folder / "out" / WHEEL, 2020, 6)

    monkeypatch.setattr(sdist, "_run", run)
    sdist.build_wheel(session_of(ws), package, BASE, environment={}, progress=quiet)
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (WHEEL, b"not a zip", "its build made no readable wheel"),
        ("demo-1.1-py3-none-any.whl", None, "not of the package the lock names"),
        ("evil.whl", None, "evil.whl"),
    ],
)
def test_a_bad_wheel_a_build_made_stays_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, data: bytes | None, message: str
) -> None:
    ws, package = prepared(tmp_path)

    def run(*arguments: Any) -> Path:
        folder: Path = arguments[4]
        made = folder / name
        if data is None:
            return built(made, 2020, 6)
        made.write_bytes(data)
        return made

    monkeypatch.setattr(sdist, "_run", run)
    with pytest.raises(WheelError) as raised:
        sdist.build_wheel(session_of(ws), package, BASE, environment={}, progress=quiet)
    assert message in str(raised.value)
    assert name in raised.value.where
    assert [path.name for path in ws.cache.blobs.iterdir()] == [package.file.digest.hex]


def test_a_lock_without_what_an_sdist_is_built_with_is_refused_before_its_code_runs(
    tmp_path: Path,
) -> None:
    # It says nothing, so it is built with setuptools and wheel (PEP 518).
    ws, package = prepared(tmp_path)
    ones = {
        name: LockedPackage(name, version, LockedFile(f"{name}.whl", Digest.of(b""), ""), False)
        for name, version in (("setuptools", "40.0"), ("wheel", "0.37.1"))
    }
    for had, lacking in (
        ((), ["setuptools>=40.8.0: not in the lock", "wheel: not in the lock"]),
        (("setuptools",), ["setuptools>=40.8.0: the lock has setuptools 40.0", "wheel: not in"]),
    ):
        changed = replace(package, build_requires=tuple(ones[name] for name in had))
        with pytest.raises(LockError, match="does not have what the sdist is built with") as raised:
            sdist._check_met(changed, ws.cache.path(package.file.digest), "3.7")
        for line, end in zip(raised.value.found.splitlines(), lacking, strict=True):
            assert line.startswith(f"build-system.requires asks for {end}")
    fine = (replace(ones["setuptools"], version="65.0"), ones["wheel"])
    sdist._check_met(
        replace(package, build_requires=fine), ws.cache.path(package.file.digest), "3.7"
    )


@pytest.mark.parametrize(
    ("filename", "is_of"),
    [
        ("demo-1.0-py3-none-any.whl", True),
        ("other-1.0-py3-none-any.whl", False),
        ("demo-2.0-py3-none-any.whl", False),
        ("../demo-1.0-py3-none-any.whl", False),
        ("demo", False),
        (7, False),
        (None, False),
    ],
)
def test_results_of_others_are_of_the_package_or_none(filename: Json, is_of: bool) -> None:
    file = LockedFile(NAME, Digest.of(b""), "1970-01-01T00:00:00+00:00")
    package = LockedPackage("Demo", "1.0", file, is_sdist=True, direct=True)
    info = {} if filename is None else {"filename": filename}
    assert sdist._is_of(package, ActionResult({}, info)) is is_of
