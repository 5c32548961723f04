"""The generated messages are what the protocol files say, and load without grpc."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet

from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError
from plinth.graph.reapi import bytestream_pb2, generate, messages, remote_execution_pb2, semver_pb2
from plinth.graph.reapi.generate import compile_protos


def test_generated_modules_are_what_the_files_give(tmp_path: Path) -> None:
    fresh = FileDescriptorSet.FromString(compile_protos(tmp_path).read_bytes())
    given = {file.name: file for file in fresh.file}
    modules = (semver_pb2, remote_execution_pb2, bytestream_pb2)
    assert sorted(given) == sorted(module.DESCRIPTOR.name for module in modules)
    for module in modules:
        held = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(held)
        fresh_file = given[module.DESCRIPTOR.name]
        for message in fresh_file.message_type:
            without_json_names(message)
        assert messages.encode(held) == messages.encode(fresh_file)


def test_the_command_writes_what_is_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "HERE", tmp_path)
    assert generate.main() == 0
    for path in tmp_path.iterdir():
        assert path.read_text() == (Path(messages.__file__).parent / path.name).read_text()
    assert len(list(tmp_path.iterdir())) == 2 * len(generate.FILES)


def without_json_names(message: DescriptorProto) -> None:
    # protoc writes them into its sets and leaves them out of the modules.
    for field in message.field:
        field.ClearField("json_name")
    for nested in message.nested_type:
        without_json_names(nested)


def test_messages_load_without_grpc() -> None:
    code = (
        "import sys, plinth.graph.reapi.messages; "
        "print(sorted({'grpc', 'pydantic'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout == "[]\n"


def test_bytes_of_messages_are_fixed() -> None:
    command = messages.Command(arguments=["true"])
    assert messages.encode(command).hex() == "0a0474727565"
    empty = Digest.of(messages.encode(messages.Directory()))
    assert empty.oci == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert messages.from_message(messages.to_message(empty)) == empty


def test_a_digest_of_another_function_is_refused() -> None:
    with pytest.raises(IntegrityError):
        messages.from_message(messages.Digest(hash="ab" * 20, size_bytes=1))
