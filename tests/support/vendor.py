"""Archives of a vendor as NVIDIA publishes them: a makeself file and a tar, with small libraries.

Real tools make them: Debian's makeself, and tar as Python has it.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from plinth.core.digest import Digest
from plinth.recipe.accelerator import load_accelerator
from plinth.recipe.vendor import VendorFile
from support import needs
from support.debs import Entry, packed, symlink, tarred, with_folders
from support.elves import shared

LIB = "targets/x86_64-linux/lib"

CUDA: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "libcudart.so.11.0": ("cuda_cudart", ()),
    "libcublas.so.11": ("libcublas", ("libcublasLt.so.11",)),
    "libcublasLt.so.11": ("libcublas", ()),
    "libcufft.so.10": ("libcufft", ()),
    "libcurand.so.10": ("libcurand", ()),
    "libcusolver.so.10": ("libcusolver", ("libcublas.so.11", "libcublasLt.so.11")),
    "libcusparse.so.11": ("libcusparse", ()),
}
"""CUDA's libraries: the component each is in, and what it needs."""

CUDNN = tuple(
    f"libcudnn{part}.so.8"
    for part in (
        "",
        *(f"_{kind}_{use}" for kind in ("adv", "cnn", "ops") for use in ("infer", "train")),
    )
)
"""cuDNN's libraries."""


def library(soname: str, needed: Iterable[str] = ()) -> list[Entry]:
    """A library as vendors have it: the file with its whole version, and links to it."""
    stem = soname.partition(".so")[0]
    return [
        symlink(f"{stem}.so", soname),
        symlink(soname, f"{soname}.221"),
        Entry(f"{soname}.221", shared(soname, needed=tuple(needed)), 0o755),
    ]


def cuda_files(without: str = "") -> dict[str, list[Entry]]:
    """What the run file holds, by folder; `without` is a library that it lacks."""
    found: dict[str, list[Entry]] = {"": [Entry("EULA.txt", b"the terms of CUDA\n")]}
    for soname, (component, needed) in CUDA.items():
        if soname != without:
            found.setdefault(f"builds/{component}/{LIB}", []).extend(library(soname, needed))
        found.setdefault(f"builds/{component}", [symlink("lib64", LIB)])
    found["builds"] = [Entry("NVIDIA-Linux.run", b"#!/bin/sh\nexit 1\n", 0o755)]
    return found


def makeself(path: Path, files: Mapping[str, Iterable[Entry]], *options: str) -> Path:
    """A makeself archive at `path` of `files` (by folder), made with `options`."""
    needs.program("makeself")
    for option in options:
        if option != "--nocomp":
            needs.program(option.removeprefix("--"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="plinth-makeself-") as name:
        for folder, entries in files.items():
            place = Path(name) / folder
            place.mkdir(parents=True, exist_ok=True)
            for entry in entries:
                if entry.target:
                    (place / entry.path).symlink_to(entry.target)
                else:
                    (place / entry.path).write_bytes(entry.data)
                    (place / entry.path).chmod(entry.mode)
        command = ["makeself", "--nox11", "--nomd5", *options, name, str(path), "CUDA", "./install"]
        done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return path


def tgz(files: Mapping[str, Iterable[Entry]]) -> bytes:
    """A tar of `files` (by folder), compressed with gzip."""
    entries = [
        Entry(f"{folder}/{one.path}" if folder else one.path, *list(vars(one).values())[1:])
        for folder, listed in files.items()
        for one in listed
    ]
    return packed(tarred(with_folders(entries)), "gz")


def cudnn_tgz(path: Path) -> Path:
    """cuDNN's archive at `path`."""
    libraries = [entry for soname in CUDNN for entry in library(soname)]
    files = {
        "cuda/include": [Entry("cudnn.h", b"/* the interface */\n")],
        "cuda/lib64": [*libraries, Entry("libcudnn_static.a", b"!<arch>\n")],
        "cuda": [Entry("NVIDIA_SLA_cuDNN_Support.txt", b"the terms of cuDNN\n")],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tgz(files))
    return path


def vendor_file(path: Path, **fields: object) -> VendorFile:
    """The specification of the archive at `path`, with other `fields` where they are given."""
    values: dict[str, object] = {
        "name": "cuda",
        "version": "11.0.3",
        "licence": "the vendor's terms",
        "place": "vendor",
        "path": f"11.0.3/{path.name}",
        "sha256": Digest.of_file(path).hex,
        "at_most": 10_000_000,
        "form": "makeself",
        "folders": (f"builds/*/{LIB}", "builds/*/lib64"),
        "libraries": tuple(CUDA),
        "documents": ("EULA.txt",),
        "into": "/usr/local/cuda/lib",
        **fields,
    }
    return VendorFile(**values)  # type: ignore[arg-type]


def stand_in(spec: Path, copy: Path, places: Path) -> None:
    """Write the set's specification at `spec` to `copy`, with the digests of the archives that lie
    below `places`, in a folder for each place."""
    text = spec.read_text()
    for file in load_accelerator(spec.parent, spec.stem).files:
        assert text.count(file.sha256) == 1
        text = text.replace(file.sha256, Digest.of_file(places / file.place / file.path).hex)
    copy.write_text(text)
