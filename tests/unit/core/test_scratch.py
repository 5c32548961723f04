"""A scratch folder goes away whatever is in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from plinth.core.scratch import remove, scratch

DEPTH = 5_000


def test_it_is_the_users_alone_and_goes_away() -> None:
    with scratch("plinth-test-") as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "a").write_bytes(b"1")
    assert not folder.exists()


def test_it_goes_away_after_an_error() -> None:
    with pytest.raises(KeyError), scratch("plinth-test-") as folder:
        raise KeyError
    assert not folder.exists()


def test_folders_deeper_than_any_path_or_stack(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    descriptor = os.open(top, os.O_RDONLY)
    for _ in range(DEPTH):
        os.mkdir("d", dir_fd=descriptor)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    remove(top)
    assert list(tmp_path.iterdir()) == []


def test_what_links_lead_to_stays(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"1")
    top = tmp_path / "top"
    (top / "in").mkdir(parents=True)
    (top / "in/folder").symlink_to(outside)
    (top / "in/file").symlink_to(outside / "kept")
    (top / "nowhere").symlink_to("nowhere")
    remove(top)
    assert (outside / "kept").read_bytes() == b"1"
    assert list(tmp_path.iterdir()) == [outside]


def test_folders_that_nobody_may_enter(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "a/b/c").mkdir(parents=True)
    (top / "a/b/c/file").write_bytes(b"1")
    for folder in ("a/b/c", "a/b", "a"):
        (top / folder).chmod(0)
    remove(top)
    assert not top.exists()
