"""Files that several wheels of an image have: in the image is, as with pip, that of the package
installed last, whichever layer is on top."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from plinth.core.errors import IntegrityError
from plinth.core.store import BlobStore
from plinth.formats.layer.model import Layer


@dataclass(frozen=True)
class _Holder:
    """A package that has a file: in which layer, and what the file is."""

    layer: int
    name: str
    content: str


def held_files(data: bytes) -> Mapping[str, Sequence[tuple[str, str]]]:
    """The distributions that have a file, with what it is there, by path, of the output `files` of
    a layer's step.

    Raises:
        IntegrityError: it is none.
    """
    try:
        return {
            str(path): [(str(name), str(content)) for name, content in holders]
            for path, holders in json.loads(data).items()
        }
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError("not a list of distributions' files", found=str(error)) from None


def overlaps(
    store: BlobStore, groups: Sequence[Sequence[Layer]], order: Sequence[str]
) -> tuple[dict[str, list[str]], list[str]]:
    """What packages have to leave to others, by name, and a sentence for each set of packages that
    share files. `groups` are the layers, bottom first, by what they have of each package; `order`
    is that in which pip installs packages."""
    place = {name: number for number, name in enumerate(order)}
    held: dict[str, list[_Holder]] = {}
    for number, group in enumerate(groups):
        for part in group:
            if part.listed is not None:
                for path, holders in held_files(store.get(part.listed)).items():
                    held.setdefault(path, []).extend(
                        _Holder(number, name, content) for name, content in holders
                    )
    shared = {path: found for path, found in sorted(held.items()) if len(found) > 1}
    without: dict[str, list[str]] = {}
    for path, found in shared.items():
        found = sorted(found, key=lambda one: place[one.name])
        winner, last = found[-1], {one.layer: one for one in found}
        for one in found:
            above = one.layer > winner.layer and one.content != winner.content
            # A layer has a path once; that files of two layers are alike harms nobody.
            if above or one != last[one.layer]:
                without.setdefault(one.name, []).append(path)
    return without, [*_notes(shared, place)]


def _notes(shared: Mapping[str, Sequence[_Holder]], place: Mapping[str, int]) -> Iterator[str]:
    paths: dict[tuple[tuple[str, ...], bool], list[str]] = {}
    for path, found in shared.items():
        names = tuple(sorted((one.name for one in found), key=place.__getitem__))
        alike = len({one.content for one in found}) == 1
        paths.setdefault((names, alike), []).append(path)
    for (names, alike), several in paths.items():
        more = f" and {len(several) - 1} more files" if len(several) > 1 else ""
        who = f"{', '.join(names[:-1])} and {names[-1]} install the same path: /{several[0]}{more}"
        yield f"{who}, alike" if alike else f"{who}; as with pip, that of {names[-1]} stays"
