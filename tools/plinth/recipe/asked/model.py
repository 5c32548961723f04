"""The files that a specification's `[python]` names, and the pins that locks among them have."""

from __future__ import annotations

import re
from dataclasses import dataclass

from packaging.version import Version

from plinth.core.document import Table
from plinth.formats.wheel.filename import is_normal_name, normal_version


@dataclass(frozen=True)
class Pin:
    """The one version of a package that an input allows.

    `name` and `version` are a project's and PEP 440's, kept in their normal form: they are written
    into what the resolver reads. `hashes` are the SHA-256 of the files that may be taken (empty:
    any), `names` their names as far as the input has them. `closed` says that the input is a lock,
    which names all that its packages need. `where` is the file and the place in it.

    Raises:
        ValueError: `name` is not a normal name, or `version` is not a version.
    """

    name: str
    version: str
    hashes: frozenset[str]
    names: tuple[str, ...]
    where: str
    closed: bool

    def __post_init__(self) -> None:
        if not is_normal_name(self.name):
            raise ValueError(f"{self.name!r} is not a normalized name")
        object.__setattr__(self, "version", normal_version(self.version))

    def allows(self, version: str, sha256: str) -> bool:
        """Whether a file of `version` with that digest (hexadecimal) may be taken.

        Raises:
            ValueError: `version` is not a version.
        """
        return self.is_at(version) and (not self.hashes or sha256 in self.hashes)

    def is_at(self, version: str) -> bool:
        """Whether `version` is the one that is pinned, as other tools compare: 1.0 is 1.0.0.

        Raises:
            ValueError: it is not a version.
        """
        return Version(version) == Version(self.version)


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
class Local:
    """A package of one's own: the `path` of a wheel, an sdist or a source tree in the checkout, or
    a `commit` of the repository at the URL `git`. `name` and `version` are those of a source that
    does not state them itself; empty where it does."""

    path: str
    git: str
    commit: str
    name: str
    version: str


@dataclass(frozen=True)
class Inputs:
    """Input files of one specification, by path relative to the checkout."""

    requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    projects: tuple[Project, ...] = ()
    locks: tuple[ForeignLock, ...] = ()
    local: tuple[Local, ...] = ()

    def __bool__(self) -> bool:
        return self != Inputs()

    def __add__(self, other: Inputs) -> Inputs:
        return Inputs(
            self.requirements + other.requirements,
            self.constraints + other.constraints,
            self.projects + other.projects,
            self.locks + other.locks,
            self.local + other.local,
        )


_COMMIT = re.compile(r"[0-9a-f]{40}")
_URL = re.compile(r"(https?|ssh|file)://")

KEYS = ("requirements-file", "constraints-file", "pyproject", "lock", "local")
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
        tuple(_local(one) for one in python.tables("local")),
    )


def _local(table: Table) -> Local:
    keys = ("path", "git", "commit", "name", "version")
    found = Local(*(table.text(key, required=False) for key in keys))
    if bool(found.path) == bool(found.git):
        table.problem("path", "expected either a path or git with a commit")
    if found.git and not (found.name and found.version):
        table.problem("git", "a commit needs name and version: it is fetched for its lock alone")
    if found.git and not _COMMIT.fullmatch(found.commit):
        table.problem("commit", f"expected 40 hexadecimal digits, found {found.commit!r}")
    if found.git and not _URL.match(found.git):
        table.problem("git", f"expected a URL, found {found.git!r}")
    return found
