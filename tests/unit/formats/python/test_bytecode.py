"""An interpreter that does not answer is waited for as long as anybody wants its bytecode."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from plinth.core.stopping import Stop
from plinth.formats.python import bytecode
from plinth.formats.python.bytecode import Compiler
from support.stops import SOON, noted, stopped


@pytest.fixture
def silent(tmp_path: Path) -> Path:
    """An interpreter that reads all and answers nothing; it notes which signals it blocks, and that
    it began."""
    path = tmp_path / "bin" / "python3.7"
    path.parent.mkdir()
    path.write_text(
        f"#!{sys.executable}\nimport os, signal, sys\n"
        "blocked = map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))\n"
        f"with open('{tmp_path}/blocked', 'w') as file: print(*blocked, file=file)\n"
        f"open(f'{tmp_path}/began-{{os.getpid()}}', 'w').close()\n"
        "while True: sys.stdin.buffer.read(1) or sys.exit()\n"
    )
    path.chmod(0o755)
    return path


def test_compiling_ends_where_nobody_waits_for_it(silent: Path, tmp_path: Path) -> None:
    begun = noted(tmp_path)
    files = [(f"/module{number}.py", b"x = 1\n") for number in range(100)]
    with Compiler(lambda: silent, 1) as compiler:
        stopped(Stop(), lambda: compiler.compile(files), begun)
        # None is begun anew for what is left.
        assert len([*tmp_path.glob("began-*")]) == 1
        (pid,) = (int(path.name.partition("-")[2]) for path in tmp_path.glob("began-*"))
        deadline = time.monotonic() + SOON
        while Path("/proc", str(pid)).exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_worker_ends_without_a_traceback_where_nobody_reads_its_answer() -> None:
    worker = Path(bytecode.__file__).with_name("_compile_worker.py")
    command = [sys.executable, "-s", "-S", "-B", str(worker)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        for part in (b"/module.py", b"x = 1\n"):
            process.stdin.write(len(part).to_bytes(4, "big") + part)
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_worker_leaves_an_interrupt_to_the_build(silent: Path, tmp_path: Path) -> None:
    """A terminal sends ^C to all processes."""
    begun = noted(tmp_path)
    with Compiler(lambda: silent, 1) as compiler:
        stopped(Stop(), lambda: compiler.compile([("/module.py", b"x = 1\n")]), begun)
    assert str(int(signal.SIGINT)) in (tmp_path / "blocked").read_text().split()
