"""The gates every image passes before it is named: what its Python packages require, its ELF
closure."""

from __future__ import annotations

from collections.abc import Sequence

from plinth.core.digest import Digest
from plinth.core.errors import ClosureError, IntegrityError, InterpreterError, LockError
from plinth.core.result import ActionResult
from plinth.fetch.interpreter import how_to_install
from plinth.formats.elf.closure import Finding, Rules, check
from plinth.formats.elf.scan import LayerScan
from plinth.formats.layer.model import Layer
from plinth.formats.layer.scan import read_scan
from plinth.formats.python.place import Base
from plinth.graph.actions import Action
from plinth.graph.run import run
from plinth.graph.session import Session
from plinth.recipe.image import ImageSpec, Target
from plinth.recipe.locks.pylock import LockedPackage
from plinth.recipe.requires import asked_by, unfit, unmet

_SHOWN = 20


def ensure_met(
    spec: ImageSpec, target: Target, packages: Sequence[LockedPackage], layers: Sequence[Layer]
) -> None:
    """Check that the `packages` of an image, which are in `layers`, have what they require.

    Raises:
        LockError: naming every package that lacks something, and what.
    """
    versions = {package.name: package.version for package in packages}
    requires = {name: texts for layer in layers for name, texts in layer.requires.items()}
    pythons = {name: text for layer in layers for name, text in layer.python.items()}
    problems = unmet(versions, requires, asked_by(spec, target), target.python, spec.overrides)
    wrong = unfit(versions, pythons, target.releases)
    problems += wrong
    if problems:
        raise LockError(
            "the lock does not meet every requirement of its packages",
            where=f"locks/{spec.id}/pylock.toml",
            expected=f"every requirement met on Python {target.python}",
            found="\n".join(problems),
            remedy=f"delete locks/{spec.id}/pylock.toml and lock again: doit lock:{spec.id}"
            # The index does not say what the file does: another lock would be the same.
            + ("; bound what is for another Python with [[python.constraints]]" if wrong else ""),
        )


def ensure_closed(
    ws: Session, image_id: str, layers: Sequence[Layer], rules: Rules, frameworks: frozenset[str]
) -> list[str]:
    """Check the objects of `layers` (bottom first); returns notes worth showing.

    `frameworks` names the layers of packages the image was asked to hold.

    Raises:
        ClosureError: an object lacks something, naming it, its layer and what to do.
    """
    action = Action(
        "elf-closure",
        scan_inputs(ws, layers),
        {
            "names": [layer.name for layer in layers],
            "dlopen": list(rules.dlopen),
            "host": sorted(rules.host),
            "gpu": rules.gpu,
            "frameworks": sorted(frameworks),
        },
    )

    def work() -> ActionResult:
        scans = [(layer.name, scan(ws, layer)) for layer in layers]
        problems, notes = check(scans, rules, frameworks)
        if problems:
            shown = _shown(problems)
            raise ClosureError(
                "shared libraries do not find what they need",
                where=image_id,
                found="\n".join(shown),
                remedy="add the OS package that has the library to the base's rootfs.packages, or "
                "bound the package that needs it; a name that comes from the host at run time "
                f"goes into [closure.host] of images/{image_id}.toml, with the reason",
            )
        return ActionResult({}, {"notes": list(notes)})

    result, _ = run(ws, action, work=work, sound=lambda found: "notes" in found.info)
    notes = result.info["notes"]
    return [str(note) for note in notes] if isinstance(notes, list) else []


def ensure_runs(ws: Session, base: Base) -> None:
    """Check that the interpreter of this machine finds all it needs in the system of `base`,
    before anything is fetched to put on it.

    Raises:
        InterpreterError: it does not; names what is missing.
    """
    version = base.interpreter.version
    try:
        ensure_closed(ws, base.name, base.layers, Rules(), frozenset())
    except ClosureError as error:
        raise InterpreterError(
            f"the CPython {version} of this machine was built for another system than that of "
            "the base",
            where=base.name,
            found=error.found,
            remedy=how_to_install(version),
        ) from None


def _shown(problems: Sequence[Finding]) -> list[str]:
    """One line for each thing that is wrong in a layer, whatever number of files it is in."""
    first: dict[tuple[str, str], str] = {}
    count: dict[tuple[str, str], int] = {}
    for problem in problems:
        key = problem.layer, problem.what
        first.setdefault(key, problem.path)
        count[key] = count.get(key, 0) + 1
    lines = []
    for (layer, what), path in first.items():
        more = count[layer, what] - 1
        files = f" ({path}{f' and {more} more files' if more else ''})" if path else ""
        lines.append(f"{layer}: {what}{files}" if path else what)
    if len(lines) > _SHOWN:
        lines = [*lines[:_SHOWN], f"and {len(lines) - _SHOWN} more"]
    return lines


def scan_action(layer: Digest) -> Action:
    """The action that scans a layer that came without a scan, or whose scan is lost."""
    return Action("elf-scan", {"layer": layer}, outputs=("scan",))


def scan_inputs(ws: Session, layers: Sequence[Layer]) -> dict[str, Digest]:
    """The scans of `layers` (bottom first) as inputs of an action: their order and digests.

    Raises:
        IntegrityError: a layer that has to be read for it is damaged.
    """
    return {
        f"{number:03}": layer.scanned or _scanned(ws, layer) for number, layer in enumerate(layers)
    }


def scan(ws: Session, layer: Layer) -> LayerScan:
    """The scan of `layer`, read from its blob where it is not known yet.

    Raises:
        IntegrityError: the layer is damaged.
    """
    digest = layer.scanned or _scanned(ws, layer)
    try:
        return LayerScan.from_json(ws.cache.get(digest))
    except IntegrityError:
        # Lost or damaged: it is in the layer, too.
        ws.cache.path(digest).unlink(missing_ok=True)
    return LayerScan.from_json(ws.cache.get(_scanned(ws, layer)))


def keep_scans(ws: Session, layers: Sequence[Layer]) -> None:
    """Make sure that `ws.cache` has the scan of each of `layers`.

    Raises:
        IntegrityError: a layer that has to be read for it is damaged.
    """
    for layer in layers:
        scan(ws, layer)


def _scanned(ws: Session, layer: Layer) -> Digest:
    def work() -> ActionResult:
        found = read_scan(ws.stores.path(layer.digest), layer.name)
        return ActionResult({"scan": ws.cache.put(found.to_json())})

    result, _ = run(ws, scan_action(layer.digest), work=work)
    return result.outputs["scan"]
