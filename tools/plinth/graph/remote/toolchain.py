"""What a worker needs to run steps: this Python, its libraries and packages, the dynamic linker.

Nothing of the worker's own system is used, so any Linux of the same architecture can run them,
down to one without any file.
"""

from __future__ import annotations

import io
import json
import os
import py_compile
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plinth.core.digest import Digest
from plinth.core.errors import RemoteError
from plinth.formats.elf.read import ElfError, Pieces, read_elf
from plinth.graph.steps.__main__ import LOADER
from plinth.graph.steps.model import TOOL
from plinth.graph.tree import File, Tree, tree

ROOT = "toolchain"
"""The folder of the input root it is in."""

_LEFT_OUT = frozenset(
    ("__pycache__", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages", "test")
) | {"tests", "tkinter", "turtledemo", "lib-dynload", "dist-packages"}
# What interpreters of images need beside what is loaded here: parts of one C library.
_C_LIBRARY = ("libc", "libcrypt", "libdl", "libm", "libpthread", "librt", "libutil")
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Toolchain:
    """The folder `ROOT` of an input root (`tree`), its files' contents or places by digest
    (`blobs`), and the command that runs a step from that root."""

    tree: Tree
    blobs: Mapping[Digest, bytes | Path]
    arguments: tuple[str, ...]
    environment: Mapping[str, str]


def toolchain() -> Toolchain:
    """The toolchain of this process's Python.

    Raises:
        RemoteError: it is on a system whose parts cannot be told.
    """
    probed = _probed()
    version = "{}.{}".format(*probed["version"])
    files: dict[str, bytes | Path] = {"bin/python3": Path(probed["executable"])}
    files[f"lib/python{version.replace('.', '')}.zip"] = _stdlib(
        Path(probed["stdlib"]), frozenset(probed["used"])
    )
    extensions = f"lib/python{version}/lib-dynload"
    for path in map(Path, probed["extensions"]):
        files[f"{extensions}/{path.name}"] = path
    site = Path(probed["site"])
    for path in _packages(site, map(Path, probed["packages"])):
        files[f"site/{path.relative_to(site).as_posix()}"] = path
    loader = ""
    for path in map(Path, probed["mapped"]):
        if path.is_relative_to(site):
            files[f"site/{path.relative_to(site).as_posix()}"] = path
        elif str(path) not in probed["extensions"]:
            for one in (path, *_siblings(path)):
                name = _soname(one)
                files[f"lib/{name}"] = one
                loader = f"{ROOT}/lib/{name}" if name.startswith("ld-") else loader
    if not loader:
        raise RemoteError(
            "steps cannot run remotely from here",
            where=probed["executable"],
            expected="a Python that is linked to a C library",
            remedy="remove the executor from [remote] in the settings",
        )
    nodes, blobs = {}, {}
    for name, source in files.items():
        digest = Digest.of(source) if isinstance(source, bytes) else Digest.of_file(source)
        nodes[name] = File(digest, name == "bin/python3" or f"{ROOT}/{name}" == loader)
        blobs[digest] = source
    return Toolchain(
        tree(nodes),
        blobs,
        (loader, f"{ROOT}/bin/python3", "-s", "-S", "-B", "-m", "plinth.graph.steps"),
        {
            "LC_ALL": "C.UTF-8",
            "LD_LIBRARY_PATH": f"{ROOT}/lib",
            "PYTHONHASHSEED": "0",
            "PYTHONHOME": ROOT,
            "PYTHONPATH": f"{TOOL}:{ROOT}/site:{ROOT}/{extensions}",
            LOADER: loader,
        },
    )


def _probed() -> dict[str, Any]:
    command = [sys.executable, "-s", str(Path(__file__).with_name("probe.py"))]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    if done.returncode:
        raise RemoteError(
            "this Python does not tell what it consists of",
            where=sys.executable,
            found=done.stderr.decode("utf-8", "replace")[-2000:],
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _stdlib(folder: Path, used: frozenset[str]) -> bytes:
    """The standard library as a zip file; modules of `used` as bytecode, so that starting is
    quick."""
    buffer = io.BytesIO()
    # Not compressed: what unpacks is in it.
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive,
        tempfile.TemporaryDirectory(prefix="plinth-toolchain-") as scratch,
    ):
        for path in sorted(_sources(folder)):
            name = path.relative_to(folder).as_posix()
            module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            data = path.read_bytes()
            if module in used:
                name, data = f"{name}c", _compiled(path, name, scratch)
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    return buffer.getvalue()


def _compiled(path: Path, name: str, scratch: str) -> bytes:
    target = Path(scratch) / "module.pyc"
    py_compile.compile(
        str(path),
        str(target),
        name,
        doraise=True,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    return target.read_bytes()


def _sources(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*.py"):
        parts = path.relative_to(folder).parts[:-1]
        if _LEFT_OUT.isdisjoint(parts) and not (parts and parts[0].startswith("config-")):
            yield path


def _packages(site: Path, loaded: Iterator[Path]) -> Iterator[Path]:
    """The files of every package one of whose modules is `loaded`."""
    for top in sorted({site / path.relative_to(site).parts[0] for path in loaded}):
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            if path.is_file() and path.suffix in (".py", ".so"):
                yield path


def _siblings(path: Path) -> Iterator[Path]:
    """Where `path` is the C library: its other parts."""
    if path.name.startswith("libc.so"):
        for name in _C_LIBRARY:
            yield from sorted(path.parent.glob(f"{name}.so.[0-9]"))


def _soname(path: Path) -> str:
    """What others call the library at `path`."""
    try:
        found = read_elf(Pieces([path.read_bytes()]))
    except ElfError:
        found = None
    return found.soname if found is not None and found.soname else path.name
