"""The layers of wheels in the graph: which there are, what they are called, making them once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from packaging.utils import canonicalize_name

from plinth.build.overlaps import held_files
from plinth.build.plan import Named, title
from plinth.core.digest import Digest, Json
from plinth.core.errors import IntegrityError
from plinth.core.result import ActionResult
from plinth.core.store import LAYER, PART
from plinth.formats import gzip
from plinth.formats.layer.model import Layer
from plinth.formats.python.place import Python
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


def output_of(group: Sequence[object]) -> str:
    """What each of a `group` of wheels is made into: the layer itself where it is alone."""
    return LAYER if len(group) == 1 else PART


def wheel_action(
    wheel: WheelFile, python: Python, output: str, without: Sequence[str] = ()
) -> Action:
    """The action that makes `wheel` into a layer, or a part of one, for `python`; `without` are
    files that it leaves to others."""
    more: dict[str, Json] = {"without": list(without)} if without else {}
    return Action(
        f"wheel-{output}",
        {"wheel": wheel.digest, "interpreter": python.layer.digest},
        {
            "filename": wheel.filename,
            "python": python.interpreter.version,
            "compressor": gzip.COMPRESSOR,
            **more,
        },
        (output, "scan", "files"),
    )


def group_action(parts: Sequence[Layer]) -> Action:
    """The action that joins `parts`."""
    inputs = {f"part-{number}": part.digest for number, part in enumerate(parts)}
    return Action("group-layer", inputs, outputs=(LAYER,))


def cached_wheel_layer(
    ws: Workspace, wheel: WheelFile, python: Python, output: str, without: Sequence[str] = ()
) -> Layer | None:
    """What `wheel_action` makes, if it is made already."""
    found = ws.actions.lookup(wheel_action(wheel, python, output, without), ws.stores)
    return Layer.of(title([wheel]), found, hit=True, output=output) if found is not None else None


def cached_group_layer(
    ws: Workspace, wheels: Sequence[Named], parts: Sequence[Layer]
) -> Layer | None:
    """The layer of `wheels`, whose `parts` are made, if it is made already."""
    if len(parts) == 1:
        return parts[0]
    found = ws.actions.lookup(group_action(parts), ws.stores)
    return Layer.of(title(wheels), found, hit=True) if found is not None else None


def names_made(ws: Workspace) -> set[str]:
    """The packages of which any wheel was made into a layer here, for whichever interpreter, or was
    built of an sdist: what there is for another one cannot be known before that is there."""
    found: set[str] = set()
    for kind, info in ws.actions.infos():
        requires, filename = info.get("requires"), info.get("filename")
        if kind.startswith("wheel-") and isinstance(requires, dict):
            found.update(requires)
        elif kind == "sdist-wheel":
            found.add(canonicalize_name(str(filename).partition("-")[0]))
    return found


def wheel_layer(
    ws: Session,
    wheel: WheelFile,
    python: Python,
    output: str = LAYER,
    fetch: Callable[[], None] | None = None,
    without: Sequence[str] = (),
) -> Layer:
    """What `wheel_action` makes; made unless it is cached. `fetch` brings the wheel into
    `ws.cache` where it is needed and may not be there.

    Raises:
        WheelError: the wheel cannot be installed.
    """
    result, hit = run(
        ws,
        wheel_action(wheel, python, output, without),
        prepare=fetch,
        sound=lambda found: _has_requires(found, wheel) and _has_files(ws, found),
    )
    return Layer.of(title([wheel]), result, hit=hit, output=output)


def group_layer(ws: Session, wheels: Sequence[WheelFile], parts: Sequence[Layer]) -> Layer:
    """The layer of `wheels`, whose `parts` are made.

    Raises:
        LayoutError: two have files, or bytecode, of one path.
    """
    if len(parts) == 1:
        return parts[0]
    result, hit = run(ws, group_action(parts))
    return Layer.of(title(wheels), result, hit=hit)


def _has_files(ws: Session, result: ActionResult) -> bool:
    """Whether the list of files of `result` is one."""
    try:
        held_files(ws.cache.get(result.outputs["files"]))
    except IntegrityError:
        return False
    return True


def _has_requires(result: ActionResult, wheel: WheelFile) -> bool:
    """Whether `result`, which a cache may have made up, lists what `wheel` requires, also of
    Python."""
    found = [result.info.get(key) for key in ("requires", "python")]
    mine = [canonicalize_name(wheel.name)]
    return all(isinstance(one, dict) and [*one] == mine for one in found)
