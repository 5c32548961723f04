"""Results of actions as servers keep them: outputs as files, facts about them as one more file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from plinth.core.digest import Digest, canonical_json
from plinth.core.errors import IntegrityError, RemoteError
from plinth.core.result import ActionResult
from plinth.core.store import LAYER, PART
from plinth.formats.oci.strict import loads
from plinth.graph.actions import Action
from plinth.graph.cache import DERIVED
from plinth.graph.reapi import messages
from plinth.graph.steps.model import INFO, OUTPUTS

INFO_PATH = f"{OUTPUTS}/{INFO}"
"""The file with the facts."""

_MAX_INFO = 1 << 20


def to_message(result: ActionResult) -> tuple[messages.ActionResult, dict[Digest, bytes]]:
    """`result` as a message (REAPI, ActionResult), and the content of its file of facts."""
    info = canonical_json(dict(result.info))
    message = messages.ActionResult()
    files = {f"{OUTPUTS}/{name}": digest for name, digest in result.outputs.items()}
    files[INFO_PATH] = Digest.of(info)
    for path, digest in sorted(files.items()):
        message.output_files.add(
            path=path,
            digest=messages.to_message(digest),
            contents=info if path == INFO_PATH else b"",
        )
    return message, {Digest.of(info): info}


def from_message(
    action: Action,
    message: messages.ActionResult,
    read: Callable[[Sequence[Digest]], Mapping[Digest, bytes]],
    *,
    where: str,
) -> ActionResult:
    """What `message` says; `read` gives the content of blobs it does not carry itself.

    Raises:
        RemoteError: it is no result of such an action.
    """

    def wrong(found: str) -> RemoteError:
        return RemoteError(
            "what the remote server has is no result of the action",
            where=f"{where}, {action.mnemonic} {action.digest.hex}",
            found=found,
        )

    outputs, info = {}, b""
    for file in message.output_files:
        name = file.path.removeprefix(f"{OUTPUTS}/")
        digest = messages.from_message(file.digest)
        if file.path == INFO_PATH:
            if digest.size > _MAX_INFO:
                raise wrong("too many facts")
            info = file.contents or read([digest])[digest]
        elif name in action.outputs and name != file.path:
            outputs[name] = digest
        else:
            raise wrong(f"an output {file.path[:200]!r}")
    if not set(action.outputs) - DERIVED <= outputs.keys():
        raise wrong("an output is missing")
    try:
        facts = loads(info)
        if not isinstance(facts, dict):
            raise TypeError(info)
        if {LAYER, PART} & outputs.keys():
            Digest(facts["diff_id"], facts["uncompressed"])
    except (ValueError, TypeError, KeyError, RecursionError, IntegrityError) as error:
        raise wrong("facts that cannot be read") from error
    return ActionResult(outputs, facts)
