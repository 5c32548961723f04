"""A report may be of a command that took over its supervisor: it is believed in nothing."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from plinth.core.errors import SandboxError
from plinth.graph.sandbox import Limits, Root
from plinth.graph.sandbox.exchange import Report, _read
from plinth.graph.sandbox.job import Job


def job(folder: Path) -> Job:
    return Job(Root(lambda: folder), ["/python"], folder, ("out", "METADATA"), {}, {}, Limits())


def report(files: object, content: bytes = b"", status: object = 0, stopped: object = "") -> bytes:
    document = {"status": status, "stopped": stopped, "files": files}
    return b"started\n" + json.dumps(document).encode() + b"\n" + content


def test_files_are_written_where_the_results_are(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    stream = io.BytesIO(report([["out/a.whl", 3], ["METADATA", 0]], b"abc"))
    assert _read(stream, job(tmp_path)) == Report(0)
    assert (tmp_path / "out" / "a.whl").read_bytes() == b"abc"
    assert (tmp_path / "METADATA").read_bytes() == b""


@pytest.mark.parametrize(
    "data",
    [
        report([["../escaped", 1]], b"x"),
        report([["out/../../escaped", 1]], b"x"),
        report([["/escaped", 1]], b"x"),
        report([["driver.py", 1]], b"x"),
        report([["", 1]], b"x"),
        report([["out", 1]], b"x"),
        report([["out/a\0b", 1]], b"x"),
        report([["out/a", 1], ["out/a", 1]], b"xy"),
        report([["out/a", 9]], b"x"),
        report([["out/a", "x"]], b"x"),
        report([[7, 1]], b"x"),
        report({"out": 1}),
        report([], status="x"),
        report([], stopped=None),
        b"started\n[]\n",
        b"started\n" + b"[" * 100_000 + b"\n",
        b"started\nnothing\n",
        b'started\n{"status": 0}\n',
    ],
)
def test_a_malformed_report_is_refused(tmp_path: Path, data: bytes) -> None:
    work = tmp_path / "work"
    (work / "out").mkdir(parents=True)
    (work / "driver.py").write_text("ours")
    with pytest.raises(SandboxError, match="malformed report"):
        _read(io.BytesIO(data), job(work))
    assert not (tmp_path / "escaped").exists()
    assert (work / "driver.py").read_text() == "ours"


def test_a_sandbox_that_never_began(tmp_path: Path) -> None:
    assert _read(io.BytesIO(b""), job(tmp_path)) == Report(None)


def test_a_sandbox_that_was_ended_from_outside(tmp_path: Path) -> None:
    found = _read(io.BytesIO(b"started\n"), job(tmp_path))
    assert found.status is None
    assert "ended from outside" in found.stopped
