"""The world as a program, for machines apart: namespaces, other users, hidden folders.

    python tests/support/world_process.py FOLDER [--tls] [--proxy] [--fault busy=2]… [COMMAND…]

serves what is in FOLDER (written by `keep`) on loopback, prints one line of JSON (urls, ca, proxy,
environment), writes `settings.toml` into FOLDER, and ends with its standard input. Or it runs
COMMAND meanwhile, with the environment of such a machine, and ends with its exit code:
PLINTH_CONFIG names those settings, but behind the proxy, where plinth's own defaults are found.
Requests are listed in FOLDER/asked when it ends.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import tomli_w

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.world import Content, Faults, World, world


def keep(content: Content, folder: Path) -> None:
    """Write `content` into `folder`, where it is linked if it can be."""
    folder.mkdir(parents=True)
    files = {"blobs": content.blobs, "assets": content.assets, "wheels": content.wheels}
    for kind, found in files.items():
        for name, path in found.items():
            target = folder / kind / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, target)
            except OSError:
                shutil.copyfile(path, target)
    for name, root in (("debian", content.debian), ("vendor", content.vendor)):
        if root is not None:
            shutil.copytree(root, folder / name)
    (folder / "manifest").write_bytes(content.manifest)
    (folder / "repository").write_text(content.repository)


def kept(folder: Path) -> Content:
    """What `keep` wrote."""

    def files(kind: str) -> dict[str, Path]:
        root = folder / kind
        return {str(p.relative_to(root)): p for p in sorted(root.rglob("*")) if p.is_file()}

    roots = (folder / name for name in ("debian", "vendor"))
    debian, vendor = (root if root.is_dir() else None for root in roots)
    return Content(
        (folder / "repository").read_text(),
        (folder / "manifest").read_bytes(),
        files("blobs"),
        files("assets"),
        debian,
        vendor,
        files("wheels"),
    )


def serve(made: World, folder: Path, command: list[str]) -> int:
    """Tell of the world, and run `command` or wait for the end of input; the exit code."""
    (folder / "settings.toml").write_text(tomli_w.dumps(made.settings))
    # Behind the proxy are the very names that are plinth's defaults.
    named = {} if made.proxy else {"PLINTH_CONFIG": str(folder / "settings.toml")}
    environment = named | made.environment
    try:
        if command:
            return subprocess.run(
                command, env={**os.environ, **environment}, check=False
            ).returncode
        told = {"urls": made.urls, "ca": str(made.ca or ""), "proxy": made.proxy}
        print(json.dumps({**told, "environment": environment}), flush=True)
        sys.stdin.read()
        return 0
    finally:
        (folder / "asked").write_text("".join(f"{line}\n" for line in made.asked()))


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description="a stand-in for the world")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--proxy", action="store_true")
    parser.add_argument("--fault", action="append", default=[])
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    with world(given.folder, kept(given.folder), tls=given.tls, proxied=given.proxy) as made:
        for fault in given.fault:
            name, _, value = fault.partition("=")
            kind = type(getattr(Faults(), name))
            setattr(made.faults, name, value if kind is str else json.loads(value))
        return serve(made, given.folder, given.command)


if __name__ == "__main__":
    sys.exit(main())
