"""Actions and their cache: a build step, identified by the digest of everything it depends on.

That identity is the one of the Remote Execution API, v2: the digest of an `Action`, which names a
`Command` and the Merkle tree of an input root. On disk, in a cache of a team and on somebody's
workers a step has the same key.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

from plinth.core.digest import Digest, Json, canonical_json
from plinth.core.errors import IntegrityError
from plinth.core.result import ActionResult
from plinth.core.store import LAYER, atomic_write
from plinth.graph.code import tool
from plinth.graph.reapi import messages
from plinth.graph.steps.model import INFO, INPUTS, OUTPUTS, PARAMETERS, TOOL
from plinth.graph.tree import File, Node, Tree, tree

DERIVED = frozenset({"scan"})
"""Outputs that can be made again from a layer: a result with the layer is whole without them."""


@dataclass(frozen=True)
class Encoded:
    """An action as messages (REAPI v2, `Action`, `Command`): its digest, its input root, and
    every message and small file of it by digest."""

    digest: Digest
    root: Tree
    blobs: Mapping[Digest, bytes] = field(repr=False)


@dataclass(frozen=True)
class Action:
    """One build step.

    `mnemonic` names the kind of step, `inputs` are blobs by path, `parameters` everything else
    that shapes the output, `outputs` the names of what it makes. `version` is for steps whose
    code is outside `plinth.graph.code`: raised whenever it would give other bytes for the same
    inputs.
    """

    mnemonic: str
    inputs: Mapping[str, Digest]
    parameters: Mapping[str, Json] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    version: int = 0

    @cached_property
    def encoded(self) -> Encoded:
        """The action as it is known everywhere."""
        return encode(self, (self.mnemonic,), {})

    @property
    def digest(self) -> Digest:
        """The action's identity, its key in every cache."""
        return self.encoded.digest


def encode(
    action: Action,
    arguments: Iterable[str],
    more: Mapping[str, Node],
    *,
    environment: Mapping[str, str] | None = None,
    platform: Mapping[str, str] | None = None,
) -> Encoded:
    """The messages of `action` as a command with `arguments`, in a root that also holds `more`
    by path; `environment` and `platform` go into the command as they are."""
    parameters = canonical_json(
        {
            "mnemonic": action.mnemonic,
            "version": action.version,
            "parameters": dict(action.parameters),
        }
    )
    root = tree(
        {
            PARAMETERS: File(Digest.of(parameters)),
            TOOL: tool(),
            **{f"{INPUTS}/{name}": File(digest) for name, digest in action.inputs.items()},
            **more,
        }
    )
    command = messages.Command(
        arguments=list(arguments),
        output_paths=sorted(f"{OUTPUTS}/{name}" for name in (*action.outputs, INFO)),
    )
    for name, value in sorted((environment or {}).items()):
        command.environment_variables.add(name=name, value=value)
    properties = sorted((platform or {}).items())
    for name, value in properties:
        command.platform.properties.add(name=name, value=value)
    told = messages.encode(command)
    message = messages.Action(
        command_digest=messages.to_message(Digest.of(told)),
        input_root_digest=messages.to_message(root.digest),
    )
    for name, value in properties:
        message.platform.properties.add(name=name, value=value)
    data = messages.encode(message)
    blobs = {Digest.of(one): one for one in (data, told, parameters)}
    return Encoded(Digest.of(data), root, {**root.directories, **blobs})


def _needed(result: ActionResult) -> list[Digest]:
    dispensable = DERIVED if LAYER in result.outputs else frozenset()
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

    def _path(self, action: Action) -> Path:
        return self.root / f"{action.digest.hex}.json"

    def lookup(self, action: Action, blobs: Held) -> ActionResult | None:
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

    def store(self, action: Action, result: ActionResult) -> None:
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
    def exclusive(self, action: Action) -> Iterator[None]:
        """Hold the action's lock, so that of several builders one does the work."""
        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / action.digest.hex).open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield
