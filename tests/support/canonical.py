"""The canonical base, made of what is at hand: the originals are out of reach here.

It has their shape: an OCI image of one layer (the system layer of the embedded base), and a
python-build-standalone archive (of the CPython 3.7 of this machine).
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import zstandard

from plinth.core.digest import Digest, canonical_json
from plinth.core.settings import Config
from plinth.fetch.base_image import manifest_bytes
from plinth.fetch.interpreter import find_python
from plinth.formats.python.tree import TreeFile, read_tree
from plinth.graph.workspace import Workspace
from plinth.recipe.base import ImageRootfs, load_base
from plinth.recipe.locks.base import BaseLock, inputs_of, write_lock
from plinth.recipe.locks.pylock import every_file
from plinth.recipe.locks.stale import read_image
from support.bases import known_base
from support.world import Content

BASE = "ubuntu18.04-py37"
REPOSITORY = "library/ubuntu"
TAG = "20200822"
# As in releases, its name has a plus sign.
ASSET = "cpython-3.7.9+20200822-x86_64-unknown-linux-gnu-pgo.tar.zst"


@dataclass(frozen=True)
class Canonical:
    """What stands for the base: its image, with manifest, config and the layer's file, and the
    interpreter's archive."""

    rootfs: ImageRootfs
    manifest: bytes
    config: bytes
    layer: Path
    archive: Path

    def pin(self, ws: Workspace) -> None:
        """Pin it in a checkout where the specification pins the originals, and lock it."""
        path = ws.bases / f"{BASE}.toml"
        text, rootfs = path.read_text(), self.rootfs
        archive = Digest.of_file(self.archive)

        def pinned(key: str, digest: Digest) -> str:
            return f'{key} = {{ digest = "{digest.oci}", size = {digest.size} }}'

        path.write_text(
            "\n".join(
                [
                    f'{text.split("[rootfs]")[0]}[rootfs]\nkind = "image"\nregistry = "default"',
                    f'repository = "{REPOSITORY}"\nindex = "sha256:{rootfs.index}"',
                    pinned("manifest", rootfs.manifest),
                    pinned("config", rootfs.config),
                    pinned("layer", rootfs.layer),
                    f'diff-id = "sha256:{rootfs.diff_id}"',
                    f'\n[python]\nversion = "3.7"\nkind = "standalone"\nasset = "{ASSET}"',
                    f'release = "python-build-standalone"\ntag = "{TAG}"',
                    f'digest = "{archive.oci}"\nsize = {archive.size}',
                    f"requirements = [{text.split('requirements = [')[1]}",
                ]
            )
        )
        write_lock(ws, BASE, BaseLock((), {}, None, inputs_of(load_base(ws.bases, BASE))))

    def content(self, wheels: Mapping[str, Path] | None = None) -> Content:
        """What the world has of it, and these files of the package index."""
        return Content(
            REPOSITORY,
            self.manifest,
            {self.rootfs.layer.hex: self.layer},
            {f"{TAG}/{ASSET.replace('+', '%2B')}": self.archive},
            wheels=wheels or {},
        )


def make(ws: Workspace, folder: Path) -> Canonical:
    """What stands for the base, of the built workspace `ws` and this machine; the archive is
    written into `folder`."""
    base = known_base(ws, "debian12-py37")
    assert base is not None, "nothing is built: doit build:minimal"
    blob = folder / "layer.tar.gz"
    diff_id = without_user(ws.layout.path(base.layers[0].digest), blob)
    config = canonical_json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
        }
    )
    empty = Digest.of(b"")
    rootfs = ImageRootfs(
        "default",
        REPOSITORY,
        Digest.of(b"no index").hex,
        empty,
        Digest.of(config),
        Digest.of_file(blob),
        diff_id,
    )
    manifest = manifest_bytes(rootfs)
    archive = folder / ASSET
    standalone(read_tree(find_python("3.7", Config()), "3.7"), archive)
    rootfs = replace(rootfs, manifest=Digest.of(manifest))
    return Canonical(rootfs, manifest, config, blob, archive)


def without_user(layer: Path, path: Path) -> str:
    """Write `layer` to `path` with accounts as a distribution's own image has them, without the
    user of ours; its DiffID (hex)."""
    with gzip.open(layer) as source, tarfile.open(fileobj=source, mode="r|") as tar:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as out:
            for member in tar:
                data = tar.extractfile(member) if member.isreg() else None
                content = data.read() if data is not None else b""
                if member.name in ("etc/passwd", "etc/group", "etc/shadow", "etc/gshadow"):
                    content = re.sub(rb"(?m)^dockeruser:.*\n", b"", content)
                    member.size = len(content)
                out.addfile(member, io.BytesIO(content))
    plain = stream.getvalue()
    path.write_bytes(gzip.compress(plain, 1, mtime=0))
    return Digest.of(plain).hex


def standalone(files: Sequence[TreeFile], path: Path) -> None:
    """Write an archive of the shape of python-build-standalone's full ones, around `files`."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:

        def add(name: str, data: bytes, mode: int = 0o644, target: str = "") -> None:
            info = tarfile.TarInfo(name)
            info.mode, info.size, info.mtime = mode, len(data), 1_598_140_800
            if target:
                info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info, io.BytesIO(data))

        add("python/PYTHON.json", b"{}")
        add("python/build/Modules/gcmodule.o", b"an object file")
        add("python/install/lib/libpython3.7m.a", b"a static library")
        for file in files:
            add(f"python/install/{file.path}", file.data, file.mode, file.target)
    path.write_bytes(zstandard.ZstdCompressor(3).compress(stream.getvalue()))


def wheels_of(ws: Workspace, images: Iterable[str]) -> dict[str, Path]:
    """The files that locks of `images` name, by name, as `ws` has fetched them."""
    packages = [one for image in images for one in read_image(ws, image).lock.packages]
    return {one.file.name: ws.cache.path(one.file.digest) for one in every_file(packages)}
