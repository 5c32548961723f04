"""Wheels of an accelerator set: chosen for every image that asks for the set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from plinth.core.errors import LockError
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.graph.workspace import Workspace
from plinth.lock.accelerator import lock_accelerator
from plinth.recipe.accelerator import load_accelerator
from plinth.recipe.locks.accelerator import read_lock
from support.debs import Archive, Package
from support.helpers import BASE, make_wheel
from support.http_server import serving
from support.index_server import IndexServer

SET = """\
kind = "accelerator"
label = "cuda1"
summary = "a set"
architecture = "amd64"
folders = ["/usr/lib/set"]
wheels = ["cudnn"]

[[archives]]
name = "debian"
suite = "bookworm"
components = ["main"]
keyring = "test"
packages = ["libset1"]
"""
IMAGE = """\
framework = "{name}"
accelerator = "{accelerator}"
base = "{base}"
summary = "a test"
[python]
requirements = []
"""
BASES = (("old", "3.7", "2.27"), ("37", "3.7", "2.36"), ("311", "3.11", "2.36"))
PURE = "cudnn-1.0-py3-none-any.whl"
FOR_37 = "cudnn-2.0-cp37-cp37m-manylinux_2_17_x86_64.whl"
FOR_311 = "cudnn-3.0-cp311-cp311-manylinux_2_17_x86_64.whl"
NEW_LIBC = "cudnn-4.0-py3-none-manylinux_2_34_x86_64.whl"


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """A checkout of the set and of bases that differ in Python and libc."""
    ws = Workspace(tmp_path / "checkout", tmp_path / "checkout" / "build")
    ws.bases.mkdir(parents=True)
    ws.images.mkdir()
    (ws.bases / "cuda1.toml").write_text(SET)
    base = BASE.format(requirements="")
    for name, python, glibc in (
        ("old", "3.7", "2.27"),
        ("37", "3.7", "2.36"),
        ("311", "3.11", "2.36"),
    ):
        text = base.replace('"3.7"', f'"{python}"').replace('"2.27"', f'"{glibc}"')
        (ws.bases / f"{name}.toml").write_text(text)
    return ws


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Config]:
    """Settings that name an archive and an index of four wheels, each newer than the one before."""
    archive = Archive(tmp_path / "archive")
    archive.add("bookworm", Package("libset1"))
    archive.publish()
    keyring = archive.key.write_keyring(tmp_path / "keys.gpg")
    wheel = make_wheel(tmp_path, name="cudnn")
    with IndexServer() as index, serving(archive.root) as debs:
        for name in (PURE, FOR_37, FOR_311, NEW_LIBC):
            index.add(wheel, name=name)
        yield Config(index_url=index.url, apt={"debian": debs.url}, keyrings={"test": str(keyring)})


@pytest.mark.parametrize(
    ("asking", "chosen"),
    [
        (["old"], FOR_37),
        (["37"], NEW_LIBC),
        (["311"], NEW_LIBC),
        (["old", "37"], FOR_37),
        (["37", "311"], NEW_LIBC),
        (["old", "311"], PURE),
        # A build of any image can insist on the set.
        ([], PURE),
    ],
)
def test_a_wheel_fits_every_image_that_asks_for_the_set(
    ws: Workspace, config: Config, asking: list[str], chosen: str
) -> None:
    for base in asking:
        text = IMAGE.format(name=f"on-{base}", accelerator="cuda1", base=base)
        (ws.images / f"on-{base}.toml").write_text(text)
    if asking:
        # One that asks for no set bounds nothing.
        (ws.images / "cpu.toml").write_text(IMAGE.format(name="cpu", accelerator="cpu", base="old"))
    assert lock_accelerator(ws, "cuda1", config=config, progress=quiet)
    (wheel,) = read_lock(ws, load_accelerator(ws.bases, "cuda1")).wheels
    assert wheel.file.name == chosen


def test_a_set_that_no_wheel_serves_is_refused_with_what_it_would_have_to_fit(
    ws: Workspace, config: Config
) -> None:
    path = ws.bases / "cuda1.toml"
    path.write_text(SET.replace('["cudnn"]', '["cudnn>=2,<4"]'))
    for base in ("old", "311"):
        text = IMAGE.format(name=f"on-{base}", accelerator="cuda1", base=base)
        (ws.images / f"on-{base}.toml").write_text(text)
    with pytest.raises(LockError) as raised:
        lock_accelerator(ws, "cuda1", config=config, progress=quiet)
    assert "no wheel for cudnn>=2,<4 that fits every image" in raised.value.what
    assert raised.value.expected == (
        "one wheel for CPython 3.11 and glibc up to 2.36 (311); "
        "and for CPython 3.7 and glibc up to 2.27 (old)"
    )
    assert not (ws.locks / "base" / "cuda1.toml").exists()


def test_a_wheel_that_the_index_does_not_have_is_named(ws: Workspace, config: Config) -> None:
    (ws.bases / "cuda1.toml").write_text(SET.replace('["cudnn"]', '["cudn>=2"]'))
    with pytest.raises(LockError) as raised:
        lock_accelerator(ws, "cuda1", config=config, progress=quiet)
    error = raised.value
    assert (error.what, error.where) == ("there is no project cudn", "base/cuda1.toml: wheels")
    assert error.found == "cudn>=2: the configured package index has no such project"
    assert "check the spelling" in error.remedy


def test_a_set_of_wheels_without_any_base_is_refused(ws: Workspace, config: Config) -> None:
    for name in ("old", "37", "311"):
        (ws.bases / f"{name}.toml").unlink()
    with pytest.raises(LockError, match="no base can hold the set cuda1"):
        lock_accelerator(ws, "cuda1", config=config, progress=quiet)
