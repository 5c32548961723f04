"""Which packages of images have newer versions: what the index has for each target today."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from packaging.version import Version

from plinth.core.digest import Json
from plinth.core.settings import Config
from plinth.core.stopping import meanwhile
from plinth.core.table import Column, plain
from plinth.fetch.pypi.candidates import candidates
from plinth.fetch.pypi.index import Index
from plinth.fetch.pypi.page import is_by
from plinth.graph.workspace import Workspace
from plinth.recipe.image import Target, load_image, load_target
from plinth.recipe.locks.pylock import load

_AT_ONCE = 16


@dataclass(frozen=True)
class Outdated:
    """A package that has a newer version than its lock: the newest that `as-of` of the
    specification shows, and the newest of all; the images that are locked to `locked`."""

    name: str
    locked: str
    visible: str
    newest: str
    images: tuple[str, ...]

    def to_json(self) -> dict[str, Json]:
        """For programs."""
        return {
            "name": self.name,
            "locked": self.locked,
            "visible": self.visible,
            "newest": self.newest,
            "images": list(self.images),
        }


Question = tuple[str, str, str, str, datetime.datetime | None]
"""Name, locked version, named index, base and as-of of a package."""


def outdated(ws: Workspace, ids: Sequence[str], config: Config) -> list[Outdated]:
    """The packages of the images `ids` that have newer releases for their targets. Whether what
    needs them takes these is for `lock --upgrade` to find out.

    Raises:
        PlinthError: a specification or a lock is invalid, or the index fails.
    """
    index = Index(config, ws.build / "cache" / "index", ws.cache)
    targets: dict[str, Target] = {}
    asked: dict[Question, list[str]] = {}
    for image_id in ids:
        spec = load_image(ws.images, image_id)
        targets[spec.base] = load_target(ws.bases, spec.base)
        shown = f"locks/{image_id}/pylock.toml"
        for package in load(ws.locks / image_id / "pylock.toml", shown).packages:
            key = (package.name, package.version, package.index, spec.base, spec.as_of)
            asked.setdefault(key, []).append(image_id)
    with meanwhile(_AT_ONCE, "outdated") as pool:
        answers = pool.map(lambda one: _newest(one, targets, index, config.indexes), asked)
        found = [
            Outdated(name, locked, visible, newest, tuple(images))
            for ((name, locked, *_), images), (visible, newest) in zip(
                asked.items(), answers, strict=True
            )
            if newest and Version(newest) > Version(locked)
        ]
    return sorted(found, key=lambda one: (one.name, Version(one.locked), one.images))


def _newest(
    question: Question, targets: Mapping[str, Target], index: Index, named: Mapping[str, str]
) -> tuple[str, str]:
    """The newest version that `as-of` shows, and the newest of all; empty where there is none."""
    name, _, place, base, as_of = question
    if place in named:
        index = Index.beside(index, named[place])
    # Asked for without as-of: what is kept of the page would do for a moment in the past.
    files = index.files(name, None)
    fitting = [
        one
        for one in candidates(files, targets[base])
        if not one.file.yanked and not one.version.is_prerelease
    ]
    return tuple(  # type: ignore[return-value]
        str(max(versions)) if versions else ""
        for versions in (
            [one.version for one in fitting if as_of is None or is_by(one.file, as_of)],
            [one.version for one in fitting],
        )
    )


def table(found: Sequence[Outdated]) -> str:
    """The packages for people, a line each."""
    if not found:
        return "every package has its newest version"
    headings = ("package", "locked", "as-of shows", "newest", "images")
    rows = [(o.name, o.locked, o.visible, o.newest, ", ".join(o.images)) for o in found]
    return plain([Column(heading) for heading in headings], rows)
