"""A base's own interpreter, run on this machine: what resolves locks where nobody installed one."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from plinth.core.digest import Digest
from plinth.core.errors import InterpreterError, LockError, ProblemsError
from plinth.core.settings import Config
from plinth.core.store import atomic_folder
from plinth.fetch.interpreter import find_python
from plinth.fetch.probe import settings_of, unavailable
from plinth.fetch.standalone import fetch
from plinth.formats import gzip
from plinth.formats.python.archive import read_standalone, read_written
from plinth.formats.python.stored import read_stored
from plinth.formats.python.tree import TreeFile, write_tree
from plinth.graph.actions import Action
from plinth.graph.workspace import Workspace
from plinth.recipe.base import BaseSpec, StandalonePython
from plinth.recipe.locks.base import read_lock

Files = Callable[[], list[TreeFile]]


def archive_action(tree: Digest) -> Action:
    """The action that packs the files of the interpreter `tree` (`python_tree.tree_digest`)."""
    return Action("interpreter", {"tree": tree}, {"compressor": gzip.COMPRESSOR}, ("archive",))


def environment_of(python: Path) -> dict[str, str]:
    """What an interpreter outside of its prefix needs in its environment: where its library is."""
    return {"LD_LIBRARY_PATH": str(python.parent.parent / "lib")}


def python_for(ws: Workspace, version: str, bases: Sequence[BaseSpec], config: Config) -> Path:
    """A CPython `version` that runs here: one that is found on the machine, else that of the first
    of `bases` whose own is in the store or at a place of the settings.

    Raises:
        InterpreterError: there is none; says how to get one, the easiest first.
        PlinthError: an archive cannot be fetched, or is damaged.
    """
    try:
        return find_python(version, config)
    except InterpreterError as error:
        none = error
    why = []
    for spec in bases:
        digest, files = _own(ws, spec)
        if isinstance(spec.python, StandalonePython):
            reason = unavailable(ws, spec, config, python_alone=True)
            if reason:
                why.append(f"{spec.python.asset}: {reason}")
                continue
            fetch(spec.python, config, ws.cache)
        if files is not None:
            return _unpacked(ws, version, digest, files)
    keys = [key for spec in bases for key in settings_of(spec) if key.startswith("files.")]
    first = f"connect this machine to the network, or set {' or '.join(keys)}" if keys else ""
    steps = [*filter(None, [first]), none.remedy]
    raise InterpreterError(
        none.what,
        expected=none.expected,
        found="\n".join([none.found, *why]),
        remedy="\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))
        if len(steps) > 1
        else none.remedy,
    )


def _own(ws: Workspace, spec: BaseSpec) -> tuple[Digest, Files | None]:
    """What identifies the interpreter of `spec`, and how its files are read from the store; None
    where it has them not, unless they are pinned."""
    python = spec.python
    if isinstance(python, StandalonePython):
        archive = ws.cache.path(python.digest)
        return python.digest, lambda: read_standalone(archive, python.version, python.asset)
    try:
        tree = read_lock(ws, spec).tree
    except (LockError, ProblemsError):
        tree = None
    if tree is None:
        return Digest.of(b""), None
    packed = ws.actions.lookup(archive_action(tree), ws.stores)
    if packed is not None:
        path = ws.stores.path(packed.outputs["archive"])
        return tree, lambda: read_written(path, python.version, spec.name)
    stored = read_stored(ws.cache, tree)
    return tree, None if stored is None else lambda: stored


def _unpacked(ws: Workspace, version: str, digest: Digest, files: Files) -> Path:
    """The interpreter in a folder of its own; made once, then found.

    Raises:
        InterpreterError: it does not run on this machine.
    """
    folder = ws.build / "cache" / "tools" / f"python-{version}-{digest.hex[:16]}"
    if not folder.is_dir():
        with atomic_folder(folder) as temporary:
            write_tree(files(), temporary)
    python = folder / "bin" / f"python{version}"
    done = subprocess.run(
        [str(python), "-I", "-S", "-c", "pass"],
        check=False,
        capture_output=True,
        env=environment_of(python),
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        raise InterpreterError(
            f"the CPython {version} of the base does not run on this machine",
            where=str(python),
            found=done.stderr.strip()[-500:],
            remedy=f"install a CPython {version} of this machine's own",
        )
    return python
