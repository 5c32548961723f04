"""One step on a worker: `python -m plinth.graph.steps` in an action's input root.

Exit codes: 0 done; `REFUSED` the step raised an error for people, which is on standard error;
`UNABLE` likewise, and it is this machine's.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from plinth.core.digest import canonical_json
from plinth.core.errors import InterpreterError, PlinthError
from plinth.core.store import BlobStore, Stores
from plinth.formats.layer.extract import extract
from plinth.formats.python.bytecode import Compiler
from plinth.formats.python.place import PREFIX
from plinth.graph.steps.model import INFO, INPUTS, OUTPUTS, PARAMETERS, REFUSED, UNABLE, Work
from plinth.graph.steps.registry import perform

LOADER = "PLINTH_LOADER"
"""The environment variable with the path of the dynamic linker that starts interpreters."""


class _Compilers:
    """See `plinth.graph.steps.model.Compilers`: for one step, so that nothing need be shared."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: list[Compiler] = []
        loader = os.environ.get(LOADER)
        self._loader = Path(loader).absolute() if loader else None

    def of_layer(self, layer: Path, version: str) -> Compiler:
        def locate() -> Path:
            extract(layer, self._folder)
            return self._folder / PREFIX / "bin" / f"python{version}"

        self._open.append(Compiler(locate, _processes(), self._loader))
        return self._open[-1]

    def of_folder(self, folder: Path, version: str) -> Compiler:
        return Compiler(lambda: folder / "bin" / f"python{version}", _processes(), self._loader)

    def close(self) -> None:
        for compiler in self._open:
            compiler.close()


def _processes() -> int:
    return len(os.sched_getaffinity(0))


def main(root: Path) -> int:
    """Do the step whose input root is `root`; returns the exit code."""
    asked = json.loads((root / PARAMETERS).read_bytes())
    folder = root / INPUTS
    inputs = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    outputs = root / OUTPUTS
    outputs.mkdir(exist_ok=True)
    # Beside the outputs, so that giving them their names copies nothing.
    scratch = Path(tempfile.mkdtemp(prefix=".plinth-", dir=outputs))
    compilers = _Compilers(scratch / "interpreter")
    try:
        stores = Stores(BlobStore(scratch / "layout"), BlobStore(scratch / "cache"))
        work = Work(inputs, asked["parameters"], stores, compilers)
        result = perform(asked["mnemonic"], work)
        for name, digest in result.outputs.items():
            stores.of(name).path(digest).rename(outputs / name)
        (outputs / INFO).write_bytes(canonical_json(dict(result.info)))
    except PlinthError as error:
        print(error, file=sys.stderr)
        return UNABLE if isinstance(error, InterpreterError) else REFUSED
    finally:
        compilers.close()
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path.cwd()))
