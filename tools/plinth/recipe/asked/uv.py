"""Reading a uv.lock (version 1) as pins: what one project of it needs on the target.

There is no specification of the format but uv's own reader; the fields read here are those that
say which files of which versions a project needs: https://docs.astral.sh/uv/concepts/projects/layout/.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from packaging.markers import Marker
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from plinth.core.errors import Problem, SpecError
from plinth.formats.wheel.filename import is_normal_name, is_of, normal_version, of_url
from plinth.recipe.asked.files import Files
from plinth.recipe.asked.markers import decided, unfit, unknown
from plinth.recipe.asked.model import ForeignLock, Pin
from plinth.recipe.asked.pylock import MAX_PACKAGES, fits_target, sha256
from plinth.recipe.image import Target
from plinth.recipe.target import allows, environments, tags

_OWN = ("virtual", "editable")
_KINDS = ("registry", "git", "url", "path", "directory", *_OWN)
_PLACES = ("url", "path", "filename")
# What uv takes as an sdist's ending, beside the .tar.gz and .zip that are read here.
_OTHER_SDIST = re.compile(r"\.(tar\.(bz2|xz|lz|lzma|zst)|tbz|tgz|tlz|txz|tar)$")
_STRING = re.compile(r"'[^']*'|\"[^\"]*\"")


class Source(NamedTuple):
    """Where a package is from: the one kind, its value, and the folder in it that an archive's URL
    may have beside it."""

    kind: str
    value: str
    subdirectory: str

    def __str__(self) -> str:
        return f"{self.kind} {self.value!r}"


class Package(NamedTuple):
    """One entry of the lock: its place in the list, and its fields. The version is in its normal
    form, and empty where only a build knows it."""

    number: int
    name: str
    version: str
    source: Source
    fields: dict[str, Any]

    @property
    def key(self) -> tuple[str, str, Source]:
        """What no other entry has."""
        return self.name, self.version, self.source


class Needed(NamedTuple):
    """A dependency: the field that has it, what it asks for, and the package that has it."""

    at: str
    name: str
    version: str
    source: Source | None
    extras: tuple[str, ...]
    via: str


def read_uv(
    files: Files,
    lock: ForeignLock,
    asked_by: str,
    target: Target,
    own: frozenset[str],
) -> list[Pin]:
    """The pins of the uv.lock `lock`, which the specification `asked_by` names, for `target`;
    packages that are one's `own` need no pin, nor does the project itself, where it asks for its
    own extras.

    Raises:
        SpecError: it is malformed, or what it pins does not fit the target; with the field.
    """
    name, document = files.document(lock.path, asked_by)
    reader = _Reader(name, document, target, own)
    pins = reader.pins(lock)
    if reader.problems:
        raise SpecError(name, reader.problems)
    return pins


class _Reader:
    def __init__(
        self,
        name: str,
        document: Mapping[str, Any],
        target: Target,
        own: frozenset[str],
    ) -> None:
        self.problems: list[Problem] = []
        self._name = name
        self._document = document
        self._releases = target.releases
        self._environments = environments(target)
        self._tags = tags(target.python, target.glibc, target.architecture)
        self._own = own
        self._packages: list[Package] = []
        # By name, and by the version and the source that a dependency may give with it.
        self._index: dict[tuple[str, str, Source | None], list[Package]] = {}

    def wrong(self, path: str, message: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(path, message))

    def pins(self, lock: ForeignLock) -> list[Pin]:
        """What the project of `lock` needs."""
        version = self._document.get("version")
        if type(version) is not int or version != 1:
            self.wrong("version", f"expected 1, found {version!r}")
            return []
        self._python_fits(self._document.get("requires-python", ""), "requires-python")
        self._read_packages()
        project = None if self.problems else self._project(lock)
        if project is None:
            return []
        found: dict[tuple[str, str, Source], Pin | None] = {}
        seen: set[tuple[tuple[str, str, Source], str]] = set()
        waiting = deque(self._of_project(project, lock))
        while waiting:
            needed = waiting.popleft()
            package = self._entry(needed)
            if package is None:
                continue
            own = package.name in self._own or package.key == project.key
            if package.key not in found and not own:
                found[package.key] = self._pin(package)
            for extra in ("", *needed.extras):
                if (package.key, extra) not in seen:
                    seen.add((package.key, extra))
                    waiting += self._needs(package, extra)
        self._check_single([*found])
        return [pin for key in sorted(found) if (pin := found[key])]

    def _check_single(self, found: Sequence[tuple[str, str, Source]]) -> None:
        by_name: dict[str, list[tuple[str, Source]]] = {}
        for name, version, source in found:
            by_name.setdefault(name, []).append((version, source))
        for name, ways in by_name.items():
            if len(ways) > 1:
                versions = sorted({version for version, _ in ways})
                sources = sorted(f"{version} ({source})" for version, source in ways)
                listed = " and ".join(versions if len(versions) == len(ways) else sources)
                self.wrong("package", f"{name} is needed at {listed}; an image holds one version")

    def _read_packages(self) -> None:
        packages = self._document.get("package")
        if not isinstance(packages, list):
            self.wrong("package", "missing; expected an array of tables")
            return
        if len(packages) > MAX_PACKAGES:
            self.wrong("package", f"{len(packages)} of them; at most {MAX_PACKAGES} are read")
            return
        seen = set()
        for number, fields in enumerate(packages):
            at = f"package[{number}]"
            name = fields.get("name") if isinstance(fields, dict) else None
            if not isinstance(name, str) or not is_normal_name(name):
                self.wrong(f"{at}.name", f"expected a normalized name, found {name!r}")
                continue
            version = self._version(fields, at)
            source = self._source(fields.get("source"), f"{at}.source")
            if version is None or source is None:
                continue
            package = Package(number, name, version, source, fields)
            if package.key in seen:
                self.wrong(at, f"{name} {version} is there twice")
            seen.add(package.key)
            self._packages.append(package)
            for key in {(name, v, s) for v in ("", version) for s in (None, source)}:
                self._index.setdefault(key, []).append(package)

    def _version(self, fields: Mapping[str, Any], at: str) -> str | None:
        """The version among `fields`; empty where there is none, None where it is wrong."""
        if "version" not in fields:
            return ""
        try:
            return normal_version(fields["version"])
        except ValueError as error:
            self.wrong(f"{at}.version", str(error))
            return None

    def _source(self, value: object, at: str) -> Source | None:
        """The source `value`, as uv writes one: one kind, with a string; None where it is wrong."""
        table = value if isinstance(value, dict) else {}
        kinds = [key for key in table if key in _KINDS]
        others = set(table) - {"subdirectory"} if kinds == ["url"] else set(table)
        strings = all(isinstance(each, str) for each in table.values())
        if len(kinds) == len(others) == 1 and strings and table[kinds[0]]:
            return Source(kinds[0], table[kinds[0]], table.get("subdirectory", ""))
        self.wrong(at, f"expected one of {', '.join(_KINDS)} with a string, found {value!r}")
        return None

    def _project(self, lock: ForeignLock) -> Package | None:
        own: dict[str, list[Package]] = {}
        for package in self._packages:
            if package.source.kind in _OWN:
                own.setdefault(package.name, []).append(package)
        wanted = canonicalize_name(lock.project) if lock.project else ""
        listed = ", ".join(sorted(own)) or "none"
        if not wanted and len(own) == 1:
            wanted = next(iter(own))
        if not wanted:
            self.wrong("package", f"name one project in python.lock.project; known here: {listed}")
        elif wanted not in own:
            self.wrong("package", f"there is no project {wanted!r}; known here: {listed}")
        elif len(own[wanted]) > 1:
            both = " and ".join(f"package[{one.number}] ({one.source})" for one in own[wanted])
            self.wrong("package", f"more than one project is called {wanted}: {both}")
        else:
            return own[wanted][0]
        return None

    def _of_project(self, project: Package, lock: ForeignLock) -> Iterator[Needed]:
        yield from self._needs(project, "")
        for kind, key, names in (
            ("extra", "optional-dependencies", lock.extras),
            ("group", "dev-dependencies", lock.groups),
        ):
            path = f"package[{project.number}].{key}"
            table = self._table(project.fields.get(key, {}), path)
            for one in map(canonicalize_name, names):
                if one not in table:
                    listed = ", ".join(sorted(table)) or "none"
                    self.wrong(path, f"there is no {kind} {one!r}; known here: {listed}")
                    continue
                yield from self._that_count(table[one], f"{path}.{one}", project.name)

    def _needs(self, package: Package, extra: str) -> Iterator[Needed]:
        path = f"package[{package.number}]"
        if extra:
            path += ".optional-dependencies"
            # An extra that the version does not have is a warning of pip's, too.
            table = self._table(package.fields.get("optional-dependencies", {}), path)
            needed = table.get(extra, [])
            path += f".{extra}"
        else:
            needed = package.fields.get("dependencies", [])
            path += ".dependencies"
        yield from self._that_count(needed, path, package.name)

    def _table(self, value: object, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.wrong(path, f"expected a table, found {value!r}")
            return {}
        return value

    def _tables(self, value: object, path: str) -> list[dict[str, Any]]:
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            self.wrong(path, "expected an array of tables")
            return []
        return value

    def _that_count(self, needed: object, path: str, via: str) -> Iterator[Needed]:
        for number, one in enumerate(self._tables(needed, path)):
            at = f"{path}[{number}]"
            if self._counts(one, f"{at}.marker"):
                name, extras = one.get("name"), one.get("extra", [])
                source = self._source(one["source"], f"{at}.source") if "source" in one else None
                version = self._version(one, at)
                if not isinstance(name, str):
                    self.wrong(f"{at}.name", f"expected a string, found {name!r}")
                elif not isinstance(extras, list) or not all(isinstance(e, str) for e in extras):
                    self.wrong(f"{at}.extra", f"expected an array of strings, found {extras!r}")
                elif version is not None and (source is not None or "source" not in one):
                    yield Needed(at, name, version, source, tuple(extras), via)

    def _counts(self, needed: Mapping[str, Any], at: str) -> bool:
        """Whether the target has the dependency `needed`, whose marker is `at` that field."""
        if "marker" not in needed:
            return True
        text = needed["marker"]
        try:
            marker = Marker(text)
        except (ValueError, TypeError, RecursionError) as error:
            self.wrong(at, str(error) or "invalid")
            return False
        # So uv writes extras and groups that exclude each other, by names of its own.
        if re.search(r"\bextras?\b", _STRING.sub("", text)):
            what = f"it depends on extras that exclude each other: {text}"
            self.wrong(
                at, f"{what}; lock what you need by: uv export --extra NAME --format pylock.toml"
            )
            return False
        counts = decided(marker, self._environments)
        if counts is None:
            self.wrong(at, unknown(text))
        return counts is True

    def _entry(self, needed: Needed) -> Package | None:
        entries = self._index.get((needed.name, needed.version, needed.source), [])
        if len(entries) == 1:
            return entries[0]
        count = "no" if not entries else "more than one"
        what = f"{needed.via} needs {needed.name}, of which there is {count} package"
        self.wrong(needed.at, what)
        return None

    def _python_fits(self, wanted: object, path: str) -> None:
        try:
            if not isinstance(wanted, str):
                raise TypeError(f"expected a string, found {wanted!r}")
            fits = allows(SpecifierSet(wanted), self._releases)
        except (ValueError, TypeError) as error:
            self.wrong(path, str(error))
            return
        if not fits:
            self.wrong(path, unfit(wanted, self._releases))

    def _pin(self, package: Package) -> Pin | None:
        at = f"package[{package.number}]"
        known = len(self.problems)
        field = f"{at} ({package.name})"
        if package.source.kind != "registry":
            self.wrong(
                field,
                f"its source is {package.source.kind}; only releases can be pinned; a package of "
                "one's own is named in [[python.local]]",
            )
        if not package.version:
            self.wrong(field, "it has no version")
        wheels = self._tables(package.fields.get("wheels", []), f"{at}.wheels")
        sdists = self._tables(
            [package.fields["sdist"]] if "sdist" in package.fields else [], f"{at}.sdist"
        )
        if len(self.problems) > known:
            return None
        hashes, names = set(), []
        kinds = ["a wheel"] * len(wheels) + ["an sdist"] * len(sdists)
        for file, kind in zip((*wheels, *sdists), kinds, strict=True):
            try:
                name = _filename(file)
                archive = _OTHER_SDIST.sub(".tar.gz", name)
                # An sdist is not inspected as wheels are, so one must not pass for the other.
                if name.endswith(".whl") != (kind == "a wheel") or not is_of(
                    archive, package.name, package.version
                ):
                    raise ValueError(f"{name!r} is not {kind} of {package.name} {package.version}")
                algorithm, _, value = str(file.get("hash", "")).partition(":")
                if algorithm != "sha256":
                    raise ValueError(f"{name} has no sha256")
                hashes.add(sha256(value, name))
                names.append(name)
            except ValueError as error:
                self.wrong(field, str(error))
        if len(self.problems) > known:
            return None
        if not fits_target(names, self._tags):
            listed = ", ".join(names) or "none"
            self.wrong(field, f"none of its files fits the target: {listed}")
        where = f"{self._name}: {at}"
        return Pin(
            package.name, package.version, frozenset(hashes), tuple(names), where, closed=True
        )


def _filename(file: Mapping[str, Any]) -> str:
    """The name of a file: of the last part of its URL (percent-encoded) or path, or as it is.

    Raises:
        ValueError: not exactly one of them is there, as a string.
    """
    places = [key for key in _PLACES if key in file]
    if len(places) != 1 or not isinstance(file[places[0]], str):
        raise ValueError(f"expected a file's url, path or filename, found {dict(file)!r}")
    place: str = file[places[0]]
    return of_url(place) if places == ["url"] else place.rpartition("/")[2]
