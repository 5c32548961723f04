"""Steps run by a server's workers, from input roots that hold all they need, Python included."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from plinth.core.digest import Digest
from plinth.core.errors import PlinthError, RemoteError, StepError
from plinth.core.remote_settings import RemoteSettings
from plinth.core.result import ActionResult
from plinth.graph.actions import Action, encode
from plinth.graph.code import tool_files
from plinth.graph.reapi import messages
from plinth.graph.remote import results
from plinth.graph.remote.client import Remote
from plinth.graph.remote.toolchain import ROOT, Toolchain, toolchain
from plinth.graph.steps.model import REFUSED
from plinth.graph.tree import files_of

_SHOWN = 4000


class WorkerError(RemoteError):
    """A worker on which steps do not even start."""


class Worker:
    """Runs actions on the executor of `settings`; `cancelled` ends them."""

    def __init__(
        self, remote: Remote, settings: RemoteSettings, cancelled: threading.Event
    ) -> None:
        self._remote = remote
        self._settings = settings
        self._cancelled = cancelled
        self._lock = threading.Lock()
        self._toolchain: Toolchain | None = None

    def run(
        self,
        action: Action,
        place: Callable[[Digest], Path],
        prepare: Callable[[], None] | None,
    ) -> ActionResult:
        """The result of `action`. `place` says where a blob is here, or would be; `prepare`
        brings those inputs that the server lacks.

        Raises:
            StepError: the step refused its inputs, in its own words.
            RemoteError: the server did not do it.
            PlinthError: what `prepare` raises.
        """
        chain = self._chain()
        routed = encode(
            action,
            chain.arguments,
            {ROOT: chain.tree},
            environment=chain.environment,
            platform=self._settings.platform,
        )
        files = {digest for _, digest in files_of(routed.root)}
        own = {**chain.blobs, **tool_files(), **routed.blobs}
        lacking = self._remote.missing({*files, *routed.blobs})
        if prepare is not None and any(not place(one).exists() for one in lacking - own.keys()):
            prepare()
        blobs: dict[Digest, bytes | Path] = {}
        for digest in lacking:
            source = own.get(digest) or place(digest)
            if isinstance(source, Path) and not source.exists():
                raise RemoteError(
                    "an input of a step is neither here nor at the remote server",
                    where=f"{action.mnemonic}, {digest.oci}",
                )
            blobs[digest] = source
        self._remote.upload(blobs, needed=True)
        response = self._remote.execute(
            routed.digest,
            skip_cache=False,
            cancelled=self._cancelled,
            mnemonic=action.mnemonic,
        )
        result = response.result
        if result.exit_code:
            raise self._failure(action, result)
        return results.from_message(
            action, result, self._remote.read, where=self._settings.executor
        )

    def _chain(self) -> Toolchain:
        with self._lock:
            if self._toolchain is None:
                self._toolchain = toolchain()
            return self._toolchain

    def _said(self, raw: bytes, named: messages.Digest) -> str:
        if not raw and named.hash and named.size_bytes:
            digest = messages.from_message(named)
            raw = self._remote.read([digest])[digest]
        return raw[-_SHOWN:].decode("utf-8", "replace").strip()

    def _failure(self, action: Action, result: messages.ActionResult) -> PlinthError:
        stderr = self._said(result.stderr_raw, result.stderr_digest)
        if result.exit_code == REFUSED:
            return StepError(stderr)
        stdout = self._said(result.stdout_raw, result.stdout_digest)
        return WorkerError(
            "a worker of the remote server cannot run steps",
            where=f"{self._settings.executor}, {action.mnemonic}, exit code {result.exit_code}",
            found="\n".join(filter(None, (stdout, stderr))) or "nothing on its outputs",
            remedy="see docs/scaling.md for what a worker has to be",
        )
