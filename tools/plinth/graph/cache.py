"""The cache of actions on disk, and of other facts that are functions of blobs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

from plinth.core import stopping
from plinth.core.digest import Digest, Json, canonical_json
from plinth.core.errors import IntegrityError
from plinth.core.regular import open_lock
from plinth.core.result import ActionResult
from plinth.core.store import LAYER, PART, atomic_write

READ = frozenset({"files", "ztoc"})
"""Outputs that whoever asks for the result reads, so that they are fetched with it."""

DERIVED = frozenset({"scan"})
"""Outputs that can be made again from a layer: a result with the layer is whole without them."""


class Keyed(Protocol):
    """What has a result: the kind of it, and the digest that is its key."""

    @property
    def mnemonic(self) -> str:
        """The kind, for people."""

    @property
    def digest(self) -> Digest:
        """The key."""


@dataclass(frozen=True)
class Fact:
    """What is told of blobs and is no build step, so that no server needs to know it: `inputs` by
    name, `parameters`, and a `version`, raised whenever other things would be told of the same."""

    mnemonic: str
    inputs: Mapping[str, Digest]
    version: int
    parameters: Mapping[str, Json] = field(default_factory=dict)

    @cached_property
    def digest(self) -> Digest:
        """The key: the digest of all of it."""
        inputs: Json = {name: one.oci for name, one in self.inputs.items()}
        return Digest.of(
            canonical_json([self.mnemonic, inputs, self.version, dict(self.parameters)])
        )


def _needed(result: ActionResult) -> list[Digest]:
    dispensable = DERIVED if {LAYER, PART} & result.outputs.keys() else frozenset()
    return [digest for name, digest in result.outputs.items() if name not in dispensable]


def _sum(document: dict[str, Json]) -> str:
    """What a damaged entry, or one under another's name, does not have."""
    return Digest.of(canonical_json(document)).hex


class Held(Protocol):
    """What can say which blobs it does not hold."""

    def missing(self, digests: Iterable[Digest]) -> set[Digest]:
        """Those of `digests` that are not held."""


class ActionCache:
    """Results of actions on disk, one small JSON file each.

    An entry is only an assertion that blobs exist; `lookup` checks that they still do.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def _path(self, action: Keyed) -> Path:
        return self.root / f"{action.digest.hex}.json"

    def lookup(self, action: Keyed, blobs: Held) -> ActionResult | None:
        """The result of `action` if it is known and `blobs` still holds its outputs."""
        try:
            document = json.loads(self._path(action).read_bytes())
            if document.pop("sha256") != _sum(document) or document["action"] != action.digest.hex:
                return None
            outputs = {k: Digest(v[0], v[1]) for k, v in document["outputs"].items()}
            result = ActionResult(outputs, document["info"])
        except FileNotFoundError:
            return None
        except (IntegrityError, ValueError, KeyError, TypeError, IndexError, AttributeError):
            # A damaged entry is a miss: the action runs again and writes a good one.
            return None
        return None if blobs.missing(_needed(result)) else result

    def infos(self) -> Iterator[tuple[str, Mapping[str, Json]]]:
        """The kind of each result that is remembered, and the facts about it, whether its blobs are
        still there or not. Damaged entries have none."""
        for path in self.root.glob("*.json"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                document = json.loads(path.read_bytes())
                if document.pop("sha256") == _sum(document):
                    yield document["mnemonic"], document["info"]

    def store(self, action: Keyed, result: ActionResult) -> None:
        """Remember `result`."""
        document: dict[str, Json] = {
            "action": action.digest.hex,
            "mnemonic": action.mnemonic,
            "outputs": {k: [v.hex, v.size] for k, v in result.outputs.items()},
            "info": dict(result.info),
        }
        document["sha256"] = _sum(document)
        with atomic_write(self._path(action)) as path:
            path.write_bytes(canonical_json(document))

    @contextlib.contextmanager
    def exclusive(self, action: Keyed) -> Iterator[None]:
        """Hold the action's lock, so that of several builders one does the work.

        Raises:
            StoppedError: the calling code is to stop, and waits for another builder.
        """
        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with open_lock(folder / action.digest.hex) as stream:
            stopping.lock(stream.fileno())
            yield
