"""The verb diff: what differs between two images."""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from plinth.fetch.sources.model import ImageSource
    from plinth.formats.oci.model import Descriptor
    from plinth.inspect.contents.model import Entry, LayerContents
    from plinth.inspect.diff import Side


def diff(*, before: str, after: str, as_json: bool) -> int:
    """Compare two images; returns the exit code."""
    from plinth.commands.reference import named
    from plinth.core import settings as config
    from plinth.core.errors import PlinthError
    from plinth.evidence.verify.verdict import UNREADABLE
    from plinth.fetch.sources.source import open_source
    from plinth.inspect.diff import compare

    try:
        settings = config.load()
        with ExitStack() as stack:
            sources = [
                stack.enter_context(open_source(named(text).reference, settings))
                for text in (before, after)
            ]
            found = compare(*_sides(sources))
    except (PlinthError, OSError) as error:
        print(f"plinth: {error}", file=sys.stderr)
        return UNREADABLE
    print(json.dumps(found.to_json(), indent=1) if as_json else found.text())
    return 1 if found else 0


def _sides(sources: list[ImageSource]) -> list[Side]:
    """Both images, each distinct layer read once."""
    from plinth.core.errors import LayoutError
    from plinth.formats.oci.documents import document
    from plinth.formats.oci.strict import CONFIG_KEYS
    from plinth.inspect.contents.cache import contents_cache
    from plinth.inspect.contents.read import read_layers
    from plinth.inspect.diff import Side, list_layers

    jobs = len(os.sched_getaffinity(0))
    known: dict[str, Mapping[str, Entry]] = {}
    sides = []
    for source in sources:
        layers = source.layers()
        contents: list[LayerContents] = []
        for number, held in enumerate(read_layers(layers, contents_cache())):
            if isinstance(held, str):
                raise LayoutError(f"layer {number} cannot be read", where=source.name, found=held)
            contents.append(held)
        new = {
            held.digest.hex: layer
            for held, layer in zip(contents, layers, strict=True)
            if held.digest.hex not in known
        }
        known.update(zip(new, list_layers([*new.values()], jobs), strict=True))
        config = document(source.config(), f"{source.name}: config", CONFIG_KEYS)
        files = [known[held.digest.hex] for held in contents]
        sides.append(Side(_layers(source, contents), config, contents, files))
    return sides


def _layers(source: ImageSource, contents: list[LayerContents]) -> Sequence[Descriptor]:
    """The layers as the manifest has them; of an archive without one, as they lie there."""
    from plinth.formats.oci.manifest import parse_manifest
    from plinth.formats.oci.model import Descriptor

    data = source.manifest()
    if data is not None:
        return parse_manifest(data, source.name).layers
    return [Descriptor("", held.digest) for held in contents]
