"""An index that has HTML alone: what it lists, what is asked for it, where it is not enough."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import requests

from plinth.core.digest import Digest
from plinth.core.errors import FetchError, LockError
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.fetch.pypi import links
from plinth.fetch.pypi.index import JSON, Index
from plinth.fetch.wheels import fetch_files
from plinth.graph.workspace import Workspace
from plinth.recipe.image import Target
from plinth.recipe.locks.pylock import LockedFile, LockedPackage
from support.helpers import make_wheel
from support.http_server import Handler, Server, serving

TARGET = Target("3.7", (2, 27), "amd64", ())
WHEEL = "torch-1.6.0+cpu-py3-none-any.whl"
QUOTED = WHEEL.replace("+", "%2B")


class Html(Handler):
    """A page of links, and the files; none where there is one called `hidden`. What the page was
    asked as is kept."""

    accepted: ClassVar[list[str]] = []

    def answer(self) -> None:
        """The page, or a file."""
        wheel = Path(self.directory) / WHEEL
        sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if self.path == "/whl/cpu/torch/":
            self.accepted.append(self.headers["Accept"])
            other = "torch-1.6.0+cpu-cp38-cp38-linux_x86_64.whl"
            text = (
                f'<!DOCTYPE html><a href="../../{QUOTED}#sha256={sha256}" '
                f'data-requires-python="&gt;=3.6">{WHEEL}</a>'
                f'<a href="../../{other}#sha256={sha256}" data-yanked="it was bad" '
                f'data-upload-time="2021-01-01T00:00:00.000000Z">{other}</a>'
                f'<a href="../../unhashed-1.0-py3-none-any.whl">unhashed</a>'
            )
            self.reply(200, text.encode(), headers={"Content-Type": "text/html; charset=utf-8"})
        elif self.path == f"/whl/{QUOTED}" and not wheel.with_name("hidden").exists():
            headers = {"Last-Modified": "Tue, 28 Jul 2020 16:00:00 GMT"}
            self.reply(200, wheel.read_bytes(), headers=headers)
        else:
            self.reply(404)


class Moved(Html):
    """Html whose files have gone to another place."""

    def answer(self) -> None:
        """The page, or where the file is now, or the file."""
        if self.path == f"/whl/{QUOTED}":
            self.reply(302, headers={"Location": f"/files/{QUOTED}"})
            return
        self.path = self.path.replace("/files/", "/whl/")
        super().answer()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    wheel = make_wheel(tmp_path, {"torch.py": b"x = 1\n"}, name="torch", version="1.6.0+cpu")
    wheel.rename(tmp_path / WHEEL)
    with serving(tmp_path, Html) as running:
        yield running


def package(path: Path, index: str) -> LockedPackage:
    file = LockedFile(WHEEL, Digest.of_file(path), "2020-07-28T16:00:00.000000Z")
    return LockedPackage("torch", "1.6.0+cpu", file, False, index=index)


def index_of(server: Server, folder: Path) -> Index:
    """The server's index; its files are in `folder`."""
    config = Config(index_url=f"{server.url}/whl/cpu")
    return Index(config, folder / "cache", BlobStore(folder / "store"))


@pytest.mark.parametrize("text", ["<![x ><a>", "<![ foo["])
def test_what_is_no_html_is_refused_in_words(text: str) -> None:
    with pytest.raises(LockError, match="the index's page is not HTML") as raised:
        links.page(f'<a href="a-1.0.tar.gz">{text}', "https://me:secret@index.test/a/")
    assert raised.value.where == "https://index.test/a/"


def test_size_and_time_are_asked_for_where_they_are_wanted(server: Server, tmp_path: Path) -> None:
    index = index_of(server, tmp_path)
    Html.accepted.clear()
    file, other = index.files("torch", None)
    assert Html.accepted == [f"{JSON}, text/html;q=0.1"]
    wheel = tmp_path / WHEEL
    assert (file.name, file.requires_python) == (WHEEL, ">=3.6")
    assert [one.uploaded for one in (file, other)] == ["", "2021-01-01T00:00:00.000000Z"]
    assert (other.yanked, other.reason) == (True, "it was bad")
    file = index.described(file)
    assert file.digest == Digest.of_file(wheel)
    assert file.uploaded.startswith("2020-07-28T16:00:00")
    # The wheel for another Python is not asked for.
    assert [line for line in server.asked if line.startswith("HEAD")] == [f"HEAD /whl/{QUOTED}"]
    assert index.download(file).read_bytes() == wheel.read_bytes()


def test_a_file_that_is_listed_and_not_there(server: Server, tmp_path: Path) -> None:
    (tmp_path / "hidden").touch()
    index = index_of(server, tmp_path)
    with pytest.raises(FetchError) as raised:
        index.described(index.files("torch", None)[0])
    assert raised.value.where == WHEEL


def test_files_that_have_moved_are_asked_for_where_they_are(server: Server, tmp_path: Path) -> None:
    with serving(tmp_path, Moved) as moved:
        indexes = index_of(server, tmp_path / "a"), index_of(moved, tmp_path / "b")
        here, there = (one.described(one.files("torch", None)[0]) for one in indexes)
    assert there._replace(url=here.url) == here
    assert [line for line in moved.asked if line.startswith("HEAD")] == [
        f"HEAD /whl/{QUOTED}",
        f"HEAD /files/{QUOTED}",
    ]


class OneByte(Html):
    """Html whose files are there for GET alone, and in parts."""

    def answer(self) -> None:
        """The page, or the first byte of a file."""
        if self.path == f"/whl/{QUOTED}":
            size = (Path(self.directory) / WHEEL).stat().st_size
            if self.command == "HEAD":
                self.reply(405)
            else:
                self.reply(206, b"P", headers={"Content-Range": f"bytes 0-0/{size}"})
        else:
            super().answer()


def test_a_size_is_had_without_head(server: Server, tmp_path: Path) -> None:
    with serving(tmp_path, OneByte) as running:
        index = index_of(running, tmp_path)
        file = index.described(index.files("torch", None)[0])
    assert file.digest == Digest.of_file(tmp_path / WHEEL)
    assert file.uploaded == ""


def test_a_locked_file_comes_from_the_index_its_lock_names(server: Server, tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "checkout", tmp_path / "checkout" / "build")
    config = Config(
        index_url=f"{server.url}/nowhere", indexes={"pytorch-cpu": f"{server.url}/whl/cpu"}
    )
    wanted = package(tmp_path / WHEEL, "pytorch-cpu")
    fetch_files(ws, config, [wanted], admit=lambda *_: None, progress=quiet)
    assert ws.cache.has(wanted.file.digest)


def test_where_the_settings_do_not_know_it_they_are_asked_for(
    server: Server, tmp_path: Path
) -> None:
    ws = Workspace(tmp_path / "checkout", tmp_path / "checkout" / "build")
    config = Config(index_url=f"{server.url}/whl/cpu")
    with pytest.raises(FetchError) as raised:
        fetch_files(
            ws,
            config,
            [package(tmp_path / WHEEL, "pytorch-cpu")],
            admit=lambda *_: None,
            progress=quiet,
        )
    assert raised.value.where == "torch 1.6.0+cpu"
    assert raised.value.remedy.startswith('set indexes."pytorch-cpu" in the settings')
    # No other index is asked, though it has the very file.
    assert server.asked == []


def test_a_change_in_a_year_of_three_digits_is_a_moment() -> None:
    answer = requests.Response()
    answer.headers["Last-Modified"] = "Fri, 01 Jan 0999 00:00:00 GMT"
    assert links.moment_of(answer) == "0999-01-01T00:00:00.000000Z"


def test_what_pip_reads_in_a_page_is_read() -> None:
    meta = '<meta name="pypi:repository-version" content="{}">'
    link = f'<a href="files/a-1.0.tar.gz#egg=a&sha256={"0" * 64}">a</a>'
    for version in ("1", "", " 1.0 ", "1.3"):
        text = f'{meta.format(version)}<base href="/other/"><base href="/no/">{link}'
        (file,) = links.page(text, "http://127.0.0.1/simple/a/")["files"]
        assert file["url"] == "http://127.0.0.1/other/files/a-1.0.tar.gz"
        assert file["hashes"] == {"sha256": "0" * 64}


def test_a_page_of_another_api_is_refused() -> None:
    meta = '<meta name="pypi:repository-version" content="{}">'
    assert links.page(meta.format("1.3"), "http://127.0.0.1/simple/x/") == {"files": []}
    with pytest.raises(LockError, match="a version of the simple API") as raised:
        links.page(meta.format("2.0"), "http://127.0.0.1/simple/x/")
    assert raised.value.found == "'2.0'"
