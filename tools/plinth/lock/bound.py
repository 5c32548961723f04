"""Which index each project of an image comes from: where one is bound to a named index, from that
one and no other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from packaging.utils import canonicalize_name

from plinth.core.document import meant
from plinth.core.errors import LockError, Problem, SpecError
from plinth.core.settings import Config
from plinth.recipe.image import DEFAULT, ImageSpec
from plinth.recipe.locks.pylock import ImageLock, LockedPackage

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def check_indexes(spec: ImageSpec, config: Config) -> None:
    """Refuse an image that binds a project to an index that the settings do not know.

    Raises:
        LockError: naming every such project and index.
    """
    lacking = {
        project: name
        for project, name in spec.indexes.items()
        if name not in config.indexes and project not in spec.fallbacks
    }
    # An extension has the bindings of the other image, too.
    files = " or ".join(f"images/{one}.toml" for one in (spec.id, spec.extends) if one)
    for project, name in lacking.items():
        table = f'{project} = {{index = "{name}", fallback = "{DEFAULT}"}}'
        raise LockError(
            "the settings do not know an index that a project is bound to",
            where=f"images/{spec.id}.toml",
            expected=f"one of {', '.join(sorted(config.indexes))}" if config.indexes else "",
            found="\n".join(f"{project}: {name}" for project, name in lacking.items()),
            remedy=f'set indexes."{name}" in the settings to its URL; or, where the configured '
            f"index may serve the project as well, write {table} where it is bound ({files})",
        )


def places_of(spec: ImageSpec, below: ImageLock | None, config: Config) -> dict[str, str]:
    """The named index that each project of `spec` comes from, by project; of what is not there, the
    configured one. What the image that is extended holds (`below`) comes from where it came from.

    Raises:
        SpecError: the extension binds a package that the other image holds from elsewhere.
        LockError: a package of the other image is from an index that the settings do not know.
    """
    shown = f"images/{spec.id}.toml"
    found = {project: name for project, name in spec.indexes.items() if name in config.indexes}
    problems = []
    for package in below.packages if below else ():
        project, index = package.name, package.index
        wanted = spec.indexes.get(project, "")
        if index != wanted and (index or project not in spec.fallbacks):
            origin = f"from the index {index}" if index else "from no named index"
            problems.append(
                Problem(
                    f"python.indexes.{project}",
                    f"{spec.extends} holds {project} {package.version} {origin}, and an extension "
                    f"keeps it; leave it out here, or bind it in images/{spec.extends}.toml",
                )
            )
        elif not index:
            found.pop(project, None)
        elif index not in config.indexes:
            raise LockError(
                "the settings do not know an index that a package of the extended image is from",
                where=shown,
                found=f"{spec.extends} holds {project} {package.version} from the index {index}",
                remedy=f'set indexes."{index}" in the settings to its URL',
            )
    if problems:
        raise SpecError(shown, problems)
    return found


def check_present(spec: ImageSpec, packages: Sequence[LockedPackage], asked: Iterable[str]) -> None:
    """Refuse an image that binds a project which nothing of it asks for: where the name was
    mistyped, the project that was meant came from another index. Bindings with a fallback, and
    those of the image that is extended, may be of any.

    Args:
        spec: the image.
        packages: what its lock holds.
        asked: the requirements that it and its packages have, also those that do not count for the
            target.

    Raises:
        LockError: naming every such project, and the nearest that is there.
    """
    names = {one.name for package in packages for one in (package, *package.build_requires)}
    mine = spec.indexes.keys() - spec.fallbacks - spec.inherited - names
    # Most images bind nothing: their packages' requirements need no reading.
    if not mine:
        return
    mentioned = {canonicalize_name(match[0]) for match in map(_NAME.match, asked) if match}
    strange = sorted(mine - mentioned)
    if strange:
        raise LockError(
            "a project is bound to an index, and nothing of the image asks for it",
            where=f"images/{spec.id}.toml: python.indexes",
            found="\n".join(f"{name}: {spec.indexes[name]}" for name in strange),
            remedy=f"{meant(strange[0], names)}write the name as it is asked for, or leave it out",
        )
