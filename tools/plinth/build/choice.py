"""Which base an image is built on: the one it asks for, its fallback, or that with what this
machine has instead; found out before anything is downloaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from plinth.build.base import system_is_made
from plinth.build.vendor import left_out, without_set
from plinth.core.digest import Digest
from plinth.core.errors import (
    FetchError,
    InterpreterError,
    LockError,
    PackageError,
    PlinthError,
)
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.core.stopping import meanwhile, result
from plinth.fetch.interpreter import find_tree, how_to_install
from plinth.fetch.own_python import archive_action
from plinth.fetch.probe import has_places, settings_of, unavailable
from plinth.formats.python.stored import tree_blobs
from plinth.graph.run import known
from plinth.graph.session import Session
from plinth.graph.workspace import Workspace
from plinth.recipe.accelerator import CPU
from plinth.recipe.base import (
    LOCAL,
    BaseSpec,
    DebianRootfs,
    FoundPython,
    check_serves,
    load_base,
    origin,
)
from plinth.recipe.locks.base import BaseLock, Local, LockedDeb, read_local, read_lock
from plinth.recipe.locks.stale import read_image
from plinth.recipe.recipe import Recipe


@dataclass(frozen=True)
class Choice:
    """The base `name` to build on; `passed_over` are those that come before it, and why each is
    not built on. `local` is what a local base has instead, None for others."""

    name: str
    passed_over: Mapping[str, str] = field(default_factory=dict)
    local: Local | None = None

    @property
    def note(self) -> str:
        """What people should know of it; empty where it is the base that was asked for."""
        if not self.passed_over:
            return ""
        insisting = " or ".join(f"base={name}" for name in self.passed_over)
        return "\n".join(
            [
                *(f"note: {why}" for why in self.passed_over.values()),
                f"      building on {self.name}, which is part of the image's name; "
                f"{insisting} insists",
            ]
        )


def choose_base(ws: Workspace, wanted: str, *, config: Config, insist: str = "") -> Choice:
    """The base to build on where an image asks for `wanted`.

    `insist` names a base that is taken, or refused where this machine has something else.

    Raises:
        SpecError: a base is invalid, or cannot stand for the wanted one.
        LockError: a base that needs something of this machine is not locked.
        InterpreterError: no base can be built here; says what can be done about it.
        FetchError: packages of the base that is insisted on are nowhere to be had.
    """
    spec = load_base(ws.bases, wanted)
    if insist:
        return _insisted(ws, spec, config, insist)
    if not spec.fallback:
        return as_here(ws, spec, config)
    fallback = load_base(ws.bases, spec.fallback)
    looked: Future[Choice] = Future()

    def look() -> None:
        try:
            looked.set_result(as_here(ws, fallback, config))
        except PlinthError as error:
            looked.set_exception(error)

    # Interpreters take their time to start, archives to answer, and so do places.
    why = unavailable(ws, spec, config, look)
    if not why:
        return as_here(ws, spec, config)
    if not looked.done():
        look()
    try:
        found = looked.result()
    except (FetchError, InterpreterError) as error:
        raise _impossible(spec, config, why, error) from None
    reason = f"the base {wanted} is not available here: {why}"
    return replace(found, passed_over={wanted: reason, **found.passed_over})


def chosen_recipe(
    ws: Workspace, image_id: str, *, config: Config, base: str, accelerator: str
) -> tuple[Recipe, Choice]:
    """The recipe by which `image_id` is built on this machine, and the choice of its base; `base`
    and `accelerator` insist on one where they are not empty.

    Raises:
        PlinthError: as `choose_base` and `Recipe.load`; a lock that is stale, before all else.
    """
    image = read_image(ws, image_id)
    with meanwhile(1, "probe") as pool:
        # Both ask places, and both may have to wait for no answer.
        lacked = pool.submit(without_set, ws, accelerator or image.spec.accelerator, config)
        chosen = choose_base(ws, image.spec.base, config=config, insist=base)
        missing = result(lacked)
    if missing is not None and accelerator:
        raise missing
    if chosen.local is not None and chosen.local.packages and image.spec.os_packages:
        name = origin(chosen.name)
        raise LockError(
            f"{image_id} adds OS packages to those that the base {name} is locked to, and the "
            "archive no longer has these",
            where=f"locks/{image_id}/os.toml",
            remedy=f"delete locks/base/{name}.toml, then doit lock:base and doit lock:{image_id}",
        )
    wanted = CPU if missing is not None else accelerator
    recipe = Recipe.of(ws, image, base=chosen.name, local=chosen.local, accelerator=wanted)
    if missing is not None:
        recipe = replace(recipe, note=left_out(image.spec.accelerator, missing))
    return recipe, chosen


def as_here(ws: Workspace, spec: BaseSpec, config: Config) -> Choice:
    """`spec` as its lock has it; where this machine has another interpreter, or the archive no
    longer has its packages, the local base with what there is instead.

    Raises:
        LockError: `spec` is not locked.
        InterpreterError: there is no interpreter at all.
        FetchError: packages left the archive, and cannot be resolved afresh.
    """
    tree, reasons = None, []
    if isinstance(spec.python, FoundPython):
        tree, reason = _other_interpreter(ws, spec, config)
        reasons += [reason] if tree else []
    local = Local(tree)
    if isinstance(spec.rootfs, DebianRootfs):
        lost, local = _other_packages(ws, spec, spec.rootfs, local, config)
        if lost:
            reasons.append(f"{_left(spec, lost)}: all are resolved afresh from its signed index")
    if not reasons:
        return Choice(spec.name)
    return Choice(f"{spec.name}{LOCAL}", {spec.name: "; ".join(reasons)}, local)


def _left(spec: BaseSpec, lost: Sequence[LockedDeb]) -> str:
    some = ", ".join(f"{package.name} {package.version}" for package in lost[:3])
    more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
    return f"packages that the base {spec.name} is locked to have left the archive ({some}{more})"


def _other_interpreter(ws: Workspace, spec: BaseSpec, config: Config) -> tuple[Digest | None, str]:
    """The tree of this machine's interpreter and how it differs, where it is not the locked one."""
    locked = read_lock(ws, spec).tree
    if locked is None or _at_hand(ws, locked, config):
        return None, ""
    found = find_tree(spec.python.version, config, locked)
    if found.tree == locked:
        return None, ""
    return found.tree, (
        f"the CPython {spec.python.version} of this machine ({found.python}) is another build than "
        f"the one the base {spec.name} is locked to"
    )


def _other_packages(
    ws: Workspace, spec: BaseSpec, rootfs: DebianRootfs, local: Local, config: Config
) -> tuple[list[LockedDeb], Local]:
    """The locked packages that are gone, and `local` with others instead. Whatever only looks asks
    nobody."""
    from plinth.fetch.apt.suites import resolved
    from plinth.fetch.debs import gone, places_of

    lock = read_lock(ws, spec)
    missing = ws.cache.missing([package.digest for package in lock.packages])
    if not missing or system_is_made(ws, lock, rootfs) or not isinstance(ws, Session) or ws.remote:
        return [], local
    wanted = [package for package in lock.packages if package.digest in missing]
    lost = gone(wanted, places_of(rootfs, lock.date, config))
    if not lost:
        return [], local
    noted = read_local(ws, f"{spec.name}{LOCAL}")
    if noted is not None and noted.packages and _is_here(ws, noted, lock, rootfs):
        return lost, replace(noted, tree=local.tree)
    try:
        found = resolved(rootfs, spec.architecture, config, quiet)
    except (FetchError, PackageError) as error:
        raise FetchError(
            f"{_left(spec, lost)}, and they cannot be resolved afresh",
            where=f"locks/base/{spec.name}.toml",
            found="; ".join(filter(None, (error.brief, error.found))),
            remedy=error.remedy,
        ) from None
    return lost, Local(local.tree, found.packages, found.indexes, found.date)


def _is_here(ws: Workspace, noted: Local, lock: BaseLock, rootfs: DebianRootfs) -> bool:
    """Whether the system that an earlier build resolved afresh is made, or can be made from the
    store."""
    return system_is_made(ws, replace(lock, packages=noted.packages), rootfs) or not (
        ws.cache.missing([package.digest for package in noted.packages])
    )


def _at_hand(ws: Workspace, tree: Digest, config: Config) -> bool:
    """Whether an interpreter is in the store, packed or as it came with an import, or a remote
    cache has it."""
    if known(ws, archive_action(tree)) or tree_blobs(ws.cache, tree) is not None:
        return True
    # Whatever only looks opens no session, and so cannot know: a build will ask.
    return config.remote is not None and not isinstance(ws, Session)


def _insisted(ws: Workspace, spec: BaseSpec, config: Config, insist: str) -> Choice:
    check_serves(spec, insist)
    meant = load_base(ws.bases, insist)
    if insist.endswith(LOCAL):
        return _insisted_local(ws, meant, config)
    found = as_here(ws, meant, config)
    local, why = found.local, found.passed_over.get(insist, "")
    if local is not None and local.tree is not None:
        locked = read_lock(ws, meant).tree
        raise InterpreterError(
            why,
            where=f"base={insist}",
            expected=locked.oci if locked else "",
            found=local.tree.oci,
            remedy=f"leave out base=, which builds on {found.name}; or name the locked one in "
            f'the settings as python."{meant.python.version}"',
        )
    if local is not None:
        raise FetchError(
            why,
            where=f"base={insist}",
            remedy=f"leave out base=, which builds on {found.name}; or name an archive that has "
            "them in the settings, as apt or snapshots (docs/base.md)",
        )
    return found


def _insisted_local(ws: Workspace, spec: BaseSpec, config: Config) -> Choice:
    """The local base `spec`: as a provenance has it, where the workspace is made from one, else as
    this machine has it."""
    meant = load_base(ws.bases, origin(spec.name))
    carried = read_local(ws, spec.name, carried=True)
    if carried is None:
        found = as_here(ws, meant, config)
        if found.local is None:
            raise InterpreterError(
                f"this machine has all that {meant.name} is locked to",
                where=f"base={spec.name}",
                remedy=f"build on that base: base={meant.name}",
            )
        return Choice(spec.name, local=found.local)
    wanted = carried.tree or read_lock(ws, meant).tree
    if wanted is None or _at_hand(ws, wanted, config):
        return Choice(spec.name, local=carried)
    other = find_tree(spec.python.version, config, wanted)
    if other.tree != wanted:
        raise InterpreterError(
            f"the image was built with another CPython {spec.python.version} than the one of "
            "this machine",
            where=str(other.python),
            expected=wanted.oci,
            found=other.tree.oci,
            remedy="take the interpreter from an export of the image: plinth import, then "
            "--inputs; or build on the machine that has it",
        )
    return Choice(spec.name, local=carried)


def on_the_other_base(ws: Workspace, spec: BaseSpec, config: Config) -> str:
    """What to do to build on the fallback of `spec` in its place, on this machine."""
    fallback = load_base(ws.bases, spec.fallback)
    try:
        name = as_here(ws, fallback, config).name
    except InterpreterError:
        return f"build on {fallback.name}: {how_to_install(fallback.python.version)}"
    except FetchError:
        name = fallback.name
    return f"build on the other base: base={name}"


def _impossible(
    spec: BaseSpec, config: Config, why: str, error: FetchError | InterpreterError
) -> InterpreterError:
    """Neither `spec`, because of `why`, nor its fallback, because of `error`, can be built: what
    to do, the easiest first."""
    keys = " and ".join(settings_of(spec))
    if has_places(spec, config):
        first = f"connect this machine to the network, or name mirrors in the settings: {keys}"
    else:
        first = (
            f"name places in the settings: {keys}; or use the public ones again, without "
            "`public = false` there and PLINTH_PUBLIC in the environment"
        )
    return InterpreterError(
        f"neither {spec.name} nor {spec.fallback} can be built on this machine",
        where=f"base/{spec.name}.toml",
        found=f"{spec.name}: {why}\n{spec.fallback}: "
        + ", ".join(filter(None, (error.what, error.found))),
        remedy=f"1. {first}\n2. {error.remedy}\n"
        "3. plinth import FILE, an archive that `plinth export` made on a machine where an image "
        f"was built on {spec.name} or {spec.fallback} (docs/airgap.md)",
    )
