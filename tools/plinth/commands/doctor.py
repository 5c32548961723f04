"""`plinth doctor`: what this machine can do, what it lacks, and what to do about it."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from plinth.commands.check import FAIL, OK, WARN, Check, Finding, run
from plinth.commands.places import apt, index, registries
from plinth.core import settings as settings_module
from plinth.core.errors import PlinthError, SandboxError
from plinth.core.report import human_size, working
from plinth.core.settings import Config
from plinth.core.stopping import meanwhile
from plinth.core.table import Column, show
from plinth.graph.workspace import Workspace

SPACE = 10_000_000_000
"""Below this a build of the whole catalogue may not fit (bytes)."""


def examine(ws: Workspace | None) -> list[Finding]:
    """Everything that is found, in the order it is worth reading. Nothing is changed, but that the
    places of bases which answered are remembered (`plinth.fetch.probe`).

    `ws` is None outside a checkout, where only what an auditor needs is looked at.
    """
    config, found = _settings()
    checks: list[tuple[str, Check, str]] = [
        ("python", _python, FAIL),
        ("libraries", _libraries, FAIL),
    ]
    if ws is None:
        found.append(
            Finding("checkout", WARN, "none here", "to build, change into a checkout of plinth")
        )
    else:
        checks += [
            ("build folder", partial(_build_folder, ws), FAIL),
            ("disk", partial(_disk, ws), FAIL),
            ("layout", partial(_layout, ws), WARN),
            ("interpreter", partial(_interpreters, ws, config), FAIL),
            ("sandbox", _sandbox, WARN),
            ("package index", partial(index, ws, config), WARN),
            ("apt archives", partial(apt, ws, config), WARN),
        ]
    checks += [
        ("registries", partial(registries, config), WARN),
        ("engine", _engine, WARN),
        ("trust", partial(_trust, config), WARN),
        ("git", partial(_program, "git", "provenance names no commit without it"), WARN),
        ("graphviz", partial(_program, "dot", "plinth graph --format svg", "graphviz"), WARN),
    ]
    # Most of the time is spent waiting for others to answer.
    with meanwhile(len(checks), "doctor") as pool:
        waiting = [pool.submit(run, *check) for check in checks]
        return [*found, *(finding for one in waiting for finding in one.result())]


def _settings() -> tuple[Config, list[Finding]]:
    loaded: list[Config] = []

    def check() -> Iterator[Finding]:
        loaded.append(settings_module.load())
        named = os.environ.get("PLINTH_CONFIG")
        yield Finding("settings", OK, f"read from {named}" if named else "in force, or defaults")

    found = run("settings", check)
    return (loaded[0] if loaded else Config()), found


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", OK, f"{version} runs plinth")


def _libraries() -> Iterator[Finding]:
    """Whether what is installed is what plinth's own metadata asks for; deflate above all, as its
    version is part of every digest."""
    wanted = [Requirement(line) for line in metadata.requires("plinth") or ()]
    found = []
    for one in wanted:
        if one.marker is not None and not one.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(one.name)
        except metadata.PackageNotFoundError:
            yield Finding("libraries", FAIL, f"{one.name} is missing", "pip install -e .")
            continue
        if not one.specifier.contains(version, prereleases=True):
            yield Finding(
                "libraries",
                FAIL,
                f"{one.name} {version}, expected {one.specifier}",
                f"pip install '{one}'",
            )
        found.append(f"{one.name} {version}")
    shown = [text for text in found if text.split()[0] in ("deflate", "isal", "sigstore")]
    yield Finding("libraries", OK, f"{len(found)} installed, among them {', '.join(shown)}")


def _build_folder(ws: Workspace) -> Iterator[Finding]:
    there = next(path for path in (ws.build, *ws.build.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            yield Finding("build folder", OK, f"{ws.build} can be written")
    except OSError as error:
        yield Finding(
            "build folder",
            FAIL,
            f"{there} cannot be written: {error.strerror}",
            "change its owner, or set PLINTH_BUILD to another folder",
        )


def _disk(ws: Workspace) -> Iterator[Finding]:
    there = next(path for path in (ws.build, *ws.build.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < SPACE:
        yield Finding(
            "disk",
            WARN,
            f"{human_size(free)} free; all images and their inputs may take {human_size(SPACE)}",
            "make room (plinth gc), or set PLINTH_BUILD to a folder on another disk",
        )
    else:
        yield Finding("disk", OK, f"{human_size(free)} free")


def _layout(ws: Workspace) -> Iterator[Finding]:
    from plinth.formats.oci.layout import references
    from plinth.recipe.ids import all_images

    built = references(ws.layout)
    images = all_images(ws)
    yield Finding("layout", OK, f"{sum(i in built for i in images)} of {len(images)} images built")


def _interpreters(ws: Workspace, config: Config) -> Iterator[Finding]:
    """Whether each base can be built: its pinned inputs are available, or its interpreter is."""
    from plinth.build.choice import as_here
    from plinth.core.errors import InterpreterError
    from plinth.fetch.probe import settings_of, unavailable
    from plinth.recipe.base import load_base
    from plinth.recipe.ids import all_bases

    specs = [load_base(ws.bases, name) for name in all_bases(ws)]
    reasons = {spec.name: unavailable(ws, spec, config) for spec in specs}
    # Where this one can be built, nothing is amiss if that one cannot.
    spared = {spec.fallback for spec in specs if not reasons[spec.name]}
    for spec in specs:
        subject, why = f"base {spec.name}", reasons[spec.name]
        if why:
            keys = " and ".join(settings_of(spec))
            remedy = f"check the network, or {keys} in the settings"
            yield Finding(subject, WARN, f"not available here: {why}", remedy)
            continue
        try:
            chosen = as_here(ws, spec, config)
        except InterpreterError as error:
            state = WARN if spec.name in spared else FAIL
            yield Finding(subject, state, error.what, error.remedy)
            continue
        if chosen.local is None:
            yield Finding(subject, OK, "can be built")
        else:
            version = spec.python.version
            yield Finding(
                subject,
                WARN,
                f"this machine has another build of CPython {version}; images are built on "
                f"{chosen.name}",
                f'to have {spec.name}, name the locked CPython in the settings: python."{version}"',
            )


def _sandbox() -> Iterator[Finding]:
    from plinth.graph.sandbox import ready

    try:
        walls, reason = ready()
    except SandboxError as error:
        said = f" ({error.found[:200]})" if error.found else ""
        yield Finding("sandbox", WARN, f"{error.what}{said}", error.remedy)
        return
    instead = f": sdists are built in its containers, as {reason}" if reason else " works"
    yield Finding("sandbox", OK, f"{walls}{instead}")


def _engine() -> Iterator[Finding]:
    from plinth.publish.engine.client import connect

    client = connect()
    try:
        about = client.version()
        names = [part.get("Name", "") for part in about.get("Components", ())]
        name = "Podman Engine" if "Podman Engine" in names else "Docker Engine"
        yield Finding("engine", OK, f"{name} {about.get('Version', '?')} answers")
    finally:
        client.close()


def _trust(config: Config) -> Iterator[Finding]:
    from plinth.authority.domain import default_folder, read_state

    chosen = config.trust or "nobody chose yet"
    folder = default_folder()
    if config.trust and config.trust not in ("public", "embedded"):
        there = Path(config.trust).is_file()
        yield Finding(
            "trust",
            OK if there else WARN,
            f"the client trust config {config.trust}" + ("" if there else ", which is not there"),
            "" if there else "correct `trust` in the settings",
        )
        return
    if config.trust == "public":
        yield Finding("trust", OK, "the public Sigstore, with the identity of whoever signs")
        return
    if not (folder / "domain.json").exists():
        yield Finding(
            "trust",
            WARN,
            f"{chosen}, and there is no embedded trust domain: nothing can be signed",
            "plinth trust init, or set `trust` in the settings",
        )
        return
    state = read_state(folder)
    yield Finding("trust", OK, f"the embedded trust domain {folder} of {state.identity} ({chosen})")


def _program(name: str, use: str, package: str = "") -> Iterator[Finding]:
    found = shutil.which(name)
    if found:
        yield Finding(package or name, OK, found)
    else:
        remedy = f"apt-get install {package or name}"
        yield Finding(package or name, WARN, f"no program {name} ({use})", remedy)


def exit_code(found: list[Finding]) -> int:
    """1 where building is not possible, else 0."""
    return int(any(finding.state == FAIL for finding in found))


def doctor(*, store: bool, mend: bool, as_json: bool) -> int:
    """Show what this machine can do, or with `store` or `mend` what of the build folder is
    damaged; the exit code."""
    try:
        ws = Workspace.find()
    except PlinthError:
        if store or mend:
            raise
        ws = None
    if ws is not None and (store or mend):
        return _store(ws, mend=mend, as_json=as_json)
    with working("looking at this machine and asking around"):
        found = examine(ws)
    if as_json:
        print(json.dumps([finding.to_json() for finding in found], indent=1))
    else:
        _show(found)
    return exit_code(found)


def _show(found: list[Finding]) -> None:
    rows = [[finding.subject, finding.state, finding.found] for finding in found]
    show([Column("WHAT"), Column("STATE"), Column("FOUND")], rows)
    wanting = [finding for finding in found if finding.state != OK and finding.remedy]
    if wanting:
        print("\nwhat to do:")
    for finding in wanting:
        indented = finding.remedy.replace("\n", "\n    ")
        print(f"  {finding.subject}: {indented}")


def _store(ws: Workspace, *, mend: bool, as_json: bool) -> int:
    """Read the whole build folder, and say what of it is damaged."""
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
