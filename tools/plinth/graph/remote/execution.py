"""One action run by a server (REAPI, Execution), watched until it ends, is lost or cancelled."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from google.protobuf.empty_pb2 import Empty
from google.rpc.code_pb2 import Code

from plinth.core import stopping
from plinth.core.digest import Digest
from plinth.core.errors import RemoteError
from plinth.graph.reapi import messages
from plinth.graph.reapi.messages import (
    CancelOperationRequest,
    DecodeError,
    ExecuteRequest,
    ExecuteResponse,
    Operation,
    WaitExecutionRequest,
)
from plinth.graph.remote.connection import About, Connection, Stream, failure
from plinth.graph.remote.patience import Deadline, Tries

LIMIT = 3600.0
"""Seconds an action may take in all: waiting for a worker, running, and running again."""

_SERVICE = "build.bazel.remote.execution.v2.Execution"
_WATCH = 0.1
_OFFERED = 5.0
# Streams that lived this long were cut by something between us and a server that works.
_LIVED = 30.0


class Execution:
    """The actions one caller has a server run."""

    def __init__(self, connection: Connection, instance: str) -> None:
        self._connection = connection
        self._instance = instance

    def run(
        self,
        action: Digest,
        *,
        skip_cache: bool,
        cancelled: threading.Event,
        mnemonic: str = "",
        limit: float = LIMIT,
    ) -> ExecuteResponse:
        """Run `action`, whose inputs the server holds; again where its worker is lost.

        Raises:
            RemoteError: cancelled, refused (`FAILED_PRECONDITION`: inputs are missing), or it
                kept failing for reasons other than the command's own.
        """
        about = About(action.hex, mnemonic)
        deadline = Deadline(limit)
        tries = Tries(deadline)
        name = ""
        while True:
            started = time.monotonic()
            try:
                if name:
                    method = "WaitExecution"
                    request: messages.Message = WaitExecutionRequest(name=name)
                else:
                    method = "Execute"
                    request = ExecuteRequest(
                        instance_name=self._instance,
                        action_digest=messages.to_message(action),
                        skip_cache_lookup=skip_cache,
                    )
                with self._connection.listen(
                    f"{_SERVICE}/{method}", request, Operation, deadline=deadline, about=about
                ) as operations:
                    with _watched(operations, cancelled):
                        for operation in operations:
                            name = operation.name or name
                            if operation.done:
                                return self._response(operation, action)
                    raise RemoteError(
                        "the remote server ended its stream before the action",
                        unavailable=True,
                        where=self._place(action),
                    )
            except _LostError as lost:
                error, name = lost.error, ""
            except RemoteError as failed:
                error = failed
                if name and error.code in ("NOT_FOUND", "UNIMPLEMENTED"):
                    # The operation is forgotten, as after a restart: run the action again.
                    error.unavailable, name = True, ""
            if cancelled.is_set():
                self._cancel(name)
                raise RemoteError(
                    "the remote action was cancelled", where=self._place(action), code="CANCELLED"
                ) from None
            if time.monotonic() - started > _LIVED:
                tries = Tries(deadline)
            tries.failed(error)

    def _response(self, operation: Operation, action: Digest) -> ExecuteResponse:
        response = ExecuteResponse()
        if operation.WhichOneof("result") == "error":
            response.status.CopyFrom(operation.error)
        else:
            try:
                unpacked = operation.response.Unpack(response)
            except DecodeError:
                unpacked = False
            if not unpacked:
                raise RemoteError(
                    "the remote server's answer is not an ExecuteResponse",
                    where=self._place(action),
                )
        status = response.status
        if status.code == 0:
            return response
        code = Code.Name(status.code) if status.code in Code.values() else "UNKNOWN"
        error = failure(code, status.message, where=self._place(action))
        if code == "DEADLINE_EXCEEDED":
            # The action's own time is up: it would be the next time, too.
            error.unavailable = False
        raise _LostError(error) if error.unavailable else error

    def _place(self, action: Digest) -> str:
        return f"{self._connection.address}, action {action.hex}"

    def _cancel(self, name: str) -> None:
        # An offer of some servers; where it is none, the end of the stream has to do.
        with contextlib.suppress(RemoteError), stopping.going_on():
            if name:
                self._connection.ask(
                    "google.longrunning.Operations/CancelOperation",
                    CancelOperationRequest(name=name),
                    Empty,
                    deadline=Deadline(_OFFERED),
                )


class _LostError(Exception):
    """The action ended by no fault of its own: waiting for it is over, running it again is not."""

    def __init__(self, error: RemoteError) -> None:
        super().__init__(str(error))
        self.error = error


@contextlib.contextmanager
def _watched(operations: Stream[Operation], cancelled: threading.Event) -> Iterator[None]:
    """Hang up as soon as `cancelled` is set."""
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            if cancelled.wait(_WATCH):
                operations.cancel()
                return

    thread = threading.Thread(target=watch, name="plinth-remote-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
