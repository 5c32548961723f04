"""A locked sdist becomes a wheel once: in a sandbox, from locked build requirements, cached."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import Version

from plinth.build.wheels import WheelFile
from plinth.core.errors import LockError, SandboxError, WheelError
from plinth.core.report import Progress
from plinth.core.result import ActionResult
from plinth.core.scratch import scratch
from plinth.formats import gzip
from plinth.formats.python.place import PREFIX, Base
from plinth.formats.wheel.admit import admit
from plinth.formats.wheel.filename import parse_wheel
from plinth.formats.wheel.sdist import build_backend, build_requirements, unpack
from plinth.formats.wheel.zipwriter import write_zip
from plinth.graph import sandbox
from plinth.graph.actions import Action
from plinth.graph.run import run
from plinth.graph.session import Session
from plinth.graph.unpack import sandbox_root
from plinth.graph.workspace import Workspace
from plinth.recipe.locks.pylock import LockedPackage
from plinth.recipe.requires import unmet

VERSION = 1
"""Raised whenever the code here would give another wheel for the same sdist."""

_DRIVER = Path(__file__).with_name("sdist_driver.py")
_OURS = frozenset(("driver.py", "out", "requirements"))
"""What the build's folder holds beside the source."""


def build_action(package: LockedPackage, base: Base, environment: Mapping[str, str]) -> Action:
    """The action that builds the wheel of an sdist."""
    return Action(
        "sdist-wheel",
        {
            "sdist": package.file.digest,
            # What the sandbox's root is made of.
            **{f"root-{number}": layer.digest for number, layer in enumerate(base.layers)},
            **{f"requirements/{r.file.name}": r.file.digest for r in package.build_requires},
        },
        {
            "filename": package.file.name,
            "environment": dict(environment),
            "python": base.interpreter.version,
            "compressor": gzip.COMPRESSOR,
        },
        ("wheel",),
        VERSION,
    )


def cached_wheel(
    ws: Workspace, package: LockedPackage, base: Base, environment: Mapping[str, str]
) -> WheelFile | None:
    """The wheel of an sdist, if it is built already."""
    found = ws.actions.lookup(build_action(package, base, environment), ws.stores)
    return _wheel(package, found) if found is not None else None


def build_wheel(
    ws: Session,
    package: LockedPackage,
    base: Base,
    *,
    environment: Mapping[str, str],
    progress: Progress,
    fetch: Callable[[], None] | None = None,
) -> WheelFile:
    """The wheel of the sdist `package`; `fetch` brings its files into `ws.cache` where they are
    needed and may not be there.

    Runs the sdist's own build code: in `base`'s system, without network, as nobody special,
    with a fixed environment and `environment` on top.

    Raises:
        WheelError: the sdist is malformed or hostile, or what it built is.
        LockError: it asks to be built with what the lock does not have.
        SandboxError: no sandbox can be had, or the build failed or went over a limit.
    """

    def work() -> ActionResult:
        with (
            scratch("plinth-sdist-") as folder,
            scratch("plinth-wheel-") as own,
        ):
            folder.chmod(0o755)
            source = unpack(
                ws.cache.path(package.file.digest), package.file.name, folder, taken=_OURS
            )
            _requirements(ws, package, folder / "requirements")
            built = _run(ws, package, base, environment, folder, source, progress)
            # Not where the build could write: it may have left a link of this name.
            wheel = own / built.name
            try:
                wheel.write_bytes(_canonical(built))
            except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
                raise WheelError(
                    f"its build made no readable wheel: {error}",
                    where=f"{package.file.name}: {built.name}",
                ) from None
            admit(wheel, built.name, package.name, package.version)
            return ActionResult({"wheel": ws.cache.put_file(wheel)}, {"filename": built.name})

    action = build_action(package, base, environment)
    result, _ = run(
        ws, action, prepare=fetch, work=work, sound=lambda found: _is_of(package, found)
    )
    return _wheel(package, result)


def _is_of(package: LockedPackage, result: ActionResult) -> bool:
    """Whether `result`, somebody else's, calls its wheel one of the package."""
    try:
        name, version, _, _ = parse_wheel(str(result.info.get("filename")))
    except ValueError:
        return False
    return (name, version) == (canonicalize_name(package.name), Version(package.version))


def _wheel(package: LockedPackage, result: ActionResult) -> WheelFile:
    filename = str(result.info["filename"])
    return WheelFile(package.name, package.version, filename, result.outputs["wheel"])


def _run(
    ws: Workspace,
    package: LockedPackage,
    base: Base,
    environment: Mapping[str, str],
    folder: Path,
    source: str,
    progress: Progress,
) -> Path:
    (folder / "out").mkdir()
    shutil.copyfile(_DRIVER, folder / "driver.py")
    sdist = ws.cache.path(package.file.digest)
    _check_met(package, sdist, base.interpreter.version)
    backend, paths = build_backend(sdist, package.file.name)
    work = sandbox.WORK
    command = [f"/{PREFIX}/bin/python{base.interpreter.version}", "-s", "-S", f"{work}/driver.py"]
    command += [f"{work}/requirements", f"{work}/{source}", f"{work}/out", backend, *paths]
    output = sandbox.run(
        sandbox_root(ws, base.layers),
        command,
        writable=folder,
        results=("out",),
        what=f"building {package.file.name}",
        progress=progress,
        env=environment,
    )
    return _made(folder / "out", package.file.name, output)


def _check_met(package: LockedPackage, sdist: Path, python: str) -> None:
    """Refuse a lock that somebody edited: what an sdist is built with is in pylock.toml alone."""
    versions = {one.name: one.version for one in package.build_requires}
    asked = build_requirements(sdist, package.file.name)
    problems = unmet(versions, {}, {"build-system.requires": asked}, python)
    if problems:
        raise LockError(
            "the lock does not have what the sdist is built with",
            where=package.file.name,
            found="\n".join(problems),
            remedy="restore pylock.toml, or delete it and lock again",
        )


def _made(out: Path, filename: str, output: bytes) -> Path:
    """The one wheel in `out`, which the build could write: links in it may lead anywhere."""
    found = [] if out.is_symlink() else list(out.glob("*.whl"))
    if len(found) != 1 or not found[0].is_file() or found[0].is_symlink():
        raise SandboxError(f"building {filename} made no wheel", found=sandbox.tail(output))
    return found[0]


def _requirements(ws: Workspace, package: LockedPackage, folder: Path) -> None:
    """Unpack the wheels the sdist is built with; each was admitted when it was fetched."""
    for needed in package.build_requires:
        with zipfile.ZipFile(ws.cache.path(needed.file.digest)) as wheel:
            wheel.extractall(folder)


def _canonical(built: Path) -> bytes:
    """The wheel again, freed of times, order and the machine's zlib."""
    with zipfile.ZipFile(built) as wheel:
        files = {
            info.filename: (
                0o755 if (info.external_attr >> 16) & 0o111 else 0o644,
                wheel.read(info),
            )
            for info in wheel.infolist()
            if not info.is_dir()
        }
    return write_zip(files)
