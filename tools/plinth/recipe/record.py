"""What the last build of an image was made from, kept so that the next can say what changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plinth.core.digest import Json, canonical_json
from plinth.core.store import atomic_write
from plinth.formats.oci.image import Image
from plinth.graph.workspace import Workspace
from plinth.recipe.base import origin
from plinth.recipe.locks.pylock import ImageLock


@dataclass(frozen=True)
class Record:
    """One build: digests of its input files (`Recipe.files`) by path, versions by package, layers
    (digest and name), base and manifest, and what was worth a note."""

    inputs: Mapping[str, str]
    packages: Mapping[str, str]
    layers: Mapping[str, str]
    base: str
    manifest: str
    notes: Sequence[str] = ()

    @classmethod
    def of(
        cls,
        inputs: Mapping[str, str],
        lock: ImageLock,
        image: Image,
        base: str,
        notes: Sequence[str],
    ) -> Record:
        """The record of a build that just ended."""
        return cls(
            inputs,
            {package.name: package.version for package in lock.packages},
            {layer.digest.hex: layer.name for layer in image.layers},
            base,
            image.manifest.digest.hex,
            tuple(notes),
        )

    @property
    def accelerator(self) -> str:
        """The accelerator set the image holds, by the lock that was read; empty for none."""
        locks = "locks/base/"
        stems = [p[len(locks) :].removesuffix(".toml") for p in self.inputs if p.startswith(locks)]
        return next((stem for stem in stems if origin(stem) != origin(self.base)), "")


def _path(ws: Workspace, image_id: str) -> Path:
    return ws.build / "cache" / "images" / f"{image_id}.json"


def write_record(ws: Workspace, image_id: str, record: Record) -> None:
    """Remember `record` as the last build of `image_id`."""
    document: Json = {
        "inputs": dict(record.inputs),
        "packages": dict(record.packages),
        "layers": dict(record.layers),
        "base": record.base,
        "manifest": record.manifest,
        "notes": list(record.notes),
    }
    with atomic_write(_path(ws, image_id)) as path:
        path.write_bytes(canonical_json(document))


def read_record(ws: Workspace, image_id: str) -> Record | None:
    """The last build of `image_id`, or None where none is known or the record is damaged."""
    try:
        document: Any = json.loads(_path(ws, image_id).read_bytes())
        return Record(
            _texts(document["inputs"]),
            _texts(document["packages"]),
            _texts(document["layers"]),
            _text(document["base"]),
            _text(document["manifest"]),
            tuple(_text(note) for note in document["notes"]),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError(value)
    return {key: _text(item) for key, item in value.items()}
