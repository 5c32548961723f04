"""Folders that nobody but the user can write to, and those of which that is not so."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from plinth.core.home import make_private, others_can_write, user_folder

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user's folder with a cache in it."""
    make_private(tmp_path / "home" / "cache" / "contents")
    return tmp_path / "home"


@pytest.mark.parametrize("relative", ["", "cache", "./cache", "~/cache"])
def test_a_relative_path_is_no_folder_of_the_users(
    relative: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_folder("X", ".cache", {"X": relative}) == tmp_path / ".cache"
    assert user_folder("X", ".cache", {"X": "/cache"}) == Path("/cache")


def test_a_folder_is_made_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_private(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert [p.stat().st_mode & 0o777 for p in (tmp_path / "a", tmp_path / "a" / "b")] == [0o700] * 2
    assert others_can_write(tmp_path / "a" / "b") == ""
    (tmp_path / "a" / "b").chmod(0o755)
    make_private(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def _mode(name: str, mode: int) -> Callable[[Path], None]:
    return lambda home: (home / name).chmod(mode)


def _owner(name: str) -> Callable[[Path], None]:
    return lambda home: os.chown(home / name, 12345, 12345)


def _link(home: Path) -> None:
    """The cache is a link into a folder that others write to."""
    (home / "open").mkdir()
    (home / "open").chmod(0o777)
    (home / "cache" / "contents").rename(home / "open" / "contents")
    (home / "cache" / "contents").symlink_to(home / "open" / "contents")


def _link_to_a_link(home: Path) -> None:
    """The cache is a link to a link, in a folder that others write to, that leads out of it."""
    (home / "open").mkdir()
    (home / "open").chmod(0o777)
    (home / "cache" / "contents").rename(home / "contents")
    (home / "open" / "link").symlink_to("../contents")
    (home / "cache" / "contents").symlink_to(home / "open" / "link")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_mode("cache/contents", 0o720), "{home}/cache/contents (mode 0720)"),
        (_mode("cache/contents", 0o702), "{home}/cache/contents (mode 0702)"),
        (_mode("cache/contents", 0o1777), "{home}/cache/contents (mode 01777)"),
        (_mode("cache", 0o777), "{home}/cache (mode 0777)"),
        (_mode("", 0o775), "{home} (mode 0775)"),
        (_link, "{home}/open (mode 0777)"),
        (_link_to_a_link, "{home}/open (mode 0777)"),
        pytest.param(_owner("cache/contents"), "belongs to user 12345", marks=root_only),
        pytest.param(_owner(""), "{home} belongs to user 12345", marks=root_only),
    ],
)
def test_where_others_can_write(home: Path, change: Callable[[Path], None], reason: str) -> None:
    assert others_can_write(home / "cache" / "contents") == ""
    change(home)
    found = others_can_write(home / "cache" / "contents")
    assert reason.format(home=home) in found


def test_a_sticky_folder_above_will_do(home: Path) -> None:
    home.chmod(0o1777)
    assert others_can_write(home / "cache" / "contents") == ""
