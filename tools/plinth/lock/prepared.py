"""The metadata of an sdist: its own build code tells it, in a sandbox that has nothing else.

The only foreign code that locking runs. It sees its own source, what it is built with, the
target's Python and the machine's programs, all read-only but its own folder; no network, no
home, no variable of ours (`plinth.graph.sandbox`).
"""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path

from plinth.core.errors import WheelError
from plinth.core.report import Progress
from plinth.core.scratch import scratch
from plinth.fetch.own_python import environment_of
from plinth.formats.wheel.filename import identity
from plinth.formats.wheel.metadata import MAX, parse
from plinth.formats.wheel.sdist import build_backend, unpack
from plinth.graph import sandbox

_DRIVER = Path(__file__).with_name("_metadata_driver.py")
_LIMITS = sandbox.Limits(seconds=300.0, disk=1 << 30)
# What programs of the machine need to run; nothing of people's.
_SYSTEM = ("usr", "bin", "sbin", "lib", "lib64", "etc/alternatives")


def prepared_metadata(
    sdist: Path, filename: str, wheels: Sequence[Path], python: Path, progress: Progress
) -> bytes:
    """The core metadata of the sdist at `sdist`, called `filename`, built with `wheels`, which
    were admitted, under the interpreter `python`.

    Raises:
        SandboxError: there is no sandbox, its code failed or took too long.
        WheelError: the sdist is malformed or hostile, or what it tells is of another project.
    """
    with (
        scratch("plinth-told-") as folder,
        scratch("plinth-root-") as root,
    ):
        for part in ("source", "requirements", "out"):
            (folder / part).mkdir()
        top = unpack(sdist, filename, folder / "source")
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder / "requirements")
        shutil.copyfile(_DRIVER, folder / "driver.py")
        backend, paths = build_backend(sdist, filename)
        inside = {path: f"{sandbox.WORK}/{path}" for path in ("requirements", "out", "METADATA")}
        sandbox.run(
            sandbox.Root(lambda: root),
            [
                *(str(python), "-s", "-S", f"{sandbox.WORK}/driver.py", inside["requirements"]),
                *(f"{sandbox.WORK}/source/{top}", inside["out"], inside["METADATA"]),
                *(backend, *paths),
            ],
            writable=folder,
            results=("METADATA",),
            what=f"reading the metadata of {filename}",
            progress=progress,
            binds=_binds(python),
            env=environment_of(python),
            limits=_LIMITS,
        )
        metadata = _read(folder / "METADATA", filename)
    _check(metadata, filename)
    return metadata


def _binds(python: Path) -> dict[str, Path]:
    found = {f"/{name}": Path("/", name) for name in _SYSTEM}
    prefix = python.parent.parent
    if not prefix.is_relative_to("/usr"):
        found[str(prefix)] = prefix
    return {inside: outside for inside, outside in found.items() if outside.is_dir()}


def _read(path: Path, filename: str) -> bytes:
    """What the build left, which may be a link to anything, a pipe, or without end."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise WheelError(
            f"the build backend produced no metadata: {error.strerror}", where=filename
        ) from None
    with os.fdopen(descriptor, "rb") as stream:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_size > MAX:
            raise WheelError(f"its metadata is no file of up to {MAX} bytes", where=filename)
        return stream.read(MAX)


def _check(metadata: bytes, filename: str) -> None:
    name, version = identity(filename)
    about = parse(metadata)
    if not about.is_of(name, str(version)):
        raise WheelError(
            "its metadata is of another package",
            where=filename,
            expected=f"{name} {version}",
            found=f"{about.name} {about.version}",
        )
