"""Actions and their cache: a build step, identified by the digest of everything it depends on."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from plinth.digest import Digest, Json, canonical_json
from plinth.errors import IntegrityError
from plinth.store import BlobStore, atomic_write


@dataclass(frozen=True)
class Action:
    """One build step.

    `mnemonic` names the kind of step, `version` is raised whenever the code behind it would
    give other bytes for the same inputs, `inputs` are named blobs, `parameters` everything
    else that shapes the output.
    """

    mnemonic: str
    version: int
    inputs: Mapping[str, Digest]
    parameters: Mapping[str, Json] = field(default_factory=dict)

    @property
    def digest(self) -> Digest:
        """The action's identity, its key in every cache."""
        return Digest.of(
            canonical_json(
                {
                    "mnemonic": self.mnemonic,
                    "version": self.version,
                    "inputs": {k: [v.hex, v.size] for k, v in self.inputs.items()},
                    "parameters": dict(self.parameters),
                }
            )
        )


@dataclass(frozen=True)
class ActionResult:
    """What an action made: named blobs, and small facts about them (`info`)."""

    outputs: Mapping[str, Digest]
    info: Mapping[str, Json] = field(default_factory=dict)


class ActionCache:
    """Results of actions on disk, one small JSON file each.

    An entry is only an assertion that blobs exist; `lookup` checks that they still do.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def _path(self, action: Action) -> Path:
        return self.root / f"{action.digest.hex}.json"

    def lookup(self, action: Action, blobs: BlobStore) -> ActionResult | None:
        """The result of `action` if it is known and `blobs` still holds its outputs."""
        try:
            document = json.loads(self._path(action).read_bytes())
            outputs = {k: Digest(v[0], v[1]) for k, v in document["outputs"].items()}
            result = ActionResult(outputs, document["info"])
        except FileNotFoundError:
            return None
        except (IntegrityError, ValueError, KeyError, TypeError, IndexError, AttributeError):
            # A damaged entry is a miss: the action runs again and writes a good one.
            return None
        return None if blobs.missing(result.outputs.values()) else result

    def store(self, action: Action, result: ActionResult) -> None:
        """Remember `result`."""
        document: Json = {
            "mnemonic": action.mnemonic,
            "outputs": {k: [v.hex, v.size] for k, v in result.outputs.items()},
            "info": dict(result.info),
        }
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

    def run(
        self, action: Action, blobs: BlobStore, work: Callable[[], ActionResult]
    ) -> tuple[ActionResult, bool]:
        """The result of `action`, and whether it came from the cache; `work` runs on a miss."""
        found = self.lookup(action, blobs)
        if found is not None:
            return found, True
        with self.exclusive(action):
            found = self.lookup(action, blobs)
            if found is not None:
                return found, True
            result = work()
            self.store(action, result)
            return result, False
