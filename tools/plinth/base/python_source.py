"""The interpreter a base is built from: its files, and a copy that runs on this machine."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from plinth.base.interpreter import find_python
from plinth.base.python_tree import TreeFile, read_tree, tree_digest
from plinth.base.stored_tree import read_stored
from plinth.config import Config
from plinth.digest import Digest
from plinth.errors import InterpreterError
from plinth.spec.base import FoundPython, StandalonePython
from plinth.workspace import Workspace


@contextlib.contextmanager
def open_source(
    ws: Workspace, python: FoundPython | StandalonePython, wanted: Digest, config: Config
) -> Iterator[tuple[list[TreeFile], Path]]:
    """The files of the interpreter `wanted` and an executable of it, while the block runs.

    A found interpreter is the machine's own, or else a copy that came into the store with an
    import (`plinth.airgap`).

    Raises:
        InterpreterError: the machine's interpreter is another one, or there is none, and the
            store has none either.
        FetchError: the pinned archive cannot be had.
    """
    if isinstance(python, StandalonePython):
        from plinth.base.standalone import fetch, read_archive

        fetch(python, config, ws.cache)
        files = read_archive(python, ws.cache)
    else:
        try:
            found = _found(python, wanted, config)
        except InterpreterError:
            stored = read_stored(ws.cache, wanted)
            if stored is None:
                raise
            files = stored
        else:
            yield found
            return
    with tempfile.TemporaryDirectory(prefix="plinth-python-") as folder:
        _write(files, Path(folder))
        yield files, Path(folder) / "bin" / f"python{python.version}"


def _found(python: FoundPython, wanted: Digest, config: Config) -> tuple[list[TreeFile], Path]:
    """The files and the executable of this machine's interpreter, if it is the one `wanted`."""
    executable = find_python(python.version, config)
    files = read_tree(executable, python.version)
    found = tree_digest(files)
    if found != wanted:
        raise InterpreterError(
            f"this machine's CPython {python.version} is not the one the base is locked to",
            where=str(executable),
            expected=wanted.oci,
            found=found.oci,
            remedy="lock the base to this one (delete its file in locks/base and run "
            "doit lock:base: images get other digests), or name the locked one in the "
            f'settings as python."{python.version}"',
        )
    return files, executable


def _write(files: Sequence[TreeFile], folder: Path) -> None:
    for file in files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.target:
            os.symlink(file.target, path)  # noqa: PTH211 - needs no pathlib object
        else:
            path.write_bytes(file.data)
            path.chmod(file.mode)
