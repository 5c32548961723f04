"""Reading a pylock.toml of any tool (PEP 751) as pins: `packaging.pylock` reads and selects."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from packaging.pylock import (
    Package,
    PackageSdist,
    PackageWheel,
    Pylock,
    PylockSelectError,
    PylockValidationError,
)
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag

from plinth.core.errors import Problem, SpecError
from plinth.formats.wheel.filename import excess, is_of, of_url, parse_wheel
from plinth.recipe.asked.files import Files
from plinth.recipe.asked.markers import every, unfit
from plinth.recipe.asked.model import ForeignLock, Pin
from plinth.recipe.image import Target
from plinth.recipe.target import allows, environments
from plinth.recipe.target import tags as tags_of

MAX_PACKAGES = 5_000

_KEYS = {
    *("lock-version", "environments", "requires-python", "extras", "dependency-groups"),
    *("default-groups", "created-by", "packages", "tool"),
}
_PACKAGE_KEYS = {
    *("name", "version", "marker", "requires-python", "dependencies", "vcs", "directory"),
    *("archive", "index", "sdist", "wheels", "attestation-identities", "tool"),
}


def read_pylock(
    files: Files,
    lock: ForeignLock,
    asked_by: str,
    target: Target,
    own: frozenset[str],
) -> list[Pin]:
    """The pins of the pylock.toml `lock`, which the specification `asked_by` names, for `target`;
    packages that are one's `own` need no pin.

    Raises:
        SpecError: it is invalid, or its packages do not fit the target; with the field.
    """
    name, document = files.document(lock.path, asked_by)
    problems = [
        *([Problem("project", "a pylock.toml has no projects")] if lock.project else ()),
        *_unknown(document),
    ]
    if problems:
        raise SpecError(name, problems)
    try:
        parsed = Pylock.from_dict(document)
        # Of any Python that may be found, the last release decides, and not each.
        plain = replace(
            parsed,
            requires_python=None,
            packages=[replace(one, requires_python=None) for one in parsed.packages],
        )
        markers = "\n".join(str(one.marker) for one in parsed.packages if one.marker)
        tags = tags_of(target.python, target.glibc, target.architecture)
        found = [
            _selected(plain, lock, environment, tags)
            for environment in every(environments(target), markers)
        ]
    except (PylockValidationError, PylockSelectError) as error:
        raise SpecError(name, [Problem("", str(error))]) from None
    # What is invalid in ways that the library leaves to Python.
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise SpecError(name, [Problem("", f"not a valid pylock: {error}")]) from None
    first = found[0]
    for other in found[1:]:
        # By entry, not by name: two versions of one are two entries, each with a marker.
        entries = {id(p): p.name for p in (*first, *other)}
        if differing := {id(p) for p in first} ^ {id(p) for p in other}:
            names = sorted({entries[one] for one in differing})
            message = f"only the patch level of Python decides on {', '.join(names)}"
            raise SpecError(name, [Problem("packages", message)])
    problems, pins = [], []
    numbers = {id(package): number for number, package in enumerate(plain.packages)}
    if not _fits(parsed.requires_python, target):
        wanted = str(parsed.requires_python)
        problems.append(Problem("requires-python", unfit(wanted, target.releases)))
    for package in first:
        if package.name in own:
            continue
        at = f"packages[{numbers[id(package)]}]"
        if not _fits(needed := parsed.packages[numbers[id(package)]].requires_python, target):
            message = unfit(str(needed), target.releases)
            problems.append(Problem(f"{at}.requires-python ({package.name})", message))
        try:
            pins.append(_pin(package, f"{name}: {at}"))
        except ValueError as error:
            problems.append(Problem(f"{at} ({package.name})", str(error)))
    if problems:
        raise SpecError(name, problems)
    return pins


def _unknown(document: Mapping[str, object]) -> Iterator[Problem]:
    """Keys that PEP 751 does not have: a misspelt `marker` would install what it excludes."""
    for key in sorted(set(document) - _KEYS):
        yield Problem(key, "unknown field; PEP 751 has no such one")
    packages = document.get("packages")
    if not isinstance(packages, list):
        return
    if len(packages) > MAX_PACKAGES:
        yield Problem("packages", f"{len(packages)} of them; at most {MAX_PACKAGES} are read")
        return
    for number, package in enumerate(packages):
        if not isinstance(package, dict):
            continue
        for key in sorted(set(package) - _PACKAGE_KEYS):
            yield Problem(f"packages[{number}].{key}", "unknown field; PEP 751 has no such one")
        wheels = package.get("wheels")
        for at, file in enumerate(wheels if isinstance(wheels, list) else ()):
            for problem in filter(
                None, map(excess, _names(file) if isinstance(file, dict) else ())
            ):
                yield Problem(f"packages[{number}].wheels[{at}]", problem)


def _names(file: Mapping[str, object]) -> Iterator[str]:
    """The names that a wheel may have: the library reads one of them, of whatever length."""
    name, path, url = (str(file.get(key, "")) for key in ("name", "path", "url"))
    yield name
    yield re.split(r"[/\\]", path)[-1]
    try:
        yield of_url(url)
    except ValueError:
        # The library says so.
        return


def _selected(
    parsed: Pylock,
    lock: ForeignLock,
    environment: Mapping[str, str],
    tags: Mapping[Tag, int],
) -> list[Package]:
    # All wheels that fit, and sdists: which file is taken is for the index of the lock to say.
    chosen = parsed.select(
        environment=environment,  # type: ignore[arg-type]
        tags=list(tags),
        extras=lock.extras,
        dependency_groups=lock.groups or None,
    )
    return [package for package, _ in chosen]


def _fits(wanted: SpecifierSet | None, target: Target) -> bool:
    return wanted is None or allows(wanted, target.releases)


def _pin(package: Package, where: str) -> Pin:
    if package.is_direct:
        raise ValueError(
            "it comes from a repository, a folder or an archive, which a pin cannot name; lock a "
            "release of it, or name it in [[python.local]]"
        )
    if package.version is None:
        raise ValueError("it has no version")
    distributions: list[PackageWheel | PackageSdist] = list(package.wheels or ())
    if package.sdist is not None:
        distributions.append(package.sdist)
    hashes = set()
    for file in distributions:
        if "sha256" not in file.hashes:
            raise ValueError(f"{file.filename} has no sha256 among its hashes")
        if not is_of(file.filename, package.name, str(package.version)):
            raise ValueError(f"{file.filename!r} is not a file of {package.name} {package.version}")
        hashes.add(sha256(str(file.hashes["sha256"]), file.filename))
    names = tuple(file.filename for file in distributions)
    return Pin(package.name, str(package.version), frozenset(hashes), names, where, closed=True)


def sha256(text: str, filename: str) -> str:
    """`text`, which must be a SHA-256 in hexadecimal, in lower case.

    Raises:
        ValueError: it is none.
    """
    if len(text) != 64 or set(text.lower()) - set("0123456789abcdef"):
        raise ValueError(f"{filename} has an invalid sha256: {text!r}")
    return text.lower()


def fits_target(names: Sequence[str], tags: Mapping[Tag, int]) -> bool:
    """Whether one of the files called `names` is an sdist (.tar.gz; .zip is not built: PEP 625), or
    a wheel with one of `tags`.

    Raises:
        ValueError: one is called .whl, and is no wheel's file name.
    """
    return any(
        name.endswith(".tar.gz")
        if not name.endswith(".whl")
        else any(tag in tags for tag in parse_wheel(name)[3])
        for name in names
    )
