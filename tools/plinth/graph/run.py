"""Running an action: found on disk or at a server, else done there or here, once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from plinth.core import stopping
from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError
from plinth.core.result import ActionResult
from plinth.graph.actions import Action
from plinth.graph.session import Session
from plinth.graph.steps.model import Work
from plinth.graph.steps.registry import STEPS, perform
from plinth.graph.workspace import Workspace

if TYPE_CHECKING:
    from plinth.graph.remote.tier import Tier

Sound = Callable[[ActionResult], bool]
"""Whether a result that somebody else stored can be one of the action at all."""


def known(ws: Workspace, action: Action) -> bool:
    """Whether the result of `action` is on disk or, in a session, at the server; nothing is fetched
    or made."""
    if ws.actions.lookup(action, ws.stores) is not None:
        return True
    remote = _remote(ws)
    return remote is not None and remote.known(action) is not None


def lacking(ws: Workspace, digests: Iterable[Digest]) -> set[Digest]:
    """Those of `digests` that have to be fetched before steps can take them: neither here nor, if
    it runs steps, at the server."""
    missing = ws.stores.missing(digests)
    remote = _remote(ws)
    return remote.lacking(missing) if remote is not None and remote.executes else missing


def run(
    ws: Session,
    action: Action,
    *,
    prepare: Callable[[], None] | None = None,
    work: Callable[[], ActionResult] | None = None,
    sound: Sound = lambda _: True,
) -> tuple[ActionResult, bool]:
    """The result of `action`, and whether it was made already.

    `prepare` brings those inputs into the stores that come from elsewhere than from other
    actions; it is called before they are used. `work` does what is no step of
    `plinth.graph.steps.registry`; it runs here in any case.

    Raises:
        PlinthError: what `prepare`, `work` or the step raises; nothing is stored then.
    """
    found = ws.actions.lookup(action, ws.stores)
    if found is not None:
        return found, True
    with ws.actions.exclusive(action):
        found = ws.actions.lookup(action, ws.stores)
        if found is not None:
            return found, True
        remote = ws.remote
        made = None
        if remote is not None:
            found = remote.take(action)
            if found is not None and sound(found):
                ws.actions.store(action, found)
                return found, True
            if remote.executes and action.mnemonic in STEPS:
                made = remote.execute(action, prepare)
        if made is None:
            # What was given up elsewhere is not to be done here.
            stopping.check()
            made = _here(ws, action, prepare, work)
            if remote is not None:
                remote.offer(action, made)
        ws.actions.store(action, made)
    return made, False


def _remote(ws: Workspace) -> Tier | None:
    return ws.remote if isinstance(ws, Session) else None


def _here(
    ws: Session,
    action: Action,
    prepare: Callable[[], None] | None,
    work: Callable[[], ActionResult] | None,
) -> ActionResult:
    remote = ws.remote

    def bring() -> None:
        if prepare is not None:
            prepare()
        if remote is not None:
            # Outputs of other actions that nobody has needed here so far.
            remote.bring(ws.stores.missing(action.inputs.values()))

    bring()
    if work is not None:
        return work()
    if _lost(ws, action):
        bring()
        for name, digest in action.inputs.items():
            if ws.stores.missing([digest]):
                raise IntegrityError(
                    "an input of a step was damaged, and is deleted",
                    where=f"{action.mnemonic}: {name}",
                    expected=digest.oci,
                    remedy="build again: it is made or fetched again",
                )
    inputs = {name: ws.stores.path(digest) for name, digest in action.inputs.items()}
    return perform(action.mnemonic, Work(inputs, action.parameters, ws.stores, ws.compilers))


def _lost(ws: Workspace, action: Action) -> bool:
    """Whether an input is not there, or not what it was, and so deleted: what a step is given is
    what its key says, or every cache that has the result would be wrong."""
    # A list: all of them are looked at.
    return not all([ws.stores.sound(digest) for digest in action.inputs.values()])  # noqa: C419
