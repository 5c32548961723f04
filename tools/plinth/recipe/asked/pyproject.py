"""Reading what a pyproject.toml asks for: dependencies, extras (PEP 621), groups (PEP 735)."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping

from packaging.dependency_groups import DependencyGroupResolver
from packaging.errors import ExceptionGroup
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from plinth.core.errors import Problem, SpecError
from plinth.recipe.asked.files import Files
from plinth.recipe.asked.markers import decided, unfit, unknown
from plinth.recipe.asked.model import Project
from plinth.recipe.asked.requirements import Asked
from plinth.recipe.image import Target
from plinth.recipe.target import allows, environments


def read_project(
    files: Files,
    project: Project,
    asked_by: str,
    target: Target,
    settled: Container[str] | None,
) -> list[Asked]:
    """What `project`, which the specification `asked_by` names, asks for on `target`. Where it asks
    for itself, its own extras count: no index is asked for it. `settled` are projects of which that
    specification says where they come from; None: all.

    Raises:
        SpecError: it cannot be read, is not for that Python, lacks what is named, or has a project
            from elsewhere than an index ([tool.uv.sources]) that is not settled; with the field.
    """
    name, document = files.document(project.path, asked_by)
    reader = _Reader(name, document, target, asked_by, settled)
    found = list(reader.asked(project))
    if reader.problems:
        raise SpecError(name, reader.problems)
    return found


class _Reader:
    def __init__(
        self,
        name: str,
        document: Mapping[str, object],
        target: Target,
        asked_by: str,
        settled: Container[str] | None,
    ) -> None:
        self.problems: list[Problem] = []
        self._asked_by = asked_by
        # To ask the configured index for what the project has from elsewhere would be to take a
        # stranger's package of that name.
        self._sources = {
            canonicalize_name(key): value
            for key, value in _uv_sources(document).items()
            if settled is not None and canonicalize_name(key) not in settled
        }
        self._name = name
        self._document = document
        self._table = self._of(document.get("project"), "project")
        self._own = canonicalize_name(str(self._table.get("name") or _poetry_name(document)))
        self._releases = target.releases
        self._environments = environments(target)
        # The own extras that something names: where it does, and what was read already.
        self._waiting: deque[tuple[NormalizedName, str]] = deque()
        self._seen: set[str] = set()
        self._named = False

    def _wrong(self, path: str, message: str) -> None:
        self.problems.append(Problem(path, message))

    def _of(self, value: object, path: str) -> Mapping[str, object]:
        if value is not None and not isinstance(value, dict):
            self._wrong(path, f"expected a table, found {value!r}")
        return value if isinstance(value, dict) else {}

    def asked(self, project: Project) -> Iterator[Asked]:
        if not self._table and (project.dependencies or project.extras):
            self._wrong("project", "missing; its dependencies are asked for")
            return
        self._check_python()
        if project.dependencies:
            yield from self._dependencies()
        yield from self._groups(project.groups)
        self._name_extras(project.extras, "")
        yield from self._extras()
        # As an installer does that is asked for a group which names the project.
        if self._named and not project.dependencies:
            yield from self._dependencies()
            yield from self._extras()

    def _dependencies(self) -> Iterator[Asked]:
        if not self._is_dynamic("dependencies"):
            yield from self._lines(self._table.get("dependencies", []), "project.dependencies")

    def _is_dynamic(self, field: str) -> bool:
        """Whether only a build could tell the `field`, which is noted as wrong."""
        dynamic = self._table.get("dynamic")
        found = isinstance(dynamic, list) and field in dynamic
        if found:
            self._wrong("project.dynamic", f"only a build could tell the {field}; list them")
        return found

    def _check_python(self) -> None:
        wanted = self._table.get("requires-python", "")
        try:
            if not allows(SpecifierSet(str(wanted)), self._releases):
                self._wrong("project.requires-python", unfit(wanted, self._releases))
        # Not all is packaging's own error: of a number with too many digits it is int's.
        except ValueError as error:
            self._wrong("project.requires-python", str(error))

    def _lines(self, values: object, path: str) -> Iterator[Asked]:
        if not isinstance(values, list):
            self._wrong(path, f"expected a list of strings, found {values!r}")
            return
        for number, value in enumerate(values):
            at = f"{path}[{number}]"
            try:
                yield from self._one(Requirement(value), at)
            except (InvalidRequirement, TypeError) as error:
                self._wrong(at, f"not a PEP 508 requirement: {error}")

    def _one(self, requirement: Requirement, at: str) -> Iterator[Asked]:
        if requirement.url:
            self._wrong(at, f"a URL has no place in a lock; name a version of {requirement}")
            return
        try:
            one = Asked(requirement, frozenset(), False, f"{self._name}: {at}")
        except ValueError as error:
            self._wrong(at, str(error))
            return
        name = canonicalize_name(requirement.name)
        if name == self._own:
            self._itself(requirement, at)
        elif name in self._sources and self._may_count(requirement):
            self._wrong(
                f"tool.uv.sources.{name}",
                f"{at} has it from {_kinds(self._sources[name])}, which is not read here; bind "
                f"{name} to an index under [python.indexes], or list it under [[python.local]], "
                f"in {self._asked_by}",
            )
        else:
            yield one

    def _may_count(self, requirement: Requirement) -> bool:
        marker = requirement.marker
        return marker is None or decided(marker, self._environments) is not False

    def _itself(self, requirement: Requirement, at: str) -> None:
        """Note the extras of its own that the project names with `requirement`, at the field
        `at`."""
        marker = requirement.marker
        counts = decided(marker, self._environments) if marker else True
        if counts is None:
            self._wrong(at, unknown(marker))
        if not counts:
            return
        # An extra that names others is but a name for them; a group means the project.
        self._named |= at.startswith("dependency-groups.")
        version = self._table.get("version")
        try:
            # Of a version that only a build could tell, nothing is known.
            if isinstance(version, str) and not requirement.specifier.contains(
                Version(version), prereleases=True
            ):
                self._wrong(at, f"it asks for {requirement}, and is itself at {version}")
        except ValueError as error:
            self._wrong("project.version", str(error))
        self._name_extras(requirement.extras, at)

    def _name_extras(self, names: Iterable[str], at: str) -> None:
        more = sorted({canonicalize_name(name) for name in names} - self._seen)
        self._seen.update(more)
        self._waiting += [(name, at) for name in more]

    def _extras(self) -> Iterator[Asked]:
        table = self._of(self._table.get("optional-dependencies"), "project.optional-dependencies")
        known = {canonicalize_name(extra): extra for extra in table}
        if self._waiting and self._is_dynamic("optional-dependencies"):
            self._waiting.clear()
        while self._waiting:
            name, at = self._waiting.popleft()
            if name not in known:
                listed = ", ".join(sorted(known)) or "none"
                message = f"there is no extra {name!r}; known here: {listed}"
                self._wrong(at or "project.optional-dependencies", message)
                continue
            yield from self._lines(
                table[known[name]], f"project.optional-dependencies.{known[name]}"
            )

    def _groups(self, names: Iterable[str]) -> Iterator[Asked]:
        table = self._of(self._document.get("dependency-groups"), "dependency-groups")
        try:
            resolver = DependencyGroupResolver(table)  # type: ignore[arg-type]
        except ExceptionGroup as error:
            self._wrong("dependency-groups", _words(error))
            return
        done: set[str] = set()
        for name in names:
            yield from self._group(resolver, canonicalize_name(name), (), done)

    def _group(
        self, resolver: DependencyGroupResolver, name: str, above: tuple[str, ...], done: set[str]
    ) -> Iterator[Asked]:
        path = f"dependency-groups.{name}"
        if name in above:
            chain = " -> ".join([*above[above.index(name) :], name])
            self._wrong(path, f"groups include each other: {chain}")
        if name in done:
            # Each group counts once: includes that fan out must not multiply what is read.
            return
        done.add(name)
        try:
            items = resolver.lookup(name)
        except ExceptionGroup as error:
            listed = ", ".join(sorted(resolver.dependency_groups)) or "none"
            known = "" if name in resolver.dependency_groups else f"; known here: {listed}"
            self._wrong(path, _words(error) + known)
            return
        for item in items:
            if isinstance(item, Requirement):
                yield from self._one(item, path)
            else:
                inner = canonicalize_name(item.include_group)
                yield from self._group(resolver, inner, (*above, name), done)


def _poetry_name(document: Mapping[str, object]) -> object:
    """The project's name where it has none by PEP 621."""
    return _below(document, "tool", "poetry", "name")


def _uv_sources(document: Mapping[str, object]) -> Mapping[str, object]:
    """Where uv has projects from, other than the index
    (https://docs.astral.sh/uv/concepts/projects/dependencies/#dependency-sources)."""
    found = _below(document, "tool", "uv", "sources")
    return found if isinstance(found, dict) else {}


def _below(document: Mapping[str, object], *keys: str) -> object:
    found: object = document
    for key in keys:
        found = found.get(key, "") if isinstance(found, dict) else ""
    return found


def _kinds(source: object) -> str:
    """What a source is of uv's kinds, such as `git` or `path`."""
    tables = source if isinstance(source, list) else [source]
    known = {key for table in tables if isinstance(table, dict) for key in table}
    return " and ".join(sorted(known & {"git", "index", "path", "url", "workspace"})) or "elsewhere"


def _words(error: ExceptionGroup) -> str:
    """The errors of a group of them, in one sentence."""
    return "; ".join(str(one) for one in error.exceptions)
