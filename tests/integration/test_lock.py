"""Locking and fetching, whole: pip-tools under Python 3.7 against a package index on loopback."""

from __future__ import annotations

import gzip
import io
import random
import shutil
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from plinth.build.packages import _admit
from plinth.core.digest import Digest
from plinth.core.errors import (
    FetchError,
    IntegrityError,
    LockError,
    StaleLockError,
    WheelError,
)
from plinth.core.settings import Config, load
from plinth.core.store import BlobStore
from plinth.fetch.pypi.index import Index
from plinth.fetch.wheels import fetch_files
from plinth.graph.workspace import Workspace
from plinth.lock.image import lock_images
from plinth.lock.server import LoopbackIndex, View
from plinth.recipe.image import Target
from plinth.recipe.locks import pylock, stale
from plinth.recipe.locks.pylock import LockedFile, LockedPackage
from support import helpers
from support.helpers import make_wheel
from support.index_server import AS_OF, UPLOADED, Answer, IndexServer

BASE = helpers.BASE.format(requirements='"demo-server"')
REQUIREMENTS = ("demo-app", "demo-native>=1", "demo-source")
LATER = "2021-06-01T00:00:01.000000Z"
# A PEP 517 backend that can tell an sdist's metadata, which is all that a resolver asks of it.
BACKEND = b"""\
import pathlib

def prepare_metadata_for_build_wheel(directory, config_settings=None):
    folder = pathlib.Path(directory, "demo_source-1.0.dist-info")
    folder.mkdir()
    lines = ["Metadata-Version: 2.1", "Name: demo-source", "Version: 1.0"]
    folder.joinpath("METADATA").write_text("\\n".join([*lines, "Requires-Dist: demo-leaf", ""]))
    return folder.name
"""
PYPROJECT = b'[build-system]\nrequires = ["demo-build>=1"]\nbuild-backend = "demo_build"\n'


def wheel(folder: Path, name: str, version: str, *needs: str) -> Path:
    more = "".join(f"Requires-Dist: {need}\n" for need in needs)
    content = BACKEND if name == "demo_build" else b"x = 1\n"
    return make_wheel(folder, {f"{name}.py": content}, name=name, version=version, more=more)


def sdist(folder: Path, stem: str) -> Path:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        info = tarfile.TarInfo(f"{stem}/pyproject.toml")
        info.size = len(PYPROJECT)
        tar.addfile(info, io.BytesIO(PYPROJECT))
    path = folder / f"{stem}.tar.gz"
    path.write_bytes(gzip.compress(stream.getvalue(), mtime=0))
    return path


def stock(server: IndexServer, folder: Path) -> None:
    """What the index has when the first lock is made."""
    server.add(wheel(folder, "demo_server", "1.0", "demo-leaf"))
    for version in ("1.0", "1.1"):
        server.add(wheel(folder, "demo_app", version, "demo-leaf<3"))
    server.add(wheel(folder, "demo_app", "1.9", "demo-leaf<3"), yanked="it was broken")
    server.add(wheel(folder, "demo_app", "2.0", "demo-leaf<3"), uploaded=LATER)
    for version in ("1.0", "2.0", "3.0"):
        server.add(wheel(folder, "demo_leaf", version))
    old, new = wheel(folder, "demo_native", "1.0"), wheel(folder, "demo_native", "2.0")
    # Without PEP 658 metadata, so that it is taken out of the wheel.
    server.add(old, name="demo_native-1.0-cp37-cp37m-manylinux2014_x86_64.whl", metadata=False)
    server.add(new, name="demo_native-2.0-cp37-cp37m-manylinux_2_28_x86_64.whl")
    server.add(sdist(folder, "demo_source-1.0"))
    # Nobody needs this one: its version has a wheel.
    server.add(sdist(folder, "demo_app-1.1"))
    server.add(wheel(folder, "demo_build", "1.0"))


def silent(text: str) -> None:
    """Progress nobody reads."""


def config_of(server: IndexServer) -> Config:
    """The machine's settings with another index; its Python 3.7 is the one the tools run in."""
    return replace(load(), index_url=server.url, files={})


def specify(ws: Workspace, *requirements: str) -> None:
    listed = ", ".join(f'"{requirement}"' for requirement in requirements)
    (ws.images / "demo.toml").write_text(helpers.IMAGE.format(name="demo", requirements=listed))


def lock_text(ws: Workspace) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((ws.locks / "demo").iterdir())}


def versions(ws: Workspace) -> dict[str, str]:
    return {package.name: package.version for package in packages(ws)}


def packages(ws: Workspace) -> tuple[LockedPackage, ...]:
    return pylock.load(ws.locks / "demo" / "pylock.toml").packages


def checkout(root: Path, tools: Path) -> Workspace:
    """A small checkout with one image and one base, and nothing locked."""
    ws = Workspace(root, root / "build")
    for folder in (ws.images, ws.bases, ws.build / "cache"):
        folder.mkdir(parents=True)
    (ws.bases / "tiny.toml").write_text(BASE)
    specify(ws, *REQUIREMENTS)
    (ws.build / "cache" / "tools").symlink_to(tools)
    return ws


@pytest.fixture(scope="module")
def first(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A checkout that was locked once; the index it was locked from is gone."""
    ws = checkout(tmp_path_factory.mktemp("first"), tools)
    with IndexServer() as server:
        stock(server, tmp_path_factory.mktemp("files"))
        assert lock_images(ws, ["demo"], config=config_of(server), progress=silent) == ["demo"]
        assert all(f":{server.port}" not in text for text in lock_text(ws).values())
    return ws


@pytest.fixture
def locked(first: Workspace, tmp_path: Path, tools: Path) -> Workspace:
    """A checkout of its own with the first lock, and no answer of any index."""
    ws = checkout(tmp_path / "checkout", tools)
    shutil.copytree(first.locks, ws.locks)
    return ws


@pytest.fixture
def server(tmp_path: Path) -> Iterator[IndexServer]:
    """An index as the first lock found it."""
    (tmp_path / "files").mkdir()
    with IndexServer() as running:
        stock(running, tmp_path / "files")
        yield running


@pytest.mark.network
def test_a_lock_holds_what_the_target_could_install_at_that_moment(first: Workspace) -> None:
    found = {package.name: package for package in packages(first)}
    assert versions(first) == {
        "demo-app": "1.1",  # 1.9 is yanked, 2.0 came later
        "demo-leaf": "2.0",  # demo-app wants less than 3
        "demo-native": "1.0",  # 2.0 is for glibc 2.28
        "demo-server": "1.0",
        "demo-source": "1.0",
    }
    assert {name for name, package in found.items() if package.direct} == {
        "demo-app",
        "demo-native",
        "demo-source",
    }
    assert {name for name, package in found.items() if package.from_base} == {"demo-server"}
    assert found["demo-app"].dependencies == ("demo-leaf",)
    native = found["demo-native"].file
    assert native.name == "demo_native-1.0-cp37-cp37m-manylinux2014_x86_64.whl"
    assert native.upload_time == "2021-01-01 00:00:00+00:00"


@pytest.mark.network
def test_a_package_without_wheel_is_locked_with_what_it_is_built_with(first: Workspace) -> None:
    (source,) = (package for package in packages(first) if package.is_sdist)
    assert (source.name, source.file.name) == ("demo-source", "demo_source-1.0.tar.gz")
    assert source.dependencies == ("demo-leaf",)
    (needed,) = source.build_requires
    assert (needed.name, needed.version, needed.is_sdist) == ("demo-build", "1.0", False)
    assert needed.file.name == "demo_build-1.0-py3-none-any.whl"


@pytest.mark.network
def test_any_pip_can_install_from_the_requirements(first: Workspace) -> None:
    text = lock_text(first)["requirements.txt"]
    assert "#    doit lock:demo\n" in text
    for package in packages(first):
        assert f"{package.name}=={package.version} \\\n" in text
        assert f"--hash=sha256:{package.file.digest.hex}\n" in text
    assert text.count("--hash=") == len(packages(first))
    assert "demo-build" not in text
    assert "# via -r images/demo.in\n" in text
    assert "#   -r base/tiny.in\n" in text or "# via -r base/tiny.in\n" in text


@pytest.mark.network
def test_a_lock_names_no_place(first: Workspace) -> None:
    for text in lock_text(first).values():
        for trace in ("://", "127.0.0.1", "localhost", "http", "plinth-lock-", str(first.root)):
            assert trace not in text
        assert tempfile.gettempdir() + "/" not in text


@pytest.mark.network
def test_a_fresh_lock_is_left_alone_without_network(first: Workspace) -> None:
    with IndexServer() as stopped:
        pass
    told: list[str] = []
    before = lock_text(first)
    assert lock_images(first, ["demo"], config=config_of(stopped), progress=told.append) == []
    assert told == ["locks are fresh: nothing to do"]
    assert stopped.asked == []
    assert lock_text(first) == before
    assert stale.check(first, "demo").packages == packages(first)


@pytest.mark.network
def test_the_same_specification_locks_to_the_same_bytes(
    first: Workspace, server: IndexServer, tmp_path: Path, tools: Path
) -> None:
    # Whatever the index has got since, if it was uploaded after the moment.
    for version in ("1.5", "4.0"):
        server.add(wheel(tmp_path / "files", "demo_app", version), uploaded=LATER)
    again = checkout(tmp_path / "elsewhere", tools)
    assert lock_images(again, ["demo"], config=config_of(server), progress=silent) == ["demo"]
    assert lock_text(again) == lock_text(first)


@pytest.mark.network
def test_pins_stay_until_one_is_let_go(
    locked: Workspace, server: IndexServer, tmp_path: Path
) -> None:
    files = tmp_path / "files"
    before = versions(locked)
    # Backdated, so that as-of does not hide them: only the pins keep them out.
    server.add(wheel(files, "demo_app", "1.2", "demo-leaf<3"))
    server.add(wheel(files, "demo_leaf", "2.5"))
    server.add(wheel(files, "demo_extra", "1.0", "demo-leaf"))
    # Yanked since: invisible, but for a lock that holds it already.
    server.add(
        wheel(files, "demo_native", "1.0"),
        name="demo_native-1.0-cp37-cp37m-manylinux2014_x86_64.whl",
        yanked=True,
    )
    specify(locked, *REQUIREMENTS, "demo-extra")
    assert lock_images(locked, ["demo"], config=config_of(server), progress=silent) == ["demo"]
    assert versions(locked) == {**before, "demo-extra": "1.0"}

    config = config_of(server)
    written = lock_images(locked, ["demo"], config=config, upgrade=["demo-app"], progress=silent)
    assert written == ["demo"]
    assert versions(locked) == {**before, "demo-extra": "1.0", "demo-app": "1.2"}
    assert stale.check(locked, "demo")


@pytest.mark.network
def test_a_conflict_is_told_in_words(locked: Workspace, server: IndexServer) -> None:
    before = lock_text(locked)
    specify(locked, "demo-app", "demo-leaf>=3")
    with pytest.raises(LockError) as raised:
        lock_images(locked, ["demo"], config=config_of(server), progress=silent)
    message = str(raised.value)
    assert message.startswith("images/demo.toml: the requirements cannot be met")
    assert "for Python 3.7 and glibc 2.27" in raised.value.expected
    assert raised.value.found.splitlines()[-2:] == [
        "asked for: demo-leaf>=3 (images/demo.toml: python.requirements[1])",
        "demo-app 1.1 needs demo-leaf<3",
    ]
    assert "[[python.constraints]]" in raised.value.remedy
    for trace in ("127.0.0.1", str(server.port), "http", "plinth-lock-", tempfile.gettempdir()):
        assert trace not in message
    assert lock_text(locked) == before


@pytest.mark.network
def test_a_package_nobody_can_install_is_named(locked: Workspace, server: IndexServer) -> None:
    # There is a 2.0, but its wheel is for a newer glibc.
    specify(locked, "demo-app", "demo-native>=2")
    with pytest.raises(LockError, match="the requirements cannot be met") as raised:
        lock_images(locked, ["demo"], config=config_of(server), progress=silent)
    assert "demo-native>=2" in raised.value.found
    assert "glibc 2.27" in raised.value.expected


@pytest.mark.network
def test_an_index_that_fails_leaves_the_lock_as_it_was(
    locked: Workspace, server: IndexServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plinth.core.stopping.pause", lambda seconds: time.sleep(0))
    before = lock_text(locked)
    specify(locked, *REQUIREMENTS, "demo-build")
    server.instead("/simple/demo-app/", Answer(500))
    with pytest.raises(FetchError) as raised:
        lock_images(locked, ["demo"], config=config_of(server), progress=silent)
    message = str(raised.value)
    assert message.startswith("demo-app: the package index answered 500")
    assert f":{server.port} answered 500" in message
    assert lock_text(locked) == before


@pytest.mark.network
def test_a_stale_lock_is_refused_with_what_changed(locked: Workspace) -> None:
    specify(locked, "demo-app~=1.1", "demo-native>=1", "demo-source")
    path = locked.bases / "tiny.toml"
    path.write_text(path.read_text().replace('glibc = "2.27"', 'glibc = "2.31"'))
    with pytest.raises(StaleLockError) as raised:
        stale.check(locked, "demo")
    assert raised.value.where == "locks/demo/pylock.toml"
    assert raised.value.found.splitlines() == [
        "glibc: '2.27' became '2.31'",
        "requirements: demo-app became demo-app~=1.1",
    ]
    assert raised.value.remedy == "lock again: doit lock:demo"


@pytest.mark.network
def test_a_lock_edited_by_hand_is_refused(locked: Workspace) -> None:
    path = locked.locks / "demo" / "pylock.toml"
    text = path.read_text()
    digest = stale.check(locked, "demo").inputs_digest
    path.write_text(text.replace(digest, "0" * 64))
    with pytest.raises(LockError, match="edited by hand") as raised:
        stale.check(locked, "demo")
    assert (raised.value.expected, raised.value.found) == (digest, "0" * 64)
    path.write_text(text)
    for change in ("appended", "gone"):
        requirements = locked.locks / "demo" / "requirements.txt"
        if change == "gone":
            requirements.unlink()
        else:
            requirements.write_text(requirements.read_text() + "evil==1.0\n")
        with pytest.raises(StaleLockError, match="do not belong together") as torn:
            stale.check(locked, "demo")
        assert torn.value.where == "locks/demo/requirements.txt"
        assert "doit lock:demo" in torn.value.remedy


@pytest.mark.network
def test_a_lock_that_is_not_there_is_asked_for(locked: Workspace) -> None:
    shutil.rmtree(locked.locks)
    with pytest.raises(LockError, match="there is no lock for demo") as raised:
        stale.check(locked, "demo")
    assert raised.value.remedy == "make it: doit lock:demo"


def test_a_hostile_wheel_without_metadata_does_not_enter_the_store(tmp_path: Path) -> None:
    """Its metadata has to be taken out of it, so the resolver brings it here before any build."""
    path = make_wheel(tmp_path, {"../evil.py": b"x"})
    store = BlobStore(tmp_path / "store")
    with IndexServer() as server:
        server.add(path, metadata=False)
        index = Index(Config(index_url=server.url), tmp_path / "index", store)
        with LoopbackIndex(index, Target("3.7", (2, 27), "amd64", ()), AS_OF, {}) as loopback:
            page = loopback.page("demo", View())
            assert page is not None
            (file,) = page["files"]
            for link in (f"{file['url']}.metadata", file["url"]):
                with pytest.raises(urllib.error.HTTPError, match="404") as raised:
                    urllib.request.urlopen(link)  # noqa: S310
                raised.value.close()
        assert [str(error).splitlines()[0] for error in loopback.failures] == [
            "demo-1.0-py3-none-any.whl: ../evil.py: path escapes or is not normal"
        ] * 2
    assert list(store.blobs.iterdir()) == []


def package_of(path: Path, name: str = "", digest: Digest | None = None) -> LockedPackage:
    """A lock's entry for the wheel at `path`."""
    project, version, *_ = path.name.split("-")
    file = LockedFile(name or path.name, digest or Digest.of_file(path), UPLOADED)
    return LockedPackage(project, version, file, is_sdist=False)


def blobs(ws: Workspace) -> list[str]:
    """The names in the store, and that nothing half-written is beside it."""
    assert list(ws.cache.temporary.glob("*")) == []
    return sorted(path.name for path in ws.cache.blobs.glob("*"))


@pytest.fixture
def empty(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path, tmp_path / "build")


@pytest.fixture
def nowhere() -> Config:
    """Settings with an index that cannot be reached."""
    with IndexServer() as stopped:
        return Config(index_url=stopped.url)


@pytest.mark.network
def test_all_files_of_a_lock_are_fetched_once(
    first: Workspace, empty: Workspace, server: IndexServer, nowhere: Config
) -> None:
    told: list[str] = []
    config = Config(index_url=server.url)
    fetch_files(empty, config, packages(first), admit=_admit, progress=told.append)
    (source,) = (package for package in packages(first) if package.is_sdist)
    wanted = [*packages(first), *source.build_requires]
    assert blobs(empty) == sorted(package.file.digest.hex for package in wanted)
    assert told[0].startswith("fetching 6 files, ")
    # Nothing is missing now, so nothing is asked of anyone.
    fetch_files(empty, nowhere, packages(first), admit=_admit, progress=told.append)
    assert len(told) == 1


def test_a_folder_of_wheels_goes_before_the_index(
    empty: Workspace, tmp_path: Path, nowhere: Config
) -> None:
    path = make_wheel(tmp_path)
    config = replace(nowhere, files={"wheels": str(tmp_path)})
    fetch_files(empty, config, [package_of(path)], admit=_admit, progress=silent)
    assert blobs(empty) == [Digest.of_file(path).hex]


def test_the_largest_files_are_begun_with(
    empty: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plinth.fetch.wheels._AT_ONCE", 1)
    sizes = {"middle": 5_000, "large": 9_000, "small": 1_000}
    paths = []
    with IndexServer() as server:
        for name, size in sizes.items():
            data = random.Random(name).randbytes(size)  # noqa: S311
            paths.append(make_wheel(tmp_path, {f"{name}.bin": data}, name=name))
            server.add(paths[-1])
        config = Config(index_url=server.url)
        entries = [package_of(path) for path in paths]
        fetch_files(empty, config, entries, admit=_admit, progress=silent)
    files = [path for path in server.asked if path.startswith("/files/")]
    assert files == [f"/files/{paths[number].name}" for number in (1, 0, 2)]


def test_what_the_folder_lacks_comes_from_the_index(empty: Workspace, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    one = make_wheel(tmp_path / "folder", name="one")
    two = make_wheel(tmp_path, name="two")
    with IndexServer() as server:
        server.add(two)
        config = Config(index_url=server.url, files={"wheels": str(tmp_path / "folder")})
        found = [package_of(one), package_of(two)]
        fetch_files(empty, config, found, admit=_admit, progress=silent)
    assert blobs(empty) == sorted(package.file.digest.hex for package in found)
    assert server.asked == ["/simple/two/", f"/files/{two.name}"]


def test_wrong_content_in_the_folder_is_refused(
    empty: Workspace, tmp_path: Path, nowhere: Config
) -> None:
    path = make_wheel(tmp_path)
    package = package_of(path)
    make_wheel(tmp_path, {"demo/__init__.py": b"x = 2\n"})
    with pytest.raises(IntegrityError, match="does not match") as raised:
        config = replace(nowhere, files={"wheels": str(tmp_path)})
        fetch_files(empty, config, [package], admit=_admit, progress=silent)
    assert raised.value.where == str(path)
    assert package.file.digest.oci in raised.value.expected
    assert blobs(empty) == []


def test_wrong_content_from_the_index_is_refused(empty: Workspace, tmp_path: Path) -> None:
    path = make_wheel(tmp_path)
    with IndexServer() as server:
        server.add(path)
        server.instead(f"/files/{path.name}", Answer(200, bytes(path.stat().st_size)))
        with pytest.raises(IntegrityError, match="does not match") as raised:
            config = Config(index_url=server.url)
            fetch_files(empty, config, [package_of(path)], admit=_admit, progress=silent)
    assert raised.value.where == path.name
    assert blobs(empty) == []


@pytest.mark.parametrize("place", ["index", "folder"])
def test_a_hostile_wheel_is_refused_and_nothing_of_it_kept(
    empty: Workspace, tmp_path: Path, place: str
) -> None:
    path = make_wheel(tmp_path, {"../evil.py": b"x"})
    with IndexServer() as server:
        server.add(path)
        folder = {"wheels": str(tmp_path)} if place == "folder" else {}
        config = Config(index_url=server.url, files=folder)
        with pytest.raises(WheelError) as raised:
            fetch_files(empty, config, [package_of(path)], admit=_admit, progress=silent)
    assert str(raised.value).startswith(f"{path.name}: ../evil.py: path escapes")
    assert blobs(empty) == []
    assert server.count("/files/") == (1 if place == "index" else 0)


def test_a_wheel_of_another_project_is_refused(empty: Workspace, tmp_path: Path) -> None:
    path = make_wheel(tmp_path, name="evil")
    name = "demo-1.0-py3-none-any.whl"
    with IndexServer() as server:
        server.add(path, name=name)
        entry = replace(package_of(path, name), name="demo")
        with pytest.raises(WheelError) as raised:
            config = Config(index_url=server.url)
            fetch_files(empty, config, [entry], admit=_admit, progress=silent)
    assert raised.value.where.startswith(name)
    assert "evil" in raised.value.found
    assert blobs(empty) == []


def test_a_file_that_is_nowhere(empty: Workspace, tmp_path: Path) -> None:
    path = make_wheel(tmp_path)
    other = Digest.of(b"other")
    with IndexServer() as server:
        server.add(path)
        config = Config(index_url=server.url)
        with pytest.raises(FetchError) as raised:
            # The name alone is not enough: another file of this name is not the one locked.
            fetch_files(
                empty, config, [package_of(path, digest=other)], admit=_admit, progress=silent
            )
    message = str(raised.value)
    assert message.startswith(f"demo 1.0: {path.name} is in no configured place")
    assert raised.value.expected == other.oci
    assert "files.wheels" in raised.value.remedy
    assert str(server.port) not in message
    assert blobs(empty) == []
