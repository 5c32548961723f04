"""An sdist with links in it, locked and built: what is made of it is what is made of one with
files in their place."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from integration.conftest import build, resolver_tools
from integration.test_lock import checkout, config_of, packages, silent, specify
from plinth.build.sdists import build_wheel
from plinth.core.report import quiet
from plinth.graph.workspace import Workspace
from plinth.lock.image import lock_images
from plinth.recipe.locks.pylock import LockedFile, LockedPackage
from support.bases import known_base
from support.helpers import make_wheel
from support.index_server import IndexServer
from support.oci_images import tarred
from support.sessions import session_of

pytestmark = pytest.mark.network

NAME = "demo_source-1.0.tar.gz"
TOP = "demo_source-1.0"
PYPROJECT = b"""\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["tools"]
"""
# Packs what is below src/, through whatever links there are, as setuptools does.
BACKEND = b"""\
import base64, hashlib, os, pathlib, zipfile

INFO = "demo_source-1.0.dist-info"
META = "Metadata-Version: 2.1\\nName: demo-source\\nVersion: 1.0\\nRequires-Dist: demo-leaf\\n"

def digest(text):
    data = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(data).decode().rstrip("=")

def prepare_metadata_for_build_wheel(directory, config_settings=None):
    folder = pathlib.Path(directory, INFO)
    folder.mkdir()
    folder.joinpath("METADATA").write_text(META)
    return folder.name

def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "demo_source-1.0-py3-none-any.whl"
    wheel = "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    files = {INFO + "/METADATA": META, INFO + "/WHEEL": wheel}
    for folder, _, names in os.walk("src", followlinks=True):
        for one in names:
            path = pathlib.Path(folder, one)
            files[path.relative_to("src").as_posix()] = path.read_text()
    rows = [f"{one},{digest(text)},{len(text)}\\n" for one, text in files.items()]
    files[INFO + "/RECORD"] = "".join([*rows, INFO + "/RECORD,,\\n"])
    with zipfile.ZipFile(os.path.join(directory, name), "w") as archive:
        for one in sorted(files):
            archive.writestr(one, files[one])
    return name
"""
CODE = b"x = 1\n"
FILES = {
    "pyproject.toml": PYPROJECT,
    "tools/backend.py": BACKEND,
    "src/demo/__init__.py": CODE,
    "src/demo/copy.py": CODE,
    "src/demo/hard.py": CODE,
    "src/demo/more/inner.py": CODE,
}
LINKED = {
    "config/project.toml": PYPROJECT,
    "shared/backend.py": BACKEND,
    "src/demo/__init__.py": CODE,
    "shared/more/inner.py": CODE,
}
LINKS = (
    ("pyproject.toml", tarfile.SYMTYPE, "config/project.toml"),
    ("tools", tarfile.SYMTYPE, "shared"),
    ("src/demo/copy.py", tarfile.SYMTYPE, "../demo/__init__.py"),
    ("src/demo/hard.py", tarfile.LNKTYPE, f"{TOP}/src/demo/__init__.py"),
    ("src/demo/more", tarfile.SYMTYPE, "../../shared/more"),
)


def sdist(folder: Path, files: dict[str, bytes], links: tuple[tuple[str, bytes, str], ...]) -> Path:
    folder.mkdir()
    placed = {f"{TOP}/{name}": data for name, data in files.items()}
    rows = [(f"{TOP}/{name}", target, kind) for name, kind, target in links]
    return tarred(folder / NAME, placed, *rows)


def built(source: Path, root: Path) -> bytes:
    """The wheel that the sandbox makes of an sdist, on the system of the catalogue's base."""
    known = build("minimal").ws
    base = known_base(known, "debian12-py37")
    assert base is not None
    ws = Workspace(known.root, root)
    for name in ("oci", "cache"):
        (ws.build / name).mkdir(parents=True)
        (ws.build / name / "blobs").symlink_to(known.build / name / "blobs")
    digest = ws.cache.put_file(source)
    package = LockedPackage("demo-source", "1.0", LockedFile(NAME, digest, ""), is_sdist=True)
    wheel = build_wheel(session_of(ws), package, base, environment={}, progress=quiet)
    return ws.cache.path(wheel.digest).read_bytes()


def test_links_below_its_folder_are_locked_and_built_as_files_are(tmp_path: Path) -> None:
    linked = sdist(tmp_path / "linked", LINKED, LINKS)
    plain = sdist(tmp_path / "plain", FILES, ())
    ws = checkout(tmp_path / "checkout", resolver_tools("3.7"))
    specify(ws, "demo-source")
    with IndexServer() as server:
        for name in ("demo_server", "demo_leaf"):
            server.add(make_wheel(tmp_path, name=name))
        server.add(linked)
        lock_images(ws, ["demo"], config=config_of(server), progress=silent)
    found = {package.name: package for package in packages(ws)}
    assert sorted(found) == ["demo-leaf", "demo-server", "demo-source"]
    assert found["demo-source"].is_sdist

    wheel = built(linked, tmp_path / "one")
    assert wheel == built(plain, tmp_path / "other")
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        assert {name for name in archive.namelist() if "dist-info" not in name} == {
            name.removeprefix("src/") for name in FILES if name.startswith("src/")
        }
