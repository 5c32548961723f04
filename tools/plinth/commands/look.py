"""`plinth why`, `graph`, `du`, `gc`, `doctor`, `completion`: the command line of looking."""

from __future__ import annotations

import argparse
import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plinth.graph.workspace import Workspace
    from plinth.inspect.usage import LayerUse, PackageUse, Usage
    from plinth.inspect.why import Reason


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    parser = verbs.add_parser("why", help="who requires a package of an image")
    parser.add_argument("id", metavar="ID")
    parser.add_argument("package", metavar="PACKAGE", help="a Python or an OS package")
    parser.add_argument("--all", action="store_true", help="every chain, not only the shortest ten")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=_why)

    parser = verbs.add_parser("graph", help="draw what images are made of, shared layers in colour")
    parser.add_argument("ids", nargs="*", metavar="ID", help="images (none: all)")
    parser.add_argument("--format", choices=("dot", "svg", "json"), default="dot")
    parser.add_argument(
        "--full", action="store_true", help="every input and layer by itself, not in groups"
    )
    parser.add_argument("--out", default="", metavar="FILE", help="(default: standard output)")
    parser.set_defaults(run=_graph)

    parser = verbs.add_parser("du", help="bytes by image, layer or package, shared and not")
    parser.add_argument("ids", nargs="*", metavar="ID", help="images (none: all)")
    parser.add_argument(
        "--by",
        choices=("image", "layer", "package"),
        default="",
        help="(default: image, or layer where images are named)",
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=_du)

    parser = verbs.add_parser(
        "gc",
        help="what in the build folder nothing refers to (--delete: delete it)",
        epilog="Kept are all that build/oci/index.json reaches, what any lock names, and whatever "
        "is younger than an hour. Builds that run are waited for.",
    )
    parser.add_argument("--delete", action="store_true", help="without it nothing is deleted")
    parser.add_argument("--list", action="store_true", help="name every file")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=_gc)

    parser = verbs.add_parser(
        "doctor",
        help="what this machine can do, what it lacks, and what to do about it",
        epilog="exit codes: 0 images can be built here, nothing is damaged; 1 they cannot, or "
        "something is; 2 wrong usage",
    )
    parser.add_argument(
        "--store",
        action="store_true",
        help="instead, read every file of the build folder and name what is damaged",
    )
    parser.add_argument(
        "--mend", action="store_true", help="delete what is damaged, too; builds make it again"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=_doctor)

    parser = verbs.add_parser(
        "completion",
        help='completion for your shell: eval "$(plinth completion bash)"',
        epilog='bash: put eval "$(plinth completion bash)" into ~/.bashrc; zsh: plinth completion '
        "zsh > a folder of $fpath, as _plinth",
    )
    parser.add_argument("shell", choices=("bash", "zsh"))
    parser.set_defaults(run=_completion)


def _why(arguments: argparse.Namespace) -> int:
    from plinth.graph.workspace import Workspace
    from plinth.inspect.why import MAX_CHAINS, why

    limit = MAX_CHAINS if arguments.all else 10
    reasons = why(Workspace.find(), arguments.id, arguments.package, limit=limit)
    if arguments.json:
        print(json.dumps([reason.to_json() for reason in reasons], indent=1))
        return 0
    for reason in reasons:
        _show_reason(reason, arguments.id)
    return 0


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


def _graph(arguments: argparse.Namespace) -> int:
    from plinth.core.store import atomic_write
    from plinth.graph.workspace import Workspace
    from plinth.inspect.graph import as_text, graph
    from plinth.recipe.ids import all_images

    ws = Workspace.find()
    made = graph(ws, arguments.ids or all_images(ws), full=arguments.full)
    text = as_text(made, arguments.format)
    if not arguments.out:
        sys.stdout.write(text)
        return 0
    with atomic_write(Path(arguments.out).absolute()) as path:
        path.write_text(text, encoding="utf-8")
    print(f"wrote {arguments.out}: {len(made.nodes)} nodes, {len(made.edges)} edges")
    return 0


def _du(arguments: argparse.Namespace) -> int:
    from plinth.graph.workspace import Workspace
    from plinth.inspect.usage import packages, to_json, usage

    ws = Workspace.find()
    found = usage(ws, arguments.ids)
    by = arguments.by or ("layer" if arguments.ids else "image")
    held = packages(ws, found.layers) if by == "package" else None
    if arguments.json:
        print(json.dumps(to_json(found, held), indent=1))
    elif held is not None:
        _show_packages(held)
    elif by == "layer":
        _show_layers(found.layers)
    else:
        _show_images(found)
    return 0


def _show_images(found: Usage) -> None:
    from plinth.core.report import human_size
    from plinth.core.table import Column, show

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
    from plinth.core.report import human_size

    size = human_size(sum(layer.size for layer in layers))
    unpacked = human_size(sum(layer.unpacked for layer in layers))
    return f"{len(layers)} distinct layers, {size}, unpacked {unpacked}"


def _show_layers(layers: tuple[LayerUse, ...]) -> None:
    from plinth.core.report import human_size
    from plinth.core.table import Column, show

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


def _show_packages(held: list[PackageUse]) -> None:
    from plinth.core.report import human_size
    from plinth.core.table import Column, show

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
    print(f"{len(held)} packages, {total} unpacked; -: compressed together with others")


def _gc(arguments: argparse.Namespace) -> int:
    from plinth.core.report import human_size, to_stderr
    from plinth.core.table import Column, show
    from plinth.graph.workspace import Workspace
    from plinth.inspect.gc import collect, summary

    found = collect(
        Workspace.find(),
        delete=arguments.delete,
        waiting=lambda: to_stderr("waiting for a build that runs here"),
    )
    total = sum(one.size for one in found)
    if arguments.json:
        listed = [{"kind": d.kind, "path": str(d.path), "size": d.size} for d in found]
        document = {"deleted": arguments.delete, "size": total, "files": listed}
        print(json.dumps(document, indent=1))
        return 0
    if arguments.list:
        for one in found:
            print(f"{one.kind}  {human_size(one.size)}  {one.path}")
    elif found:
        rows = [[kind, str(number), human_size(size)] for kind, number, size in summary(found)]
        show([Column("NOT REFERRED TO"), Column("FILES", True), Column("SIZE", True)], rows)
    if not found:
        print("nothing to delete: all is referred to, or younger than an hour")
    elif arguments.delete:
        print(f"deleted {human_size(total)}")
    else:
        print(f"{human_size(total)} could be deleted: plinth gc --delete")
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from plinth.core.errors import PlinthError
    from plinth.graph.workspace import Workspace

    try:
        ws = Workspace.find()
    except PlinthError:
        if arguments.store or arguments.mend:
            raise
        ws = None
    if ws is not None and (arguments.store or arguments.mend):
        return _store(ws, mend=arguments.mend, as_json=arguments.json)
    return show_findings(ws, as_json=arguments.json)


def _store(ws: Workspace, *, mend: bool, as_json: bool) -> int:
    """Read the whole build folder, and say what of it is damaged."""
    from plinth.core.report import working
    from plinth.graph.session import default_jobs
    from plinth.inspect import rot

    jobs = default_jobs()
    with working(f"reading {ws.build}") as progress:
        if mend:
            found = rot.mend(ws, jobs, lambda: progress("waiting for builds to end"))
        else:
            found = rot.damaged(ws, jobs)
    if as_json:
        listed = [{"what": d.what, "path": str(d.path), "problem": d.problem} for d in found]
        print(json.dumps({"deleted": mend, "damaged": listed}, indent=1))
    else:
        for one in found:
            print(f"{one.what}  {one.path}: {one.problem}")
        advice = "deleted; build again" if mend else "to delete them: plinth doctor --mend"
        print(f"{len(found)} damaged, {advice}" if found else f"{ws.build}: nothing is damaged")
    return int(bool(found) and not mend)


def show_findings(ws: Workspace | None, *, as_json: bool = False) -> int:
    """Print what `plinth.commands.doctor` finds; returns the exit code."""
    from plinth.commands.check import OK
    from plinth.commands.doctor import examine, exit_code
    from plinth.core.report import working
    from plinth.core.table import Column, show

    with working("looking at this machine and asking around"):
        found = examine(ws)
    if as_json:
        print(json.dumps([finding.to_json() for finding in found], indent=1))
        return exit_code(found)
    rows = [[finding.subject, finding.state, finding.found] for finding in found]
    show([Column("WHAT"), Column("STATE"), Column("FOUND")], rows)
    wanting = [finding for finding in found if finding.state != OK and finding.remedy]
    if wanting:
        print("\nwhat to do:")
    for finding in wanting:
        indented = finding.remedy.replace("\n", "\n    ")
        print(f"  {finding.subject}: {indented}")
    return exit_code(found)


def _completion(arguments: argparse.Namespace) -> int:
    from plinth.commands.completion import script

    sys.stdout.write(script(arguments.shell))
    return 0
