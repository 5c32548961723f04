"""Runs in the sandbox: has an sdist's PEP 517 backend tell its metadata, in the target's Python.

Arguments: the folder of build requirements, the source folder, an empty folder, the file that
gets the metadata, the backend, the backend's paths.
"""

from __future__ import annotations

import importlib
import os
import sys
import zipfile


def main(requirements: str, source: str, output: str, told: str, backend: str, *paths: str) -> None:
    """Write one file."""
    sys.path.insert(0, requirements)
    os.chdir(source)
    sys.path[:0] = [os.path.join(source, path) for path in paths]  # noqa: PTH118
    module, _, name = backend.partition(":")
    hooks = importlib.import_module(module)
    for part in filter(None, name.split(".")):
        hooks = getattr(hooks, part)
    if hasattr(hooks, "prepare_metadata_for_build_wheel"):
        folder = hooks.prepare_metadata_for_build_wheel(output)
        with open(os.path.join(output, folder, "METADATA"), "rb") as stream:  # noqa: PTH118, PTH123
            metadata = stream.read()
    else:
        # The hook is optional; the wheel has it too (PEP 517).
        built = os.path.join(output, hooks.build_wheel(output))  # noqa: PTH118
        with zipfile.ZipFile(built) as wheel:
            (entry,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
            metadata = wheel.read(entry)
    with open(told, "wb") as stream:  # noqa: PTH123
        stream.write(metadata)


main(*sys.argv[1:])
