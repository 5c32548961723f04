"""The protocol's messages by name; imports protobuf only, so that a local build stays quick.

`Digest` here is the message; `plinth.core.digest.Digest` is what the rest of plinth passes around.
"""

from google.longrunning.operations_proto_pb2 import CancelOperationRequest, Operation
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value
from google.rpc.status_pb2 import Status

from plinth.core import digest as _digest
from plinth.graph.reapi.bytestream_pb2 import (
    QueryWriteStatusRequest,
    QueryWriteStatusResponse,
    ReadRequest,
    ReadResponse,
    WriteRequest,
    WriteResponse,
)
from plinth.graph.reapi.remote_execution_pb2 import (
    Action,
    ActionCacheUpdateCapabilities,
    ActionResult,
    BatchReadBlobsRequest,
    BatchReadBlobsResponse,
    BatchUpdateBlobsRequest,
    BatchUpdateBlobsResponse,
    CacheCapabilities,
    Command,
    Compressor,
    Digest,
    DigestFunction,
    Directory,
    DirectoryNode,
    ExecutedActionMetadata,
    ExecuteOperationMetadata,
    ExecuteRequest,
    ExecuteResponse,
    ExecutionCapabilities,
    ExecutionPolicy,
    ExecutionStage,
    FileNode,
    FindMissingBlobsRequest,
    FindMissingBlobsResponse,
    GetActionResultRequest,
    GetCapabilitiesRequest,
    GetTreeRequest,
    GetTreeResponse,
    LogFile,
    NodeProperties,
    NodeProperty,
    OutputDirectory,
    OutputFile,
    OutputSymlink,
    Platform,
    PriorityCapabilities,
    RequestMetadata,
    ResultsCachePolicy,
    ServerCapabilities,
    SymlinkAbsolutePathStrategy,
    SymlinkNode,
    ToolDetails,
    Tree,
    UpdateActionResultRequest,
    WaitExecutionRequest,
)
from plinth.graph.reapi.semver_pb2 import SemVer

__all__ = [
    "Action",
    "ActionCacheUpdateCapabilities",
    "ActionResult",
    "Any",
    "BatchReadBlobsRequest",
    "BatchReadBlobsResponse",
    "BatchUpdateBlobsRequest",
    "BatchUpdateBlobsResponse",
    "BoolValue",
    "CacheCapabilities",
    "CancelOperationRequest",
    "Command",
    "Compressor",
    "DecodeError",
    "Digest",
    "DigestFunction",
    "Directory",
    "DirectoryNode",
    "Duration",
    "Empty",
    "ExecuteOperationMetadata",
    "ExecuteRequest",
    "ExecuteResponse",
    "ExecutedActionMetadata",
    "ExecutionCapabilities",
    "ExecutionPolicy",
    "ExecutionStage",
    "FileNode",
    "FindMissingBlobsRequest",
    "FindMissingBlobsResponse",
    "GetActionResultRequest",
    "GetCapabilitiesRequest",
    "GetTreeRequest",
    "GetTreeResponse",
    "LogFile",
    "Message",
    "NodeProperties",
    "NodeProperty",
    "Operation",
    "OutputDirectory",
    "OutputFile",
    "OutputSymlink",
    "Platform",
    "PriorityCapabilities",
    "QueryWriteStatusRequest",
    "QueryWriteStatusResponse",
    "ReadRequest",
    "ReadResponse",
    "RequestMetadata",
    "ResultsCachePolicy",
    "SemVer",
    "ServerCapabilities",
    "Status",
    "SymlinkAbsolutePathStrategy",
    "SymlinkNode",
    "Timestamp",
    "ToolDetails",
    "Tree",
    "UInt32Value",
    "UpdateActionResultRequest",
    "WaitExecutionRequest",
    "WriteRequest",
    "WriteResponse",
    "encode",
    "from_message",
    "to_message",
]


def encode(message: Message) -> bytes:
    """`message` as bytes: fields in the order of their numbers, maps by key.

    Equal messages give equal bytes, so their digest is the identity of what they say
    (REAPI, "Digest" and "Action": canonical form). Lists are the caller's to sort.
    """
    return message.SerializeToString(deterministic=True)


def to_message(digest: _digest.Digest) -> Digest:
    """`digest` as the protocol's message."""
    return Digest(hash=digest.hex, size_bytes=digest.size)


def from_message(message: Digest) -> _digest.Digest:
    """The digest a message names.

    Raises:
        IntegrityError: it is not a SHA-256 and a size.
    """
    return _digest.Digest(message.hash, message.size_bytes)
