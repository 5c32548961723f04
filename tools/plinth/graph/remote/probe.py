"""What a Python that does every build step has loaded, as JSON on standard output.

Run as a program of its own, so that the answer is about the steps and nothing else.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import sysconfig
from pathlib import Path

# Modules in C of the standard library that no step can need; some drag large libraries along.
_LEFT_OUT = ("_test", "_xx", "xx", "_tkinter", "_curses", "_dbm", "_gdbm", "_sqlite3", "readline")


def main() -> None:
    """Load everything, and tell what that took."""
    before = set(sys.modules)
    from plinth.graph.steps.registry import STEPS

    for name in (*(module for module, _ in STEPS.values()), "plinth.graph.steps.__main__"):
        importlib.import_module(name)
    used = sorted(name for name, module in sys.modules.items() if module is not None)
    extensions = []
    shared = [Path(place) for place in sys.path if place.endswith("lib-dynload")]
    for path in sorted(path for folder in shared for path in folder.glob("*.so")):
        name = path.name.partition(".")[0]
        if not name.startswith(_LEFT_OUT):
            try:
                importlib.import_module(name)
            except ImportError:
                continue
            extensions.append(str(path))
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    mapped = {fields[5] for fields in (line.split(maxsplit=5) for line in lines) if fields[5:]}
    places = {
        str(getattr(module, "__file__", None) or "")
        for name, module in list(sys.modules.items())
        if name not in before
    }
    site = sysconfig.get_path("purelib")
    json.dump(
        {
            "executable": os.path.realpath(sys.executable),
            "version": list(sys.version_info[:2]),
            "stdlib": sysconfig.get_path("stdlib"),
            "site": site,
            "used": used,
            "extensions": extensions,
            "packages": sorted(place for place in places if Path(place).is_relative_to(site)),
            "mapped": sorted(path for path in mapped if ".so" in Path(path).name),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
