"""All that an image asks for: what its specification says, and what its input files mean."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from plinth.core.digest import Json
from plinth.core.errors import Problem, SpecError
from plinth.recipe.asked.files import Files
from plinth.recipe.asked.local import own_files
from plinth.recipe.asked.markers import decided, unknown
from plinth.recipe.asked.model import Pin
from plinth.recipe.asked.pylock import read_pylock
from plinth.recipe.asked.pyproject import read_project
from plinth.recipe.asked.requirements import Asked, read_requirements
from plinth.recipe.asked.uv import read_uv
from plinth.recipe.image import Constraint, ImageSpec, Target, merged_places
from plinth.recipe.target import environments

_PYLOCK = re.compile(r"pylock(\.[^.]+)?\.toml")


def with_inputs(
    root: Path, spec: ImageSpec, target: Target, recorded: Mapping[str, Json] | None = None
) -> ImageSpec:
    """`spec` with what its input files, in the checkout at `root`, mean for `target` among its
    requirements and constraints, and with their pins. Of packages of one's own, what is not in the
    checkout is as the inputs of a lock have it `recorded`.

    Requirements of files are normalized and sorted: what decides a lock is what they mean. So the
    same pins, from whichever kind of file, are the same image.

    Raises:
        SpecError: a file is invalid, does not fit the target, or has a marker that the target does
            not decide; with the line or field.
    """
    _check_markers(spec, target)
    if not spec.inputs:
        return spec
    local = (recorded or {}).get("local")
    known = local if isinstance(local, dict) else {}
    shown = f"images/{spec.id}.toml"
    own = {one.name: one for one in own_files(root, spec.inputs.local, shown, known)}
    return _read(Files(root), replace(spec, own=own), target, {*own, *spec.indexes})


def input_files(root: Path, spec: ImageSpec, target: Target) -> list[str]:
    """The paths of all input files of `spec`, those that others name among them; of invalid ones
    as far as they can be read."""
    files = Files(root)
    with contextlib.suppress(SpecError):
        _read(files, spec, target, None)
    return sorted(files.seen)


def _read(files: Files, spec: ImageSpec, target: Target, settled: Set[str] | None) -> ImageSpec:
    shown = f"images/{spec.id}.toml"
    asked = [
        Asked(Requirement(text), frozenset(), False, where)
        for text, places in _places(spec, shown)
        for where in places
    ]
    inputs = spec.inputs
    for path in inputs.requirements:
        asked += read_requirements(files, path, shown, bounds=False)
    for path in inputs.constraints:
        asked += read_requirements(files, path, shown, bounds=True)
    for project in inputs.projects:
        asked += read_project(files, project, shown, target, settled)
    asked = _for_target(asked, target)
    pins = [pin for one in asked if (pin := _pin(one))]
    for lock in inputs.locks:
        name = lock.path.rpartition("/")[2]
        if name != "uv.lock" and not _PYLOCK.fullmatch(name):
            message = f"expected a uv.lock or pylock.toml, found {name!r}"
            raise SpecError(shown, [Problem("python.lock.path", message)])
        read = read_uv if name == "uv.lock" else read_pylock
        pins += read(files, lock, shown, target, frozenset(spec.own))
    for number, one in enumerate(spec.own.values()):
        where = f"{shown}: python.local[{number}]"
        digest = frozenset([one.digest.hex])
        pins.append(Pin(one.name, one.version, digest, (one.filename,), where, closed=False))
    lines = merged_places(
        *({_line(one.requirement): (one.where,)} for one in asked if not one.bounds),
        *(
            {f"{pin.name}=={pin.version}": (pin.where,)}
            for pin in pins
            if pin.closed or pin.name in spec.own
        ),
    )
    bounds = [
        Constraint(_line(one.requirement), one.where, one.where) for one in asked if one.bounds
    ]
    return replace(
        spec,
        requirements=tuple(sorted(lines)),
        asked_at=lines,
        constraints=(*spec.constraints, *sorted(set(bounds), key=lambda one: one.requirement)),
        pins=_merged(pins, shown),
    )


def _check_markers(spec: ImageSpec, target: Target) -> None:
    """Refuse a marker of the specification or of its base that the target does not decide: the
    machine that locks would."""
    shown = f"images/{spec.id}.toml"
    lines = [
        *((text, where) for text, places in _places(spec, shown) for where in places),
        *((one.requirement, one.where or shown) for one in spec.constraints),
        *((one.requirement, one.where or shown) for one in spec.overrides),
        *(
            (text, f"base/{spec.base}.toml: python.requirements[{number}]")
            for number, text in enumerate(target.requirements if target.bases else ())
        ),
    ]
    marked = [(Requirement(text), where) for text, where in lines if ";" in text]
    _for_target([Asked(one, frozenset(), False, where) for one, where in marked], target)


def _places(spec: ImageSpec, shown: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for text in spec.requirements:
        yield text, spec.asked_at.get(text, (f"{shown}: python.requirements",))


def _for_target(asked: Sequence[Asked], target: Target) -> list[Asked]:
    """Those of `asked` that count on the target, without their markers.

    Raises:
        SpecError: the target does not decide one.
    """
    known = environments(target)
    found = []
    problems: dict[str, list[Problem]] = {}
    for one in asked:
        marker = one.requirement.marker
        counts = marker is None or decided(marker, known)
        if counts is None:
            file, field = _split(one.where)
            problems.setdefault(file, []).append(Problem(field, unknown(marker)))
        elif counts:
            plain = Requirement(str(one.requirement))
            plain.marker = None
            found.append(replace(one, requirement=plain))
    for file, ones in problems.items():
        raise SpecError(
            file,
            ones,
            remedy="leave the marker out, or write one that every release of Python "
            f"{target.python} in the image's bases decides alike",
        )
    return found


def _split(where: str) -> tuple[str, str]:
    """The file, and the field or line in it."""
    file, _, field = where.partition(": ")
    if field:
        return file, field
    file, _, line = where.rpartition(" line ")
    return file, f"line {line}"


def _pin(asked: Asked) -> Pin | None:
    """The pin that a requirement with hashes is; pip takes no other version of it."""
    if not asked.hashes:
        return None
    exact = [one for one in asked.requirement.specifier if one.operator in ("==", "===")]
    if len(exact) != 1 or "*" in exact[0].version:
        path, line = _split(asked.where)
        message = f"{asked.requirement} has hashes, so it must name one version (==)"
        raise SpecError(path, [Problem(line, message)])
    name = canonicalize_name(asked.requirement.name)
    try:
        return Pin(name, exact[0].version, asked.hashes, (), asked.where, closed=False)
    except ValueError as error:
        path, line = _split(asked.where)
        raise SpecError(path, [Problem(line, f"{name}: {error}")]) from None


def _merged(pins: Iterable[Pin], shown: str) -> dict[str, Pin]:
    """The pins by name; of several for one name, what all of them allow."""
    found: dict[str, Pin] = {}
    for pin in pins:
        other = found.setdefault(pin.name, pin)
        if other is pin:
            continue
        if not other.is_at(pin.version):
            message = (
                f"{pin.name} is {other.version} in {other.where} and {pin.version} in {pin.where}"
            )
            raise SpecError(shown, [Problem("python", message)])
        both = other.hashes & pin.hashes if other.hashes and pin.hashes else frozenset[str]()
        if other.hashes and pin.hashes and not both:
            message = f"{other.where} and {pin.where} have no file of {pin.name} in common"
            raise SpecError(shown, [Problem("python", message)])
        found[pin.name] = replace(
            other,
            hashes=both or other.hashes or pin.hashes,
            closed=other.closed or pin.closed,
        )
    return found


def _line(requirement: Requirement) -> str:
    """The requirement in its one normal form."""
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    specifiers = ",".join(sorted(str(one) for one in requirement.specifier))
    marker: Marker | None = requirement.marker
    return f"{canonicalize_name(requirement.name)}{extras}{specifiers}" + (
        f" ; {marker}" if marker else ""
    )
