"""What the tags of a repository name: digest, date, packages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from plinth.core.digest import Digest, Json
from plinth.core.errors import FetchError, PlinthError, plain
from plinth.core.report import counted
from plinth.core.settings import Config
from plinth.fetch.registry.registry import Registry
from plinth.formats.oci.documents import annotations_of, document
from plinth.formats.oci.model import TITLE
from plinth.formats.oci.reference import RegistryReference
from plinth.publish.registry.dated import date_of, number_of

_CREATED = "org.opencontainers.image.created"
_LIST = re.compile(r"sha256-[0-9a-f]{64}")
_NAMED = r"[A-Za-z0-9][A-Za-z0-9._-]* [0-9][A-Za-z0-9.!+~:_-]*"
_PACKAGES = re.compile(rf"(?P<first>{_NAMED})(?: and (?P<more>[0-9]{{1,6}}) more)?")
_DEBS = re.compile(r"(?P<count>[0-9]{1,6}) OS packages, .+")


@dataclass(frozen=True)
class Held:
    """Packages of an image that one title of a layer names: `title` is `NAME VERSION`, that and
    how many more, or how many OS packages. `count` packages are in `layer`, a digest, of a media
    type `kind`."""

    title: str
    count: int
    layer: str
    kind: str

    @property
    def name(self) -> str:
        """What stands for it in a comparison: the first package's name."""
        return "OS packages" if _DEBS.fullmatch(self.title) else self.title.partition(" ")[0]

    @property
    def package(self) -> str:
        """`NAME VERSION`, empty where the title names none."""
        match = _PACKAGES.fullmatch(self.title)
        return match["first"] if match else ""


@dataclass(frozen=True)
class Tagged:
    """One tag: the manifest's digest, the day of a dated tag, the moment its image was locked, and
    what it holds, as the titles of its layers have it: of a layer of several packages the first is
    named, and the others are counted. `problem` says why nothing is known of it."""

    tag: str
    digest: str
    date: str
    created: str
    held: tuple[Held, ...]
    problem: str = ""

    @property
    def count(self) -> int:
        """How many packages it holds."""
        return sum(one.count for one in self.held)

    def to_json(self) -> Json:
        """The tag for programs: `packages` are those that are named, `count` counts all."""
        return {
            "tag": self.tag,
            "digest": self.digest,
            "date": self.date,
            "created": self.created,
            "packages": [one.package for one in self.held if one.package],
            "count": self.count,
            "layers": [
                {"title": one.title, "packages": one.count, "digest": one.layer}
                for one in self.held
            ],
            **({"problem": self.problem} if self.problem else {}),
        }


def list_tags(place: RegistryReference, config: Config) -> list[Tagged]:
    """The tags of a repository, `latest` first, then dated ones, the newest first. Nothing is
    verified: this is what the registry and the images say of themselves.

    Raises:
        FetchError: the registry cannot be reached, or has no such repository.
    """
    registry = Registry.at(place, config)
    tags = [tag for tag in registry.tags() if not _LIST.fullmatch(tag)]
    if not tags:
        raise FetchError("there are no tags", where=str(registry), remedy="push an image first")
    return [_tagged(registry, tag) for tag in sorted(tags, key=_newest_first)]


def _newest_first(tag: str) -> tuple[Any, ...]:
    if date_of(tag):
        return 1, -int(tag[:8]), -number_of(tag), tag
    return (0 if tag in ("latest", "latest-gzip", "latest-zstd") else 2), 0, 0, tag


def _tagged(registry: Registry, tag: str) -> Tagged:
    try:
        found = registry.manifest(tag)
        if found is None:
            return Tagged(tag, "", date_of(tag), "", (), "there is no such image any more")
        read = document(found.data, f"{registry}:{tag}")
        return Tagged(
            tag,
            Digest.of(found.data).oci,
            date_of(tag),
            annotations_of(read).get(_CREATED, ""),
            tuple(_held(read.get("layers"))),
        )
    except PlinthError as error:
        return Tagged(tag, "", date_of(tag), "", (), str(error))


def _held(layers: object) -> Iterator[Held]:
    for layer in layers if isinstance(layers, list) else ():
        title = annotations_of(layer).get(TITLE, "")
        # Images of before layers were grouped name every wheel in the title; a group of OS packages
        # has a comma in its own.
        for part in [title] if _DEBS.fullmatch(title) else title.split(", "):
            packages, debs = _PACKAGES.fullmatch(part), _DEBS.fullmatch(part)
            if packages or debs:
                count = 1 + int(packages["more"] or 0) if packages else 0
                digest, kind = str(layer.get("digest", "")), str(layer.get("mediaType", ""))
                yield Held(part, count or int(debs["count"] if debs else 0), digest, kind)


def table(place: RegistryReference, tags: list[Tagged]) -> str:
    """The tags for people: what is in an image, and for each older one what it has otherwise."""
    lines, before = [f"{place.host}/{place.repository}"], dict[str, Held]()
    shown: dict[str, str] = {}
    width = max(len(tag.tag) for tag in tags)
    for one in tags:
        lines.append(f"  {one.tag:<{width}}  {one.digest or '(unreadable)'}".rstrip())
        if one.problem:
            lines.append(f"      {one.problem}")
        elif one.digest in shown:
            lines.append(f"      the same image as {shown[one.digest]}")
        else:
            held = {each.name: each for each in one.held}
            if before:
                lines.append(f"      {_otherwise(held, before)}")
            elif one.held:
                titles = ", ".join(each.title for each in one.held)
                lines.append(f"      {counted(one.count, 'package')}: {titles}")
            else:
                lines.append("      its layers name no packages")
            before = held
            shown[one.digest] = one.tag
    return "\n".join(map(plain, lines))


def _otherwise(held: dict[str, Held], before: dict[str, Held]) -> str:
    parts = []
    for name, one in held.items():
        other = before.get(name)
        if other is None or other.title != one.title:
            # Its name is there already.
            above = other.title.removeprefix(f"{name} ") if other else "none"
            parts.append(f"{one.title} (above: {above})")
        elif one.count > 1 and one.kind == other.kind and one.layer != other.layer:
            # Which of them differ, the title does not say.
            parts.append(f"{one.title} (above: another layer)")
    parts += [f"no {name}" for name in before if name not in held]
    return ", ".join(parts) or "the same packages"
