"""Compilers of bytecode on this machine: one pool of processes for each interpreter of a build."""

from __future__ import annotations

import threading
from pathlib import Path

from plinth.core.digest import Digest
from plinth.formats.python.bytecode import Compiler
from plinth.formats.python.place import PREFIX
from plinth.graph.unpack import unpacked
from plinth.graph.workspace import Workspace


class LocalCompilers:
    """See `plinth.graph.steps.model.Compilers`; `jobs` processes each; to be closed."""

    def __init__(self, ws: Workspace, jobs: int) -> None:
        self._ws = ws
        self._jobs = jobs
        self._open: dict[tuple[str, str], Compiler] = {}
        self._lock = threading.Lock()

    def of_layer(self, layer: Path, version: str) -> Compiler:
        """One for all steps with this layer; it is unpacked with the first file."""
        digest = Digest(layer.name, layer.stat().st_size)

        def locate() -> Path:
            return unpacked(self._ws, [digest]) / PREFIX / "bin" / f"python{version}"

        with self._lock:
            key = digest.hex, version
            if key not in self._open:
                self._open[key] = Compiler(locate, self._jobs)
            return self._open[key]

    def of_folder(self, folder: Path, version: str) -> Compiler:
        """One for the caller alone."""
        return Compiler(lambda: folder / "bin" / f"python{version}", self._jobs)

    def close(self) -> None:
        """End the processes of those that steps shared."""
        for compiler in self._open.values():
            compiler.close()
