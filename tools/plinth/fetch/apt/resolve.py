"""Which packages a base is made of: Depends and Pre-Depends, by resolvelib.

Debian policy chapter 7. Recommends are not followed. Essential packages are not assumed: the
image runs no package manager, so what is needed is asked for by name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from debian.debian_support import Version
from resolvelib import (
    AbstractProvider,
    BaseReporter,
    ResolutionImpossible,
    ResolutionTooDeep,
)
from resolvelib.resolvers import Resolution

from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError, PackageError, PlinthError
from plinth.fetch.apt.archive import Index
from plinth.formats.debian.control import paragraphs, parse
from plinth.formats.debian.relations import Relation, relations

_NAME = re.compile(r"^Package: (\S+)$", re.MULTILINE)
# Debian policy 5.6.1, 5.6.8, 5.6.12.
_PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9-]*")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~:-]*")


@dataclass(frozen=True)
class Package:
    """One binary package of an archive. `path` is relative to the archive's base."""

    name: str
    version: str
    architecture: str
    path: str
    digest: Digest
    suite: str
    depends: tuple[tuple[Relation, ...], ...] = ()
    provides: tuple[Relation, ...] = ()


class Universe:
    """All packages of several indexes, parsed only as far as they are asked for."""

    def __init__(self, indexes: Iterable[Index]) -> None:
        self._stanzas: dict[str, list[tuple[str, str]]] = {}
        self._providers: dict[str, set[str]] = {}
        for index in indexes:
            for stanza in paragraphs(index.packages):
                name = _NAME.search(stanza)
                if not name:
                    continue
                self._stanzas.setdefault(name[1], []).append((index.source.name, stanza))
                if "\nProvides:" not in stanza:
                    continue
                try:
                    groups = relations(parse(stanza)["Provides"])
                except PackageError as error:
                    raise _malformed(error, index.source.suite, name[1]) from None
                for group in groups:
                    self._providers.setdefault(group[0].name, set()).add(name[1])
        self._parsed: dict[str, list[Package]] = {}

    def names(self) -> Iterator[str]:
        """The names of all packages."""
        yield from self._stanzas

    def versions(self, name: str) -> list[Package]:
        """The packages called `name`, newest first; equal versions in order of suites."""
        if name not in self._parsed:
            found = [_package(suite, name, text) for suite, text in self._stanzas.get(name, [])]
            self._parsed[name] = sorted(found, key=lambda p: Version(p.version), reverse=True)
        return self._parsed[name]

    def named(self, relation: Relation) -> list[Package]:
        """Packages that meet `relation` by their own name."""
        return [p for p in self.versions(relation.name) if relation.admits(p.version)]

    def satisfying(self, relation: Relation) -> list[Package]:
        """Packages that meet `relation`: by their own name, or else by what they provide."""
        found = self.named(relation)
        if found:
            return found
        return [
            package
            for name in sorted(self._providers.get(relation.name, ()))
            for package in self.versions(name)[:1]
            for provided in package.provides
            if provided.name == relation.name
            and (not relation.operator or (provided.version and relation.admits(provided.version)))
        ]


def _package(suite: str, name: str, stanza: str) -> Package:
    try:
        fields = parse(stanza)
        depends = filter(None, (fields.get("Pre-Depends"), fields.get("Depends")))
        return Package(
            _valid(_PACKAGE_NAME, fields["Package"]),
            _valid(_VERSION, str(Version(fields["Version"]))),
            _valid(_ARCHITECTURE, fields["Architecture"]),
            _safe(fields["Filename"]),
            Digest(fields["SHA256"], int(fields["Size"])),
            suite,
            relations(", ".join(depends)),
            tuple(group[0] for group in relations(fields.get("Provides"))),
        )
    except (ValueError, IntegrityError, PackageError) as error:
        raise _malformed(error, suite, name) from None


def _malformed(error: Exception, suite: str, name: str) -> PackageError:
    what = error.what if isinstance(error, PlinthError) else str(error)
    return PackageError(f"malformed entry: {what}", where=f"Packages of {suite}: {name}")


def _valid(form: re.Pattern[str], text: str) -> str:
    """Refuse what could be more than a name in the paths, lines and commands it becomes part of."""
    if not form.fullmatch(text):
        raise PackageError(f"not a name or version: {text!r}")
    return text


def _safe(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/") or ":" in path:
        raise PackageError(f"a pool path escapes the archive: {path!r}")
    return path.removeprefix("./")


class _Provider(AbstractProvider):  # type: ignore[type-arg]
    """Requirements are groups of alternatives, settled to the first that can be met."""

    def __init__(self, universe: Universe, wanted: Collection[str], omit: Collection[str]) -> None:
        self._universe = universe
        self._wanted = wanted
        self._omit = omit

    def settle(self, group: tuple[Relation, ...], asker: str) -> Relation | None:
        """The alternative to follow, as a relation to a real package; None where it is omitted."""
        if any(relation.name in self._omit for relation in group):
            return None
        # What is asked for by name anyway comes first, then the order of the maintainer.
        ordered = sorted(group, key=lambda relation: relation.name not in self._wanted)
        for relation in ordered:
            found = self._universe.satisfying(relation)
            if found and found[0].name == relation.name:
                return relation
            if found:
                real = ([p for p in found if p.name in self._wanted] or found)[0]
                # This very version: another one may provide something else.
                return Relation(real.name, "=", real.version)
        raise PackageError(
            f"{asker} needs {' | '.join(map(str, group))}, which no configured suite has"
        )

    def identify(self, requirement_or_candidate: Any) -> str:
        return str(requirement_or_candidate.name)

    def get_preference(
        self,
        identifier: Any,
        resolutions: Mapping[Any, Any],
        candidates: Mapping[Any, Any],
        information: Mapping[Any, Any],
        backtrack_causes: Sequence[Any],
    ) -> Any:
        return str(identifier)

    def find_matches(
        self,
        identifier: Any,
        requirements: Mapping[Any, Iterator[Any]],
        incompatibilities: Mapping[Any, Iterator[Any]],
    ) -> list[Package]:
        bounds = list(requirements[identifier])
        refused = {candidate.version for candidate in incompatibilities[identifier]}
        return [
            package
            for package in self._universe.versions(identifier)
            if package.version not in refused and all(b.admits(package.version) for b in bounds)
        ]

    def is_satisfied_by(self, requirement: Any, candidate: Any) -> bool:
        return bool(requirement.admits(candidate.version))

    def get_dependencies(self, candidate: Any) -> list[Relation]:
        asker = f"{candidate.name} {candidate.version}"
        settled = [self.settle(group, asker) for group in candidate.depends]
        return [relation for relation in settled if relation is not None]


def resolve(
    indexes: Iterable[Index], wanted: Sequence[str], omit: Collection[str]
) -> list[Package]:
    """The packages `wanted` (`name` or `name=version`) with all they depend on, sorted by name.

    `omit` names packages no relation may pull in.

    Raises:
        PackageError: something is not there, or bounds cannot be met together.
    """
    universe = Universe(indexes)
    asked = [_asked(text) for text in wanted]
    missing = [one for one in asked if not universe.named(one)]
    if missing:
        there = [f"{p.name} {p.version}" for one in missing for p in universe.versions(one.name)]
        raise PackageError(
            f"no configured suite has {', '.join(map(str, missing))}",
            where="rootfs.packages",
            found=", ".join(there),
        )
    provider = _Provider(universe, {one.name for one in asked}, set(omit))
    # Not a Resolver: it recurses without end where a version given up leaves a circle behind.
    resolution: Any = Resolution(provider, BaseReporter())
    try:
        pinned = resolution.resolve(asked, 10_000).mapping
    except ResolutionImpossible as error:
        causes = ", ".join(
            f"{cause.requirement} for {cause.parent.name if cause.parent else 'the base'}"
            for cause in error.causes
        )
        raise PackageError("dependencies cannot be met together", found=causes) from None
    except ResolutionTooDeep as error:
        raise PackageError(
            f"no answer was found in {error.round_count} rounds",
            remedy="ask for the versions of the packages that matter: name=version",
        ) from None
    chosen: dict[str, Package] = {}
    waiting = [one.name for one in asked]
    while waiting:
        name = waiting.pop()
        if name not in chosen:
            chosen[name] = pinned[name]
            waiting += [relation.name for relation in provider.get_dependencies(pinned[name])]
    return [chosen[name] for name in sorted(chosen)]


def _asked(text: str) -> Relation:
    name, _, version = text.partition("=")
    return Relation(name, "=", version) if version else Relation(name)
