"""What a lock keeps: the files of the image that it extends, and what sdists are built with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from integration.test_lock import (
    BACKEND,
    LATER,
    checkout,
    config_of,
    sdist,
    silent,
    specify,
    wheel,
)
from plinth.commands.images import lock as lock_command
from plinth.core.errors import FetchError, LockError, ProblemsError, StaleLockError
from plinth.core.settings import Config
from plinth.graph.workspace import Workspace
from plinth.lock.image import lock_images
from plinth.recipe.locks import stale
from plinth.recipe.locks.pylock import LockedPackage, load
from support.helpers import make_wheel
from support.index_server import IndexServer

pytestmark = pytest.mark.network

SOURCE = b'[build-system]\nrequires = ["demo-leaf>=2"]\nbuild-backend = "demo_leaf"\n'


def another(folder: Path, name: str, version: str) -> Path:
    """Another build of a wheel that `wheel` makes."""
    (folder / "again").mkdir(exist_ok=True)
    return make_wheel(folder / "again", {f"{name}.py": b"x = 2\n"}, name=name, version=version)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


@pytest.fixture
def server(files: Path) -> Iterator[IndexServer]:
    with IndexServer() as running:
        for name in ("demo_server", "demo_app", "demo_leaf"):
            running.add(wheel(files, name, "1.0"))
        running.add(wheel(files, "demo_build", "9.0"))
        running.add(sdist(files, "demo_source-1.0"))
        yield running


@pytest.fixture
def ws(tmp_path: Path, tools: Path) -> Workspace:
    return checkout(tmp_path / "checkout", tools)


def extend(ws: Workspace, *requirements: str, more: str = "") -> None:
    """The image `mine`, which extends `demo`."""
    text = f'extends = "demo"\nsummary = "mine"\n[python]\nrequirements = {[*requirements]}\n{more}'
    (ws.images / "mine.toml").write_text(text)


def locked(ws: Workspace, image_id: str = "mine") -> dict[str, LockedPackage]:
    stale.check(ws, image_id)
    found = load(ws.locks / image_id / "pylock.toml").packages
    return {package.name: package for package in found}


def held(ws: Workspace) -> dict[str, tuple[object, ...]]:
    """What the extension has of the packages of the image that it extends."""
    mine, below = locked(ws), locked(ws, "demo")
    return {name: (mine[name].file, mine[name].build_requires, mine[name].index) for name in below}


def forget(ws: Workspace) -> None:
    """Pages that are kept serve a moment long past whatever the index adds to it."""
    shutil.rmtree(ws.build / "cache" / "index")


def lock(ws: Workspace, config: Config, image_id: str = "mine") -> None:
    if (ws.build / "cache" / "index").exists():
        forget(ws)
    assert lock_images(ws, [image_id], config=config, progress=silent) == [image_id]


def test_an_extension_holds_the_very_files_of_the_image_that_it_extends(
    ws: Workspace, server: IndexServer, files: Path
) -> None:
    config = config_of(server)
    specify(ws, "demo-leaf", "demo-source")
    lock(ws, config, "demo")
    below = locked(ws, "demo")
    expected = {name: (p.file, p.build_requires, p.index) for name, p in below.items()}
    assert [one.version for one in below["demo-source"].build_requires] == ["9.0"]

    # A later build of the same version, a wheel of what was a source, a newer build requirement;
    # of the held file it is said that no Python may have it, and that it was withdrawn.
    newer = wheel(files, "demo_leaf", "1.0")
    server.add(another(files, "demo_leaf", "1.0"), name="demo_leaf-1.0-1-py3-none-any.whl")
    server.add(newer, requires_python=">=3.99", yanked="it was bad")
    server.add(another(files, "demo_source", "1.0"))
    server.add(wheel(files, "demo_build", "10.0"))
    extend(ws, "demo-app")
    lock(ws, config)
    assert held(ws) == expected
    text = (ws.locks / "mine" / "requirements.txt").read_text()
    assert text.count("--hash=") == len(locked(ws))

    # The index has not one of these files any more: they are in the store, or they are not.
    with IndexServer() as other:
        other.add(wheel(files, "demo_app", "1.0"))
        for name in ("demo_server", "demo_leaf"):
            other.add(another(files, name, "1.0"))
        shutil.rmtree(ws.locks / "mine")
        for package in below.values():
            for one in (package, *package.build_requires):
                ws.cache.put_file(files / one.file.name, one.file.digest)
        lock(ws, config_of(other))
        assert held(ws) == expected
        shutil.rmtree(ws.locks / "mine")
        ws.cache.path(below["demo-leaf"].file.digest).unlink()
        with pytest.raises(FetchError, match=r"demo_leaf-1\.0-.* is in no") as raised:
            lock_images(ws, ["mine"], config=config_of(other), progress=silent)
        assert raised.value.expected == below["demo-leaf"].file.digest.oci
    assert not (ws.locks / "mine").exists()


def test_an_upgrade_of_what_is_held_is_told_and_changes_nothing(
    ws: Workspace, server: IndexServer
) -> None:
    specify(ws, "demo-leaf")
    lock(ws, config_of(server), "demo")
    extend(ws, "demo-app", "demo-leaf")
    lock(ws, config_of(server))
    before = {path.name: path.read_bytes() for path in (ws.locks / "mine").iterdir()}
    told: list[str] = []
    lock_images(ws, ["mine"], config=config_of(server), upgrade=["demo-leaf"], progress=told.append)
    assert "note: mine: demo-leaf is held by demo: lock that to move it" in told
    assert {path.name: path.read_bytes() for path in (ws.locks / "mine").iterdir()} == before


def test_a_lock_of_an_extension_with_another_file_is_stale(
    ws: Workspace, server: IndexServer, files: Path
) -> None:
    config = config_of(server)
    specify(ws, "demo-leaf", "demo-source")
    lock(ws, config, "demo")
    extend(ws, "demo-app")
    lock(ws, config)
    path, below = ws.locks / "mine" / "pylock.toml", locked(ws, "demo")
    sound = path.read_text()
    for package in (below["demo-leaf"], *below["demo-source"].build_requires):
        path.write_text(sound.replace(package.file.digest.hex, "0" * 64))
        with pytest.raises(StaleLockError, match="does not hold the files of demo") as raised:
            stale.check(ws, "mine")
        assert raised.value.remedy == "lock again: doit lock:mine"
    # So is one whose image below is built otherwise by now.
    path.write_text(sound)
    server.add(wheel(files, "demo_build", "10.0"))
    forget(ws)
    upgraded = lock_images(
        ws, ["demo", "mine"], config=config, upgrade=["demo-build"], progress=silent
    )
    assert upgraded == ["demo", "mine"]
    assert [one.version for one in locked(ws)["demo-source"].build_requires] == ["10.0"]


def test_what_an_extension_adds_may_be_built_with_what_the_other_image_does_not_hold(
    ws: Workspace, server: IndexServer, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(server)
    specify(ws, "demo-leaf")
    lock(ws, config, "demo")
    backend = BACKEND.replace(b"demo-source", b"demo-more").replace(b"demo_source", b"demo_more")
    path = make_wheel(files, {"demo_leaf.py": backend}, name="demo_leaf", version="2.0")
    server.add(path)
    monkeypatch.setattr("integration.test_lock.PYPROJECT", SOURCE)
    server.add(sdist(files, "demo_more-1.0"))
    extend(ws, "demo-more")
    lock(ws, config)
    assert locked(ws)["demo-leaf"].version == "1.0"
    assert [one.version for one in locked(ws)["demo-more"].build_requires] == ["2.0"]


def test_an_extension_that_pins_another_file_than_is_held_is_refused(
    ws: Workspace, server: IndexServer, files: Path
) -> None:
    config = config_of(server)
    specify(ws, "demo-leaf")
    lock(ws, config, "demo")
    entry = server.add(another(files, "demo_leaf", "1.0"), name="demo_leaf-1.0-1-py3-none-any.whl")
    digest = entry["hashes"]["sha256"]
    (ws.root / "more.txt").write_text(f"demo-leaf==1.0 --hash=sha256:{digest}\n")
    extend(ws, more='requirements-file = "more.txt"\n')
    with pytest.raises(LockError, match="holds another file of demo-leaf than is pinned") as raised:
        lock_images(ws, ["mine"], config=config, progress=silent)
    assert raised.value.where == "more.txt line 1"
    assert raised.value.expected == f"sha256:{digest}"


def test_build_requirements_keep_their_pins_and_their_moves_are_shown(
    ws: Workspace,
    server: IndexServer,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = files.parent / "settings.toml"
    settings.write_text(f'index-url = "{server.url}"\n')
    monkeypatch.setenv("PLINTH_CONFIG", str(settings))
    specify(ws, "demo-source")
    lock_command(ws, ["demo"])
    before = locked(ws, "demo")["demo-source"]
    # Newer ones; and of the old one another build, and its own was withdrawn.
    server.add(wheel(files, "demo_build", "10.0"))
    server.add(another(files, "demo_build", "9.0"), name="demo_build-9.0-1-py3-none-any.whl")
    server.add(wheel(files, "demo_build", "9.0"), yanked="it was bad")
    capsys.readouterr()
    forget(ws)

    specify(ws, "demo-source", "demo-app")
    lock_command(ws, ["demo"])
    assert locked(ws, "demo")["demo-source"] == before
    shown = [line.split() for line in capsys.readouterr().out.splitlines()[1:-1]]
    assert [line[:3] for line in shown] == [["demo-app", "(new)", "1.0"]]

    lock_command(ws, ["demo"], upgrade_package=["Demo_Build"], dry_run=True, as_json=True)
    (move,) = json.loads(capsys.readouterr().out)["moves"]
    assert {key: move[key] for key in ("name", "builds", "before", "after", "images")} == {
        "name": "demo-build",
        "builds": "demo-source",
        "before": "9.0",
        "after": "10.0",
        "images": ["demo"],
    }
    lock_command(ws, ["demo"], upgrade=True)
    assert [one.version for one in locked(ws, "demo")["demo-source"].build_requires] == ["10.0"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:5] == ["demo-build", "(builds", "demo-source)", "9.0", "10.0"]


def test_a_withdrawn_build_requirement_is_none_for_the_image_itself(
    ws: Workspace, server: IndexServer, files: Path
) -> None:
    config = config_of(server)
    specify(ws, "demo-source")
    lock(ws, config, "demo")
    server.add(wheel(files, "demo_build", "8.0"))
    server.add(wheel(files, "demo_build", "9.0"), yanked="it was bad")
    specify(ws, "demo-source", "demo-build")
    lock(ws, config, "demo")
    assert locked(ws, "demo")["demo-build"].version == "8.0"
    assert [one.version for one in locked(ws, "demo")["demo-source"].build_requires] == ["9.0"]


def test_a_build_requirement_that_the_index_shows_no_more_moves(
    ws: Workspace, server: IndexServer, files: Path
) -> None:
    specify(ws, "demo-source")
    server.add(wheel(files, "demo_build", "8.0"))
    lock(ws, config_of(server), "demo")
    assert [one.version for one in locked(ws, "demo")["demo-source"].build_requires] == ["9.0"]
    server.add(wheel(files, "demo_build", "9.0"), uploaded=LATER)
    specify(ws, "demo-source", "demo-app")
    lock(ws, config_of(server), "demo")
    assert [one.version for one in locked(ws, "demo")["demo-source"].build_requires] == ["8.0"]


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("-r {place}", 1),
        ("-r http://127.0.0.1:{port}/more.txt", 1),
        ("--extra-index-url http://127.0.0.1:{port}/simple", 1),
        ("# a comment\n-e .", 2),
        ("demo-leaf @ http://127.0.0.1:{port}/demo_leaf-1.0-py3-none-any.whl", 1),
        ("${{SECRET_TOKEN}}==1", 1),
        ("demo-leaf==1.0 ; python_version < '${{SECRET_TOKEN}}'", 1),
        ("demo-leaf==1.0 -r {place}", 1),
        ("<<<<<<< HEAD\ndemo-leaf==1.0\n=======", 1),
        ("demo-leaf==1.0\ndemo-leaf==2.0", 2),
    ],
)
def test_a_line_of_a_lock_that_is_no_pin_is_refused_and_not_followed(
    ws: Workspace,
    server: IndexServer,
    files: Path,
    line: str,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = config_of(server)
    specify(ws, "demo-leaf")
    lock(ws, config, "demo")
    monkeypatch.setenv("SECRET_TOKEN", "a-secret")
    secret = files.parent / "secret.txt"
    secret.write_text("a-secret\n")
    text = line.format(place=secret, port=server.port)
    # Then its pins are read, and no digest stands for the file.
    (ws.locks / "demo" / "pylock.toml").unlink()
    (ws.locks / "demo" / "requirements.txt").write_text(f"{text}\n")
    server.asked.clear()
    with pytest.raises(ProblemsError) as raised:
        lock_images(ws, ["demo"], config=config, progress=silent)
    shown = str(raised.value)
    assert f"locks/demo/requirements.txt: line {number}: " in shown
    assert "restore the file; or delete it" in shown
    assert "a-secret" not in shown
    assert server.asked == []


def test_bytes_that_are_no_text_are_named_where_a_package_is_upgraded(
    ws: Workspace, server: IndexServer
) -> None:
    specify(ws, "demo-leaf")
    lock(ws, config_of(server), "demo")
    path = ws.locks / "demo" / "requirements.txt"
    path.write_bytes(path.read_bytes() + b"# \xff\n")
    with pytest.raises(ProblemsError, match=r"locks/demo/requirements.txt: not UTF-8"):
        lock_images(ws, ["demo"], config=config_of(server), upgrade=["demo-leaf"], progress=silent)


def test_pins_are_kept_with_what_pip_tools_wrote_around_them(
    ws: Workspace, server: IndexServer, files: Path
) -> None:
    config = replace(config_of(server), indexes={})
    specify(ws, "demo-leaf")
    lock(ws, config, "demo")
    server.add(wheel(files, "demo_leaf", "2.0"))
    before = (ws.locks / "demo" / "requirements.txt").read_bytes()
    # As a checkout on Windows has it.
    (ws.locks / "demo" / "requirements.txt").write_bytes(before.replace(b"\n", b"\r\n"))
    lock(ws, config, "demo")
    assert (ws.locks / "demo" / "requirements.txt").read_bytes() == before
