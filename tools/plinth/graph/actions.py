"""Actions: a build step, identified by the digest of everything it depends on.

That identity is the one of the Remote Execution API, v2: the digest of an `Action`, which names a
`Command` and the Merkle tree of an input root. On disk, in a cache of a team and on somebody's
workers a step has the same key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from plinth.core.digest import Digest, Json, canonical_json
from plinth.graph.code import tool
from plinth.graph.reapi import messages
from plinth.graph.steps.model import INFO, INPUTS, OUTPUTS, PARAMETERS, TOOL
from plinth.graph.tree import File, Node, Tree, tree


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
