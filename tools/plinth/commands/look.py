"""Verbs that look into a checkout and its build folder: why, graph, du, gc."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from plinth.core.report import counted, human_size, to_stderr
from plinth.core.table import Column, show
from plinth.graph.workspace import Workspace

if TYPE_CHECKING:
    from plinth.inspect.usage import LayerUse, PackageUse, Usage
    from plinth.inspect.why import Reason


def why(ws: Workspace, *, image: str, package: str, all_chains: bool, as_json: bool) -> None:
    """Show who requires `package` of `image`."""
    from plinth.inspect.why import MAX_CHAINS, why

    reasons = why(ws, image, package, limit=MAX_CHAINS if all_chains else 10)
    if as_json:
        print(json.dumps([reason.to_json() for reason in reasons], indent=1))
        return
    for reason in reasons:
        _show_reason(reason, image)


def _show_reason(reason: Reason, image_id: str) -> None:
    print(f"{reason.name} {reason.version} ({reason.kind} package) is in {image_id} because")
    for chain in reason.chains:
        print(f"  {chain[0].wanted}")
        for depth, (step, after) in enumerate(pairwise(chain)):
            words = f"needs {after.wanted}" if after.wanted else f"needs {after.name}"
            print(f"  {'  ' * depth}  {step.name} {step.version} {words}")
    if reason.more:
        print("  and by further ways: --all shows them")
    for note in reason.notes:
        print(f"  note: {note}")


def graph(ws: Workspace, *, ids: Sequence[str], form: str, full: bool, out: str) -> None:
    """Draw images (default: all) to the file `out`, or to standard output."""
    from plinth.core.store import atomic_write
    from plinth.inspect.graph import as_text, graph
    from plinth.recipe.ids import all_images

    made = graph(ws, ids or all_images(ws), full=full)
    text = as_text(made, form)
    if not out:
        sys.stdout.write(text)
        return
    with atomic_write(Path(out).absolute()) as path:
        path.write_text(text, encoding="utf-8")
    print(f"wrote {out}: {len(made.nodes)} nodes, {len(made.edges)} edges")


def du(ws: Workspace, *, ids: Sequence[str], by: str, as_json: bool) -> None:
    """Show what images (default: all) take, by image, layer or package, or how far each begins like
    another."""
    from plinth.inspect.usage import packages, to_json, usage

    if by == "chain":
        _show_chains(ws, ids, as_json=as_json)
        return
    found = usage(ws, ids)
    by = by or ("layer" if ids else "image")
    held = packages(ws, found.layers) if by == "package" else None
    if as_json:
        print(json.dumps(to_json(found, held), indent=1))
    elif held is not None:
        _show_packages(held)
    elif by == "layer":
        _show_layers(found.layers)
    else:
        _show_images(found)


def _show_images(found: Usage) -> None:
    numbers = ("LAYERS", "SIZE", "UNPACKED", "OWN", "OWN UNPACKED")
    rows = [
        [
            image.id,
            str(len(image.layers)),
            human_size(sum(layer.size for layer in image.layers)),
            human_size(sum(layer.unpacked for layer in image.layers)),
            human_size(sum(layer.size for layer in image.own)),
            human_size(sum(layer.unpacked for layer in image.own)),
        ]
        for image in found.images
    ]
    show([Column("IMAGE"), *(Column(name, number=True) for name in numbers)], rows)
    apart = sum(layer.size for image in found.images for layer in image.layers)
    print(_total(found.layers), end="")
    print(f"; without sharing it would be {human_size(apart)}" if len(rows) > 1 else "")


def _total(layers: tuple[LayerUse, ...]) -> str:
    size = human_size(sum(layer.size for layer in layers))
    unpacked = human_size(sum(layer.unpacked for layer in layers))
    return f"{len(layers)} distinct layers, {size}, unpacked {unpacked}"


def _show_layers(layers: tuple[LayerUse, ...]) -> None:
    numbers = ("SIZE", "UNPACKED", "IMAGES")
    rows = [
        [
            layer.name,
            human_size(layer.size),
            human_size(layer.unpacked),
            str(len(layer.images)),
            layer.digest.hex[:12],
        ]
        for layer in layers
    ]
    columns = [Column("LAYER"), *(Column(n, number=True) for n in numbers), Column("DIGEST")]
    show(columns, rows)
    print(_total(layers))


def _show_chains(ws: Workspace, ids: Sequence[str], *, as_json: bool) -> None:
    from plinth.inspect.chains import chains

    found = chains(ws, ids)
    if as_json:
        print(json.dumps([chain.to_json() for chain in found], indent=1))
        return
    rows = [
        [
            chain.image,
            chain.other,
            str(len(chain.layers)),
            human_size(chain.size),
            chain.here.name if chain.here else "-",
            chain.why,
        ]
        for chain in found
    ]
    numbers = Column("ALIKE", number=True), Column("SIZE", number=True)
    show([Column("IMAGE"), Column("BEGINS LIKE"), *numbers, Column("THEN"), Column("FOR")], rows)


def _show_packages(held: list[PackageUse]) -> None:
    rows = [
        [
            use.name,
            use.version,
            use.kind,
            human_size(use.unpacked),
            human_size(use.size) if use.size is not None else "-",
            str(len(use.layer.images)),
        ]
        for use in held
    ]
    numbers = ("UNPACKED", "SIZE", "IMAGES")
    columns = [Column("PACKAGE"), Column("VERSION"), Column("KIND")]
    show([*columns, *(Column(name, number=True) for name in numbers)], rows)
    total = human_size(sum(use.unpacked for use in held))
    print(f"{counted(len(held), 'package')}, {total} unpacked; -: compressed together with others")


def gc(ws: Workspace, *, delete: bool, names: bool, as_json: bool) -> None:
    """Show, and with `delete` delete, what in the build folder nothing refers to."""
    from plinth.inspect.gc import collect, summary

    found = collect(
        ws, delete=delete, waiting=lambda: to_stderr("waiting for a build that runs here")
    )
    total = sum(one.size for one in found)
    if as_json:
        listed = [{"kind": d.kind, "path": str(d.path), "size": d.size} for d in found]
        document = {"deleted": delete, "size": total, "files": listed}
        print(json.dumps(document, indent=1))
        return
    if names:
        for one in found:
            print(f"{one.kind}  {human_size(one.size)}  {one.path}")
    elif found:
        rows = [[kind, str(number), human_size(size)] for kind, number, size in summary(found)]
        show([Column("NOT REFERRED TO"), Column("FILES", True), Column("SIZE", True)], rows)
    if not found:
        print("nothing to delete: all is referred to, or younger than an hour")
    elif delete:
        print(f"deleted {human_size(total)}")
    else:
        print(f"{human_size(total)} could be deleted: plinth gc --delete")
