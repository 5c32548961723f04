"""A build from nothing: what is asked for, made and given up at the same time."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from plinth.build import sdists
from plinth.build.base import ensure_python
from plinth.build.image import build_image
from plinth.core import stopping
from plinth.core.digest import Digest
from plinth.core.errors import FetchError
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.formats.python.place import Python
from support import needs, sandboxed_sdists
from support.helpers import make_wheel
from support.http_server import Handler, Server, serving
from support.sandboxed_sdists import BEGUN, never_ending
from support.sandboxes import host_root
from support.small_checkout import IMAGE, SmallCheckout, locked, make, sdist, wheel

_PATIENCE = 20.0
"""Seconds that a server of these tests waits for what has to happen first."""

_STALL = 60.0
"""Seconds for which a server that stalls keeps whoever asks."""

_SOON = 10.0
"""Seconds in which what nobody waits for has ended, on a busy machine."""


@pytest.fixture
def checkout(tmp_path: Path) -> SmallCheckout:
    """A checkout of two wheels, with nothing in its store but the interpreter."""
    made = make(tmp_path / "small")
    made.lock(_two_wheels(made))
    made.seed(debs=False)
    return made


def _two_wheels(made: SmallCheckout) -> list[Path]:
    return [
        wheel(made.wheels, "large", "1.0", data=3_000_000),
        wheel(made.wheels, "little", "1.0"),
    ]


class _World(Handler):
    """An index of the checkout's wheels and sdists, and an archive of its packages."""

    checkout: SmallCheckout
    over: threading.Event
    """Whether the test is over, so that nobody needs to be kept waiting."""

    files = "/files"
    """Where the index has its files."""

    def answer(self) -> None:
        kind, _, name = self.path.strip("/").partition("/")
        if kind == "simple":
            self.page(name.strip("/"))
            return
        folder = self.checkout.archive if kind == "pool" else self.checkout.wheels
        path = folder / (self.path.strip("/") if kind == "pool" else name)
        if not path.is_file():
            self.reply(404)
        elif self.command == "HEAD" or self.headers.get("Range") == "bytes=0-0":
            # Whether it is there is asked before a build begins.
            self.reply(200)
        else:
            self.give(path.read_bytes())

    def give(self, data: bytes) -> None:
        """Answer with a file; subclasses let something happen first."""
        self.reply(200, data)

    def page(self, project: str) -> None:
        """Answer with the page of a project; likewise."""
        (path,) = self.checkout.wheels.glob(f"{project}-*")
        data = path.read_bytes()
        file = {
            "filename": path.name,
            "url": f"{self.files}/{path.name}",
            "hashes": {"sha256": hashlib.sha256(data).hexdigest()},
            "size": len(data),
            "upload-time": "2020-01-01T00:00:00Z",
        }
        page = {"meta": {"api-version": "1.1"}, "name": project, "files": [file]}
        kind = {"Content-Type": "application/vnd.pypi.simple.v1+json"}
        self.reply(200, json.dumps(page).encode(), kind)

    def stall(self, data: bytes = b"") -> None:
        """Begin with an answer that ends with `data`, or with none, and never go on."""
        if data:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            # Less than any of the files has.
            self.wfile.write(data[:100])
        self.over.wait(_STALL)
        self.close_connection = True


@contextlib.contextmanager
def _served(checkout: SmallCheckout, world: type[_World]) -> Iterator[Server]:
    over = threading.Event()
    kind = type("World", (world,), {"checkout": checkout, "over": over})
    with serving(checkout.root, kind) as server:
        try:
            yield server
        finally:
            over.set()


def _build(
    checkout: SmallCheckout,
    world: type[_World],
    *,
    jobs: int = 2,
    progress: Callable[[str], None] = quiet,
) -> Digest:
    with _served(checkout, world) as server:
        config = Config(
            python={"3.7": str(checkout.root / "none")},
            index_url=f"{server.url}/simple",
            apt={"debian": server.url},
        )
        built = build_image(checkout.ws, IMAGE, config=config, jobs=jobs, progress=progress)
        return built.image.manifest.digest


def _half_written(checkout: SmallCheckout) -> list[Path]:
    stores = checkout.ws.layout, checkout.ws.cache
    return [path for store in stores for path in store.temporary.glob("*")]


def test_wheels_and_system_packages_are_on_their_way_at_once(checkout: SmallCheckout) -> None:
    both = {"files": threading.Event(), "pool": threading.Event()}

    class World(_World):
        def give(self, data: bytes) -> None:
            both[self.path.split("/")[1]].set()
            # Each kind waits for the other.
            met = all(event.wait(_PATIENCE) for event in both.values())
            self.reply(200, data) if met else self.reply(404)

    _build(checkout, World)


def test_wheels_are_on_their_way_while_the_interpreter_is_made(
    checkout: SmallCheckout, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()

    def ensure(*arguments: Any, **options: Any) -> Python:
        assert asked.wait(_PATIENCE)
        return ensure_python(*arguments, **options)

    monkeypatch.setattr("plinth.build.packages.ensure_python", ensure)

    class World(_World):
        def give(self, data: bytes) -> None:
            if self.path.startswith("/files/"):
                asked.set()
            self.reply(200, data)

    _build(checkout, World)


def test_a_wheel_is_made_into_a_layer_while_another_is_on_its_way(
    checkout: SmallCheckout,
) -> None:
    def has_layer() -> bool:
        entries = checkout.ws.actions.root.glob("*.json")
        return any(json.loads(path.read_bytes())["mnemonic"][:6] == "wheel-" for path in entries)

    class World(_World):
        def give(self, data: bytes) -> None:
            end = time.monotonic() + _PATIENCE
            while "/large-" in self.path and not has_layer():
                if time.monotonic() > end:
                    self.reply(404)
                    return
                time.sleep(0.02)
            self.reply(200, data)

    _build(checkout, World)


def test_what_is_on_its_way_is_given_up_where_the_base_cannot_be_made(
    checkout: SmallCheckout,
) -> None:
    begun, given_up = threading.Event(), threading.Event()

    class World(_World):
        def give(self, data: bytes) -> None:
            if self.path.startswith("/pool/"):
                begun.wait(_PATIENCE)
                self.reply(404)
            elif "/large-" in self.path:
                self._slowly(data)
            else:
                self.reply(200, data)

        def _slowly(self, data: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            try:
                for number in range(0, len(data), 1000):
                    self.wfile.write(data[number : number + 1000])
                    begun.set()
                    time.sleep(0.02)
            except OSError:
                given_up.set()

    with pytest.raises(FetchError) as raised:
        _build(checkout, World)
    assert "archives drop old versions" in raised.value.remedy
    assert given_up.wait(_PATIENCE)
    assert not _half_written(checkout)


@contextlib.contextmanager
def _nobody_accepts() -> Iterator[str]:
    """The address of a server whose queue of connections is full, so that none is made."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        while True:
            one = stack.enter_context(socket.socket())
            one.settimeout(0.2)
            if one.connect_ex(listener.getsockname()) == errno.EAGAIN:
                break
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("where", ["head", "body", "connection", "page"])
def test_an_index_that_stalls_is_not_waited_for_where_the_base_cannot_be_made(
    checkout: SmallCheckout, where: str
) -> None:
    begun, failed = threading.Event(), list[float]()

    class World(_World):
        def page(self, project: str) -> None:
            if project == "large" and where in ("page", "connection"):
                begun.set()
            if project == "large" and where == "page":
                self.stall(bytes(100_000))
            else:
                super().page(project)

        def give(self, data: bytes) -> None:
            if self.path.startswith("/pool/"):
                begun.wait(_PATIENCE)
                time.sleep(0.3)
                failed.append(time.monotonic())
                self.reply(404)
            elif "/large-" in self.path:
                begun.set()
                self.stall(data if where == "body" else b"")
            else:
                self.reply(200, data)

    with _nobody_accepts() as nobody:
        World.files = nobody if where == "connection" else "/files"
        with pytest.raises(FetchError) as raised:
            _build(checkout, World)
    assert time.monotonic() - failed[0] < _SOON
    assert "archives drop old versions" in raised.value.remedy
    assert not _half_written(checkout)


def test_a_wheel_that_is_not_there_ends_the_build_whatever_else_stalls(
    checkout: SmallCheckout,
) -> None:
    checkout.seed(debs=True)
    begun, failed = threading.Event(), list[float]()

    class World(_World):
        def give(self, data: bytes) -> None:
            if "/large-" in self.path:
                begun.set()
                self.stall(data)
            begun.wait(_PATIENCE)
            failed.append(time.monotonic())
            self.reply(404)

    with pytest.raises(FetchError, match="404"):
        _build(checkout, World)
    assert time.monotonic() - failed[0] < _SOON


def test_a_wheel_asked_for_ahead_that_is_not_there_ends_the_build_while_the_interpreter_is_made(
    checkout: SmallCheckout, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, failed = threading.Event(), list[float]()

    def ensure(*arguments: Any, **options: Any) -> Python:
        begun.set()
        stopping.pause(_STALL / 2)
        return ensure_python(*arguments, **options)

    monkeypatch.setattr("plinth.build.packages.ensure_python", ensure)

    class World(_World):
        def give(self, data: bytes) -> None:
            if "/large-" in self.path:
                begun.wait(_PATIENCE)
                failed.append(time.monotonic())
                self.reply(404)
            else:
                self.stall(data)

    with pytest.raises(FetchError, match="404") as raised:
        _build(checkout, World)
    assert time.monotonic() - failed[0] < _SOON
    assert "large" in str(raised.value)
    assert not _half_written(checkout)


def test_of_several_packages_the_one_that_is_not_there_ends_the_others(
    checkout: SmallCheckout,
) -> None:
    begun, failed = threading.Event(), list[float]()

    class World(_World):
        def give(self, data: bytes) -> None:
            if "base-passwd" in self.path:
                begun.set()
                self.stall(data)
            elif "base-files" in self.path:
                begun.wait(_PATIENCE)
                failed.append(time.monotonic())
                self.reply(404)
            else:
                self.reply(200, data)

    with pytest.raises(FetchError) as raised:
        _build(checkout, World)
    assert raised.value.where.startswith("base-files ")
    assert time.monotonic() - failed[0] < _SOON


def test_a_wheel_that_is_not_there_ends_an_sdist_that_is_built(
    checkout: SmallCheckout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    needs.program("bwrap")
    checkout.lock([*_two_wheels(checkout), sdist(checkout.wheels, "source", "1.0")])
    checkout.seed(debs=True)
    begun, failed = threading.Event(), list[float]()
    (tmp_path / "root").mkdir()
    build = never_ending(host_root(tmp_path / "root"))

    def building(*arguments: object) -> Path:
        begun.set()
        return build(*arguments)

    monkeypatch.setattr(sdists, "_run", building)

    class World(_World):
        def give(self, data: bytes) -> None:
            if "/large-" in self.path:
                begun.wait(_PATIENCE)
                time.sleep(0.5)
                failed.append(time.monotonic())
                self.reply(404)
            else:
                self.reply(200, data)

    with pytest.raises(FetchError, match="404") as raised:
        _build(checkout, World)
    assert time.monotonic() - failed[0] < _SOON
    assert "large" in str(raised.value)


def test_sdists_are_built_one_at_a_time_while_wheels_become_layers(
    checkout: SmallCheckout, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs.program("bwrap")
    names = [f"source{number}" for number in range(3)]
    sources = [sdist(checkout.wheels, name, "1.0") for name in names]
    checkout.lock([*_two_wheels(checkout), *sources])
    checkout.seed(debs=True)
    at_once, most, built = threading.Semaphore(0), list[int](), list[str]()
    inside = 0

    def building(_: object, package: object, *arguments: object) -> Path:
        nonlocal inside
        inside += 1
        most.append(inside)
        if not built:
            # Of wheels whose files have come meanwhile.
            assert at_once.acquire(timeout=_PATIENCE)
        name = str(getattr(package, "name"))  # noqa: B009
        folder = next(one for one in arguments if isinstance(one, Path))
        (folder / "out").mkdir()
        time.sleep(0.05)
        built.append(name)
        inside -= 1
        return make_wheel(folder / "out", {f"{name}.py": b"x = 1\n"}, name=name, version="1.0")

    monkeypatch.setattr(sdists, "_run", building)

    def watch() -> None:
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            entries = [*checkout.ws.actions.root.glob("*.json")]
            kinds = [json.loads(path.read_bytes())["mnemonic"] for path in entries]
            if sum(kind.startswith("wheel-") for kind in kinds) == 2:
                at_once.release()
                return
            time.sleep(0.02)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    _build(checkout, _World)
    assert sorted(built) == names
    assert most == [1, 1, 1]


def test_wheels_are_asked_for_before_the_system_is_made_by_a_single_job(
    checkout: SmallCheckout,
) -> None:
    """Also where the interpreter's layer is known, so that nothing is asked for ahead."""
    _build(checkout, _World)
    entries = {
        path: json.loads(path.read_bytes()) for path in checkout.ws.actions.root.glob("*.json")
    }
    for path, entry in entries.items():
        if entry["mnemonic"] not in ("interpreter", "python-layer"):
            path.unlink()
    for path in [*checkout.wheels.iterdir(), *checkout.archive.rglob("*.deb")]:
        checkout.ws.cache.path(Digest.of_file(path)).unlink(missing_ok=True)
    asked = threading.Event()

    class World(_World):
        def give(self, data: bytes) -> None:
            if self.path.startswith("/files/"):
                asked.set()
            if asked.wait(_PATIENCE):
                self.reply(200, data)
            else:
                self.reply(404)

    _build(checkout, World, jobs=1)


def test_nothing_is_asked_for_where_only_the_record_of_the_interpreter_is_lost(
    checkout: SmallCheckout,
) -> None:
    before = _build(checkout, _World)
    lost = [
        path
        for path in checkout.ws.actions.root.glob("*.json")
        if json.loads(path.read_bytes())["mnemonic"] == "python-layer"
    ]
    assert len(lost) == 1
    lost[0].unlink()
    for path in checkout.wheels.iterdir():
        checkout.ws.cache.path(Digest.of_file(path)).unlink(missing_ok=True)

    class World(_World):
        def give(self, data: bytes) -> None:
            raise AssertionError(f"asked for {self.path}")

    assert _build(checkout, World) == before
    assert lost[0].is_file()


def test_only_wheels_without_any_layer_are_asked_for_ahead(checkout: SmallCheckout) -> None:
    """A second image of another interpreter has most of its wheels from nobody, and some new."""
    _build(checkout, _World)
    new = wheel(checkout.wheels, "novel", "1.0")
    checkout.lock([*_two_wheels(checkout), new])
    for path in checkout.ws.actions.root.glob("*.json"):
        if json.loads(path.read_bytes())["mnemonic"] in ("interpreter", "python-layer"):
            path.unlink()
    for path in [*checkout.wheels.iterdir(), *checkout.archive.rglob("*.deb")]:
        checkout.ws.cache.path(Digest.of_file(path)).unlink(missing_ok=True)
    asked = list[str]()

    class World(_World):
        def give(self, data: bytes) -> None:
            asked.append(self.path)
            self.reply(200, data)

    _build(checkout, World)
    assert asked == [f"/files/{new.name}"]
    assert checkout.ws.cache.has(locked(new).file.digest)


@contextlib.contextmanager
def _running(
    checkout: SmallCheckout, command: Sequence[str], server: Server, scratch: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """`command` in the checkout, asking `server`, while the block runs; killed at its end."""
    settings = {
        "public": False,
        "index-url": f"{server.url}/simple",
        "python": {"3.7": str(checkout.root / "none")},
        "apt": {"debian": server.url},
    }
    checkout.settings.write_text(tomli_w.dumps(settings))
    scratch.mkdir()
    tests = Path(__file__).resolve().parents[1]
    environment = {
        **os.environ,
        "PLINTH_CONFIG": str(checkout.settings),
        "TMPDIR": str(scratch),
        "PYTHONPATH": str(tests),
    }
    with subprocess.Popen(
        command, cwd=checkout.root, env=environment, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _interrupted(process: subprocess.Popen[bytes], checkout: SmallCheckout, scratch: Path) -> None:
    """An interrupt ends the process soon, as always, and leaves nothing."""
    process.send_signal(signal.SIGINT)
    before = time.monotonic()
    _, said = process.communicate(timeout=_STALL / 2)
    assert time.monotonic() - before < _SOON
    assert process.returncode == 130, said.decode()
    assert b"interrupted" in said
    assert b"Traceback" not in said
    assert not _half_written(checkout)
    assert not [*scratch.iterdir()]
    # Processes in sandboxes are children of others, and name what they have of the machine.
    end = time.monotonic() + _SOON
    while left := _processes(str(scratch)):
        assert time.monotonic() < end, left
        time.sleep(0.05)


def _processes(word: str) -> list[bytes]:
    """The command lines that have `word` in them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes())
    return [line for line in found if word.encode() in line]


@pytest.mark.parametrize("where", ["/files/large-", "/pool/", "/simple/large/"])
def test_an_interrupt_ends_what_stalls(checkout: SmallCheckout, tmp_path: Path, where: str) -> None:
    begun = threading.Event()

    class World(_World):
        def give(self, data: bytes) -> None:
            self.reply_or_stall(lambda: super(World, self).give(data))

        def page(self, project: str) -> None:
            self.reply_or_stall(lambda: super(World, self).page(project))

        def reply_or_stall(self, reply: Callable[[], None]) -> None:
            if self.path.startswith(where):
                begun.set()
                self.stall(bytes(100_000))
            else:
                reply()

    scratch = tmp_path / "scratch"
    command = checkout.command("build", IMAGE)
    with (
        _served(checkout, World) as server,
        _running(checkout, command, server, scratch) as process,
    ):
        assert begun.wait(_PATIENCE)
        time.sleep(0.3)
        _interrupted(process, checkout, scratch)


@pytest.mark.parametrize(("front_end", "code"), [("plinth", 143), ("doit", 1)])
def test_sigterm_ends_a_build_and_cleans_up_as_an_interrupt_does(
    checkout: SmallCheckout, tmp_path: Path, front_end: str, code: int
) -> None:
    begun = threading.Event()

    class World(_World):
        def give(self, data: bytes) -> None:
            begun.set()
            self.stall(data)

    scratch = tmp_path / "scratch"
    doit = checkout.doit(f"build:{IMAGE}")
    command = doit if front_end == "doit" else checkout.command("build", IMAGE)
    with (
        _served(checkout, World) as server,
        _running(checkout, command, server, scratch) as process,
    ):
        assert begun.wait(_PATIENCE)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=_STALL / 2)
        assert process.returncode == code, said.decode()
        assert b"Traceback" not in said
    assert not _half_written(checkout)
    assert not [*scratch.iterdir()]


def test_an_interrupt_ends_an_sdist_that_is_built(checkout: SmallCheckout, tmp_path: Path) -> None:
    needs.program("bwrap")
    checkout.lock([*_two_wheels(checkout), sdist(checkout.wheels, "source", "1.0")])
    checkout.seed(debs=True)
    scratch, root = tmp_path / "scratch", tmp_path / "root"
    root.mkdir()
    program = str(Path(sandboxed_sdists.__file__))
    command = [sys.executable, program, str(root), "build", IMAGE]

    class World(_World):
        def give(self, data: bytes) -> None:
            # While a wheel is on its way, too.
            self.stall(data) if "/large-" in self.path else self.reply(200, data)

    with (
        _served(checkout, World) as server,
        _running(checkout, command, server, scratch) as process,
    ):
        end = time.monotonic() + _PATIENCE
        while not [*scratch.glob(f"*/{BEGUN}")]:
            assert time.monotonic() < end
            assert process.poll() is None, process.communicate()[1].decode()
            time.sleep(0.02)
        assert _processes(str(scratch))
        _interrupted(process, checkout, scratch)


def test_an_interrupt_ends_waiting_for_another_builder(
    checkout: SmallCheckout, tmp_path: Path
) -> None:
    begun = threading.Event()

    class World(_World):
        def give(self, data: bytes) -> None:
            if self.path.startswith("/pool/"):
                begun.set()
                self.stall(data)
            else:
                self.reply(200, data)

    first, second = tmp_path / "first", tmp_path / "second"
    command = checkout.command("build", IMAGE)
    with (
        _served(checkout, World) as server,
        _running(checkout, command, server, first),
        _running(checkout, command, server, second) as process,
    ):
        assert begun.wait(_PATIENCE)
        # Both have begun, and one waits for the other, whose lock it is.
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        before = time.monotonic()
        assert process.wait(_STALL / 2) == 130
        assert time.monotonic() - before < _SOON
