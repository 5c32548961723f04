"""The files that a specification's `[python]` names, and the pins that locks among them have."""

from __future__ import annotations

from dataclasses import dataclass, field

from plinth.core.document import Table


@dataclass(frozen=True)
class Pin:
    """The one version of a package that an input allows.

    `hashes` are the SHA-256 of the files that may be taken (empty: any), `names` their names as
    far as the input has them. `closed` says that the input is a lock, which names all that its
    packages need. `where` is the file and the place in it.
    """

    name: str
    version: str
    hashes: frozenset[str]
    names: tuple[str, ...]
    where: str
    closed: bool

    def allows(self, version: str, sha256: str) -> bool:
        """Whether a file of `version` with that digest (hexadecimal) may be taken."""
        return version == self.version and (not self.hashes or sha256 in self.hashes)


@dataclass(frozen=True)
class Project:
    """A pyproject.toml: whether its `dependencies` count, and which extras and dependency groups
    (PEP 735) do."""

    path: str
    dependencies: bool
    extras: tuple[str, ...]
    groups: tuple[str, ...]


@dataclass(frozen=True)
class ForeignLock:
    """A lock that another tool made: uv.lock or a pylock.toml (PEP 751).

    `project` names a project of the lock where it has several; `extras` and `groups` are those of
    it to install, beside its dependencies.
    """

    path: str
    project: str
    extras: tuple[str, ...]
    groups: tuple[str, ...]


@dataclass(frozen=True)
class Inputs:
    """Input files of one specification, by path relative to the checkout."""

    requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    projects: tuple[Project, ...] = ()
    locks: tuple[ForeignLock, ...] = field(default=())

    def __bool__(self) -> bool:
        return bool(self.requirements or self.constraints or self.projects or self.locks)

    def __add__(self, other: Inputs) -> Inputs:
        return Inputs(
            self.requirements + other.requirements,
            self.constraints + other.constraints,
            self.projects + other.projects,
            self.locks + other.locks,
        )


KEYS = ("requirements-file", "constraints-file", "pyproject", "lock")
"""The fields of `[python]` that name input files."""


def read_inputs(python: Table) -> Inputs:
    """The input files that the table `[python]` of a specification names; problems are reported
    in the table."""
    requirements, constraints = (python.text(key, required=False) for key in KEYS[:2])
    project, lock = python.table("pyproject"), python.table("lock")
    projects = [
        Project(
            project.text("path"),
            project.flag("dependencies", default=True),
            project.texts("extras", required=False),
            project.texts("groups", required=False),
        )
        for _ in range(project.present)
    ]
    locks = [
        ForeignLock(
            lock.text("path"),
            lock.text("project", required=False),
            lock.texts("extras", required=False),
            lock.texts("groups", required=False),
        )
        for _ in range(lock.present)
    ]
    return Inputs(
        tuple(filter(None, [requirements])),
        tuple(filter(None, [constraints])),
        tuple(projects),
        tuple(locks),
    )
