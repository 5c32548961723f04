"""Building a base once: operating system layer and interpreter layer, each a cached action."""

from __future__ import annotations

from plinth.build.interpreter import pack
from plinth.build.plan import titles
from plinth.core.digest import Digest
from plinth.core.errors import InterpreterError
from plinth.core.report import Progress, human_size
from plinth.core.result import ActionResult
from plinth.core.settings import Config
from plinth.fetch.own_python import archive_action
from plinth.formats import gzip
from plinth.formats.layer.model import Layer
from plinth.formats.python.place import Base, Interpreter, Python
from plinth.graph.actions import Action
from plinth.graph.run import run
from plinth.graph.session import Session
from plinth.graph.workspace import Workspace
from plinth.recipe.base import BaseSpec, DebianRootfs, ImageRootfs, StandalonePython, origin
from plinth.recipe.locks.base import BaseLock


def planned_python(ws: Workspace, spec: BaseSpec, lock: BaseLock) -> Python | None:
    """The interpreter of the base `spec` if its layer is made already; nothing is built."""
    tree = _interpreter(spec, lock)
    archive = _planned_archive(ws, spec, tree)
    found = ws.actions.lookup(_python_action(spec, archive), ws.stores) if archive else None
    if found is None:
        return None
    layer = Layer.of(titles(spec)[1], found, hit=True)
    return Python(layer, Interpreter(spec.python.version, tree))


def planned_base(ws: Workspace, spec: BaseSpec, lock: BaseLock) -> Base | None:
    """The base `spec` if all of its layers are made already; nothing is built."""
    python = planned_python(ws, spec, lock)
    if isinstance(spec.rootfs, ImageRootfs):
        system = (
            _pulled_layer(spec, spec.rootfs, built=False)
            if ws.layout.has(spec.rootfs.layer)
            else None
        )
    else:
        found = ws.actions.lookup(_system_action(lock, spec.rootfs), ws.stores)
        system = Layer.of(titles(spec)[0], found, hit=True) if found else None
    if python is None or system is None:
        return None
    return Base(spec.name, (system, python.layer), python.interpreter)


def system_is_made(ws: Workspace, lock: BaseLock, rootfs: DebianRootfs) -> bool:
    """Whether the operating system layer of `lock` is in the store."""
    return ws.actions.lookup(_system_action(lock, rootfs), ws.stores) is not None


def _system_action(lock: BaseLock, rootfs: DebianRootfs) -> Action:
    return Action(
        "debian-rootfs",
        {package.name: package.digest for package in lock.packages},
        {
            "compressor": gzip.COMPRESSOR,
            "filenames": {package.name: package.filename for package in lock.packages},
            "omit": sorted(rootfs.omit),
        },
        ("layer", "scan"),
    )


def _python_action(spec: BaseSpec, archive: Digest) -> Action:
    python = spec.python
    pinned = python.asset if isinstance(python, StandalonePython) else ""
    return Action(
        "python-layer",
        {"archive": archive},
        {
            "compressor": gzip.COMPRESSOR,
            "filename": pinned,
            "kind": "standalone" if pinned else "found",
            "python": python.version,
        },
        ("layer", "scan"),
    )


def _planned_archive(ws: Workspace, spec: BaseSpec, tree: Digest) -> Digest | None:
    """The interpreter's archive, if it is known already."""
    if isinstance(spec.python, StandalonePython):
        return spec.python.digest
    found = ws.actions.lookup(archive_action(tree), ws.stores)
    return found.outputs["archive"] if found else None


def _interpreter(spec: BaseSpec, lock: BaseLock) -> Digest:
    """The identity of the base's interpreter: its pinned archive, or the locked tree."""
    if isinstance(spec.python, StandalonePython):
        return spec.python.digest
    if lock.tree is None:
        raise InterpreterError(
            "the lock names no interpreter",
            where=f"locks/base/{origin(spec.name)}.toml",
            remedy="delete it and run doit lock:base",
        )
    return lock.tree


def ensure_system(
    ws: Session, spec: BaseSpec, lock: BaseLock, *, config: Config, progress: Progress
) -> Layer:
    """The operating system layer of the base `spec`, in the layout; built where it is not.

    Raises:
        FetchError: an input is not available.
    """
    if isinstance(spec.rootfs, ImageRootfs):
        return _pulled(ws, spec, spec.rootfs, config, progress)
    rootfs = spec.rootfs

    def prepare() -> None:
        from plinth.fetch.debs import fetch_debs, places_of

        fetch_debs(
            ws,
            lock.packages,
            lambda: places_of(rootfs, lock.date, config),
            progress,
            again=f"delete locks/base/{origin(spec.name)}.toml and run doit lock:base",
        )
        progress(f"building the system layer of {spec.name}")

    result, hit = run(ws, _system_action(lock, rootfs), prepare=prepare)
    return Layer.of(titles(spec)[0], result, hit=hit)


def _pulled(
    ws: Workspace, spec: BaseSpec, rootfs: ImageRootfs, config: Config, progress: Progress
) -> Layer:
    built = not ws.layout.has(rootfs.layer)
    if built:
        from plinth.fetch.base_image import pull

        progress(f"pulling {rootfs.repository}, {human_size(rootfs.layer.size)}")
        pull(rootfs, config, ws.layout)
    return _pulled_layer(spec, rootfs, built=built)


def _pulled_layer(spec: BaseSpec, rootfs: ImageRootfs, *, built: bool) -> Layer:
    return Layer(titles(spec)[0], rootfs.layer, rootfs.diff_id, 0, built)


def ensure_python(
    ws: Session, spec: BaseSpec, lock: BaseLock, *, config: Config, progress: Progress
) -> Python:
    """The interpreter of the base `spec`, its layer in the layout; built where it is not.

    Raises:
        FetchError: its archive is not available.
        InterpreterError: the machine's interpreter is not the locked one, or there is none.
    """
    python = spec.python
    tree = _interpreter(spec, lock)

    def announce() -> None:
        progress(f"building the Python {python.version} layer of {spec.name}")

    if isinstance(python, StandalonePython):
        archive = python.digest

        def prepare() -> None:
            from plinth.fetch.standalone import fetch

            fetch(python, config, ws.cache)
            announce()

    else:
        prepare = announce

        def work() -> ActionResult:
            return ActionResult({"archive": pack(ws, python, tree, config)})

        packed, _ = run(ws, archive_action(tree), work=work)
        archive = packed.outputs["archive"]
    result, hit = run(ws, _python_action(spec, archive), prepare=prepare)
    layer = Layer.of(titles(spec)[1], result, hit=hit)
    return Python(layer, Interpreter(python.version, tree))
