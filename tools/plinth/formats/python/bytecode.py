"""`Compiler`: bytecode from the target interpreter, in parallel, the same in any order."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from plinth.core import stopping
from plinth.core.errors import InterpreterError

_WORKER = Path(__file__).with_name("_compile_worker.py")
_CHUNK = 16


class _Worker:
    """One interpreter process and the pipes to it."""

    def __init__(self, locate: Callable[[], Path], loader: Path | None) -> None:
        self._locate = locate
        self._loader = loader
        self._process: subprocess.Popen[bytes] | None = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            # -s -S keep the machine's own packages out; -I would ignore the hash seed, which
            # decides the order of sets in constants.
            executable = self._locate()
            command = [str(executable), "-s", "-S", "-B", str(_WORKER)]
            # An unpacked interpreter looks for its library where it is in the image.
            libraries = [executable.parent.parent / "lib"]
            if self._loader is not None:
                command = [str(self._loader), *command]
                libraries.append(self._loader.parent)
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={
                    "PYTHONHASHSEED": "0",
                    "LC_ALL": "C",
                    "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
                },
            )
        return self._process

    def compile(self, path: str, source: bytes) -> bytes | None:
        """The bytecode of one file; None where it does not compile."""
        for fresh in (False, True):
            process = self._started()
            assert process.stdin is not None and process.stdout is not None  # noqa: S101
            try:
                with stopping.undone_by(process.kill):
                    for part in (path.encode(), source):
                        process.stdin.write(len(part).to_bytes(4, "big") + part)
                    process.stdin.flush()
                    answer = _read(process.stdout)
            except (BrokenPipeError, EOFError):
                # The worker ended after its last answer, as it does to stay clean; or was ended.
                self.close()
                stopping.check()
                if fresh:
                    break
                continue
            return answer or None
        raise InterpreterError(
            "the target interpreter ended while compiling",
            where=path,
            remedy=f"try it by hand: {self._locate()} -s -S -c 'pass'",
        )

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
            process.wait()


def _read(stream: IO[bytes]) -> bytes:
    head = stream.read(4)
    if len(head) < 4:
        raise EOFError
    size = int.from_bytes(head, "big")
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


class Compiler:
    """`workers` processes of an interpreter; use it in a `with` block.

    `locate` says where it is. It is asked, and processes start, with the first file, so a
    build that finds all in its cache pays for neither. `loader` is a dynamic linker, with the
    C library beside it, where the machine's own cannot be counted on.
    """

    def __init__(
        self, locate: Callable[[], Path], workers: int, loader: Path | None = None
    ) -> None:
        self._locate = locate
        self._found: Path | None = None
        self._finding = threading.Lock()
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._workers = [_Worker(self._executable, loader) for _ in range(workers)]
        for worker in self._workers:
            self._idle.put(worker)
        self._pool = stopping.Threads(workers, "compile")

    def _executable(self) -> Path:
        # Workers start at the same time; locating may mean unpacking a layer.
        with self._finding:
            if self._found is None:
                self._found = self._locate()
            return self._found

    def __enter__(self) -> Compiler:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def compile(self, files: Sequence[tuple[str, bytes]]) -> list[bytes | None]:
        """The .pyc of each file, in order; None for one that does not compile.

        `files` are pairs of the path in the image, with leading slash, and the source.

        Raises:
            InterpreterError: the interpreter cannot be run.
        """
        chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
        return [made for chunk in self._pool.map(self._chunk, chunks) for made in chunk]

    def _chunk(self, files: Sequence[tuple[str, bytes]]) -> list[bytes | None]:
        worker = self._idle.get()
        try:
            return [worker.compile(path, source) for path, source in files]
        except OSError as error:
            raise InterpreterError(f"cannot run the target interpreter: {error}") from None
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.close()
