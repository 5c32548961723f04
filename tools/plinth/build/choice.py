"""Which base an image is built on: the one it asks for, its fallback, or that with the
interpreter of this machine; found out before anything is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from plinth.build.interpreter import archive_action
from plinth.core.digest import Digest
from plinth.core.errors import InterpreterError
from plinth.core.settings import Config
from plinth.fetch.interpreter import find_tree, how_to_install
from plinth.fetch.probe import has_places, settings_of, unavailable
from plinth.formats.python.stored import tree_blobs
from plinth.graph.run import known
from plinth.graph.session import Session
from plinth.graph.workspace import Workspace
from plinth.recipe.base import LOCAL, BaseSpec, FoundPython, check_serves, load_base, origin
from plinth.recipe.locks.base import read_local, read_lock
from plinth.recipe.locks.stale import read_image
from plinth.recipe.recipe import Recipe


@dataclass(frozen=True)
class Choice:
    """The base `name` to build on; `passed_over` are those that come before it, and why each is
    not built on. `tree` is the interpreter of a local base, None for others."""

    name: str
    passed_over: Mapping[str, str] = field(default_factory=dict)
    tree: Digest | None = None

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

    `insist` names a base that is taken, or refused where this machine has another interpreter.

    Raises:
        SpecError: a base is invalid, or cannot stand for the wanted one.
        LockError: a base that needs an interpreter of this machine is not locked.
        InterpreterError: no base can be built here; says what can be done about it.
    """
    spec = load_base(ws.bases, wanted)
    if insist:
        return _insisted(ws, spec, config, insist)
    if not spec.fallback:
        return with_interpreter(ws, spec, config)
    why = unavailable(ws, spec, config)
    if not why:
        return with_interpreter(ws, spec, config)
    try:
        found = with_interpreter(ws, load_base(ws.bases, spec.fallback), config)
    except InterpreterError as error:
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
    chosen = choose_base(ws, image.spec.base, config=config, insist=base)
    recipe = Recipe.of(ws, image, base=chosen.name, tree=chosen.tree, accelerator=accelerator)
    return recipe, chosen


def with_interpreter(ws: Workspace, spec: BaseSpec, config: Config) -> Choice:
    """`spec` with the interpreter it is locked to; where this machine has another one, the local
    base made of both. Whether packages or images can be fetched is not looked at.

    Raises:
        LockError: `spec` is not locked.
        InterpreterError: there is no interpreter at all.
    """
    if not isinstance(spec.python, FoundPython):
        return Choice(spec.name)
    locked = read_lock(ws, spec).tree
    if locked is None or _at_hand(ws, locked, config):
        return Choice(spec.name)
    python, tree = find_tree(spec.python.version, config)
    if tree == locked:
        return Choice(spec.name)
    reason = (
        f"the CPython {spec.python.version} of this machine ({python}) is another build than the "
        f"one the base {spec.name} is locked to"
    )
    return Choice(f"{spec.name}{LOCAL}", {spec.name: reason}, tree)


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
    found = with_interpreter(ws, meant, config)
    if found.tree is not None:
        locked = read_lock(ws, meant).tree
        raise InterpreterError(
            found.passed_over[insist],
            where=f"base={insist}",
            expected=locked.oci if locked else "",
            found=found.tree.oci,
            remedy=f"leave out base=, which builds on {found.name}; or name the locked one in "
            f'the settings as python."{meant.python.version}"',
        )
    return found


def _insisted_local(ws: Workspace, spec: BaseSpec, config: Config) -> Choice:
    """The local base `spec`: with the interpreter a provenance names, where the workspace is made
    from one, else with that of this machine."""
    carried = read_local(ws, spec.name, carried=True)
    if carried is not None and _at_hand(ws, carried, config):
        return Choice(spec.name, tree=carried)
    python, tree = find_tree(spec.python.version, config)
    if carried is not None and tree != carried:
        raise InterpreterError(
            f"the image was built with another CPython {spec.python.version} than the one of "
            "this machine",
            where=str(python),
            expected=carried.oci,
            found=tree.oci,
            remedy="take the interpreter from an export of the image: plinth import, then "
            "--inputs; or build on the machine that has it",
        )
    locked_to = load_base(ws.bases, origin(spec.name))
    if tree == read_lock(ws, locked_to).tree:
        raise InterpreterError(
            f"the CPython {spec.python.version} of this machine is the one that "
            f"{locked_to.name} is locked to",
            where=f"base={spec.name}",
            remedy=f"build on that base: base={locked_to.name}",
        )
    return Choice(spec.name, tree=tree)


def _impossible(
    spec: BaseSpec, config: Config, why: str, error: InterpreterError
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
        found=f"{spec.name}: {why}\n{spec.fallback}: {error.what}, {error.found}",
        remedy=f"1. {first}\n2. {how_to_install(spec.python.version)}\n"
        "3. plinth import FILE, an archive that `plinth export` made on a machine where an image "
        f"was built on {spec.name} or {spec.fallback} (docs/airgap.md)",
    )
