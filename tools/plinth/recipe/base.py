"""Base specifications: `base/<name>.toml`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from plinth.core.digest import Digest
from plinth.core.document import Table, read
from plinth.core.errors import IntegrityError, Problem, SpecError
from plinth.formats.oci.reference import is_repository

NAME = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*")
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._~-]*")

LOCAL = "-local"
"""Ends the name of a base that has something else than its lock names: the building machine's own
interpreter, packages of an archive that moved on. No specification may have such a name."""


def origin(name: str) -> str:
    """The base whose specification and lock the base `name` is made from: itself, unless local."""
    return name.removesuffix(LOCAL)


@dataclass(frozen=True)
class ImageRootfs:
    """An operating system layer taken unmodified from a registry, pinned by digest."""

    registry: str
    repository: str
    index: str
    manifest: Digest
    config: Digest
    layer: Digest
    diff_id: str


@dataclass(frozen=True)
class DebianRootfs:
    """An operating system layer assembled from packages of a signed Debian archive.

    `omit` names packages that no dependency may pull in, each with the reason.
    """

    distribution: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    keyring: str
    packages: tuple[str, ...]
    omit: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StandalonePython:
    """A python-build-standalone archive, pinned by digest."""

    version: str
    release: str
    tag: str
    asset: str
    digest: Digest

    @property
    def patch(self) -> str:
        """Its version with the patch level (`3.7.9`), which the archive's name has; else empty."""
        found = re.match(rf"cpython-({re.escape(self.version)}\.\d+)[-+]", self.asset)
        return found[1] if found else ""


@dataclass(frozen=True)
class FoundPython:
    """A CPython found on the building machine; its tree's digest is in the base's lock."""

    version: str


@dataclass(frozen=True)
class SdistBuild:
    """How one source-only project is built: environment variables, and why."""

    environment: Mapping[str, str]
    reason: str


@dataclass(frozen=True)
class BaseSpec:
    """One base.

    `glibc` is the version its libc has; `requirements` are Python requirements of every
    image on it; `fallback` names the base to build on where this one cannot be had.
    """

    name: str
    summary: str
    architecture: str
    glibc: tuple[int, int]
    rootfs: ImageRootfs | DebianRootfs
    python: StandalonePython | FoundPython
    requirements: tuple[str, ...]
    fallback: str = ""
    sdists: Mapping[str, SdistBuild] = field(default_factory=dict)


def check_serves(wanted: BaseSpec, name: str) -> None:
    """Refuse to build on the base `name` what is locked for `wanted` and its fallback.

    Raises:
        SpecError: it is neither, nor a local one made from either.
    """
    names = [wanted.name, *filter(None, [wanted.fallback])]
    if origin(name) not in names:
        problem = Problem("", f"the lock serves {' or '.join(names)}, not {name!r}")
        raise SpecError(f"base/{name}.toml", [problem])


def _digest(table: Table, key: str) -> Digest:
    inner = table.table(key, required=True)
    text, size = (inner.text("digest"), inner.integer("size")) if inner.present else ("", 0)
    return _checked(inner, "digest", text, size) if text else Digest("0" * 64, 0)


def _checked(table: Table, key: str, text: str, size: int) -> Digest:
    try:
        return Digest(text.removeprefix("sha256:"), size)
    except IntegrityError:
        table.problem(key, f"expected sha256:<64 hex digits>, found {text!r}")
        return Digest("0" * 64, 0)


def _rootfs(table: Table) -> ImageRootfs | DebianRootfs:
    if table.text("kind", choices=("image", "debian")) == "image":
        repository = table.text("repository")
        if repository and not is_repository(repository):
            table.problem("repository", f"{repository!r} is not the name of a repository")
        return ImageRootfs(
            table.text("registry"),
            repository,
            _checked(table, "index", table.text("index"), 0).hex,
            _digest(table, "manifest"),
            _digest(table, "config"),
            _digest(table, "layer"),
            _checked(table, "diff-id", table.text("diff-id"), 0).hex,
        )
    return DebianRootfs(
        table.text("distribution"),
        table.texts("suites"),
        table.texts("components"),
        table.text("keyring"),
        table.texts("packages"),
        table.mapping("omit"),
    )


def _python(table: Table) -> StandalonePython | FoundPython:
    version = table.text("version")
    if version and not re.fullmatch(r"3\.\d+", version):
        table.problem("version", f"expected a version such as 3.7, found {version!r}")
    if table.text("kind", choices=("standalone", "found")) == "found":
        return FoundPython(version)
    tag, asset = table.text("tag"), table.text("asset")
    for key, text in (("tag", tag), ("asset", asset)):
        # Of a URL below the release's place: `..` would lead to another place.
        if text and not _PART.fullmatch(text):
            table.problem(key, f"{text!r} cannot be (part of) a name")
    digest = _checked(table, "digest", table.text("digest"), table.integer("size"))
    return StandalonePython(version, table.text("release"), tag, asset, digest)


def _glibc(table: Table) -> tuple[int, int]:
    text = table.text("glibc")
    match = re.fullmatch(r"(\d+)\.(\d+)", text)
    if not match:
        if text:
            table.problem("glibc", f"expected a version such as 2.27, found {text!r}")
        return (0, 0)
    return int(match[1]), int(match[2])


def load_base(folder: Path, name: str) -> BaseSpec:
    """The base `name` in `folder` (the checkout's base/), validated as a whole; a local one is
    read from the specification of its origin.

    Raises:
        SpecError: with every problem of the file, each under its field path.
    """
    if name.endswith(LOCAL) and (folder / f"{name}.toml").exists():
        problem = Problem("", f"names that end in {LOCAL} are for what other bases become here")
        raise SpecError(f"base/{name}.toml", [problem], remedy="give it another name")
    shown = f"base/{origin(name)}.toml"
    table = read(folder / f"{origin(name)}.toml", shown)
    python_table = table.table("python", required=True)
    sdists = {
        key: SdistBuild(inner.mapping("environment"), inner.text("reason"))
        for key, inner in python_table.named_tables("sdists").items()
    }
    spec = BaseSpec(
        name=name,
        summary=table.text("summary"),
        architecture=table.text("architecture", choices=("amd64",)),
        glibc=_glibc(table),
        rootfs=_rootfs(table.table("rootfs", required=True)),
        python=_python(python_table),
        requirements=python_table.requirements("requirements"),
        fallback=table.text("fallback", required=False),
        sdists=sdists,
    )
    if not NAME.fullmatch(name):
        table.problem("", f"{name!r} cannot be part of an image name")
    pinned = isinstance(spec.python, StandalonePython) and isinstance(spec.rootfs, ImageRootfs)
    if name.endswith(LOCAL) and pinned:
        table.problem("python.kind", f"all of it is pinned, so there is no base {name}")
    table.finish()
    if table.problems:
        raise SpecError(shown, table.problems)
    return spec
