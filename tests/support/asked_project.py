"""A project with a real uv.lock, and the index that it was made from.

`python tests/support/asked_project.py UV`, in a checkout, makes `tests/data/asked` anew with the
uv at that path: its uv.lock, and its exports of that.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from support.helpers import wheel_files
from support.index_server import IndexServer

DATA = Path(__file__).resolve().parents[1] / "data" / "asked"
PYPROJECT = """\
[project]
name = "score"
version = "1.0"
requires-python = ">=3.7"
dependencies = ["demo-app>=1", "demo-native", "demo-win; sys_platform == 'win32'"]

[project.optional-dependencies]
plots = ["demo-plot[fast]"]

[dependency-groups]
serve = ["demo-serve>=1", { include-group = "base" }]
base = ["demo-leaf"]
"""
TAGS = (
    "cp37-cp37m-manylinux2014_x86_64",
    "cp38-cp38-manylinux2014_x86_64",
    "cp37-cp37m-win_amd64",
)
WANTED = {"demo-app": "2.0", "demo-back": "1.0", "demo-leaf": "2.0", "demo-native": "1.0"}
"""What the project needs on Python 3.7."""

STANDALONE = """kind = "standalone"
release = "https://there"
tag = "20200823"
asset = "cpython-{release}-x86_64-unknown-linux-gnu-pgo-20200823T0036.tar.zst"
digest = "sha256:{zeros}"
size = 1
"""
"""What a base says of an interpreter that it pins, after its version."""


def wheel(folder: Path, name: str, version: str, *more: str) -> Path:
    """A wheel of the same bytes everywhere: nothing in it is compressed."""
    headers = "".join(f"{line}\n" for line in more)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in wheel_files({f"{name}.py": b"x = 1\n"}, name, version, headers).items():
            archive.writestr(zipfile.ZipInfo(member), data)
    return path


def stock(server: IndexServer, folder: Path) -> None:
    """Let the index have what the lock was made from."""
    folder.mkdir(exist_ok=True)
    needs = ("Requires-Dist: demo-leaf<3", "Requires-Dist: demo-back; python_version < '3.8'")
    for version in ("1.0", "1.1", "2.0"):
        server.add(wheel(folder, "demo_app", version, *needs))
    for version in ("1.0", "2.0", "3.0"):
        server.add(wheel(folder, "demo_leaf", version))
    for name in ("demo_back", "demo_win", "demo_speed", "demo_server"):
        server.add(wheel(folder, name, "1.0"))
    for tag in TAGS:
        server.add(wheel(folder, "demo_native", "1.0"), name=f"demo_native-1.0-{tag}.whl")
    fast = ("Provides-Extra: fast", "Requires-Dist: demo-speed; extra == 'fast'")
    server.add(wheel(folder, "demo_plot", "1.0", *fast))
    server.add(wheel(folder, "demo_serve", "1.5"))


def main(uv: str) -> None:
    """Make the data anew."""
    DATA.mkdir(exist_ok=True)
    (DATA / "pyproject.toml").write_text(PYPROJECT)
    (DATA / "uv.lock").unlink(missing_ok=True)
    with IndexServer() as server, tempfile.TemporaryDirectory() as name:
        stock(server, Path(name, "files"))
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PIP_")},
            "UV_NO_CONFIG": "1",
            "UV_DEFAULT_INDEX": server.url,
            "UV_CACHE_DIR": f"{name}/cache",
            "UV_PYTHON": sys.executable,
            "UV_CUSTOM_COMPILE_COMMAND": "uv export",
        }
        export = ("export", "--no-emit-project", "--quiet")
        for arguments in (
            ("lock",),
            (*export, "--format", "pylock.toml", "--output-file", "pylock.toml"),
            (*export, "--format", "requirements-txt", "--output-file", "requirements.txt"),
        ):
            subprocess.run([uv, *arguments], cwd=DATA, env=environment, check=True)


if __name__ == "__main__":
    main(sys.argv[1])
