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
from plinth.formats.python.place import Base, Interpreter
from plinth.graph.actions import Action
from plinth.graph.run import run
from plinth.graph.session import Session
from plinth.graph.workspace import Workspace
from plinth.recipe.base import BaseSpec, DebianRootfs, ImageRootfs, StandalonePython, origin
from plinth.recipe.locks.base import BaseLock


def ensure_base(
    ws: Session, spec: BaseSpec, lock: BaseLock, *, config: Config, progress: Progress
) -> Base:
    """The base `spec`, its layers in the layout; built where they are not.

    Raises:
        FetchError: an input is not available.
        InterpreterError: the machine's interpreter is not the locked one, or there is none.
    """
    system = _system(ws, spec, lock, config, progress)
    python, tree = _python(ws, spec, lock, config, progress)
    return Base(spec.name, (system, python), Interpreter(spec.python.version, tree))


def planned_base(ws: Workspace, spec: BaseSpec, lock: BaseLock) -> Base | None:
    """The base `spec` if all of its layers are made already; nothing is built."""
    tree = _interpreter(spec, lock)
    archive = _planned_archive(ws, spec, tree)
    python = ws.actions.lookup(_python_action(spec, archive), ws.stores) if archive else None
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
    layers = (system, Layer.of(titles(spec)[1], python, hit=True))
    return Base(spec.name, layers, Interpreter(spec.python.version, tree))


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


def _system(
    ws: Session, spec: BaseSpec, lock: BaseLock, config: Config, progress: Progress
) -> Layer:
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


def _python(
    ws: Session, spec: BaseSpec, lock: BaseLock, config: Config, progress: Progress
) -> tuple[Layer, Digest]:
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
    return Layer.of(titles(spec)[1], result, hit=hit), tree
