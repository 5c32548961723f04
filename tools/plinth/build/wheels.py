"""The layers of wheels in the graph: which there are, what they are called, making them once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from packaging.utils import canonicalize_name

from plinth.build.overlaps import held_files
from plinth.build.plan import title
from plinth.core.digest import Digest, Json
from plinth.core.errors import IntegrityError
from plinth.core.result import ActionResult
from plinth.formats import gzip
from plinth.formats.layer.model import Layer
from plinth.formats.python.place import Base
from plinth.graph.actions import Action
from plinth.graph.run import run
from plinth.graph.session import Session
from plinth.graph.workspace import Workspace


@dataclass(frozen=True)
class WheelFile:
    """A wheel in the workspace's cache."""

    name: str
    version: str
    filename: str
    digest: Digest


def layer_action(
    wheels: Sequence[WheelFile],
    base: Base,
    order: Sequence[str] = (),
    without: Mapping[str, Sequence[str]] = {},
) -> Action:
    """The action that makes the layer of `wheels` for the interpreter of `base`. Of a file that
    several have, the one installed last in `order` has its own there; `without` are files that
    packages leave to others below."""
    more: dict[str, Json] = {}
    if len(wheels) > 1:
        names = {wheel.name for wheel in wheels}
        more["order"] = [name for name in order if name in names]
    if without:
        more["without"] = {name: list(paths) for name, paths in without.items()}
    return Action(
        "wheel-layer",
        {
            **{f"wheel-{number}": wheel.digest for number, wheel in enumerate(wheels)},
            "interpreter": base.python_layer.digest,
        },
        {
            "filenames": [wheel.filename for wheel in wheels],
            "python": base.interpreter.version,
            "compressor": gzip.COMPRESSOR,
            **more,
        },
        ("layer", "scan", "files"),
    )


def cached_layer(ws: Workspace, wheel: WheelFile, base: Base) -> Layer | None:
    """The layer of `wheel` alone, if it is made already."""
    found = ws.actions.lookup(layer_action([wheel], base), ws.stores)
    return Layer.of(title([wheel]), found, hit=True) if found is not None else None


def wheel_layer(
    ws: Session,
    wheels: Sequence[WheelFile],
    base: Base,
    fetch: Callable[[], None] | None = None,
    order: Sequence[str] = (),
    without: Mapping[str, Sequence[str]] = {},
) -> Layer:
    """The layer of `wheels`; made unless it is cached. `fetch` brings them into `ws.cache` where
    they are needed and may not be there; `order` and `without` are as in `layer_action`.

    Raises:
        WheelError: a wheel cannot be installed.
    """
    result, hit = run(
        ws,
        layer_action(wheels, base, order, without),
        prepare=fetch,
        sound=lambda found: _has_requires(found, wheels) and _has_files(ws, found),
    )
    return Layer.of(title(wheels), result, hit=hit)


def _has_files(ws: Session, result: ActionResult) -> bool:
    """Whether the list of files of `result` is one."""
    try:
        held_files(ws.cache.get(result.outputs["files"]))
    except IntegrityError:
        return False
    return True


def _has_requires(result: ActionResult, wheels: Sequence[WheelFile]) -> bool:
    """Whether `result`, which a cache may have made up, lists what each of `wheels` requires."""
    found = result.info.get("requires")
    names = {canonicalize_name(wheel.name) for wheel in wheels}
    return isinstance(found, dict) and found.keys() == names
