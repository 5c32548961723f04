"""Which index a file comes from, and indexes that do not say all: pip-tools against several."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from integration.test_lock import checkout, config_of, packages, silent, stock, versions, wheel
from plinth.core.digest import Digest
from plinth.core.errors import LockError
from plinth.core.settings import Config
from plinth.graph.workspace import Workspace
from plinth.lock.image import lock_images
from plinth.recipe.locks import stale
from plinth.recipe.locks.pylock import LockedFile, LockedPackage, PylockError
from support import helpers
from support.helpers import make_wheel
from support.index_server import UPLOADED, Answer, IndexServer

LEAF = "https://host/demo_leaf-1.0-py3-none-any.whl"
pytestmark = pytest.mark.network


@pytest.fixture
def ws(tmp_path: Path, tools: Path) -> Workspace:
    return checkout(tmp_path / "checkout", tools)


@pytest.fixture
def public(tmp_path: Path) -> Iterator[IndexServer]:
    """The configured index; it has a newer demo-app than the private one, as an attacker's."""
    (tmp_path / "files").mkdir()
    with IndexServer() as running:
        stock(running, tmp_path / "files")
        running.add(wheel(tmp_path / "files", "demo_app", "9.0"))
        yield running


@pytest.fixture
def private(tmp_path: Path) -> Iterator[IndexServer]:
    with IndexServer() as running:
        running.add(wheel(tmp_path / "files", "demo_app", "1.1", "demo-leaf"))
        yield running


def specify(ws: Workspace, *requirements: str, more: str = "") -> None:
    listed = ", ".join(f'"{requirement}"' for requirement in requirements)
    text = f"{helpers.IMAGE.format(name='demo', requirements=listed)}{more}\n"
    (ws.images / "demo.toml").write_text(text)


def lock(ws: Workspace, config: Config) -> dict[str, LockedPackage]:
    told: list[str] = []
    assert lock_images(ws, ["demo"], config=config, progress=told.append) == ["demo"], told
    stale.check(ws, "demo")
    return {package.name: package for package in packages(ws)}


def refused(ws: Workspace, config: Config) -> LockError:
    with pytest.raises(LockError) as raised:
        lock_images(ws, ["demo"], config=config, progress=silent)
    assert not (ws.locks / "demo").exists()
    return raised.value


def test_a_project_bound_to_an_index_comes_from_no_other(
    ws: Workspace, public: IndexServer, private: IndexServer
) -> None:
    # However its name is written.
    specify(ws, "demo-app", more='[python.indexes]\n"Demo_App" = "company"')
    config = config_of(public)
    error = refused(ws, config)
    assert error.what == "the settings do not know an index that a project is bound to"
    assert error.found == "demo-app: company"
    assert 'set indexes."company"' in error.remedy
    assert 'demo-app = {index = "company", fallback = "default"}' in error.remedy
    # At once: nothing was asked.
    assert public.asked == []

    found = lock(ws, replace(config, indexes={"company": private.url}))
    assert (found["demo-app"].version, found["demo-app"].index) == ("1.1", "company")
    assert found["demo-leaf"].index == ""
    assert public.count("/simple/demo-app/") == 0
    path = ws.locks / "demo" / "pylock.toml"
    text = path.read_text()
    assert "127.0.0.1" not in text
    path.write_text(text.replace('index = "company"', 'index = "elsewhere"'))
    with pytest.raises(PylockError, match="from the index elsewhere, images/demo"):
        stale.check(ws, "demo")
    path.write_text(text)
    # Bound to another now, or to none, the lock is stale.
    for more in ('[python.indexes]\ndemo-app = "other"', ""):
        specify(ws, "demo-app", more=more)
        with pytest.raises(LockError, match="made from other inputs"):
            stale.check(ws, "demo")


def test_a_fall_back_is_taken_where_the_specification_says_so(
    ws: Workspace, public: IndexServer, private: IndexServer
) -> None:
    bound = '[python.indexes]\ndemo-app = {index = "company", fallback = "default"}'
    specify(ws, "demo-app", more=bound)
    found = lock(ws, config_of(public))
    assert (found["demo-app"].version, found["demo-app"].index) == ("9.0", "")
    # A lock made before the settings knew the index stays good.
    config = replace(config_of(public), indexes={"company": private.url})
    assert lock_images(ws, ["demo"], config=config, progress=silent) == []


def test_a_file_of_unknown_upload_time_is_not_taken_unless_named(
    ws: Workspace, public: IndexServer, tmp_path: Path
) -> None:
    public.add(wheel(tmp_path / "files", "demo_old", "1.0"), uploaded="")
    specify(ws, "demo-old")
    assert (
        "the upload time of demo_old-1.0-py3-none-any.whl is not known, which as-of needs: name "
        "the version, as demo-old==1.0" in refused(ws, config_of(public)).found
    )


def test_a_requirement_by_url_is_refused_in_words(
    ws: Workspace, public: IndexServer, tmp_path: Path
) -> None:
    public.add(wheel(tmp_path / "files", "demo_url", "1.0", f"demo-leaf @ {LEAF}"))
    specify(ws, "demo-url")
    assert (
        f"demo-url requires demo-leaf@ {LEAF}: a lock holds no requirement by URL"
        in refused(ws, config_of(public)).found
    )


def test_what_indexes_say_and_do_not_say(
    ws: Workspace, public: IndexServer, tmp_path: Path
) -> None:
    files = tmp_path / "files"
    # Neither size nor time; HTML alone; four builds of a version; a version that was yanked; lines
    # whose markers exclude each other.
    old, html = wheel(files, "demo_old", "1.0"), wheel(files, "demo_html", "1.0")
    public.add(old, uploaded="", size=None)
    public.add(html)
    sha256 = hashlib.sha256(html.read_bytes()).hexdigest()
    link = f'<a href="../../files/{html.name}#sha256={sha256}" data-upload-time="{UPLOADED}">x</a>'
    page = Answer(200, f"<html><body>{link}</body></html>".encode(), "text/html")
    public.instead("/simple/demo-html/", page)
    for build in ("", "1-", "2-", "10-"):
        made = make_wheel(tmp_path, {"b.py": build.encode()}, name="demo_build", version="2.0")
        public.add(made, name=f"demo_build-2.0-{build}py3-none-any.whl")
    leaves = "demo-leaf==1.0; python_version < '3.8'", "demo-leaf==3.0; python_version >= '3.8'"
    absent = "demo-native; python_version >= '3.8'"
    specify(ws, "demo-old==1.0", "demo-html", "demo-build", "demo-app==1.9", *leaves, absent)
    told: list[str] = []
    lock_images(ws, ["demo"], config=config_of(public), progress=told.append)
    assert "note: demo-app 1.9 was yanked: it was broken" in told
    stale.check(ws, "demo")
    found = {package.name: package for package in packages(ws)}
    assert versions(ws) == {
        "demo-app": "1.9",
        "demo-build": "2.0",
        "demo-html": "1.0",
        "demo-leaf": "1.0",
        "demo-old": "1.0",
        "demo-server": "1.0",
    }
    assert found["demo-build"].file.name == "demo_build-2.0-10-py3-none-any.whl"
    assert found["demo-old"].file == LockedFile(old.name, Digest.of_file(old), "")
    assert "no-upload-time = true" in (ws.locks / "demo" / "pylock.toml").read_text()
    time = "2021-01-01 00:00:00+00:00"
    assert found["demo-html"].file == LockedFile(html.name, Digest.of_file(html), time)
