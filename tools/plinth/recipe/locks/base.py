"""`locks/base/<name>.toml`: what a base is made of, by digest; read, written, and checked for
staleness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import tomli_w

from plinth.core.digest import Digest, Json
from plinth.core.errors import LockError
from plinth.core.store import atomic_write
from plinth.graph.workspace import Workspace
from plinth.recipe.base import BaseSpec, origin
from plinth.recipe.locks.document import check_fresh, read_document
from plinth.recipe.locks.inputs import checksum

FORMAT = 1


@dataclass(frozen=True)
class LockedDeb:
    """One package: where it is in any mirror of its archive, and its digest."""

    name: str
    version: str
    architecture: str
    suite: str
    path: str
    digest: Digest

    @property
    def filename(self) -> str:
        """The package's file, without its folder."""
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class BaseLock:
    """A base's lock. `indexes` are digests of the signed indexes by suite, `date` is the latest of
    theirs (RFC 3339; empty where it is not known); `tree` identifies the interpreter found, None
    where the specification pins one; `inputs` is what it was made from."""

    packages: tuple[LockedDeb, ...]
    indexes: Mapping[str, str]
    tree: Digest | None
    inputs: Mapping[str, Json]
    date: str = ""


@dataclass(frozen=True)
class Local:
    """What a local base has instead of what the lock of its origin names: the interpreter `tree`
    (None: the locked one), `packages` with the `indexes` they were resolved from and the `date` of
    these (none: the locked ones)."""

    tree: Digest | None = None
    packages: tuple[LockedDeb, ...] = ()
    indexes: Mapping[str, str] = field(default_factory=dict)
    date: str = ""


def inputs_of(spec: BaseSpec) -> dict[str, Json]:
    """Everything of the specification that decides the lock."""

    python = {f"python.{k}": v for k, v in plain(spec.python).items()}
    rootfs = {f"rootfs.{k}": v for k, v in plain(spec.rootfs).items()}
    return {"format": FORMAT, "architecture": spec.architecture, **python, **rootfs}


def plain(value: Any) -> Any:
    """A specification's values as JSON has them; dataclasses by field, digests in OCI form."""
    if isinstance(value, Digest):
        return value.oci
    if is_dataclass(value):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def _path(ws: Workspace, name: str) -> Path:
    return ws.locks / "base" / f"{name}.toml"


def _local_path(ws: Workspace, name: str) -> Path:
    """Where it is noted what the local base `name` is: in a workspace made from a provenance
    beside the locks, as it is one of its sources; else in the build folder."""
    carried = _path(ws, name)
    return carried if carried.exists() else local_folder(ws) / carried.name


def local_folder(ws: Workspace) -> Path:
    """Where builds note what local bases are."""
    return ws.build / "cache" / "local"


def read_local(ws: Workspace, name: str, *, carried: bool = False) -> Local | None:
    """What is noted of the local base `name`, or None where nothing is; `carried`: only if it came
    with a provenance.

    Raises:
        ProblemsError: what is noted is malformed.
    """
    path = _path(ws, name) if carried else _local_path(ws, name)
    if not path.exists():
        return None
    return read_document(
        path,
        path.name,
        lambda document: Local(*_contents(document)),
        missing=LockError("nothing is noted", where=path.name),
        remedy=f"delete {path}, and build again",
    )


def write_local(ws: Workspace, name: str, local: Local) -> None:
    """Note that the local base `name` is `local`."""
    if read_local(ws, name, carried=True) == local:
        return
    with atomic_write(local_folder(ws) / f"{name}.toml") as path:
        path.write_bytes(local_text(local))


def local_text(local: Local) -> bytes:
    """What is noted of a local base: a file, where it travels in a provenance."""
    document = {**({"date": local.date} if local.date else {}), **_document(local)}
    what = " and ".join(
        [
            *(["the interpreter of this machine"] if local.tree else []),
            *(["packages of an archive that moved on"] if local.packages else []),
        ]
    )
    return f"# Made by doit build: {what}.\n{tomli_w.dumps(document)}".encode()


def write_lock(ws: Workspace, name: str, lock: BaseLock) -> None:
    """Write the lock of the base `name`."""
    with atomic_write(_path(ws, name)) as path:
        path.write_text(_dump(lock), encoding="utf-8")


def _dump(lock: BaseLock) -> str:
    document: dict[str, Any] = {
        "inputs-sha256": checksum(lock.inputs),
        **({"date": lock.date} if lock.date else {}),
        "inputs": dict(lock.inputs),
        **_document(lock),
    }
    return "# Made by doit lock:base; do not edit.\n" + tomli_w.dumps(document)


def _document(held: BaseLock | Local) -> dict[str, Any]:
    """What both forms have, as tables."""
    document: dict[str, Any] = {}
    if held.tree is not None:
        document["interpreter"] = {"tree": held.tree.oci, "size": held.tree.size}
    if held.indexes:
        document["indexes"] = {suite: f"sha256:{d}" for suite, d in held.indexes.items()}
    if held.packages:
        document["packages"] = dump_debs(held.packages)
    return document


def dump_debs(packages: Iterable[LockedDeb]) -> list[dict[str, Any]]:
    """Packages as the tables of a lock."""
    return [
        {
            **{k: v for k, v in asdict(package).items() if k != "digest"},
            "size": package.digest.size,
            "sha256": package.digest.hex,
        }
        for package in packages
    ]


def read_lock(ws: Workspace, spec: BaseSpec, local: Local | None = None) -> BaseLock:
    """The lock of the base `spec`, made from that very specification; that of a local base is its
    origin's with what `local` has instead (None: what is noted for it).

    Raises:
        LockError: there is none, it was edited by hand, or nothing is noted.
        StaleLockError: the specification changed since; says how.
        ProblemsError: it is malformed.
    """
    name = origin(spec.name)
    shown = f"locks/base/{name}.toml"
    remedy = "lock again: doit lock:base"
    lock = read_document(
        _path(ws, name),
        shown,
        _parsed,
        missing=LockError(f"there is no lock for the base {name}", where=shown, remedy=remedy),
        remedy=f"delete it and {remedy}",
        again=remedy,
    )
    what = f"the lock of the base {name} was"
    check_fresh(lock.inputs, inputs_of(spec), what, shown, remedy=remedy)
    if spec.name == name:
        return lock
    local = local or read_local(ws, spec.name)
    if local is None:
        raise LockError(
            f"no build on the base {spec.name} is known here",
            where=str(local_folder(ws)),
            remedy="build the image again: doit forget build:<id>; doit build:<id>",
        )
    if local.packages:
        lock = replace(lock, packages=local.packages, indexes=local.indexes, date=local.date)
    return replace(lock, tree=local.tree or lock.tree)


def parse_debs(entries: Iterable[dict[str, Any]]) -> tuple[LockedDeb, ...]:
    """The tables of a lock as packages.

    Raises:
        KeyError, TypeError, AttributeError, IntegrityError: a table is malformed.
    """
    packages = []
    for entry in entries:
        path = entry["path"]
        if path.startswith("/") or ".." in path.split("/") or ":" in path:
            raise KeyError(f"pool path {path!r} escapes the archive")
        packages.append(
            LockedDeb(
                entry["name"],
                entry["version"],
                entry["architecture"],
                entry["suite"],
                path,
                Digest(entry["sha256"], entry["size"]),
            )
        )
    return tuple(packages)


def _parsed(document: dict[str, Any]) -> BaseLock:
    tree, packages, indexes, date = _contents(document)
    inputs = document["inputs"]
    if not isinstance(inputs, dict):
        raise TypeError("inputs is a table")
    return BaseLock(packages, indexes, tree, inputs, date)


def _contents(
    document: dict[str, Any],
) -> tuple[Digest | None, tuple[LockedDeb, ...], Mapping[str, str], str]:
    """The fields of `Local`, in their order."""
    packages = parse_debs(document.get("packages", []))
    interpreter = document.get("interpreter")
    indexes, date = document.get("indexes", {}), document.get("date", "")
    if not isinstance(indexes, dict) or not isinstance(date, str):
        raise TypeError("indexes is a table, date a text")
    indexes = {suite: digest.removeprefix("sha256:") for suite, digest in indexes.items()}
    return (_tree(interpreter) if interpreter else None), packages, indexes, date


def _tree(interpreter: dict[str, Any]) -> Digest:
    return Digest(interpreter["tree"].removeprefix("sha256:"), interpreter["size"])
