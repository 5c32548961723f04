"""The one resolver: what it is asked, in which environment, and how it is prepared."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from plinth.core.digest import Digest
from plinth.core.ending import meet_sigterm
from plinth.core.errors import FetchError, LockError
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.fetch.pypi.index import Index
from plinth.lock.resolver import _DRIVER, Job, Resolver
from plinth.recipe.target import marker_environment
from support.helpers import make_wheel
from support.index_server import IndexServer
from support.patience import at_most


def resolver(tmp_path: Path, script: str, index: Index | None = None) -> Resolver:
    """One whose target Python is a shell script."""
    python = tmp_path / "prefix" / "bin" / "python3.7"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return Resolver(tmp_path / "tools", python, cast(Index, index))


def test_what_pip_compile_is_asked(tmp_path: Path) -> None:
    job = Job(tmp_path, ("a.in", "b.in"), "http://127.0.0.1:9/x", "doit lock", ("six", "numpy"))
    assert job.arguments() == [
        "--quiet",
        "--generate-hashes",
        "--allow-unsafe",
        "--strip-extras",
        "--resolver=backtracking",
        "--no-emit-index-url",
        "--no-emit-trusted-host",
        "--no-emit-find-links",
        "--index-url=http://127.0.0.1:9/x",
        "--output-file=requirements.txt",
        "--upgrade-package=six",
        "--upgrade-package=numpy",
        "a.in",
        "b.in",
    ]


# Notes what it is run with, and answers each job with the name of its folder.
SCRIPT = """\
echo "$@" >>"{log}"
env >>"{log}.env"
exec python3 -c '
import json, os, socket
asked = socket.socket(fileno=0)
while True:
    message, descriptors, _, _ = socket.recv_fds(asked, 1 << 20, 1)
    if not message:
        break
    folders = [job["folder"] for job in json.loads(message)]
    with os.fdopen(descriptors[0], "w") as answer:
        json.dump([folder if folder != "/j0" else None for folder in folders], answer)
'
"""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[IndexServer, Index]]:
    """An index with the two packages that locks are made with here, and another file of one."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with IndexServer() as server:
        pinned = [make_wheel(folder, {f"{name}.py": b""}, name=name) for name in ("one", "two")]
        for wheel in [*pinned, make_wheel(folder, name="one", version="2.0")]:
            server.add(wheel)
        lines = [f"{wheel.stem.partition('-')[0]}==1.0 \\" for wheel in pinned]
        hashes = [f"    --hash={Digest.of_file(wheel).oci}" for wheel in pinned]
        text = "".join(f"{line}\n{found}\n" for line, found in zip(lines, hashes, strict=True))
        (tmp_path / "pins.txt").write_text(text)
        monkeypatch.setattr("plinth.lock.resolver._PINS", tmp_path / "pins.txt")
        store = BlobStore(tmp_path / "store")
        yield server, Index(Config(index_url=server.url), tmp_path / "pages", store)


def test_it_is_fetched_once_and_answers_each_job_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: tuple[IndexServer, Index]
) -> None:
    server, index = served
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "http://127.0.0.1:9/more")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("LC_ALL", "tr_TR.UTF-8")
    # What a file of requirements could name: pip puts variables into its lines.
    monkeypatch.setenv("SOME_TOKEN", "secret")
    log = tmp_path / "log"
    told: list[str] = []
    asked = []
    for count in (5, 1):
        jobs = [Job(Path(f"/j{number}"), (), "", "doit lock") for number in range(count)]
        made = resolver(tmp_path, SCRIPT.format(log=log), index)
        assert made.compile(jobs, told.append) == [None, "/j1", "/j2", "/j3", "/j4"][:count]
        asked.append(len(server.asked))
    assert len(told) == 1
    assert asked[0] == asked[1]
    (only,) = (tmp_path / "tools").iterdir()
    assert sorted(path.name for path in only.iterdir()) == [
        "one-1.0.dist-info",
        "one.py",
        "two-1.0.dist-info",
        "two.py",
    ]
    assert set(log.read_text().splitlines()) == {f"-I -S {_DRIVER} {only}"}
    seen = (tmp_path / "log.env").read_text().splitlines()
    wanted = {
        f"PIP_CONFIG_FILE={os.devnull}",
        "PIP_NO_CACHE_DIR=1",
        "PIP_DEFAULT_TIMEOUT=900",
        "LC_ALL=C.UTF-8",
        f"LD_LIBRARY_PATH={tmp_path}/prefix/lib",
    }
    assert wanted <= set(seen)
    unwanted = ("PIP_EXTRA", "PYTHONPATH", "LC_ALL=tr", "SOME_TOKEN")
    assert not any(line.startswith(unwanted) for line in seen)


def test_a_resolver_that_cannot_be_run_is_one_error_with_what_it_said(
    tmp_path: Path, served: tuple[IndexServer, Index]
) -> None:
    made = resolver(tmp_path, "echo no such module >&2; exit 1", served[1])
    with pytest.raises(LockError, match="the resolver failed") as raised:
        made.compile([Job(tmp_path, (), "", "doit lock")], quiet)
    assert raised.value.found == "no such module\n"


def test_many_jobs_are_asked_in_messages_that_a_socket_takes(
    tmp_path: Path, served: tuple[IndexServer, Index]
) -> None:
    log = tmp_path / "log"
    made = resolver(tmp_path, SCRIPT.format(log=log), served[1])
    known = [marker_environment(f"3.7.{patch}") for patch in (0, 9, 99)]
    folders = [f"/{number}-{'x' * 2000}" for number in range(500)]
    jobs = [Job(Path(one), (), "", "doit lock", environments=known) for one in folders]
    assert made.compile(jobs, quiet) == folders


def test_in_a_block_it_is_started_once(tmp_path: Path, served: tuple[IndexServer, Index]) -> None:
    log = tmp_path / "log"
    made = resolver(tmp_path, SCRIPT.format(log=log), served[1])
    with made.start(quiet):
        for name in ("/j1", "/j2"):
            assert made.compile([Job(Path(name), (), "", "doit lock")], quiet) == [name]
    assert len(log.read_text().splitlines()) == 1


def test_an_index_without_it_is_one_error_and_nothing_is_kept(
    tmp_path: Path, served: tuple[IndexServer, Index]
) -> None:
    pins = tmp_path / "pins.txt"
    pins.write_text(pins.read_text().replace("two==1.0", "three==1.0"))
    with pytest.raises(FetchError, match="no wheel of a package that locks are made") as raised:
        resolver(tmp_path, "exit 1", served[1]).packages(quiet)
    assert raised.value.where == "three 1.0"
    assert not [*(tmp_path / "tools").iterdir()]


def test_what_pip_compile_ends_with_is_told(tmp_path: Path) -> None:
    (tmp_path / "some.in").write_text("six\n")
    (tmp_path / "none.in").write_text("")
    common = ("--quiet", "--no-index", "--output-file=requirements.txt")
    jobs = [
        {
            "folder": str(tmp_path),
            "command": "doit lock",
            "arguments": [*common, *more],
            "guessed": guessed,
            "environments": [],
            "releases": [],
        }
        for guessed, *more in (
            (False, "--resolver=legacy", "some.in"),
            (False, "none.in"),
            (True, "some.in"),
            (False, "some.in"),
            (False, "gone.in"),
        )
    ]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, subprocess.Popen([sys.executable, _DRIVER], stdin=theirs.fileno()):
        theirs.close()
        reading, writing = os.pipe()
        with os.fdopen(reading) as answer:
            socket.send_fds(ours, [json.dumps(jobs).encode()], [writing])
            os.close(writing)
            answers = json.load(answer)
        ours.close()
    # The first ends by its exit status, the third and those after it by what they raise.
    legacy, fine, guessed, backtracking, gone = answers
    assert "Could not find a version that matches six" in legacy
    assert fine is None
    assert guessed.endswith("OSError: the guess does not hold")
    assert backtracking.endswith("(from versions: none)\nasked for: six")
    assert gone.startswith("BadParameter: ")
    assert "# via" not in (tmp_path / "requirements.txt").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_fetched_of_an_index_that_never_answers_is_given_up(
    number: signal.Signals, tmp_path: Path, served: tuple[IndexServer, Index]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/simple/"
        store = BlobStore(tmp_path / "another")
        index = Index(Config(index_url=url), tmp_path / "other pages", store)

        def asked() -> None:
            with silent.accept()[0]:
                os.kill(os.getpid(), number)
                given_up.wait()

        given_up = threading.Event()
        handler = signal.getsignal(signal.SIGTERM)
        meet_sigterm()
        threading.Thread(target=asked, daemon=True).start()
        begun = time.monotonic()
        try:
            with pytest.raises(KeyboardInterrupt):
                resolver(tmp_path, "exit 1", index).packages(quiet)
        finally:
            given_up.set()
            signal.signal(signal.SIGTERM, handler)
        assert time.monotonic() - begun < at_most(10)
    assert not [*(tmp_path / "tools").iterdir()]
