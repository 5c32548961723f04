"""A remote cache and executor as one object: capabilities, blobs, results, execution."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from plinth.core.digest import Digest
from plinth.core.errors import RemoteError
from plinth.core.remote_settings import RemoteSettings
from plinth.core.store import BlobStore
from plinth.graph.reapi import messages
from plinth.graph.reapi.messages import (
    ActionResult,
    Compressor,
    DigestFunction,
    ExecuteResponse,
    GetActionResultRequest,
    GetCapabilitiesRequest,
    ServerCapabilities,
    UpdateActionResultRequest,
)
from plinth.graph.remote.cas import Cas
from plinth.graph.remote.checked import checked_result
from plinth.graph.remote.connection import About, Connection, Traffic
from plinth.graph.remote.execution import LIMIT, Execution

_SERVICES = "build.bazel.remote.execution.v2"
_FORBIDDEN = ("PERMISSION_DENIED", "UNIMPLEMENTED")


@dataclass(frozen=True)
class Capabilities:
    """What a server offers of what plinth uses.

    batch: bytes of blobs in one request, 0 where the server sets no limit.
    zstd: whether streams may be compressed.
    updates: whether clients may store results.
    executes: whether it runs actions.
    version: the newest version of the protocol it speaks.
    """

    batch: int
    zstd: bool
    updates: bool
    executes: bool
    version: str


class Remote:
    """A remote cache and executor, used in a `with` block; safe for threads, not for forks.

    Nothing is asked before it is needed, the first time with the servers' capabilities. Every
    byte that comes is compared with its digest. All methods raise RemoteError: `unavailable`
    where the server cannot be reached or is too slow, otherwise it refused or was wrong.
    """

    def __init__(
        self, settings: RemoteSettings, *, environment: Mapping[str, str] = os.environ
    ) -> None:
        self.settings = settings
        self.traffic = Traffic()
        self._environment = environment
        self._invocation = str(uuid.uuid4())
        self._connections: dict[str, Connection] = {}
        self._lock = threading.RLock()
        self._capabilities: Capabilities | None = None
        self._blobs: Cas | None = None
        self._may_store = settings.upload == "all"

    def __enter__(self) -> Remote:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for connection in self._connections.values():
            connection.close()
        if self._blobs is not None:
            self._blobs.close()

    def capabilities(self) -> Capabilities:
        """What the servers offer, asked once.

        Raises:
            RemoteError: a server speaks no version 2 of the protocol, or no SHA-256.
        """
        with self._lock:
            if self._capabilities is None:
                cache = self._offer(self.settings.cache)
                executor = cache
                if self.settings.executor not in ("", self.settings.cache):
                    executor = self._offer(self.settings.executor)
                held, runs = cache.cache_capabilities, executor.execution_capabilities
                if DigestFunction.SHA256 not in held.digest_functions:
                    raise self._unusable(self.settings.cache, "digests by SHA-256")
                functions = {runs.digest_function, *runs.digest_functions}
                self._capabilities = Capabilities(
                    batch=max(0, held.max_batch_total_size_bytes),
                    zstd=Compressor.ZSTD in held.supported_compressors,
                    updates=held.action_cache_update_capabilities.update_enabled,
                    executes=bool(self.settings.executor)
                    and runs.exec_enabled
                    and DigestFunction.SHA256 in functions,
                    version=f"{cache.high_api_version.major}.{cache.high_api_version.minor}",
                )
            return self._capabilities

    def missing(self, digests: Iterable[Digest]) -> set[Digest]:
        """Those of `digests` that the server lacks."""
        return self._cas().missing(digests)

    def read(self, digests: Iterable[Digest]) -> dict[Digest, bytes]:
        """The content of blobs; RemoteError is `absent` where the server lacks one."""
        return self._cas().read(digests)

    def fetch(self, digest: Digest, store: BlobStore, *, zstd: bool = False) -> None:
        """Stream a blob into `store`, resumed after cuts; see `Cas.fetch`."""
        self._cas().fetch(digest, store, zstd=zstd)

    def upload(
        self,
        blobs: Mapping[Digest, bytes | Path],
        *,
        zstd: bool | None = None,
        needed: bool = False,
    ) -> int:
        """Send what the server lacks of `blobs`; returns bytes sent. See `Cas.upload`.

        Nothing is sent where the settings say `upload = "none"`, unless `needed`: the inputs of
        an action that is to run there.
        """
        if self.settings.upload == "none" and not needed:
            return 0
        return self._cas().upload(blobs, zstd=zstd)

    def result(
        self, action: Digest, inline: Sequence[str] = (), *, mnemonic: str = ""
    ) -> ActionResult | None:
        """The result of an action that ran well, checked, all its blobs held by the server.

        `inline`: output files whose content is wanted in the answer; servers need not comply.

        Returns:
            None where there is no such result.
        """
        cas = self._cas()
        try:
            result = self._connection(self.settings.cache).ask(
                f"{_SERVICES}.ActionCache/GetActionResult",
                GetActionResultRequest(
                    instance_name=self.settings.instance,
                    action_digest=messages.to_message(action),
                    inline_output_files=inline,
                ),
                ActionResult,
                about=About(action.hex, mnemonic),
            )
        except RemoteError as error:
            if not error.absent:
                raise
            self.traffic.add(misses=1)
            return None
        where = f"{self.settings.cache}, action {action.hex}"
        digests = checked_result(result, where=where)
        # Failures are no results (some servers keep them), nor are those whose blobs are gone.
        if result.exit_code != 0 or not cas.holds_all(digests):
            self.traffic.add(misses=1)
            return None
        self.traffic.add(hits=1)
        return result

    def store_result(self, action: Digest, result: ActionResult, *, mnemonic: str = "") -> bool:
        """Let others find `result`, whose blobs the server holds.

        Returns:
            False where the settings or the server forbid it.
        """
        if not self._may_store or not self.capabilities().updates:
            return False
        try:
            self._connection(self.settings.cache).ask(
                f"{_SERVICES}.ActionCache/UpdateActionResult",
                UpdateActionResultRequest(
                    instance_name=self.settings.instance,
                    action_digest=messages.to_message(action),
                    action_result=result,
                ),
                ActionResult,
                about=About(action.hex, mnemonic),
            )
        except RemoteError as error:
            if error.code not in _FORBIDDEN:
                raise
            self._may_store = False
            return False
        return True

    def execute(
        self,
        action: Digest,
        *,
        skip_cache: bool,
        cancelled: threading.Event,
        mnemonic: str = "",
        limit: float = LIMIT,
    ) -> ExecuteResponse:
        """Run an action whose inputs are uploaded; its outputs are checked, its exit code is not.

        Raises:
            RemoteError: see `Execution.run`; where inputs are gone (`FAILED_PRECONDITION`),
                `upload` asks the server anew.
        """
        if not self.capabilities().executes:
            raise self._unusable(self.settings.executor, "execution of actions")
        runner = Execution(self._connection(self.settings.executor), self.settings.instance)
        try:
            response = runner.run(
                action, skip_cache=skip_cache, cancelled=cancelled, mnemonic=mnemonic, limit=limit
            )
        except RemoteError:
            # Inputs may be gone, and not every server says so by the status the protocol names.
            self._cas().forget()
            raise
        checked_result(response.result, where=f"{self.settings.executor}, action {action.hex}")
        return response

    def _cas(self) -> Cas:
        with self._lock:
            if self._blobs is None:
                found = self.capabilities()
                self._blobs = Cas(
                    self._connection(self.settings.cache),
                    self.settings.instance,
                    batch=found.batch,
                    zstd=found.zstd,
                )
            return self._blobs

    def _connection(self, address: str) -> Connection:
        with self._lock:
            if address not in self._connections:
                self._connections[address] = Connection(
                    address,
                    self.settings,
                    invocation=self._invocation,
                    traffic=self.traffic,
                    environment=self._environment,
                )
            return self._connections[address]

    def _offer(self, address: str) -> ServerCapabilities:
        found = self._connection(address).ask(
            f"{_SERVICES}.Capabilities/GetCapabilities",
            GetCapabilitiesRequest(instance_name=self.settings.instance),
            ServerCapabilities,
        )
        if not found.low_api_version.major <= 2 <= found.high_api_version.major:
            raise self._unusable(address, "version 2 of the Remote Execution API")
        return found

    def _unusable(self, address: str, lacking: str) -> RemoteError:
        return RemoteError(
            f"the remote server does not offer {lacking}",
            where=address,
            remedy="check the address and the instance in [remote]",
        )
