"""What the tags of a repository name: digest, date, packages."""

from __future__ import annotations

import re
from collections.abc import Iterable
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
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]* [0-9][A-Za-z0-9.!+~:_-]*")


@dataclass(frozen=True)
class Tagged:
    """One tag: the manifest's digest, the day of a dated tag, the moment its image was locked,
    and its packages, `NAME VERSION`, as the titles of its layers have them. `problem` says why
    nothing is known of it."""

    tag: str
    digest: str
    date: str
    created: str
    packages: tuple[str, ...]
    problem: str = ""

    def to_json(self) -> Json:
        """The tag for programs."""
        return {
            "tag": self.tag,
            "digest": self.digest,
            "date": self.date,
            "created": self.created,
            "packages": list(self.packages),
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
            tuple(_packages(read.get("layers"))),
        )
    except PlinthError as error:
        return Tagged(tag, "", date_of(tag), "", (), str(error))


def _packages(layers: object) -> Iterable[str]:
    for layer in layers if isinstance(layers, list) else ():
        # Where small wheels share a layer, its title names each of them.
        for name in annotations_of(layer).get(TITLE, "").split(", "):
            if _PACKAGE.fullmatch(name):
                yield name


def table(place: RegistryReference, tags: list[Tagged]) -> str:
    """The tags for people: what is in an image, and for each older one what it has otherwise."""
    lines, before = [f"{place.host}/{place.repository}"], dict[str, str]()
    shown: dict[str, str] = {}
    width = max(len(tag.tag) for tag in tags)
    for one in tags:
        lines.append(f"  {one.tag:<{width}}  {one.digest or '(unreadable)'}".rstrip())
        if one.problem:
            lines.append(f"      {one.problem}")
        elif one.digest in shown:
            lines.append(f"      the same image as {shown[one.digest]}")
        else:
            packages = dict(package.split(" ", 1) for package in one.packages)
            if before:
                lines.append(f"      {_otherwise(packages, before)}")
            else:
                lines.append(
                    f"      {counted(len(one.packages), 'package')}: {', '.join(one.packages)}"
                )
            before = packages
            shown[one.digest] = one.tag
    return "\n".join(map(plain, lines))


def _otherwise(packages: dict[str, str], before: dict[str, str]) -> str:
    parts = [
        f"{name} {version} (above: {before.get(name, 'none')})"
        for name, version in packages.items()
        if before.get(name) != version
    ]
    parts += [f"no {name}" for name in before if name not in packages]
    return ", ".join(parts) or "the same packages"
