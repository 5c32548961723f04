"""Files of a checkout: regular ones are read, and nothing else is waited for."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from plinth.core.document import read
from plinth.core.errors import PlinthError, SpecError
from plinth.core.regular import open_lock, read_regular


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


MAKE: dict[str, Callable[[Path], object]] = {
    "a folder": lambda path: path.mkdir(),
    "a pipe": lambda path: os.mkfifo(path),
    "a socket": bind,
    "a symbolic link that leads out of the checkout": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with an empty folder, in which a socket's path is short."""
    (tmp_path / "root" / "images").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "root")
    return Path()


@pytest.mark.parametrize("found", MAKE)
def test_what_is_no_regular_file_is_named(root: Path, found: str) -> None:
    path = root / "images" / "x.toml"
    MAKE[found](path)
    with pytest.raises(PlinthError, match="expected a regular file") as raised:
        read_regular(path, "images/x.toml", root)
    assert (raised.value.where, raised.value.found) == ("images/x.toml", found)
    assert "delete what is there" in raised.value.remedy
    with pytest.raises(SpecError, match=f"expected a regular file, found {found}"):
        read(path.absolute(), "images/x.toml")


def test_links_inside_the_checkout_are_followed(root: Path) -> None:
    (root / "there").write_bytes(b"x = 1")
    (root / "images" / "x.toml").symlink_to("../there")
    assert read_regular(root / "images" / "x.toml", "x", root) == b"x = 1"


def test_a_link_to_itself_is_named(root: Path) -> None:
    (root / "x").symlink_to("x")
    with pytest.raises(PlinthError):
        read_regular(root / "x", "x", root)


def test_nothing_there_is_for_the_caller_to_say(root: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_regular(root / "x", "x", root)


def test_a_device_is_named() -> None:
    with pytest.raises(PlinthError) as raised:
        read_regular(Path("/dev/zero"), "x", Path("/dev"))
    assert raised.value.found == "a device"


def test_a_lock_empties_nothing_and_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    (tmp_path / "lock").symlink_to("precious")
    with pytest.raises(OSError, match="symbolic link"):
        open_lock(tmp_path / "lock")
    open_lock(tmp_path / "precious").close()
    assert (tmp_path / "precious").read_text() == "x"
    # A pipe is waited for by nobody.
    os.mkfifo(tmp_path / "pipe")
    open_lock(tmp_path / "pipe").close()
