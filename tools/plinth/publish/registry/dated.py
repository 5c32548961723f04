"""Dated tags, `YYYYMMDD.vN`: the next one free, never one that is taken.

The other form of an image (`plinth.recipe.forms`) has the number of the first, and a suffix:
`YYYYMMDD.vN-zstd`. So a number is one image, and what has both tags has one config.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable

from plinth.core.digest import Digest
from plinth.core.errors import FetchError, LayoutError
from plinth.fetch.registry.registry import Registry
from plinth.formats.oci.manifest import parse_manifest
from plinth.formats.oci.model import MANIFEST

_DATED = re.compile(r"([0-9]{8})\.v([1-9][0-9]{0,8})(-gzip|-zstd)?")
_TRIES = 20


def numbers(tags: Iterable[str], day: datetime.date) -> list[int]:
    """The numbers N of those tags that are `YYYYMMDD.vN` of that day, in any form, ascending."""
    found = (_DATED.fullmatch(tag) for tag in tags)
    return sorted({int(one[2]) for one in found if one and one[1] == f"{day:%Y%m%d}"})


def date_of(tag: str) -> str:
    """The day of a dated tag, `YYYY-MM-DD`; empty where it is no dated tag."""
    found = _DATED.fullmatch(tag)
    return f"{tag[:4]}-{tag[4:6]}-{tag[6:8]}" if found else ""


def number_of(tag: str) -> int:
    """The N of a dated tag; 0 where it is no dated tag."""
    found = _DATED.fullmatch(tag)
    return int(found[2]) if found else 0


def give_tag(
    registry: Registry, manifest: bytes, day: datetime.date, suffix: str = ""
) -> tuple[str, bool]:
    """The dated tag of that day which names the manifest, and whether it is new: one it has
    already, else that of its other form with its own `suffix`, else the next after the highest
    there is. The registry must hold the manifest.

    A registry cannot be asked to tag only what has no tag: whoever writes the same tag in the
    moment between our looking and our writing is noticed afterwards, not kept from it.

    Raises:
        FetchError: the registry cannot be reached or refuses, or somebody else took the tag.
    """
    wanted = Digest.of(manifest).oci
    tags = [tag for tag in registry.tags() if numbers([tag], day)]
    taken = numbers(tags, day)
    for number in taken:
        tag = f"{day:%Y%m%d}.v{number}{suffix}"
        if digest_of(registry, tag) == wanted:
            return tag, False
    others = [tag for tag in tags if f"{day:%Y%m%d}.v{number_of(tag)}{suffix}" not in tags]
    config = _config(manifest) if others else None
    same = [
        number_of(tag)
        for tag in others
        if config and (other := registry.manifest(tag)) and _config(other.data) == config
    ]
    number = min(same, default=taken[-1] + 1 if taken else 1)
    for _ in range(_TRIES):
        tag = f"{day:%Y%m%d}.v{number}{suffix}"
        # Lists of tags may lag behind.
        if (found := digest_of(registry, tag)) == wanted:
            return tag, False
        if not found:
            move_tag(registry, tag, manifest)
            return tag, True
        number += 1
    raise FetchError("no dated tag is free", where=str(registry), found=tag)


def move_tag(registry: Registry, tag: str, manifest: bytes) -> bool:
    """Let the tag name the manifest; says whether it did not before.

    Raises:
        FetchError: the registry cannot be reached or refuses, or somebody else moved the tag.
    """
    wanted = Digest.of(manifest).oci
    if digest_of(registry, tag) == wanted:
        return False
    registry.put_manifest(tag, MANIFEST, manifest)
    found = digest_of(registry, tag)
    if found != wanted:
        raise FetchError(
            "somebody else wrote the tag at the same time",
            where=f"{registry}:{tag}",
            expected=wanted,
            found=found or "no such tag",
            remedy="push again: it gets a tag of its own",
        )
    return True


def _config(manifest: bytes) -> Digest | None:
    """The config that a manifest names; None of what is no image's."""
    try:
        return parse_manifest(manifest).config.digest
    except LayoutError:
        return None


def digest_of(registry: Registry, tag: str) -> str:
    """The digest a tag names, `sha256:…`; empty where there is no such tag.

    Raises:
        FetchError: the registry cannot be reached.
    """
    found = registry.manifest(tag)
    return Digest.of(found.data).oci if found else ""
