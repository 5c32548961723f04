"""`locks/base/<set>.toml`: an accelerator set's packages by digest; which set is built with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tomli_w

from plinth.core.digest import Digest, Json
from plinth.core.errors import LockError
from plinth.core.store import atomic_write
from plinth.graph.workspace import Workspace
from plinth.recipe.accelerator import CPU, Accelerator, load_accelerator
from plinth.recipe.locks.base import LockedDeb, dump_debs, parse_debs, plain
from plinth.recipe.locks.document import check_fresh, read_document
from plinth.recipe.locks.inputs import checksum
from plinth.recipe.locks.pylock import LockedFile, LockedPackage

FORMAT = 1


@dataclass(frozen=True)
class LockedVendorFile:
    """An archive of a vendor: at `path` of the place that the settings call `place`, by SHA-256
    (hex); `size` in bytes, None until it was fetched once and the set locked again."""

    name: str
    version: str
    place: str
    path: str
    sha256: str
    size: int | None = None


@dataclass(frozen=True)
class AcceleratorLock:
    """A set's lock: its packages, its wheels, digests of the signed indexes by archive, and the
    archives of vendors."""

    packages: tuple[LockedDeb, ...]
    wheels: tuple[LockedPackage, ...]
    indexes: Mapping[str, str]
    inputs: Mapping[str, Json]
    files: tuple[LockedVendorFile, ...] = ()


def inputs_of(spec: Accelerator) -> dict[str, Json]:
    """Everything of the specification that decides the lock."""
    return {
        "format": FORMAT,
        "architecture": spec.architecture,
        # Where a key is looked for decides nothing: which one it is does.
        "archives": [
            {key: value for key, value in plain(one).items() if key != "key"}
            for one in spec.archives
        ],
        "omit": sorted(spec.omit),
        "wheels": list(spec.wheels),
        **({"files": _dump_files(locked_files(spec))} if spec.files else {}),
    }


def locked_files(
    spec: Accelerator, sizes: Mapping[str, int] | None = None
) -> tuple[LockedVendorFile, ...]:
    """The archives of `spec` as its lock has them, with those `sizes` (bytes, by SHA-256) that are
    known."""
    known = sizes or {}
    return tuple(
        LockedVendorFile(
            one.name, one.version, one.place, one.path, one.sha256, known.get(one.sha256)
        )
        for one in spec.files
    )


def how_to_obtain(spec: Accelerator) -> str:
    """What to do where a set has no lock."""
    if not spec.archives:
        return f"run doit lock:{spec.name}, which asks no network for files"
    settings = "\n".join(
        f'[apt] {archive.name} = "<base URL of that archive or of a mirror>", '
        f'[keyrings] {archive.keyring} = "<file with its public key>"'
        for archive in spec.archives
    )
    return (
        f"in the settings (~/.config/plinth/config.toml) name the archives, then run "
        f"doit lock:{spec.name}\n{settings}"
    )


def choose(
    ws: Workspace, wanted: str, *, insist: str = ""
) -> tuple[Accelerator | None, AcceleratorLock | None, str]:
    """The set to build with and its lock, and why there is none although one is wanted.

    `insist` names a set (or `cpu`) that is taken whatever the specification says. Without it an
    image whose set has no lock is built without the set, and named so: no digest, no byte.

    Raises:
        LockError: the set insisted on has no lock, or a lock is stale.
        SpecError: there is no such set.
    """
    name = insist or wanted
    if name == CPU:
        return None, None, ""
    spec = load_accelerator(ws.bases, name)
    if not insist and not is_locked(ws, name):
        note = (
            f"note: {name} is not locked, so no digest of its packages is known:\n"
            f"building without it, which the image's name says; accelerator={name} insists\n"
            f"to have it, {how_to_obtain(spec)}"
        )
        return None, None, note.replace("\n", "\n      ")
    return spec, read_lock(ws, spec), ""


def is_locked(ws: Workspace, name: str) -> bool:
    """Whether the set `name` has a lock, fresh or not."""
    return _path(ws, name).exists()


def _path(ws: Workspace, name: str) -> Path:
    return ws.locks / "base" / f"{name}.toml"


def write_lock(ws: Workspace, name: str, lock: AcceleratorLock) -> None:
    """Write the lock of the set `name`."""
    with atomic_write(_path(ws, name)) as path:
        path.write_text(_dump(lock), encoding="utf-8")


def _dump(lock: AcceleratorLock) -> str:
    document = {
        "inputs-sha256": checksum(lock.inputs),
        "inputs": dict(lock.inputs),
        "indexes": {name: f"sha256:{digest}" for name, digest in lock.indexes.items()},
        "packages": dump_debs(lock.packages),
        **({"files": _dump_files(lock.files)} if lock.files else {}),
        "wheels": [
            {
                "name": wheel.name,
                "version": wheel.version,
                "file": wheel.file.name,
                "upload-time": wheel.file.upload_time,
                "size": wheel.file.digest.size,
                "sha256": wheel.file.digest.hex,
            }
            for wheel in lock.wheels
        ],
    }
    return "# Made by doit lock; do not edit.\n" + tomli_w.dumps(document)


def _dump_files(files: Iterable[LockedVendorFile]) -> list[dict[str, Json]]:
    """Archives as the tables of a lock, which have nothing for a size that is not known."""
    return [{k: v for k, v in asdict(file).items() if v is not None} for file in files]


def read_lock(ws: Workspace, spec: Accelerator) -> AcceleratorLock:
    """The lock of the set `spec`, made from that very specification.

    Raises:
        LockError: there is none, and how to obtain it; or it was edited by hand.
        StaleLockError: the specification changed since; says how.
        ProblemsError: it is malformed.
    """
    shown = f"locks/base/{spec.name}.toml"
    again = f"lock again: doit lock:{spec.name}"
    lock = read_document(
        _path(ws, spec.name),
        shown,
        _parsed,
        missing=LockError(
            f"the packages of {spec.name} are not locked: no digests are known for them",
            where=shown,
            remedy=how_to_obtain(spec),
        ),
        remedy=f"delete it and run doit lock:{spec.name}",
        again=again,
    )
    check_fresh(
        lock.inputs,
        inputs_of(spec),
        f"the lock of {spec.name} was",
        shown,
        remedy=again,
    )
    if tuple(replace(file, size=None) for file in lock.files) != locked_files(spec):
        raise LockError(
            "the lock was edited by hand: its files are not those of its inputs",
            where=shown,
            remedy=again,
        )
    return lock


def _parsed(document: dict[str, Any]) -> AcceleratorLock:
    wheels = []
    for entry in document["wheels"]:
        if "/" in entry["file"]:
            raise KeyError(f"file name {entry['file']!r} is a path")
        digest = Digest(entry["sha256"], entry["size"])
        file = LockedFile(entry["file"], digest, entry["upload-time"])
        wheels.append(LockedPackage(entry["name"], entry["version"], file, False, direct=True))
    archives = [LockedVendorFile(**entry) for entry in document.get("files", [])]
    for archive in archives:
        # Which also checks them.
        Digest(archive.sha256, archive.size or 0)
    return AcceleratorLock(
        parse_debs(document["packages"]),
        tuple(wheels),
        document["indexes"],
        document["inputs"],
        tuple(archives),
    )
