"""`pylock.toml` (PEP 751): the exact file of each package for the target, read and written.

Read by hand: `packaging.pylock` stops at the first problem, and most of what is checked here is
stricter than PEP 751: one file for each package, by the store's path, without a URL.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import tomli
import tomli_w
from packaging.utils import canonicalize_name

from plinth.core.digest import Digest, Json
from plinth.core.errors import IntegrityError, Problem, ProblemsError
from plinth.core.regular import read_regular
from plinth.formats.wheel.filename import identity

STORE = "../../build/cache/blobs/sha256"
"""The wheel store, relative to the lock's folder: files lie there under their digest."""


# All fields that are written below, and so all that are read; others could only mislead.
_DOCUMENT = {
    *("lock-version", "requires-python", "environments", "created-by", "packages", "tool"),
}
_OURS = {"inputs-sha256", "requirements-sha256", "inputs"}
_PACKAGE = {"name", "version", "dependencies", "sdist", "wheels", "tool"}
_NOTES = {"direct", "from-base", "index", "no-upload-time", "build-requires"}
_FLAGS = ("direct", "from-base", "no-upload-time")
_FILE = {"name", "upload-time", "path", "size", "hashes"}
_ELSEWHERE = ("vcs", "directory", "archive")


class PylockError(ProblemsError):
    """A pylock.toml that cannot be used, with every problem of it."""


@dataclass(frozen=True)
class LockedFile:
    """A distribution file: its name, its digest, when it was uploaded (RFC 3339; empty where nobody
    knows)."""

    name: str
    digest: Digest
    upload_time: str


@dataclass(frozen=True)
class LockedPackage:
    """One package and its one file.

    `direct` says that the image's specification asks for it, `from_base` that its base does;
    `dependencies` are names of packages it brought in; `build_requires` what its sdist is
    built with; `index` names the index its file comes from, empty for the configured one.
    """

    name: str
    version: str
    file: LockedFile
    is_sdist: bool
    direct: bool = False
    from_base: bool = False
    dependencies: tuple[str, ...] = ()
    build_requires: tuple[LockedPackage, ...] = ()
    index: str = ""


@dataclass(frozen=True)
class ImageLock:
    """A lock: its packages sorted by name, what it was made from, and the SHA-256 of the
    requirements.txt it belongs to."""

    packages: tuple[LockedPackage, ...]
    python: str
    inputs: Mapping[str, Json]
    inputs_digest: str
    requirements_digest: str


def dump(lock: ImageLock) -> str:
    """The text of `pylock.toml`."""
    document = {
        "lock-version": "1.0",
        "requires-python": f"=={lock.python}.*",
        "environments": _environments(lock.python),
        "created-by": "plinth",
        "packages": [_package(package) for package in lock.packages],
        "tool": {
            "plinth": {
                "inputs-sha256": lock.inputs_digest,
                "requirements-sha256": lock.requirements_digest,
                "inputs": dict(lock.inputs),
            }
        },
    }
    return "# Made by doit lock; do not edit. Files are in the store, under their digest.\n" + (
        tomli_w.dumps(document)
    )


def _environments(python: str) -> list[str]:
    return [
        f"implementation_name == 'cpython' and python_version == '{python}' "
        "and sys_platform == 'linux' and platform_machine == 'x86_64'"
    ]


def _file(file: LockedFile) -> dict[str, Any]:
    time: dict[str, Any] = {}
    if file.upload_time:
        moment = datetime.datetime.fromisoformat(file.upload_time.replace("Z", "+00:00"))
        time = {"upload-time": moment.astimezone(datetime.timezone.utc)}
    return {
        "name": file.name,
        **time,
        "path": f"{STORE}/{file.digest.hex}",
        "size": file.digest.size,
        "hashes": {"sha256": file.digest.hex},
    }


def _package(package: LockedPackage) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": package.name, "version": package.version}
    if package.dependencies:
        entry["dependencies"] = [{"name": name} for name in package.dependencies]
    if package.is_sdist:
        entry["sdist"] = _file(package.file)
    else:
        entry["wheels"] = [_file(package.file)]
    notes: dict[str, Any] = {}
    if package.direct:
        notes["direct"] = True
    if package.from_base:
        notes["from-base"] = True
    if package.index:
        notes["index"] = package.index
    if not package.file.upload_time:
        notes["no-upload-time"] = True
    if package.build_requires:
        notes["build-requires"] = [_package(needed) for needed in package.build_requires]
    if notes:
        entry["tool"] = {"plinth": notes}
    return entry


def load(path: Path, shown: str = "") -> ImageLock:
    """Read the lock at `path`, which is locks/ID/pylock.toml of a checkout and called `shown` in
    messages.

    Raises:
        PlinthError: it is no regular file of that checkout.
        PylockError: it is absent or malformed; every problem is reported with its field path.
    """
    shown = shown or str(path)
    try:
        document = tomli.loads(read_regular(path, shown, path.parents[2]).decode())
    except FileNotFoundError:
        raise PylockError(
            shown, [Problem("", "there is no lock")], remedy="make it: doit lock"
        ) from None
    # Not all that tomli raises is its own error: of a number with too many digits it is int's.
    except (ValueError, RecursionError) as error:
        raise PylockError(
            shown, [Problem("", f"not TOML: {error}")], remedy="make it anew: doit lock"
        ) from None
    reader = _Reader()
    lock = reader.lock(document)
    if reader.problems or lock is None:
        raise PylockError(shown, reader.problems, remedy="make it anew: doit lock")
    return lock


class _Reader:
    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def wrong(self, path: str, message: str) -> None:
        self.problems.append(Problem(path, message))

    def known(self, at: str, found: Mapping[str, Any], fields: Iterable[str]) -> None:
        """Note each field of the table `found` that is none of `fields`."""
        for key in sorted(set(found) - {*fields}):
            path = f"{at}.{key}" if at else key
            self.wrong(path, "unknown field: a lock that plinth made has no such one")

    def notes(self, at: str, table: Mapping[str, Any], fields: Iterable[str]) -> dict[str, Any]:
        """The table `tool.plinth` in `table`, which may hold `fields`."""
        tool = _table(table.get("tool"))
        self.known(f"{at}tool", tool, ["plinth"])
        notes = _table(tool.get("plinth"))
        self.known(f"{at}tool.plinth", notes, fields)
        for key in _FLAGS:
            if not isinstance(notes.get(key, False), bool):
                self.wrong(f"{at}tool.plinth.{key}", f"expected a boolean, found {notes[key]!r}")
        if not isinstance(notes.get("index", ""), str):
            self.wrong(f"{at}tool.plinth.index", f"expected a name, found {notes['index']!r}")
        return notes

    def lock(self, document: dict[str, Any]) -> ImageLock | None:
        self.known("", document, _DOCUMENT)
        if document.get("lock-version") != "1.0":
            self.wrong("lock-version", f"expected '1.0', found {document.get('lock-version')!r}")
        own = self.notes("", document, _OURS)
        for key in ("inputs-sha256", "requirements-sha256"):
            if not isinstance(own.get(key), str):
                self.wrong(f"tool.plinth.{key}", "missing; expected a SHA-256")
        packages = self.packages("packages", document.get("packages"))
        requires = document.get("requires-python")
        if not isinstance(requires, str):
            self.wrong("requires-python", "missing; expected a string")
        python = str(requires).strip("=.*")
        found = document.get("environments")
        if isinstance(requires, str) and found not in (None, _environments(python)):
            self.wrong("environments", f"expected those of Python {python} on Linux alone")
        if self.problems:
            return None
        return ImageLock(
            packages,
            python,
            _table(own.get("inputs")),
            own["inputs-sha256"],
            own["requirements-sha256"],
        )

    def packages(self, path: str, entries: object) -> tuple[LockedPackage, ...]:
        if not isinstance(entries, list):
            self.wrong(path, "expected an array of tables")
            return ()
        found: dict[str, LockedPackage] = {}
        for number, entry in enumerate(entries):
            at = f"{path}[{number}]"
            if not isinstance(entry, dict):
                self.wrong(at, "expected a table")
                continue
            package = self.package(at, entry)
            if package is None:
                continue
            if package.name in found:
                self.wrong(f"{at}.name", f"{package.name} is locked twice")
            found[package.name] = package
        return tuple(found[name] for name in sorted(found))

    def package(self, at: str, entry: dict[str, Any]) -> LockedPackage | None:
        name, version = entry.get("name"), entry.get("version")
        if not isinstance(name, str) or not isinstance(version, str):
            self.wrong(at, "expected a name and a version")
            return None
        if canonicalize_name(name) != name:
            self.wrong(f"{at}.name", f"{name!r} is not normalized")
        self.known(at, entry, [*_PACKAGE, *_ELSEWHERE])
        for other in _ELSEWHERE:
            if other in entry:
                self.wrong(f"{at}.{other}", "only wheels and sdists can be built from")
        wheels, sdist = entry.get("wheels"), entry.get("sdist")
        is_sdist = sdist is not None
        if is_sdist == (wheels is not None) or (wheels is not None and _count(wheels) != 1):
            self.wrong(at, "expected exactly one wheel or one sdist")
            return None
        where = f"{at}.sdist" if is_sdist else f"{at}.wheels[0]"
        notes = self.notes(f"{at}.", entry, _NOTES)
        source = sdist if is_sdist else (wheels or [None])[0]
        timed = notes.get("no-upload-time") is not True
        file = self.file(where, source, name, version, timed=timed)
        # An sdist is not inspected as wheels are, so one must not pass for the other.
        if file is not None and file.name.endswith(".whl") == is_sdist:
            kind = "an sdist" if is_sdist else "a wheel"
            self.wrong(f"{where}.name", f"{file.name!r} is not {kind}")
        needed = self.packages(f"{at}.tool.plinth.build-requires", notes.get("build-requires", []))
        for inner in needed:
            if inner.is_sdist:
                path = f"{at}.tool.plinth.build-requires"
                self.wrong(path, f"{inner.name} is an sdist; sdists are built with wheels")
        names = entry.get("dependencies", [])
        if not isinstance(names, list) or not all(
            isinstance(_table(item).get("name"), str) for item in names
        ):
            self.wrong(f"{at}.dependencies", "expected an array of tables with names")
            return None
        for number, item in enumerate(names):
            self.known(f"{at}.dependencies[{number}]", item, ["name"])
        if file is None:
            return None
        index = notes.get("index", "")
        return LockedPackage(
            name,
            version,
            file,
            is_sdist,
            notes.get("direct") is True,
            notes.get("from-base") is True,
            tuple(item["name"] for item in names),
            needed,
            index if isinstance(index, str) else "",
        )

    def file(
        self, at: str, entry: object, name: str, version: str, *, timed: bool
    ) -> LockedFile | None:
        table = _table(entry)
        filename, size = table.get("name"), table.get("size")
        sha256 = _table(table.get("hashes")).get("sha256")
        moment = table.get("upload-time")
        path = table.get("path")
        if "url" in table:
            self.wrong(f"{at}.url", "a lock names no host; files are found by name and digest")
        if not isinstance(filename, str):
            self.wrong(f"{at}.name", "expected a file name")
            return None
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            self.wrong(f"{at}.size", f"expected a size in bytes, found {size!r}")
            return None
        try:
            digest = Digest(str(sha256), size)
        except IntegrityError:
            self.wrong(f"{at}.hashes.sha256", f"expected 64 hex digits, found {sha256!r}")
            return None
        self.known(at, table, [*_FILE, "url"])
        self.known(f"{at}.hashes", _table(table.get("hashes")), ["sha256"])
        if path != f"{STORE}/{digest.hex}":
            self.wrong(f"{at}.path", f"expected the store's path of that digest, found {path!r}")
        if not timed:
            if moment is not None:
                self.wrong(f"{at}.upload-time", "there, although no-upload-time says it is unknown")
        elif not isinstance(moment, datetime.datetime) or moment.tzinfo is None:
            self.wrong(f"{at}.upload-time", f"expected a date-time with offset, found {moment!r}")
        if PurePosixPath(filename).name != filename or not _is_of(filename, name, version):
            self.wrong(f"{at}.name", f"{filename!r} is not a file of {name} {version}")
        return LockedFile(filename, digest, str(moment) if timed else "")


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int:
    return len(value) if isinstance(value, list) else 0


def _is_of(filename: str, name: str, version: str) -> bool:
    try:
        found, parsed = identity(filename)
    except ValueError:
        return False
    # A lock of ours has the version as the file name has it, in its normal form.
    return found == name and str(parsed) == version


def every_file(packages: Iterable[LockedPackage]) -> list[LockedPackage]:
    """The packages and all that their sdists are built with, each file once."""
    found: dict[Digest, LockedPackage] = {}
    for package in packages:
        for one in (package, *package.build_requires):
            found.setdefault(one.file.digest, one)
    return list(found.values())
