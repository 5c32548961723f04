"""Image specifications: `images/<id>.toml`."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from plinth.errors import Problem, SpecError
from plinth.spec.accelerator import CPU
from plinth.spec.base import NAME, BaseSpec, load_base
from plinth.spec.reader import read


@dataclass(frozen=True)
class Constraint:
    """A bound on a package nobody asked for by name, and why it is needed."""

    requirement: str
    reason: str


@dataclass(frozen=True)
class ImageSpec:
    """One image.

    `accelerator` is `cpu` or names an accelerator set. `requirements` are the packages its row
    promises; those of its base come on top. `as_of` hides later uploads from the resolver.
    `imports` are modules the smoke test imports in the running container, `case` the score.py
    it serves. `dlopen` are libraries the framework opens by name, `host` those that come from
    the host at run time, with the reason.
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
    dlopen: tuple[str, ...] = ()
    host: Mapping[str, str] = field(default_factory=dict)

    def published(self, base: str, label: str = "") -> str:
        """The name the image is published under when it stands on `base` and holds the
        accelerator set called `label`: one that lacks the set it is meant to have says so."""
        head = f"{self.framework}-{self.version}" if self.version else self.framework
        without = CPU if self.accelerator == CPU else "nocuda"
        kind = f"{label}-gpu" if label else without
        return f"azureml/{head}-{base}-{kind}-inference"


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


def image_ids(folder: Path) -> list[str]:
    """The ids of all images in `folder` (the checkout's images/), sorted."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def load_image(folder: Path, image_id: str) -> ImageSpec:
    """The image `image_id` in `folder` (the checkout's images/), validated as a whole.

    Raises:
        SpecError: with every problem of the file, each under its field path.
    """
    shown = f"images/{image_id}.toml"
    table = read(folder / f"{image_id}.toml", shown)
    python = table.table("python", required=True)
    constraints = []
    for inner in python.tables("constraints"):
        constraints.append(Constraint(inner.requirement("requirement"), inner.text("reason")))
        if not constraints[-1].reason.strip():
            inner.problem("reason", "a constraint says why it is needed")
    smoke = table.table("smoke")
    closure = table.table("closure")
    spec = ImageSpec(
        id=image_id,
        framework=table.text("framework"),
        version=table.text("version", required=False),
        accelerator=table.text("accelerator"),
        base=table.text("base"),
        summary=table.text("summary"),
        requirements=python.requirements("requirements"),
        constraints=tuple(constraints),
        as_of=python.moment("as-of"),
        imports=smoke.texts("imports", required=False),
        case=smoke.text("case", required=False) or table.text("framework"),
        dlopen=closure.texts("dlopen", required=False),
        host=closure.mapping("host"),
    )
    if not NAME.fullmatch(image_id):
        table.problem("", f"{image_id!r} cannot be an image id: lower case, digits, '.', '-', '_'")
    stem = f"{spec.framework}-{spec.version}" if spec.version else spec.framework
    if stem not in (image_id, "") and not image_id.startswith(f"{stem}-"):
        table.problem("framework", f"framework and version give {stem!r}, the file is {image_id!r}")
    table.finish()
    if table.problems:
        raise SpecError(shown, table.problems)
    return spec


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
