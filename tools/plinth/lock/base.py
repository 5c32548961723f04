"""Lock a base: its OS packages from a signed index, its interpreter by its digest."""

from __future__ import annotations

from dataclasses import replace

from plinth.core.report import Progress, counted
from plinth.core.settings import Config
from plinth.graph.workspace import Workspace
from plinth.recipe.base import DebianRootfs, FoundPython, load_base
from plinth.recipe.locks.base import BaseLock, inputs_of, read_lock, write_lock
from plinth.recipe.locks.document import is_fresh


def lock_base(ws: Workspace, name: str, *, config: Config, progress: Progress) -> bool:
    """Lock the base `name`, and say whether its lock was written.

    A lock made from the same specification is left alone, without network; delete it to take
    newer packages.

    Raises:
        PlinthError: the specification is invalid, the archive fails, or the interpreter does.
    """
    spec = load_base(ws.bases, name)
    if is_fresh(lambda: read_lock(ws, spec)):
        progress(f"locks/base/{name}.toml is fresh: nothing to do")
        return False
    tree = None
    # Before anything is downloaded: this is what a machine may lack.
    if isinstance(spec.python, FoundPython):
        from plinth.fetch.interpreter import find_tree

        tree = find_tree(spec.python.version, config).tree
    lock = BaseLock((), {}, tree, inputs_of(spec))
    if isinstance(spec.rootfs, DebianRootfs):
        from plinth.fetch.apt.suites import resolved

        found = resolved(spec.rootfs, spec.architecture, config, progress)
        lock = replace(lock, packages=found.packages, indexes=found.indexes, date=found.date)
    write_lock(ws, name, lock)
    progress(f"locks/base/{name}.toml: {counted(len(lock.packages), 'package')}")
    return True


def lock_interpreter(ws: Workspace, name: str, *, config: Config, progress: Progress) -> bool:
    """Lock the base `name` to the interpreter of this machine, with the packages it is locked to,
    and say whether its lock was written. One that is locked to it already, or that pins its
    interpreter, is left alone.

    Raises:
        LockError: the base has no lock yet, or a stale one.
        InterpreterError: there is no interpreter.
    """
    spec = load_base(ws.bases, name)
    if not isinstance(spec.python, FoundPython):
        return False
    from plinth.fetch.interpreter import find_tree

    lock = read_lock(ws, spec)
    found = find_tree(spec.python.version, config)
    progress(f"locks/base/{name}.toml: {found.python}, {found.tree.oci}")
    if found.tree == lock.tree:
        progress(f"locks/base/{name}.toml is locked to it: nothing to do")
        return False
    write_lock(ws, name, replace(lock, tree=found.tree))
    return True
