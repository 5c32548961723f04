"""The commit of a checkout, and whether it is all there is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from plinth.evidence.git import git_state, untold


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    done = subprocess.run(
        ["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "a").write_text("a")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "--quiet", "-m", "a")
    return tmp_path


def test_a_clean_checkout(checkout: Path) -> None:
    found = git_state(checkout)
    assert found is not None
    assert found.commit == git(checkout, "rev-parse", "HEAD")
    assert found.clean
    assert found.remote == ""


@pytest.mark.parametrize("name", ["a", "new"])
def test_a_changed_or_new_file_is_not_clean(checkout: Path, name: str) -> None:
    (checkout / name).write_text("b")
    found = git_state(checkout)
    assert found is not None
    assert not found.clean


@pytest.mark.parametrize(
    ("remote", "shown"),
    [
        ("https://me:secret@example.org:8443/a/b.git", "https://example.org:8443/a/b.git"),
        ("https://example.org/a.git?token=x#y", "https://example.org/a.git"),
        ("ssh://git@example.org/a.git", "ssh://example.org/a.git"),
        ("/home/me/a", ""),
        ("file:///home/me/a", ""),
        ("https://example.org:port/a.git", ""),
        ("https://[example.org/a.git", ""),
    ],
)
def test_a_remote_without_credentials_or_paths(checkout: Path, remote: str, shown: str) -> None:
    git(checkout, "remote", "add", "origin", remote)
    found = git_state(checkout)
    assert found is not None
    assert found.remote == shown


def test_no_checkout(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None
    assert untold(tmp_path) == ""


def test_a_commit_that_git_does_not_give_is_explained(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert untold(checkout) == ""
    # As git does for a folder of another owner.
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    assert git_state(checkout) is None
    why = untold(checkout)
    assert why.startswith(f"detected dubious ownership in repository at '{checkout}'")
    assert f"git config --global --add safe.directory {checkout}" in why
    monkeypatch.setenv("PATH", "/nonexistent")
    assert untold(checkout) == "git cannot be run: No such file or directory"


def test_a_folder_inside_another_checkout_is_none(checkout: Path) -> None:
    (checkout / "inner").mkdir()
    assert git_state(checkout / "inner") is None
