"""Which index a file comes from, and indexes that do not say all: pip-tools against several."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from integration.test_lock import (
    LATER,
    checkout,
    config_of,
    packages,
    silent,
    stock,
    versions,
    wheel,
)
from plinth.core.digest import Digest
from plinth.core.errors import LockError, PlinthError, StaleLockError
from plinth.core.settings import Config
from plinth.graph.workspace import Workspace
from plinth.lock.image import lock_images
from plinth.recipe.locks import stale
from plinth.recipe.locks.pylock import LockedFile, LockedPackage, PylockError
from plinth.recipe.locks.pylock import load as load_lock
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


def refused(ws: Workspace, config: Config, image_id: str = "demo") -> PlinthError:
    with pytest.raises(LockError if image_id == "demo" else PlinthError) as raised:
        lock_images(ws, [image_id], config=config, progress=silent)
    assert not (ws.locks / image_id).exists()
    return raised.value


def extend(ws: Workspace, *requirements: str, more: str = "") -> None:
    """The image `mine`, which extends `demo`."""
    listed = ", ".join(f'"{requirement}"' for requirement in requirements)
    python = f"[python]\nrequirements = [{listed}]\n"
    text = f'extends = "demo"\nsummary = "mine"\n{python}{more}\n'
    (ws.images / "mine.toml").write_text(text)


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


def test_a_binding_of_a_project_that_nothing_asks_for_is_named(
    ws: Workspace, public: IndexServer, private: IndexServer, tmp_path: Path
) -> None:
    config = replace(config_of(public), indexes={"company": private.url})
    specify(ws, "demo-app", more='[python.indexes]\n"Demo_Ap" = "company"\nother = "company"')
    error = refused(ws, config)
    assert error.what == "a project is bound to an index, and nothing of the image asks for it"
    assert error.where == "images/demo.toml: python.indexes"
    assert error.found == "demo-ap: company\nother: company"
    assert error.remedy.startswith("did you mean demo-app? write the name")
    # Asked for elsewhere, what an sdist is built with, what has a fallback.
    private.add(wheel(tmp_path / "files", "demo_build", "1.0"))
    bound = [
        'demo-native = "company"',
        'demo-build = "company"',
        'torch = {index = "company", fallback = "default"}',
    ]
    asked = "demo-native; python_version >= '3.8'", "demo-source"
    specify(ws, *asked, more="\n".join(["[python.indexes]", *bound]))
    lock(ws, config)
    # An extension answers for its own alone.
    extend(ws, "demo-app")
    lock_images(ws, ["mine"], config=config, progress=silent)
    shutil.rmtree(ws.locks / "mine")
    extend(ws, "demo-app", more='[python.indexes]\ndemo-apq = "company"')
    assert refused(ws, config, "mine").found == "demo-apq: company"


def test_an_extension_binds_its_own_projects_and_keeps_the_bindings_below(
    ws: Workspace, public: IndexServer, private: IndexServer, tmp_path: Path
) -> None:
    files = tmp_path / "files"
    # Both have it; the public one is newer, as an attacker's.
    private.add(wheel(files, "demo_secret", "1.0", "demo-app"))
    public.add(wheel(files, "demo_secret", "9.0"))
    specify(ws, "demo-app", more='[python.indexes]\ndemo-app = "company"')
    config = replace(config_of(public), indexes={"company": private.url})
    below = lock(ws, config)
    extend(ws, "demo-secret", more='[python.indexes]\n"Demo_Secret" = "company"')
    # Without the setting, nothing is asked of any index.
    asked = len(public.asked)
    error = refused(ws, config_of(public), "mine")
    assert error.what == "the settings do not know an index that a project is bound to"
    assert "demo-secret: company" in error.found
    assert len(public.asked) == asked

    assert lock_images(ws, ["mine"], config=config, progress=silent) == ["mine"]
    stale.check(ws, "mine")
    found = {one.name: one for one in load_lock(ws.locks / "mine" / "pylock.toml").packages}
    assert (found["demo-secret"].version, found["demo-secret"].index) == ("1.0", "company")
    assert {name: (found[name].file, found[name].index) for name in below} == {
        name: (one.file, one.index) for name, one in below.items()
    }
    assert found["demo-app"].index == "company"
    for project in ("demo-app", "demo-secret"):
        assert public.count(f"/simple/{project}/") == 0
    # Bound no more, the lock is stale.
    extend(ws, "demo-secret")
    with pytest.raises(StaleLockError, match="made from other inputs"):
        stale.check(ws, "mine")


def test_an_extension_cannot_move_what_the_other_image_holds(
    ws: Workspace, public: IndexServer, private: IndexServer
) -> None:
    config = replace(config_of(public), indexes={"company": private.url})
    specify(ws, "demo-leaf")
    lock(ws, config)
    extend(ws, "demo-app", more='[python.indexes]\ndemo-leaf = "company"')
    error = refused(ws, config, "mine")
    assert str(error).splitlines()[1] == (
        "  images/mine.toml: python.indexes.demo-leaf: demo holds demo-leaf 3.0 from no named "
        "index, and an extension keeps it; leave it out here, or bind it in images/demo.toml"
    )
    # A dependency that is new is bound like what is asked for.
    extend(ws, "demo-more", more='[python.indexes]\ndemo-app = "company"')
    public.add(wheel(ws.root, "demo_more", "1.0", "demo-app"))
    private.add(wheel(ws.root, "demo_app", "1.2", "demo-leaf"))
    lock_images(ws, ["mine"], config=config, progress=silent)
    found = {one.name: one for one in load_lock(ws.locks / "mine" / "pylock.toml").packages}
    assert (found["demo-app"].version, found["demo-app"].index) == ("1.2", "company")
    assert (found["demo-more"].index, found["demo-leaf"].version) == ("", "3.0")


def test_what_a_fall_back_gave_the_other_image_stays_in_an_extension(
    ws: Workspace, public: IndexServer, private: IndexServer
) -> None:
    specify(
        ws,
        "demo-app",
        more='[python.indexes]\ndemo-app = {index = "company", fallback = "default"}',
    )
    # Another file of the same version: what the extension must not take.
    private.add(make_wheel(ws.root, {"o.py": b"other"}, name="demo_app", version="9.0"))
    config = replace(config_of(public), indexes={"company": private.url})
    below = lock(ws, config_of(public))
    extend(ws, "demo-leaf")
    lock_images(ws, ["mine"], config=config, progress=silent)
    found = {one.name: one for one in load_lock(ws.locks / "mine" / "pylock.toml").packages}
    assert found["demo-app"] == replace(below["demo-app"], direct=True)
    assert found["demo-app"].index == ""
    # The other way round, the index that it is from must be known.
    shutil.rmtree(ws.locks)
    lock(ws, config)
    error = refused(ws, config_of(public), "mine")
    assert error.found == "demo holds demo-app 9.0 from the index company"
    assert error.remedy == 'set indexes."company" in the settings to its URL'


def test_a_project_that_its_index_does_not_have_is_named_with_index_and_place(
    ws: Workspace, public: IndexServer, private: IndexServer
) -> None:
    config = replace(config_of(public), indexes={"company": private.url})
    specify(ws, "demo-leaf", "demo-secrte", more='[python.indexes]\ndemo-secrte = "company"')
    error = refused(ws, config)
    assert error.what == "there is no project demo-secrte"
    assert error.where == "images/demo.toml: python.requirements[1]"
    assert error.found == (
        "demo-secrte, asked for by images/demo.toml: python.requirements[1]: the index company has "
        "no such project"
    )
    assert error.remedy == "check the spelling"
    (ws.root / "app.txt").write_text("# What it needs.\ndemo-leaf\nDemo_Lief>=1\n")
    (ws.images / "demo.toml").write_text(
        helpers.IMAGE.format(name="demo", requirements="") + 'requirements-file = "app.txt"\n'
    )
    error = refused(ws, config)
    assert error.where == "app.txt line 3"
    assert "the configured package index has no such project" in error.found
    assert '[python.indexes] in images/demo.toml: demo-lief = "NAME"' in error.remedy
    # One that came later is none that is absent.
    public.add(wheel(ws.root, "demo_late", "1.0"), uploaded=LATER)
    specify(ws, "demo-late")
    error = refused(ws, config)
    assert error.what == "the requirements cannot be met"
    assert error.found.splitlines() == [
        "no file of demo-late was uploaded by as-of (2021-06-01T00:00:00Z)",
        "versions of demo-late that the target can use: none",
        "asked for: demo-late (images/demo.toml: python.requirements[0])",
    ]
    # In an extension: the file that asks for it.
    specify(ws, "demo-leaf")
    lock(ws, config)
    extend(ws, "demo-server", "demo-ap")
    error = refused(ws, config, "mine")
    assert error.where == "images/mine.toml: python.requirements[1]"
    for text in (str(error), error.found):
        assert "127.0.0.1" not in text


def test_a_constraint_that_stands_in_the_way_is_named_with_its_place(
    ws: Workspace, public: IndexServer
) -> None:
    (ws.root / "bounds.txt").write_text("# Not yet.\ndemo-leaf>=3\n")
    constraint = (
        '[[python.constraints]]\nrequirement = "demo-app>=1.1,<9"\nreason = "1.0 is slow"\n'
    )
    specify(ws, "demo-app", more=f'constraints-file = "bounds.txt"\n{constraint}')
    error = refused(ws, config_of(public))
    assert error.what == "the requirements cannot be met"
    assert error.found.splitlines()[-3:] == [
        "demo-app 1.1 needs demo-leaf<3",
        "constraint: demo-app>=1.1,<9, images/demo.toml: python.constraints[0] (1.0 is slow)",
        "constraint: demo-leaf>=3, bounds.txt line 2",
    ]
    assert error.remedy == "loosen a requirement or a constraint"


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


def test_a_pin_of_a_project_that_is_bound_since_is_of_the_named_index(
    ws: Workspace, public: IndexServer, tmp_path: Path
) -> None:
    public.add(wheel(tmp_path / "files", "demo_other", "1.0"))
    specify(ws, "demo-other")
    lock(ws, config_of(public))
    with IndexServer() as company:
        (tmp_path / "own").mkdir()
        own = company.add(wheel(tmp_path / "own", "demo_other", "1.0", "demo-leaf"))
        specify(ws, "demo-other", more='[python.indexes]\ndemo-other = "company"\n')
        config = replace(config_of(public), indexes={"company": company.url})
        package = lock(ws, config)["demo-other"]
    assert (package.index, package.file.digest.hex) == ("company", own["hashes"]["sha256"])


def test_versions_of_before_pep_440_in_metadata_are_read_as_pip_reads_them(
    ws: Workspace, public: IndexServer, tmp_path: Path
) -> None:
    (tmp_path / "files").mkdir(exist_ok=True)
    public.add(wheel(tmp_path / "files", "demo_old", "1.0", "demo-leaf (>=1.0.*)"))
    specify(ws, "demo-old")
    assert {"demo-old", "demo-leaf"} <= set(lock(ws, config_of(public)))


def test_a_requires_python_that_the_metadata_alone_has_is_judged_for_the_base(
    ws: Workspace, public: IndexServer, tmp_path: Path
) -> None:
    # The resolver's own Python is fine with it; the last 3.7 that the base may find is not.
    more = "Requires-Python: >=3.6,!=3.7.99\n"
    public.add(make_wheel(tmp_path / "files", {"o.py": b""}, name="demo_other", more=more))
    specify(ws, "demo-other")
    error = refused(ws, config_of(public))
    assert error.what == "the requirements cannot be met"
    assert "3.6" in error.found and "!=3.7.99" in error.found


@pytest.mark.parametrize("said", ["other 1.0", "demo-other 2.0"])
def test_metadata_of_something_else_is_named_as_the_cause(
    ws: Workspace, public: IndexServer, tmp_path: Path, said: str
) -> None:
    path = wheel(tmp_path / "files", "demo_other", "1.0")
    text = "Metadata-Version: 2.1\nName: {}\nVersion: {}\n".format(*said.split()).encode()
    public.add(path, core_metadata={"sha256": hashlib.sha256(text).hexdigest()})
    public.instead(f"/files/{path.name}.metadata", Answer(200, text))
    specify(ws, "demo-other")
    error = refused(ws, config_of(public))
    assert f"the index's metadata of {path.name} is of {said}" in error.found
    # Another version is taken instead, as with pip.
    shutil.rmtree(ws.build / "cache" / "index")
    public.add(wheel(tmp_path / "files", "demo_other", "0.9"))
    assert lock(ws, config_of(public))["demo-other"].version == "0.9"


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
