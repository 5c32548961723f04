"""The step `python-layer`: an interpreter's archive to its layer, with bytecode."""

from __future__ import annotations

import tempfile
from pathlib import Path

from plinth.core.result import ActionResult
from plinth.formats.python import archive as python_archive
from plinth.formats.python.layer import python_layer
from plinth.formats.python.tree import write_tree
from plinth.graph.steps.model import Work


def interpreter_layer(work: Work) -> ActionResult:
    """Read `archive`, of the kind that `kind` says, and compile with its own interpreter.

    Raises:
        PackageError, IntegrityError: it is no such archive, or damaged.
        InterpreterError: its interpreter does not run here.
    """
    version = str(work.parameters["python"])
    read = python_archive.READERS[str(work.parameters["kind"])]
    files = read(work.inputs["archive"], version, str(work.parameters["filename"]))
    with tempfile.TemporaryDirectory(prefix="plinth-python-") as name:
        write_tree(files, Path(name))
        with work.compilers.of_folder(Path(name), version) as compiler:
            return work.made(python_layer(work.stores.layout, files, version, compiler, "python"))
