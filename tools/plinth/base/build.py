"""Building a base once: operating system layer and interpreter layer, each a cached action."""

from __future__ import annotations

import json
from collections.abc import Sequence

from plinth.actions import Action, ActionResult
from plinth.base import python_layer as python_module
from plinth.base import rootfs as rootfs_module
from plinth.base.lock import BaseLock, read_lock
from plinth.base.model import Base, Interpreter
from plinth.config import Config
from plinth.digest import Digest
from plinth.elf.scan import remember
from plinth.errors import FetchError, InterpreterError, Problem, SpecError
from plinth.layer import gzip
from plinth.oci.model import Layer
from plinth.report import Progress, human_size
from plinth.spec.base import (
    BaseSpec,
    DebianRootfs,
    ImageRootfs,
    StandalonePython,
    load_base,
)
from plinth.store import atomic_write
from plinth.workspace import Workspace


def choose_base(ws: Workspace, wanted: str, *, config: Config, insist: str = "") -> tuple[str, str]:
    """The base to build on, and why it is not `wanted` (empty where it is).

    `insist` names a base that is taken whatever can be had.

    Raises:
        SpecError: a base is invalid, or cannot stand for the wanted one.
    """
    spec = load_base(ws.bases, wanted)
    if insist:
        if insist not in (wanted, spec.fallback):
            known = " or ".join(filter(None, (wanted, spec.fallback)))
            problem = Problem("", f"the lock serves {known}, not {insist!r}")
            raise SpecError(f"base/{insist}.toml", [problem])
        return insist, ""
    why = _unreachable(ws, spec, config) if spec.fallback else ""
    if not why:
        return wanted, ""
    return spec.fallback, (
        f"note: the base {wanted} cannot be had here: {why}\n"
        f"      building on {spec.fallback}, which is part of the image's name; "
        f"base={wanted} insists"
    )


def _unreachable(ws: Workspace, spec: BaseSpec, config: Config) -> str:
    """Why the inputs of `spec` are neither in the store nor reachable; empty where they are."""
    if isinstance(spec.python, StandalonePython) and not (
        ws.cache.has(spec.python.digest) or config.files.get(spec.python.release)
    ):
        return (
            f"{spec.python.asset} is not in the store, and no place is configured for it "
            f'(settings: files."{spec.python.release}")'
        )
    if isinstance(spec.rootfs, ImageRootfs) and not ws.layout.has(spec.rootfs.layer):
        urls = config.registry_urls(spec.rootfs.registry)
        if not urls:
            return (
                f"{spec.rootfs.repository} is not in the store, and no registry is configured "
                f"(settings: registries.{spec.rootfs.registry})"
            )
        if not _answers(ws, spec.rootfs, urls):
            return f"the configured registry does not answer for {spec.rootfs.repository}"
    return ""


def _answers(ws: Workspace, rootfs: ImageRootfs, urls: Sequence[str]) -> bool:
    """Whether a registry has the base: asked once, then remembered for this workspace."""
    path = ws.build / "cache" / "probe.json"
    key = Digest.of(f"{' '.join(urls)} {rootfs.manifest.oci}".encode()).hex
    try:
        known = json.loads(path.read_bytes())
    except (OSError, ValueError):
        known = None
    if not isinstance(known, dict):
        known = {}
    if isinstance(known.get(key), bool):
        return bool(known[key])
    from plinth.oci.registry import Registry

    answer = any(Registry(url, rootfs.repository).has(rootfs.manifest) for url in urls)
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps({**known, key: answer}), encoding="utf-8")
    return answer


def ensure_base(ws: Workspace, name: str, *, config: Config, jobs: int, progress: Progress) -> Base:
    """The base `name`, its layers in the layout; built where they are not.

    Raises:
        LockError: it is not locked, or the lock is stale.
        FetchError: an input cannot be had.
        InterpreterError: the machine's interpreter is not the locked one, or there is none.
    """
    spec = load_base(ws.bases, name)
    lock = read_lock(ws, spec)
    system = _system(ws, spec, lock, config, progress)
    python, tree = _python(ws, spec, lock, config, jobs, progress)
    return Base(name, (system, python), Interpreter(spec.python.version, tree))


def planned_base(ws: Workspace, name: str) -> Base | None:
    """The base `name` if all of its layers are made already; nothing is built.

    Raises:
        LockError: it is not locked, or the lock is stale.
    """
    spec = load_base(ws.bases, name)
    lock = read_lock(ws, spec)
    tree = _interpreter(spec, lock)
    python = ws.actions.lookup(_python_action(spec, tree), ws.layout)
    if isinstance(spec.rootfs, ImageRootfs):
        system = (
            _pulled_layer(spec.rootfs, built=False) if ws.layout.has(spec.rootfs.layer) else None
        )
    else:
        found = ws.actions.lookup(_system_action(lock, spec.rootfs), ws.layout)
        system = Layer.of(f"{name} system", found, hit=True) if found else None
    if python is None or system is None:
        return None
    layers = (system, Layer.of(f"{name} python", python, hit=True))
    return Base(name, layers, Interpreter(spec.python.version, tree))


def _system_action(lock: BaseLock, rootfs: DebianRootfs) -> Action:
    return Action(
        "debian-rootfs",
        rootfs_module.VERSION,
        {package.name: package.digest for package in lock.packages},
        {"compressor": gzip.COMPRESSOR, "omit": sorted(rootfs.omit)},
    )


def _python_action(spec: BaseSpec, interpreter: Digest) -> Action:
    return Action(
        "python-layer",
        python_module.VERSION,
        {"interpreter": interpreter},
        {"python": spec.python.version, "compressor": gzip.COMPRESSOR},
    )


def _interpreter(spec: BaseSpec, lock: BaseLock) -> Digest:
    """The identity of the base's interpreter: its pinned archive, or the locked tree."""
    if isinstance(spec.python, StandalonePython):
        return spec.python.digest
    if lock.tree is None:
        raise InterpreterError(
            "the lock names no interpreter",
            where=f"locks/base/{spec.name}.toml",
            remedy="delete it and run doit lock:base",
        )
    return lock.tree


def _system(
    ws: Workspace, spec: BaseSpec, lock: BaseLock, config: Config, progress: Progress
) -> Layer:
    if isinstance(spec.rootfs, ImageRootfs):
        return _pulled(ws, spec.rootfs, config, progress)
    rootfs = spec.rootfs
    action = _system_action(lock, rootfs)

    def work() -> ActionResult:
        from plinth.debian.fetch import fetch_debs
        from plinth.debian.sources import find_sources

        fetch_debs(
            ws,
            lock.packages,
            lambda: find_sources(rootfs.distribution, rootfs.suites, config),
            progress,
            again=f"delete locks/base/{spec.name}.toml and run doit lock:base",
        )
        progress(f"building the system layer of {spec.name}")
        from plinth.debian.deb import read_deb

        debs = {
            package.name: read_deb(ws.cache.path(package.digest), package.path.rsplit("/", 1)[-1])
            for package in lock.packages
        }
        return remember(ws, rootfs_module.rootfs_layer(ws.layout, debs, spec.name, rootfs.omit))

    result, hit = ws.actions.run(action, ws.layout, work)
    return Layer.of(f"{spec.name} system", result, hit=hit)


def _pulled(ws: Workspace, rootfs: ImageRootfs, config: Config, progress: Progress) -> Layer:
    built = not ws.layout.has(rootfs.layer)
    if built:
        urls = config.registry_urls(rootfs.registry)
        if not urls:
            raise FetchError(
                f"{rootfs.repository} is not in the store and no registry is configured",
                expected=rootfs.manifest.oci,
                remedy=f"set registries.{rootfs.registry} (a base URL) in the settings, or build "
                "on the fallback base",
            )
        from plinth.base.registry import pull

        progress(f"pulling {rootfs.repository}, {human_size(rootfs.layer.size)}")
        pull(rootfs, urls, ws.layout)
    return _pulled_layer(rootfs, built=built)


def _pulled_layer(rootfs: ImageRootfs, *, built: bool) -> Layer:
    name = f"{rootfs.repository} (unmodified)"
    return Layer(name, rootfs.layer, rootfs.diff_id, 0, built)


def _python(
    ws: Workspace, spec: BaseSpec, lock: BaseLock, config: Config, jobs: int, progress: Progress
) -> tuple[Layer, Digest]:
    python = spec.python
    source = _interpreter(spec, lock)
    action = _python_action(spec, source)

    def work() -> ActionResult:
        progress(f"building the Python {python.version} layer of {spec.name}")
        from plinth.base.python_source import open_source
        from plinth.wheel.bytecode import Compiler

        with (
            open_source(ws, python, source, config) as (files, executable),
            Compiler(lambda: executable, jobs) as compiler,
        ):
            layer = python_module.python_layer(
                ws.layout, files, python.version, compiler, spec.name
            )
        return remember(ws, layer)

    result, hit = ws.actions.run(action, ws.layout, work)
    return Layer.of(f"{spec.name} python", result, hit=hit), source
