"""Write the message modules of this package from the files in `protos/`.

Run as `python -m plinth.graph.reapi.generate`; needs grpcio-tools (the `test` extra).
"""

from __future__ import annotations

import importlib
import re
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
PROTOS = HERE / "protos"
FILES = (
    "build/bazel/semver/semver.proto",
    "build/bazel/remote/execution/v2/remote_execution.proto",
    "google/bytestream/bytestream.proto",
)
# googleapis-common-protos keeps operations.proto under this name, and importing its
# `operations_pb2` would load grpc, which messages do without.
_OPERATIONS = ("google/longrunning/operations.proto", "google/longrunning/operations_proto.proto")
_IMPORTS = (
    (r"^from build\.bazel\.semver import ", "from plinth.graph.reapi import "),
    (
        r"^from google\.longrunning import operations_pb2 as",
        "from google.longrunning import operations_proto_pb2 as",
    ),
)


def compile_protos(out: Path) -> Path:
    """Compile `FILES` to Python modules and stubs below `out`, with protoc's own imports.

    Returns:
        The serialized FileDescriptorSet of `FILES`, a file in `out`.

    Raises:
        RuntimeError: protoc refused.
    """
    protoc = importlib.import_module("grpc_tools.protoc")
    site = Path(importlib.import_module("google.rpc.status_pb2").__file__ or "").parents[2]
    standard = Path(protoc.__file__ or "").parent / "_proto"
    with tempfile.TemporaryDirectory() as aliases:
        alias = Path(aliases, _OPERATIONS[0])
        alias.parent.mkdir(parents=True)
        shutil.copyfile(site / _OPERATIONS[1], alias)
        includes = [f"-I{folder}" for folder in (PROTOS, aliases, site, standard)]
        outputs = [f"--python_out={out}", f"--pyi_out={out}", f"--descriptor_set_out={out}/set"]
        if protoc.main(["protoc", *includes, *outputs, *FILES]):
            raise RuntimeError("protoc failed")
    return out / "set"


def main() -> int:
    """Write the modules beside this file."""
    with tempfile.TemporaryDirectory() as folder:
        compile_protos(Path(folder))
        for name in FILES:
            for suffix in (".py", ".pyi"):
                made = Path(folder, name.replace(".proto", "_pb2" + suffix))
                text = made.read_text(encoding="utf-8")
                for pattern, replacement in _IMPORTS:
                    text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
                (HERE / made.name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
