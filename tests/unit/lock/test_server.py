"""The loopback index of one lock, asked over HTTP as a resolver asks it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from plinth.core.digest import Digest
from plinth.core.errors import FetchError, LockError
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.fetch.pypi.index import Index
from plinth.lock.answering import AnsweringServer
from plinth.lock.server import LoopbackIndex, View
from plinth.recipe.image import Target
from support.helpers import make_wheel
from support.index_server import AS_OF, JSON, Answer, IndexServer

TARGET = Target("3.7", (2, 27), "amd64", ())
NATIVE = "demo-1.0-cp37-cp37m-manylinux2014_x86_64.whl"
PURE = "demo-1.0-py3-none-any.whl"
OLD = "demo-0.9.tar.gz"
UNFIT = "demo-3.0-cp38-cp38-manylinux2014_x86_64.whl"
Made = Callable[..., AbstractContextManager[LoopbackIndex]]


@pytest.fixture
def server() -> Iterator[IndexServer]:
    with IndexServer() as running:
        yield running


@pytest.fixture
def made(server: IndexServer, tmp_path: Path) -> Made:
    """Makes the loopback index of the configured one; arguments: versions pinned, other indexes."""
    index = Index(Config(index_url=server.url), tmp_path / "index", BlobStore(tmp_path / "store"))
    vars(index)["_settings"] = (server.url, None)

    def make(
        pinned: dict[str, str] | None = None, others: dict[str, Index] | None = None
    ) -> LoopbackIndex:
        return LoopbackIndex(index, TARGET, AS_OF, pinned or {}, others)

    return make


def get(url: str) -> tuple[int, str, bytes]:
    """The status, the content type and the body."""
    try:
        with urllib.request.urlopen(url) as answer:  # noqa: S310
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read()


def listed(url: str) -> dict[str, dict[str, Any]]:
    """The files of a page, by name."""
    status, kind, body = get(url)
    assert (status, kind) == (200, JSON)
    return {file["filename"]: file for file in json.loads(body)["files"]}


def stock(server: IndexServer, folder: Path) -> dict[str, Path]:
    """Two wheels of a version, an sdist of it and of another, and what the target cannot use; each
    of other content."""
    found = {}
    for name in (PURE, NATIVE, "demo-1.0.tar.gz", OLD, "demo-0.8.zip", UNFIT):
        made = make_wheel(folder, {"demo.py": name.encode()}, more="Requires-Dist: other\n")
        found[name] = made.rename(folder / f"{name}.file")
        server.add(found[name], name=name, metadata=name != NATIVE)
    return found


def asked(server: IndexServer, *paths: str) -> None:
    """Wait until the index was asked for these, which is done in threads."""
    until = time.monotonic() + 20
    while not set(paths) <= set(server.asked):
        assert time.monotonic() < until, server.asked
        time.sleep(0.002)


def test_a_page_lists_what_the_target_can_use_and_each_file_is_had_there(
    server: IndexServer, made: Made, tmp_path: Path
) -> None:
    files = stock(server, tmp_path)
    text = get(f"{server.origin}/files/{PURE}.metadata")[2]
    with made() as loopback:
        page = listed(f"{loopback.url}/Demo/")
        assert list(page) == [PURE, NATIVE, OLD]
        for name, metadata in (
            (PURE, {"sha256": Digest.of(text).hex}),
            (NATIVE, True),
            (OLD, True),
        ):
            content = files[name].read_bytes()
            digest = Digest.of(content).hex
            assert page[name] == {
                "filename": name,
                "url": f"{loopback.origin}/files/{digest}/{name}",
                "hashes": {"sha256": digest},
                "core-metadata": metadata,
                "yanked": False,
            }
            assert get(page[name]["url"]) == (200, "application/octet-stream", content)
        assert get(f"{page[PURE]['url']}.metadata")[::2] == (200, text)
        assert not loopback.failures


def test_metadata_the_index_lacks_are_taken_out_of_the_wheel(
    server: IndexServer, made: Made, tmp_path: Path
) -> None:
    path = make_wheel(tmp_path, more="Requires-Dist: other\n")
    server.add(path, metadata=False)
    with made() as loopback:
        url = listed(f"{loopback.url}/demo/")[PURE]["url"]
        status, kind, body = get(f"{url}.metadata")
    assert (status, kind) == (200, "application/octet-stream")
    assert body.endswith(b"Requires-Dist: other\n")
    assert server.count(f"/files/{PURE}") == 1


def test_the_metadata_of_an_sdist_are_asked_of_who_can_tell(
    server: IndexServer, made: Made, tmp_path: Path
) -> None:
    server.add(make_wheel(tmp_path), name=OLD)
    with made() as loopback:
        url = listed(f"{loopback.url}/demo/")[OLD]["url"]
        assert get(f"{url}.metadata")[0] == 404
        loopback.prepare = lambda file: f"of {file.name}".encode()
        assert get(f"{url}.metadata")[2] == f"of {OLD}".encode()
        (failure,) = loopback.failures
    assert isinstance(failure, LockError)
    assert failure.where == OLD


def test_the_other_address_hides_sdists(server: IndexServer, made: Made, tmp_path: Path) -> None:
    server.add(stock(server, tmp_path)[OLD], name="source_only-1.0.tar.gz")
    with made() as loopback:
        assert list(listed(f"{loopback.wheels_url}/demo/")) == [PURE, NATIVE]
        assert loopback.only_sources == set()
        assert get(f"{loopback.wheels_url}/nothing/")[0] == 404
        assert loopback.only_sources == set()
        assert get(f"{loopback.wheels_url}/source.Only/")[0] == 404
        assert loopback.only_sources == {"source-only"}
        assert list(listed(f"{loopback.url}/source-only/")) == ["source_only-1.0.tar.gz"]


def test_a_view_shows_no_version_below_a_floor(
    server: IndexServer, made: Made, tmp_path: Path
) -> None:
    stock(server, tmp_path)
    with made() as loopback:
        for floor, sources, shown in (
            ("1.0", True, [PURE, NATIVE]),
            ("0.9", True, [PURE, NATIVE, OLD]),
            ("0.9", False, [PURE, NATIVE]),
        ):
            url = loopback.view(View(sources, {"demo": Version(floor)}))
            assert list(listed(f"{url}/Demo/")) == shown
            releases = json.loads(get(f"{url.removesuffix('/simple')}/pypi/demo/json")[2])
            assert len(releases["releases"]) == len({name.split("-")[1] for name in shown})
        assert get(f"{loopback.origin}/view9/simple/demo/")[0] == 404


def test_hashes_are_told_as_pip_tools_asks_for_them(
    server: IndexServer, made: Made, tmp_path: Path
) -> None:
    files = stock(server, tmp_path)

    def entry(name: str, kind: str) -> dict[str, object]:
        digest = Digest.of_file(files[name]).hex
        url = f"{loopback.origin}/files/{digest}/{name}"
        return {"url": url, "packagetype": kind, "digests": {"sha256": digest}}

    with made() as loopback:
        wheels = [entry(name, "bdist_wheel") for name in (PURE, NATIVE)]
        for origin, releases in (
            (loopback.origin, {"1.0": wheels, "0.9": [entry(OLD, "sdist")]}),
            (f"{loopback.origin}/wheels", {"1.0": wheels}),
        ):
            status, kind, body = get(f"{origin}/pypi/demo/json")
            assert (status, kind) == (200, "application/json")
            assert json.loads(body) == {"releases": releases}


@pytest.mark.parametrize(
    "path",
    [
        *("simple", "simple/demo/more", "simpler/demo", "wheels", "wheels/simple", "wheels/demo"),
        *("pypi/demo", "pypi/demo/jsonp", "pypi/demo/json/more", "pipy/demo/json", "demo/json"),
        *("files", "files/{digest}", "files/{digest}/x/y", "files/0/demo", "file/{digest}/demo"),
        *("other/{digest}", "", "{digest}"),
    ],
)
def test_there_is_nothing_else(server: IndexServer, made: Made, tmp_path: Path, path: str) -> None:
    digest = server.add(make_wheel(tmp_path))["hashes"]["sha256"]
    with made() as loopback:
        listed(f"{loopback.url}/demo/")
        assert get(f"{loopback.origin}/{path.format(digest=digest)}")[::2] == (404, b"")
        assert not loopback.failures


def test_yanked_files_are_seen_only_by_what_pins_them(
    server: IndexServer, made: Made, tmp_path: Path
) -> None:
    for version in ("1.0", "1.1", "1.2"):
        server.add(make_wheel(tmp_path, version=version), yanked=version != "1.0")
    shown = {}
    for pin in ("", "1.0", "1.1"):
        with made({"demo": pin}) as loopback:
            shown[pin] = [str(candidate.version) for candidate in loopback.visible("Demo")]
    assert shown == {"": ["1.0"], "1.0": ["1.0"], "1.1": ["1.0", "1.1"]}


def test_some_projects_come_from_another_index(
    server: IndexServer, made: Made, tmp_path: Path
) -> None:
    server.add(make_wheel(tmp_path))
    with IndexServer() as second:
        second.add(make_wheel(tmp_path, version="2.0"))
        other = Index(Config(), tmp_path / "other", BlobStore(tmp_path / "store"), url=second.url)
        with made(None, {"demo": other}) as loopback:
            assert [str(one.version) for one in loopback.visible("demo")] == ["2.0"]
            assert loopback.visible("else") == []
    assert server.asked == ["/simple/else/"]


def test_what_the_newest_version_needs_is_fetched_ahead(
    server: IndexServer, made: Made, tmp_path: Path
) -> None:
    def add(version: str, *needs: str, **fields: object) -> None:
        more = "".join(f"Requires-Dist: {need}\n" for need in needs)
        server.add(make_wheel(tmp_path, version=version, more=more), **fields)  # type: ignore[arg-type]

    add("1.0", "old")
    add("2.0rc1", "early")
    needs = ("Direct>=1", "backport; python_version < '3.8'", "new; python_version >= '3.8'")
    add("1.10", *needs, "wanted; extra == 'more'", "last")
    with made() as loopback:
        listed(f"{loopback.url}/demo/")
        asked(server, "/simple/direct/", "/simple/backport/", "/simple/last/")
        # Asked for again, nothing is fetched again.
        loopback.prefetch("Demo")
        loopback.prefetch("last")
    assert sorted(path for path in server.asked if path.startswith("/simple/")) == [
        f"/simple/{name}/" for name in ("backport", "demo", "direct", "last")
    ]


@pytest.mark.parametrize("pin", ["1.0", "2.0rc1"])
def test_what_a_pinned_version_needs_goes_before(
    server: IndexServer, made: Made, tmp_path: Path, pin: str
) -> None:
    for version, need in (("1.0", "of-1.0"), ("1.1", "of-1.1"), ("2.0rc1", "of-2.0rc1")):
        path = make_wheel(tmp_path, version=version, more=f"Requires-Dist: {need}\n")
        server.add(path)
    with made({"demo": pin}) as loopback:
        loopback.prefetch("demo")
        asked(server, f"/simple/of-{pin.replace('.', '-')}/")
    assert server.count("/simple/of-") == 1


def test_the_metadata_fetched_ahead_are_of_the_best_file(
    server: IndexServer, made: Made, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    server.add(make_wheel(tmp_path, more="Requires-Dist: of-any\n"))
    native = make_wheel(tmp_path / "other", more="Requires-Dist: of-native\n")
    server.add(native, name=NATIVE)
    server.add(native, name="demo-1.0-py2.py3-none-any.whl", metadata=False)
    with made() as loopback:
        loopback.prefetch("demo")
        asked(server, "/simple/of-native/")
    assert server.count("/simple/of-any/") == 0


def test_what_goes_wrong_ahead_is_told_when_it_is_asked_for(
    server: IndexServer, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plinth.core.stopping.pause", lambda seconds: None)
    server.add(make_wheel(tmp_path, more="Requires-Dist: no(such\nRequires-Dist: never\n"))
    server.instead("/simple/broken/", Answer(500))
    with made() as loopback:
        loopback.prefetch("broken")
        loopback.prefetch("demo")
        assert list(listed(f"{loopback.url}/demo/")) == [PURE]
        assert get(f"{loopback.url}/broken/") == (404, "text/plain", b"")
        (failure,) = loopback.failures
    assert isinstance(failure, FetchError)
    assert server.count("/simple/never/") == 0


def test_only_those_who_hang_up_are_passed_over(capfd: pytest.CaptureFixture[str]) -> None:
    with AnsweringServer(lambda _: (None, "")) as server:
        for error in (ConnectionResetError("gone"), ValueError("a defect")):
            try:
                raise error
            except (ConnectionResetError, ValueError):
                server.handle_error(None, ("127.0.0.1", 9))
    shown = capfd.readouterr().err
    assert "a defect" in shown
    assert "gone" not in shown


def test_a_file_that_is_held_is_the_only_one_but_for_builds(
    server: IndexServer, made: Made, tmp_path: Path
) -> None:
    files = stock(server, tmp_path)
    with made() as loopback:
        # Worse than the other, and an sdist where there are wheels.
        for name in (PURE, "demo-1.0.tar.gz"):
            loopback.held = {"demo": Digest.of_file(files[name]).hex}
            loopback._visible.clear()
            assert list(listed(f"{loopback.url}/Demo/")) == [name]
            assert list(listed(f"{loopback.wheels_url}/demo/")) == [PURE, NATIVE]


def test_what_an_sdist_was_built_with_is_shown_to_builds_although_yanked(
    server: IndexServer, made: Made, tmp_path: Path
) -> None:
    path = make_wheel(tmp_path)
    server.add(path, yanked="it was bad")
    with made() as loopback:
        loopback.built_with = {Digest.of_file(path).hex}
        assert list(listed(f"{loopback.wheels_url}/demo/")) == [PURE]
        assert get(f"{loopback.url}/demo/")[0] == 404
    with made() as loopback:
        assert get(f"{loopback.wheels_url}/demo/")[0] == 404
