"""Packages of one's own in an image: a wheel, a source tree, a commit; no index decides them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from integration.conftest import resolver_tools
from integration.test_lock import BACKEND, config_of, silent
from plinth.build.packages import _admit
from plinth.core.digest import Digest
from plinth.core.errors import FetchError, PlinthError, SpecError, StaleLockError
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.fetch.own import bring_own
from plinth.fetch.wheels import fetch_files
from plinth.graph.workspace import Workspace
from plinth.lock.image import lock_images
from plinth.recipe.ids import watched_files
from plinth.recipe.locks import pylock, stale
from support import helpers
from support.asked_project import wheel
from support.index_server import IndexServer

pytestmark = pytest.mark.network

HEAD = 'framework = "demo"\naccelerator = "cpu"\nbase = "tiny"\nsummary = "a test"\n[python]\n'
PYPROJECT = """\
[project]
name = "demo-source"
version = "1.0"
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


def source(folder: Path) -> Path:
    """A source tree whose own code tells that it needs demo-leaf."""
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "backend.py").write_bytes(BACKEND)
    return folder


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    done = subprocess.run(
        ["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def repository(folder: Path) -> str:
    """A repository that holds such a tree, in a commit that no branch names any more."""
    source(folder)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "one")
    commit = git(folder, "rev-parse", "HEAD")
    (folder / "backend.py").write_text("")
    git(folder, "commit", "-q", "-a", "-m", "two")
    return commit


def checkout(root: Path, python: str) -> Workspace:
    ws = Workspace(root, root / "build")
    for folder in (ws.images, ws.bases, ws.build / "cache"):
        folder.mkdir(parents=True)
    (ws.bases / "tiny.toml").write_text(helpers.BASE.format(requirements=""))
    (ws.images / "demo.toml").write_text(HEAD + python)
    (ws.build / "cache" / "tools").symlink_to(resolver_tools("3.7"))
    return ws


def locked(ws: Workspace) -> dict[str, pylock.LockedPackage]:
    found = pylock.load(ws.locks / "demo" / "pylock.toml").packages
    return {package.name: package for package in found}


def bring(ws: Workspace, config: Config) -> None:
    """What a build does before it unpacks anything."""
    image = stale.read_image(ws, "demo")
    bring_own(ws, image.spec, [package.name for package in image.lock.packages], quiet)
    fetch_files(ws, config, image.lock.packages, admit=_admit, progress=quiet)


def test_a_wheel_and_a_source_tree_are_locked_by_digest_whatever_an_index_has(
    tmp_path: Path,
) -> None:
    root = tmp_path / "checkout"
    local = (
        '[[python.local]]\npath = "wheels/demo_own-1.0-py3-none-any.whl"\n'
        '[[python.local]]\npath = "src/demo"\n'
    )
    ws = checkout(root, local)
    (root / "wheels").mkdir()
    own = wheel(root / "wheels", "demo_own", "1.0", "Requires-Dist: demo-leaf")
    source(root / "src" / "demo")
    with IndexServer() as server:
        server.add(wheel(tmp_path, "demo_leaf", "1.0"))
        # Of somebody else, and newer.
        server.add(wheel(tmp_path, "demo_own", "2.0"))
        server.add(wheel(tmp_path, "demo_source", "1.0"))
        config = config_of(server)
        lock_images(ws, ["demo"], config=config, progress=silent)
        found = locked(ws)
        assert sorted(found) == ["demo-leaf", "demo-own", "demo-source"]
        assert found["demo-own"].file.name == own.name
        assert found["demo-source"].is_sdist
        assert found["demo-source"].dependencies == ("demo-leaf",)
        assert server.count("/simple/demo-own") == server.count("/simple/demo-source") == 0
        assert str(root) not in (ws.locks / "demo" / "pylock.toml").read_text()

        # In a store that was lost they are made again of the checkout.
        for blob in ws.cache.blobs.iterdir():
            blob.unlink()
        again = Workspace(ws.root, ws.build)
        bring(again, config)
        assert all(again.cache.has(package.file.digest) for package in found.values())
    watched = {path.relative_to(root).as_posix() for path in watched_files(ws, "demo")}
    assert {"wheels/demo_own-1.0-py3-none-any.whl", "src/demo/backend.py"} <= watched

    (root / "src" / "demo" / "more.py").write_text("")
    with pytest.raises(StaleLockError, match="made from other inputs") as raised:
        stale.check(ws, "demo")
    assert "local: " in raised.value.found
    # What is gone is in the store, by its digest.
    (root / "src" / "demo" / "more.py").unlink()
    own.unlink()
    assert stale.check(ws, "demo")
    for blob in ws.cache.blobs.iterdir():
        blob.unlink()
    with pytest.raises(FetchError, match="neither in the store nor in the checkout"):
        bring(Workspace(ws.root, ws.build), config)


def test_a_wheel_that_is_made_anew_in_place_is_locked_as_it_is_now(tmp_path: Path) -> None:
    ws = checkout(
        tmp_path / "checkout",
        '[[python.local]]\npath = "wheels/demo_own-1.0-py3-none-any.whl"\n',
    )
    (ws.root / "wheels").mkdir()
    with IndexServer() as server:
        server.add(wheel(tmp_path, "demo_leaf", "1.0"))
        for needs in ([], ["Requires-Dist: demo-leaf"]):
            own = wheel(ws.root / "wheels", "demo_own", "1.0", *needs)
            lock_images(ws, ["demo"], config=config_of(server), progress=silent)
            assert locked(ws)["demo-own"].file.digest == Digest.of_file(own)
    assert sorted(locked(ws)) == ["demo-leaf", "demo-own"]


def test_a_commit_is_fetched_once_and_locked_as_an_sdist(tmp_path: Path) -> None:
    commit = repository(tmp_path / "repository")
    url = f"file://{tmp_path}/repository"
    stated = 'name = "demo-source"\nversion = "1.0"\n'
    local = f'[[python.local]]\ngit = "{url}"\ncommit = "{commit}"\n{stated}'
    ws = checkout(tmp_path / "checkout", local)
    told: list[str] = []
    with IndexServer() as server:
        server.add(wheel(tmp_path, "demo_leaf", "1.0"))
        config = config_of(server)
        lock_images(ws, ["demo"], config=config, progress=told.append)
        assert locked(ws)["demo-source"].file.name == "demo_source-1.0.tar.gz"
        text = (ws.locks / "demo" / "pylock.toml").read_text()
        assert "repository" not in text
        assert f"git demo-source {commit}" in text
        lock_images(ws, ["demo"], config=config, upgrade_all=True, progress=told.append)
        assert sum(line.startswith("fetching commit") for line in told) == 1
        assert (ws.locks / "demo" / "pylock.toml").read_text() == text
        for blob in ws.cache.blobs.iterdir():
            blob.unlink()
        bring(Workspace(ws.root, ws.build), config)

        # The tree of the checkout gives the same source.
        digest = locked(ws)["demo-source"].file.digest
        git(tmp_path / "repository", "checkout", "-q", commit)
        source_of_tree = '[[python.local]]\npath = "app"\n'
        (tmp_path / "repository").rename(ws.root / "app")
        (ws.images / "demo.toml").write_text(HEAD + source_of_tree)
        lock_images(ws, ["demo"], config=config, progress=silent)
        assert locked(ws)["demo-source"].file.digest == digest


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ('git = "file:///nowhere/at/all"\ncommit = "{commit}"', "git fetch failed"),
        ('git = "{url}"\ncommit = "{other}"', "git (fetch|ls-tree) failed"),
        ('git = "{url}"\ncommit = "main"', "expected 40 hexadecimal digits, found 'main'"),
        ('git = "ext::sh -c id"\ncommit = "{commit}"', "expected a URL"),
        ('git = "--upload-pack=x"\ncommit = "{commit}"', "expected a URL"),
        ('git = "{url}"\ncommit = "{commit}"\npath = "x"', "either a path or git"),
    ],
)
def test_a_commit_that_cannot_be_had_is_refused(tmp_path: Path, fields: str, message: str) -> None:
    commit = repository(tmp_path / "repository")
    url = f"file://{tmp_path}/repository"
    text = fields.format(url=url, commit=commit, other="0" * 40)
    stated = 'name = "demo-source"\nversion = "1.0"\n'
    ws = checkout(tmp_path / "checkout", f"[[python.local]]\n{text}\n{stated}")
    with IndexServer() as server, pytest.raises(PlinthError, match=message):
        lock_images(ws, ["demo"], config=config_of(server), progress=silent)


def test_links_in_a_commit_are_refused(tmp_path: Path) -> None:
    repository(tmp_path / "repository")
    (tmp_path / "repository" / "link").symlink_to("/etc/passwd")
    git(tmp_path / "repository", "add", ".")
    git(tmp_path / "repository", "commit", "-q", "-m", "three")
    commit = git(tmp_path / "repository", "rev-parse", "HEAD")
    stated = 'name = "demo-source"\nversion = "1.0"\n'
    local = f'git = "file://{tmp_path}/repository"\ncommit = "{commit}"\n{stated}'
    ws = checkout(tmp_path / "checkout", f"[[python.local]]\n{local}")
    with IndexServer() as server, pytest.raises(PlinthError, match="a link or submodule"):
        lock_images(ws, ["demo"], config=config_of(server), progress=silent)


def test_a_name_given_twice_is_refused(tmp_path: Path) -> None:
    twice = '[[python.local]]\npath = "src/demo"\n' * 2
    ws = checkout(tmp_path / "checkout", twice)
    source(tmp_path / "checkout" / "src" / "demo")
    with IndexServer() as server, pytest.raises(SpecError, match="demo-source is there twice"):
        lock_images(ws, ["demo"], config=config_of(server), progress=silent)
