"""Image specifications: `images/<id>.toml`."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

from packaging.utils import canonicalize_name

from plinth.core.document import Table, known_here, read
from plinth.core.errors import Problem, SpecError
from plinth.formats.oci.model import GZIP, ZSTD
from plinth.recipe.accelerator import CPU
from plinth.recipe.asked.local import OwnFile
from plinth.recipe.asked.model import Inputs, Pin, read_inputs
from plinth.recipe.base import NAME, BaseSpec, StandalonePython, load_base
from plinth.recipe.overrides import Override, read_overrides

DEFAULT = "default"
"""The configured index, as a fallback."""

REFUSE, ALLOW = "refuse", "allow"
"""What an image does about libraries for GPUs among its Python packages."""


@dataclass(frozen=True)
class Constraint:
    """A bound on a package nobody asked for by name, and why it is needed. `where` it is written:
    the file, and the field or line in it."""

    requirement: str
    reason: str
    where: str = field(default="", compare=False)


@dataclass(frozen=True)
class ImageSpec:
    """One image.

    `accelerator` is `cpu` or names an accelerator set. `requirements` are the packages its row
    promises; those of its base come on top. `as_of` hides later uploads from the resolver.
    `imports` are modules the smoke test imports in the running container, `case` the score.py
    it serves. `extends` names the image this one adds to, with `os_packages` of its base's
    archive; `requirements` then are those of both. `dlopen` are libraries the framework opens
    by name, `host` those that come from the host at run time, with the reason. `indexes` names,
    by normalized project, the index that its files come from, and no other; but for `fallbacks`,
    which come from the configured index where the settings do not know theirs; `inherited` are the
    projects that the image it extends binds. `gpu_libraries` is
    one of the policies above; empty leaves it to the accelerator. `overrides` count in place of
    what packages ask of a project. `inputs` are files that ask for more; what they mean for a
    target is among the requirements and constraints, and their `pins` and the files of one's `own`
    packages are there, both by name, once `plinth.recipe.asked.asked.with_inputs` read them.
    `compression` is that of its layers, `gzip` or `zstd`. `asked_at` says where each of the
    requirements is written: files, and the field or line in them.
    """

    id: str
    framework: str
    version: str
    accelerator: str
    base: str
    summary: str
    requirements: tuple[str, ...]
    constraints: tuple[Constraint, ...]
    as_of: datetime.datetime | None
    imports: tuple[str, ...]
    case: str
    indexes: Mapping[str, str] = field(default_factory=dict)
    extends: str = ""
    os_packages: tuple[str, ...] = ()
    dlopen: tuple[str, ...] = ()
    host: Mapping[str, str] = field(default_factory=dict)
    gpu_libraries: str = ""
    overrides: tuple[Override, ...] = ()
    inputs: Inputs = field(default_factory=Inputs)
    pins: Mapping[str, Pin] = field(default_factory=dict)
    own: Mapping[str, OwnFile] = field(default_factory=dict)
    fallbacks: frozenset[str] = frozenset()
    inherited: frozenset[str] = field(default=frozenset(), compare=False)
    compression: str = GZIP
    asked_at: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)

    def published(self, base: str, label: str = "") -> str:
        """The name the image is published under when it stands on `base` and holds the
        accelerator set called `label`: one that lacks the set it is meant to have says so."""
        head = f"azureml/{self.framework}"
        if self.version:
            head += f"-{self.version}"
        if self.extends:
            # Somebody's own image: it is none of the catalogue's.
            head = self.id
        without = CPU if self.accelerator == CPU else "nocuda"
        kind = f"{label}-gpu" if label else without
        return f"{head}-{base}-{kind}-inference"


@dataclass(frozen=True)
class Target:
    """What wheels of an image must run on: the lowest of all bases it may stand on.

    `python` is `3.7`, `glibc` the oldest libc, `requirements` those of the base, `sdists`
    how source-only projects are built.
    """

    python: str
    glibc: tuple[int, int]
    architecture: str
    bases: tuple[BaseSpec, ...]

    @property
    def requirements(self) -> tuple[str, ...]:
        """Requirements every image on these bases has."""
        return self.bases[0].requirements

    @property
    def releases(self) -> tuple[str, ...]:
        """The releases of Python (`3.7.9`) that a package must allow: of each base that pins its
        interpreter that one's; of one that is found, or of no base, the last there can be."""
        last = f"{self.python}.99"
        pinned = (base.python for base in self.bases)
        found = {p.patch or last if isinstance(p, StandalonePython) else last for p in pinned}
        return tuple(sorted(found)) or (last,)

    def __str__(self) -> str:
        names = " and ".join(base.name for base in self.bases)
        major, minor = self.glibc
        return f"CPython {self.python} and glibc up to {major}.{minor} ({names})"


def load_image(folder: Path, image_id: str) -> ImageSpec:
    """The image `image_id` in `folder` (the checkout's images/), validated as a whole.

    Raises:
        SpecError: with every problem of the file, each under its field path.
    """
    shown = f"images/{image_id}.toml"
    table = read(folder / f"{image_id}.toml", shown)
    extends = table.text("extends", required=False)
    spec = _extended(folder, image_id, table, extends) if extends else _whole(image_id, table)
    if not NAME.fullmatch(image_id):
        table.problem("", f"{image_id!r} cannot be an image id: lower case, digits, '.', '-', '_'")
    table.finish()
    if table.problems:
        raise SpecError(shown, table.problems)
    return spec


def _whole(image_id: str, table: Table) -> ImageSpec:
    python = table.table("python", required=True)
    smoke = table.table("smoke")
    closure = table.table("closure")
    framework = table.text("framework")
    inputs = read_inputs(python)
    indexes, fallbacks = _indexes(python)
    shown = f"images/{image_id}.toml"
    requirements = python.requirements("requirements", required=not inputs)
    spec = ImageSpec(
        id=image_id,
        framework=framework,
        version=table.text("version", required=False),
        accelerator=table.text("accelerator"),
        base=table.text("base"),
        summary=table.text("summary"),
        requirements=requirements,
        constraints=_constraints(python, shown),
        as_of=python.moment("as-of"),
        indexes=indexes,
        fallbacks=fallbacks,
        imports=smoke.texts("imports", required=False),
        case=smoke.text("case", required=False) or framework,
        dlopen=closure.texts("dlopen", required=False),
        host=closure.mapping("host"),
        gpu_libraries=_policy(python),
        overrides=read_overrides(python, shown),
        inputs=inputs,
        compression=_compression(table) or GZIP,
        asked_at=_asked_at(requirements, shown),
    )
    if spec.accelerator and not NAME.fullmatch(spec.accelerator):
        table.problem("accelerator", f"expected cpu or a set's name, found {spec.accelerator!r}")
    stem = f"{spec.framework}-{spec.version}" if spec.version else spec.framework
    if stem not in (image_id, "") and not image_id.startswith(f"{stem}-"):
        table.problem(
            "framework",
            f"framework and version give {stem!r}, the file is {image_id!r}; name the file "
            f"{stem}.toml or {stem}-….toml, or change the fields",
        )
    return spec


def _extended(folder: Path, image_id: str, table: Table, extends: str) -> ImageSpec:
    """An image that adds to another: what it does not say is the other's."""
    shown = f"images/{image_id}.toml"
    if not (folder / f"{extends}.toml").exists():
        others = {path.stem for path in folder.glob("*.toml")} - {image_id}
        raise SpecError(
            shown,
            [Problem("extends", f"there is no image {extends!r}")],
            remedy=known_here(extends, others),
        )
    if read(folder / f"{extends}.toml", f"images/{extends}.toml").text("extends", required=False):
        problem = Problem("extends", f"{extends} extends another image itself; extend that one")
        raise SpecError(shown, [problem])
    parent = load_image(folder, extends)
    python = table.table("python")
    smoke = table.table("smoke")
    closure = table.table("closure")
    indexes, fallbacks = _indexes(python)
    _check_bound(python, parent, indexes, fallbacks)
    requirements = python.requirements("requirements", required=False)
    return replace(
        parent,
        id=image_id,
        extends=extends,
        summary=table.text("summary"),
        requirements=(*parent.requirements, *requirements),
        constraints=(*parent.constraints, *_constraints(python, shown)),
        as_of=python.moment("as-of") or parent.as_of,
        os_packages=table.table("os").texts("packages", required=False),
        imports=(*parent.imports, *smoke.texts("imports", required=False)),
        host={**parent.host, **closure.mapping("host")},
        overrides=(*parent.overrides, *read_overrides(python, shown)),
        gpu_libraries=_policy(python) or parent.gpu_libraries,
        inputs=parent.inputs + read_inputs(python),
        compression=_compression(table) or parent.compression,
        indexes={**parent.indexes, **indexes},
        fallbacks=parent.fallbacks | fallbacks,
        inherited=frozenset(parent.indexes),
        asked_at=merged_places(parent.asked_at, _asked_at(requirements, shown)),
    )


def _check_bound(
    python: Table, parent: ImageSpec, indexes: Mapping[str, str], fallbacks: Set[str]
) -> None:
    """Report bindings of an extension that differ from those of the image it extends."""
    for project, name in indexes.items():
        if project not in parent.indexes:
            continue
        wanted, loose = parent.indexes[project], project in parent.fallbacks
        if (name, project in fallbacks) != (wanted, loose):
            also = f' with fallback = "{DEFAULT}"' if loose else " alone"
            python.problem(
                f"indexes.{project}",
                f"images/{parent.id}.toml binds it to {wanted}{also}, which an extension cannot "
                "change; leave it out here",
            )


def _asked_at(requirements: Iterable[str], shown: str) -> dict[str, tuple[str, ...]]:
    """Where the `requirements` of the specification called `shown` are written."""
    return {
        text: (f"{shown}: python.requirements[{number}]",)
        for number, text in enumerate(requirements)
    }


def merged_places(*places: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """All places in `places` of each text."""
    found: dict[str, tuple[str, ...]] = {}
    for one in places:
        for text, where in one.items():
            there = found.get(text, ())
            found[text] = (*there, *(each for each in where if each not in there))
    return found


def _indexes(python: Table) -> tuple[dict[str, str], frozenset[str]]:
    """The index of each project that has one, and the projects with a fallback."""
    found: dict[str, str] = {}
    fallbacks = set()
    for key, value in python.texts_or_tables("indexes").items():
        project = str(canonicalize_name(key))
        if project in found:
            python.problem(f"indexes.{key}", f"{project} has an index already")
        if isinstance(value, str):
            found[project] = value
        else:
            found[project] = value.text("index")
            if value.text("fallback", required=False, choices=(DEFAULT,)):
                fallbacks.add(project)
        if not found[project].strip():
            python.problem(f"indexes.{key}", "expected the name of an index")
    return found, frozenset(fallbacks)


def _compression(table: Table) -> str:
    return table.text("compression", required=False, choices=(GZIP, ZSTD))


def _policy(python: Table) -> str:
    return python.text("gpu-libraries", required=False, choices=(REFUSE, ALLOW))


def _constraints(python: Table, shown: str) -> tuple[Constraint, ...]:
    found = []
    for number, inner in enumerate(python.tables("constraints")):
        requirement, reason = inner.requirement("requirement"), inner.text("reason")
        where = f"{shown}: python.constraints[{number}]"
        found.append(Constraint(requirement, reason, where))
        if not found[-1].reason.strip():
            inner.problem("reason", "a constraint says why it is needed")
    return tuple(found)


def load_target(folder: Path, base: str) -> Target:
    """The target of images that ask for `base`, from `folder` (the checkout's base/).

    Raises:
        SpecError: a base is invalid, or the base and its fallback cannot share a lock.
    """
    first = load_base(folder, base)
    if not first.fallback:
        return Target(first.python.version, first.glibc, first.architecture, (first,))
    second = load_base(folder, first.fallback)
    problems = [
        Problem("fallback", f"{second.name} differs in {field}, so no lock can serve both")
        for field, one, other in (
            ("architecture", first.architecture, second.architecture),
            ("python.version", first.python.version, second.python.version),
            ("python.requirements", first.requirements, second.requirements),
            ("python.sdists", first.sdists, second.sdists),
        )
        if one != other
    ]
    if problems:
        raise SpecError(f"base/{base}.toml", problems)
    lowest = min(first.glibc, second.glibc)
    return Target(first.python.version, lowest, first.architecture, (first, second))
