"""Reading a uv.lock (version 1) as pins: what one project of it needs on the target.

There is no specification of the format but uv's own reader; the fields read here are those that
say which files of which versions a project needs: https://docs.astral.sh/uv/concepts/projects/layout/.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from packaging.markers import InvalidMarker, Marker
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name

from plinth.core.errors import Problem, SpecError
from plinth.recipe.asked.files import Files
from plinth.recipe.asked.markers import decided
from plinth.recipe.asked.model import ForeignLock, Pin
from plinth.recipe.asked.pylock import MAX_PACKAGES, fits_target, sha256

_OWN = ("virtual", "editable")
Key = tuple[str, str]
"""Name and version."""


def read_uv(
    files: Files,
    lock: ForeignLock,
    asked_by: str,
    environments: Sequence[Mapping[str, str]],
    tags: Mapping[Tag, int],
    own: frozenset[str],
) -> list[Pin]:
    """The pins of the uv.lock `lock`, which the specification `asked_by` names, for a target with
    `tags` in each of its `environments`; packages that are one's `own` need no pin.

    Raises:
        SpecError: it is malformed, or what it pins does not fit the target; with the field.
    """
    name, document = files.document(lock.path, asked_by)
    reader = _Reader(name, document, environments, tags, own)
    try:
        pins = reader.pins(lock)
    except (KeyError, TypeError, AttributeError) as error:
        reader.wrong("", f"malformed: {error!r}")
        pins = []
    if reader.problems:
        raise SpecError(name, reader.problems)
    return pins


class _Reader:
    def __init__(
        self,
        name: str,
        document: Mapping[str, Any],
        environments: Sequence[Mapping[str, str]],
        tags: Mapping[Tag, int],
        own: frozenset[str],
    ) -> None:
        self.problems: list[Problem] = []
        self._name = name
        self._document = document
        self._environments = environments
        self._tags = tags
        self._own = own
        self._packages: dict[str, list[tuple[int, dict[str, Any]]]] = {}

    def wrong(self, path: str, message: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(path, message))

    def pins(self, lock: ForeignLock) -> list[Pin]:
        """What the project of `lock` needs."""
        version = self._document.get("version")
        if version != 1:
            self.wrong("version", f"expected 1, found {version!r}")
            return []
        self._python_fits(self._document.get("requires-python", ""), "requires-python")
        self._read_packages()
        project = None if self.problems else self._project(lock)
        if project is None:
            return []
        found: dict[Key, Pin] = {}
        seen: set[tuple[Key, str]] = set()
        waiting = list(self._of_project(project, lock))
        while waiting:
            at, needed, via = waiting.pop(0)
            entry = self._entry(at, needed, via)
            if entry is None:
                continue
            number, package = entry
            key = (str(package["name"]), str(package.get("version", "")))
            if key not in found and key[0] not in self._own:
                found[key] = self._pin(number, package)
            for extra in ["", *needed.get("extra", [])]:
                if (key, extra) not in seen:
                    seen.add((key, extra))
                    waiting += self._needs(number, package, extra)
        self._check_single(found)
        return [found[key] for key in sorted(found)]

    def _check_single(self, found: Mapping[Key, Pin]) -> None:
        by_name: dict[str, list[Pin]] = {}
        for pin in found.values():
            by_name.setdefault(pin.name, []).append(pin)
        for name, pins in by_name.items():
            if len(pins) > 1:
                listed = " and ".join(sorted(pin.version for pin in pins))
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
        for number, package in enumerate(packages):
            name = package.get("name") if isinstance(package, dict) else None
            if not isinstance(name, str) or canonicalize_name(name) != name:
                self.wrong(f"package[{number}].name", f"expected a normalized name, found {name!r}")
                continue
            key = (name, str(package.get("version")), str(package.get("source")))
            if key in seen:
                self.wrong(f"package[{number}]", f"{name} {key[1]} is there twice")
            seen.add(key)
            self._packages.setdefault(name, []).append((number, package))

    def _project(self, lock: ForeignLock) -> dict[str, Any] | None:
        own = {
            name: package
            for name, entries in self._packages.items()
            for _, package in entries
            if any(kind in package.get("source", {}) for kind in _OWN)
        }
        wanted = canonicalize_name(lock.project) if lock.project else ""
        if not wanted and len(own) == 1:
            return next(iter(own.values()))
        if wanted in own:
            return own[wanted]
        listed = ", ".join(sorted(own)) or "none"
        self.wrong(
            "package",
            f"there is no project {wanted!r}; known here: {listed}"
            if wanted
            else f"name one project in python.lock.project; known here: {listed}",
        )
        return None

    def _of_project(
        self, project: dict[str, Any], lock: ForeignLock
    ) -> Iterator[tuple[str, dict[str, Any], str]]:
        name = str(project["name"])
        number = next(n for n, package in self._packages[name] if package is project)
        yield from self._needs(number, project, "")
        for kind, key, names in (
            ("extra", "optional-dependencies", lock.extras),
            ("group", "dev-dependencies", lock.groups),
        ):
            table = project.get(key, {})
            for one in map(canonicalize_name, names):
                if one not in table:
                    listed = ", ".join(sorted(table)) or "none"
                    path = f"package[{number}].{key}"
                    self.wrong(path, f"there is no {kind} {one!r}; known here: {listed}")
                    continue
                path = f"package[{number}].{key}.{one}"
                yield from self._that_count(table[one], path, name)

    def _needs(
        self, number: int, package: dict[str, Any], extra: str
    ) -> Iterator[tuple[str, dict[str, Any], str]]:
        path = f"package[{number}]"
        if extra:
            # An extra that the version does not have is a warning of pip's, too.
            needed = package.get("optional-dependencies", {}).get(extra, [])
            path += f".optional-dependencies.{extra}"
        else:
            needed = package.get("dependencies", [])
            path += ".dependencies"
        yield from self._that_count(needed, path, str(package["name"]))

    def _that_count(
        self, needed: Sequence[dict[str, Any]], path: str, via: str
    ) -> Iterator[tuple[str, dict[str, Any], str]]:
        for number, one in enumerate(needed):
            at = f"{path}[{number}]"
            try:
                marker = one.get("marker")
                counts = marker is None or decided(Marker(marker), self._environments)
            except InvalidMarker as error:
                self.wrong(f"{at}.marker", str(error))
                continue
            if counts is None:
                self.wrong(f"{at}.marker", f"the target does not decide it: {marker}")
            elif counts:
                yield at, one, via

    def _entry(
        self, at: str, needed: dict[str, Any], via: str
    ) -> tuple[int, dict[str, Any]] | None:
        entries = [
            (number, package)
            for number, package in self._packages.get(str(needed["name"]), [])
            if all(needed.get(k) in (None, package.get(k)) for k in ("version", "source"))
        ]
        if len(entries) == 1:
            return entries[0]
        count = "no" if not entries else "more than one"
        self.wrong(at, f"{via} needs {needed['name']}, of which there is {count} package")
        return None

    def _python_fits(self, wanted: object, path: str) -> None:
        try:
            specifiers = SpecifierSet(str(wanted))
        except InvalidSpecifier as error:
            self.wrong(path, str(error))
            return
        versions = [each["python_full_version"] for each in self._environments]
        if not any(specifiers.contains(version) for version in versions):
            python = self._environments[0]["python_version"]
            self.wrong(path, f"{wanted!r}, and the image has Python {python}")

    def _pin(self, number: int, package: dict[str, Any]) -> Pin:
        name, version = str(package["name"]), str(package.get("version", ""))
        at = f"package[{number}]"
        source = package.get("source", {})
        if "registry" not in source:
            kinds = ", ".join(sorted(source)) or "nothing"
            self.wrong(f"{at} ({name})", f"its source is {kinds}; only releases can be pinned")
        distributions = [*package.get("wheels", [])]
        if "sdist" in package:
            distributions.append(package["sdist"])
        hashes, names = set(), []
        for file in distributions:
            place = str(file.get("url") or file.get("path") or file.get("filename") or "")
            names.append(place.rpartition("/")[2])
            algorithm, _, value = str(file.get("hash", "")).partition(":")
            try:
                if algorithm != "sha256":
                    raise ValueError(f"{names[-1]} has no sha256")
                hashes.add(sha256(value, names[-1]))
            except ValueError as error:
                self.wrong(f"{at} ({name})", str(error))
        try:
            if not fits_target(names, self._tags):
                listed = ", ".join(names) or "none"
                self.wrong(f"{at} ({name})", f"none of its files fits the target: {listed}")
        except InvalidWheelFilename as error:
            self.wrong(f"{at} ({name})", str(error))
        where = f"{self._name}: {at}"
        return Pin(name, version, frozenset(hashes), tuple(names), where, closed=True)
