"""`pip check` by each image's own pip, on its own Python, without an engine."""

from __future__ import annotations

import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from integration.conftest import EACH, build
from plinth.core.digest import Digest
from plinth.core.store import BlobStore
from plinth.formats.oci.layout import references
from plinth.formats.oci.manifest import read_manifest
from support import needs

_CODE = re.compile(r"opt/python/lib/python[0-9.]+/site-packages/(?!pip/|[^/]+\.dist-info/)")
"""What `pip check` does not look at, which is nearly all of an image's bytes."""


def unpack(store: BlobStore, manifest: Digest, root: Path) -> None:
    """The files of an image at `root`; without the code of packages."""
    for layer in read_manifest(store, manifest).layers:
        with tarfile.open(store.path(layer.digest)) as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if name.startswith(".wh."):
                    raise AssertionError(f"{member.name}: this test removes nothing")
                if _CODE.match(member.name) or member.isdev():
                    continue
                if member.isfile() or member.issym():
                    (root / member.name).unlink(missing_ok=True)
                # As they are: links in an image are of its own root.
                member.mode |= 0o700 if member.isdir() else 0o400
                archive.extract(member, root, set_attrs=not member.isdir(), filter="fully_trusted")


@pytest.mark.parametrize("image", EACH)
def test_what_is_installed_fits_together(image: str, tmp_path: Path) -> None:
    needs.program("bwrap")
    ws = build(image).ws
    root = tmp_path / "root"
    root.mkdir()
    unpack(ws.layout, references(ws.layout)[image].manifest, root)
    done = subprocess.run(
        [
            *("bwrap", "--unshare-all", "--ro-bind", str(root), "/", "--dev", "/dev"),
            *("--proc", "/proc", "--clearenv", "--setenv", "LANG", "C.UTF-8"),
            *("/opt/python/bin/python", "-m", "pip", "--disable-pip-version-check", "check"),
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.returncode) == ("No broken requirements found.\n", 0), done.stderr
    installed = {path.name for path in root.glob("opt/python/lib/python3*/site-packages/*-info")}
    assert len(installed) >= 40
