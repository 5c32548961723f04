"""Runs in the sandbox: calls the sdist's PEP 517 backend, in the target interpreter.

Arguments: the folder of build requirements, the source folder, the output folder, the backend,
the backend's paths. Prints what the backend prints, then the wheel's name on the last line.
"""

from __future__ import annotations

import importlib
import os
import sys


def main(requirements: str, source: str, output: str, backend: str, *paths: str) -> None:
    """Build one wheel."""
    sys.path.insert(0, requirements)
    os.chdir(source)
    sys.path[:0] = [os.path.join(source, path) for path in paths]  # noqa: PTH118
    module, _, name = backend.partition(":")
    hooks = importlib.import_module(module)
    for part in filter(None, name.split(".")):
        hooks = getattr(hooks, part)
    print(hooks.build_wheel(output))


main(*sys.argv[1:])
