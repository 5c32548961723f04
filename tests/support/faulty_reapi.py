"""A small server of the Remote Execution API in this process, with faults to switch on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import grpc
import zstandard
from google.protobuf.empty_pb2 import Empty

from plinth.core.digest import Digest
from plinth.graph.reapi import messages
from plinth.graph.reapi.messages import Operation, ReadResponse, WriteRequest, WriteResponse

_PIECE = 100_000
_V2 = "build.bazel.remote.execution.v2"
Handler = Callable[[Any, grpc.ServicerContext], Any]


@dataclass
class Faults:
    """What goes wrong; as made, nothing does.

    codes: by method name, statuses of its next calls. always: the same for all calls.
    wrong: digests (hex) whose bytes are served with one bit turned.
    cuts: how many streams of reading break after half of the rest, or of writing after a piece.
    short, endless: streams of reading end too early, or never. drip: seconds between bytes.
    strange_digests: answers name blobs nobody asked for, or malformed digests.
    forgetful: QueryWriteStatus is not offered.
    token: what calls have to bear. slow: seconds before each answer.
    steps: what happens to the next executions and waits for them; then they succeed.
    """

    codes: dict[str, list[str]] = field(default_factory=dict)
    always: dict[str, str] = field(default_factory=dict)
    wrong: set[str] = field(default_factory=set)
    cuts: int = 0
    short: bool = False
    endless: bool = False
    drip: float = 0
    strange_digests: Sequence[messages.Digest] = ()
    forgetful: bool = False
    token: str = ""
    slow: float = 0
    steps: list[str] = field(default_factory=list)


class FaultyServer:
    """Holds blobs and results in memory; `calls` are the methods called, in order."""

    def __init__(
        self,
        *,
        zstd: bool = False,
        batch: int = 0,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        self.faults = Faults()
        self.blobs: dict[str, bytes] = {}
        self.results: dict[str, messages.ActionResult] = {}
        self.executed = messages.ActionResult()
        self.capabilities = messages.ServerCapabilities(
            cache_capabilities=messages.CacheCapabilities(
                digest_functions=[messages.DigestFunction.SHA256],
                action_cache_update_capabilities=messages.ActionCacheUpdateCapabilities(
                    update_enabled=True
                ),
                max_batch_total_size_bytes=batch,
                supported_compressors=[messages.Compressor.ZSTD] if zstd else [],
            ),
            execution_capabilities=messages.ExecutionCapabilities(
                digest_function=messages.DigestFunction.SHA256, exec_enabled=True
            ),
            low_api_version=messages.SemVer(major=2),
            high_api_version=messages.SemVer(major=2, minor=3),
        )
        self.calls: list[str] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.received = 0
        self.cancelled: list[str] = []
        self._partial: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(16))
        self._server.add_generic_rpc_handlers(tuple(self._services()))
        if credentials is None:
            port = self._server.add_insecure_port("127.0.0.1:0")
            self.address = f"grpc://127.0.0.1:{port}"
        else:
            port = self._server.add_secure_port("localhost:0", credentials)
            self.address = f"grpcs://localhost:{port}"

    def __enter__(self) -> FaultyServer:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop(0).wait()

    def put(self, data: bytes) -> Digest:
        """Hold `data`."""
        digest = Digest.of(data)
        self.blobs[digest.hex] = data
        return digest

    def count(self, method: str) -> int:
        """How often a method was called."""
        return self.calls.count(method)

    def _services(self) -> Iterator[grpc.GenericRpcHandler[Any, Any]]:
        one, many = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        told = grpc.stream_unary_rpc_method_handler
        cas, byte_stream = f"{_V2}.ContentAddressableStorage", "google.bytestream.ByteStream"
        table: list[tuple[str, str, Any, Handler, type[messages.Message]]] = [
            (f"{_V2}.Capabilities", "GetCapabilities", one, self._capabilities,
             messages.GetCapabilitiesRequest),
            (cas, "FindMissingBlobs", one, self._missing, messages.FindMissingBlobsRequest),
            (cas, "BatchReadBlobs", one, self._batch_read, messages.BatchReadBlobsRequest),
            (cas, "BatchUpdateBlobs", one, self._batch_update, messages.BatchUpdateBlobsRequest),
            (byte_stream, "Read", many, self._read, messages.ReadRequest),
            (byte_stream, "Write", told, self._write, messages.WriteRequest),
            (byte_stream, "QueryWriteStatus", one, self._status, messages.QueryWriteStatusRequest),
            (f"{_V2}.ActionCache", "GetActionResult", one, self._result,
             messages.GetActionResultRequest),
            (f"{_V2}.ActionCache", "UpdateActionResult", one, self._update,
             messages.UpdateActionResultRequest),
            (f"{_V2}.Execution", "Execute", many, self._execute, messages.ExecuteRequest),
            (f"{_V2}.Execution", "WaitExecution", many, self._execute,
             messages.WaitExecutionRequest),
            ("google.longrunning.Operations", "CancelOperation", one, self._cancel,
             messages.CancelOperationRequest),
        ]  # fmt: skip
        for service, method, kind, handler, request in table:
            served = kind(
                self._guarded(method, handler),
                request.FromString,
                lambda message: message.SerializeToString(),
            )
            yield grpc.method_handlers_generic_handler(service, {method: served})

    def _guarded(self, method: str, handler: Handler) -> Handler:
        def run(request: Any, context: grpc.ServicerContext) -> Any:
            metadata = dict(context.invocation_metadata())
            with self._lock:
                self.calls.append(method)
                self.metadata.append(metadata)
                codes = self.faults.codes.get(method)
                code = codes.pop(0) if codes else self.faults.always.get(method)
            time.sleep(self.faults.slow)
            if code:
                context.abort(grpc.StatusCode[code], f"{method} said no")
            bearer = f"Bearer {self.faults.token}"
            if self.faults.token and metadata.get("authorization") != bearer:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "expired")
            return handler(request, context)

        return run

    def _capabilities(self, request: Any, context: Any) -> messages.ServerCapabilities:
        return self.capabilities

    def _missing(self, request: Any, context: Any) -> messages.FindMissingBlobsResponse:
        lacking = [item for item in request.blob_digests if item.hash not in self.blobs]
        lacking += self.faults.strange_digests
        return messages.FindMissingBlobsResponse(missing_blob_digests=lacking)

    def _content(self, name: str) -> bytes | None:
        data = self.blobs.get(name)
        if data and name in self.faults.wrong:
            return bytes([data[0] ^ 1]) + data[1:]
        return data

    def _batch_read(self, request: Any, context: Any) -> messages.BatchReadBlobsResponse:
        answer = messages.BatchReadBlobsResponse()
        for digest in [*request.digests, *self.faults.strange_digests]:
            data = self._content(digest.hash)
            item = answer.responses.add(digest=digest, data=data or b"")
            if data is None:
                item.status.code = 5
        return answer

    def _batch_update(self, request: Any, context: Any) -> messages.BatchUpdateBlobsResponse:
        answer = messages.BatchUpdateBlobsResponse()
        for item in request.requests:
            self.received += len(item.data)
            self.blobs[Digest.of(item.data).hex] = item.data
            answer.responses.add(digest=item.digest)
        return answer

    def _read(self, request: Any, context: grpc.ServicerContext) -> Iterator[ReadResponse]:
        *_, name, _size = request.resource_name.split("/")
        data = self._content(name)
        if data is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such blob")
            return
        rest = data[request.read_offset :]
        faults = self.faults
        if faults.drip:
            for byte in rest:
                time.sleep(faults.drip)
                yield ReadResponse(data=bytes([byte]))
        if faults.short or faults.cuts:
            rest = rest[: len(rest) // 2]
        if "/zstd/" in f"/{request.resource_name}":
            rest = zstandard.ZstdCompressor().compress(rest)
        for start in range(0, len(rest), _PIECE):
            yield ReadResponse(data=rest[start : start + _PIECE])
        while faults.endless and context.is_active():
            yield ReadResponse(data=bytes(_PIECE))
        if faults.cuts:
            faults.cuts -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "cut")

    def _write(
        self, requests: Iterator[WriteRequest], context: grpc.ServicerContext
    ) -> WriteResponse:
        name, held = "", b""
        for request in requests:
            if not name:
                name = request.resource_name
                held = self._partial.get(name, b"")
            if request.write_offset != len(held):
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not the offset")
            held += request.data
            self.received += len(request.data)
            self._partial[name] = held
            if self.faults.cuts:
                self.faults.cuts -= 1
                context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
        *_, expected, _size = name.split("/")
        data = held
        if "/zstd/" in name:
            data = zstandard.ZstdDecompressor().decompressobj().decompress(held)
        if Digest.of(data).hex != expected:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not the blob")
        self.blobs[expected] = data
        return WriteResponse(committed_size=len(held))

    def _status(
        self, request: Any, context: grpc.ServicerContext
    ) -> messages.QueryWriteStatusResponse:
        if self.faults.forgetful:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "no account is kept")
        held = len(self._partial.get(request.resource_name, b""))
        return messages.QueryWriteStatusResponse(committed_size=held)

    def _result(self, request: Any, context: grpc.ServicerContext) -> messages.ActionResult:
        found = self.results.get(request.action_digest.hash)
        if found is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such result")
            raise AssertionError
        return found

    def _update(self, request: Any, context: Any) -> messages.ActionResult:
        self.results[request.action_digest.hash] = request.action_result
        found: messages.ActionResult = request.action_result
        return found

    def _cancel(self, request: Any, context: Any) -> Empty:
        self.cancelled.append(request.name)
        return Empty()

    def _execute(self, request: Any, context: grpc.ServicerContext) -> Iterator[Operation]:
        step = self.faults.steps.pop(0) if self.faults.steps else "done"
        if step == "forgotten":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such operation")
        yield Operation(name="operation-1")
        if step == "cut":
            context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
        if step == "end":
            return
        while step == "hang" and context.is_active():
            time.sleep(0.02)
        operation = Operation(name="operation-1", done=True)
        response = messages.ExecuteResponse(result=self.executed)
        if step == "garbage":
            operation.response.Pack(messages.Directory())
        elif step.isupper():
            code = int(grpc.StatusCode[step].value[0])
            response.status.code, response.status.message = code, "the worker's words"
            operation.response.Pack(response)
        else:
            operation.response.Pack(response)
        yield operation
