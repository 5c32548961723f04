"""The interpreter a base is built from, as the archive that the step takes."""

from __future__ import annotations

from plinth.actions import Action
from plinth.base.interpreter import find_python
from plinth.base.python_archive import write_archive
from plinth.base.python_tree import TreeFile, read_tree, tree_digest
from plinth.base.stored_tree import read_stored
from plinth.config import Config
from plinth.digest import Digest
from plinth.errors import InterpreterError
from plinth.layer import gzip
from plinth.spec.base import FoundPython
from plinth.workspace import Workspace


def archive_action(tree: Digest) -> Action:
    """The action that packs the files of the interpreter `tree` (`python_tree.tree_digest`)."""
    return Action("interpreter", {"tree": tree}, {"compressor": gzip.COMPRESSOR}, ("archive",))


def pack(ws: Workspace, python: FoundPython, wanted: Digest, config: Config) -> Digest:
    """The archive of the interpreter `wanted`, in `ws.cache`.

    It is the machine's own, or else a copy that came into the store with an import
    (`plinth.airgap`).

    Raises:
        InterpreterError: the machine's interpreter is another one, or there is none, and the
            store has none either.
    """
    try:
        files = _found(python, wanted, config)
    except InterpreterError:
        stored = read_stored(ws.cache, wanted)
        if stored is None:
            raise
        files = stored
    return write_archive(ws.cache, files)


def _found(python: FoundPython, wanted: Digest, config: Config) -> list[TreeFile]:
    """The files of this machine's interpreter, if it is the one `wanted`."""
    executable = find_python(python.version, config)
    files = read_tree(executable, python.version)
    found = tree_digest(files)
    if found != wanted:
        raise InterpreterError(
            f"this machine's CPython {python.version} is not the one the base is locked to",
            where=str(executable),
            expected=wanted.oci,
            found=found.oci,
            remedy=f'name the locked one in the settings as python."{python.version}"',
        )
    return files
