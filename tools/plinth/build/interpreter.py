"""The interpreter a base is built from, as the archive that the step takes."""

from __future__ import annotations

from plinth.core.digest import Digest
from plinth.core.errors import InterpreterError
from plinth.core.settings import Config
from plinth.fetch.interpreter import find_tree
from plinth.formats.python.archive import write_archive
from plinth.formats.python.stored import read_stored
from plinth.formats.python.tree import TreeFile
from plinth.graph.workspace import Workspace
from plinth.recipe.base import FoundPython


def pack(ws: Workspace, python: FoundPython, wanted: Digest, config: Config) -> Digest:
    """The archive of the interpreter `wanted`, in `ws.cache`.

    It is the machine's own, or else a copy that came into the store with an import
    (`plinth.publish.airgap`).

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
    found = find_tree(python.version, config, wanted)
    if found.tree != wanted:
        raise InterpreterError(
            f"this machine's CPython {python.version} is not the one the base is locked to",
            where=str(found.python),
            expected=wanted.oci,
            found=found.tree.oci,
            remedy=f'name the locked one in the settings as python."{python.version}"',
        )
    return found.files
