"""The canonical base for real: pulled by digest from a registry, with a standalone CPython.

The originals are out of reach here, so both are made of what is at hand and have the same shape:
an OCI image of one layer, pushed to a registry, and a python-build-standalone archive.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import docker
import pytest
import requests
import zstandard

from integration.conftest import Checkout
from plinth.core.digest import Digest, canonical_json
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.fetch.base_image import manifest_bytes
from plinth.fetch.interpreter import find_python
from plinth.formats.oci.layout import references
from plinth.formats.oci.model import MANIFEST
from plinth.formats.python.tree import TreeFile, read_tree
from plinth.publish.engine.load import load
from plinth.publish.engine.smoke import test_image as smoke
from plinth.recipe.base import ImageRootfs
from plinth.recipe.image import load_image
from support.bases import known_base

BASE = "ubuntu18.04-py37"
REPOSITORY = "library/ubuntu"


def push(url: str, repository: str, blobs: Sequence[bytes], manifest: bytes) -> None:
    """Push an image as the distribution specification says."""
    for data in blobs:
        begun = requests.post(f"{url}/v2/{repository}/blobs/uploads/", timeout=60)
        assert begun.status_code == 202
        ended = requests.put(
            begun.headers["Location"],
            params={"digest": Digest.of(data).oci},
            data=data,
            headers={"Content-Type": "application/octet-stream"},
            timeout=60,
        )
        assert ended.status_code == 201
    answer = requests.put(
        f"{url}/v2/{repository}/manifests/{Digest.of(manifest).oci}",
        data=manifest,
        headers={"Content-Type": MANIFEST},
        timeout=60,
    )
    assert answer.status_code == 201


def made_base(built: Checkout, url: str) -> ImageRootfs:
    """The system layer of the embedded base as an image of its own, in the registry."""
    base = known_base(built.ws, "debian12-py37")
    assert base is not None
    layer = base.layers[0]
    config = canonical_json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.diff_id}"]},
        }
    )
    rootfs = ImageRootfs(
        "default",
        REPOSITORY,
        Digest.of(b"no index").hex,
        Digest.of(b""),
        Digest.of(config),
        layer.digest,
        layer.diff_id,
    )
    manifest = manifest_bytes(rootfs)
    push(url, REPOSITORY, [config, built.ws.layout.get(layer.digest)], manifest)
    return ImageRootfs(**{**vars(rootfs), "manifest": Digest.of(manifest)})


def standalone(files: Sequence[TreeFile], path: Path) -> Digest:
    """An archive of the shape of python-build-standalone's full ones, around `files`."""
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
    return Digest.of_file(path)


def rewrite(checkout: Checkout, rootfs: ImageRootfs, asset: str, archive: Digest) -> None:
    """Pin what was made where the specification pins the originals."""
    path = checkout.root / "base" / f"{BASE}.toml"
    head = path.read_text().split("[rootfs]")[0]
    tail = "requirements = [" + path.read_text().split("requirements = [")[1]

    def pinned(key: str, digest: Digest) -> str:
        return f'{key} = {{ digest = "{digest.oci}", size = {digest.size} }}'

    path.write_text(
        "\n".join(
            [
                f'{head}[rootfs]\nkind = "image"\nregistry = "default"',
                f'repository = "{REPOSITORY}"\nindex = "sha256:{rootfs.index}"',
                pinned("manifest", rootfs.manifest),
                pinned("config", rootfs.config),
                pinned("layer", rootfs.layer),
                f'diff-id = "sha256:{rootfs.diff_id}"',
                f'\n[python]\nversion = "3.7"\nkind = "standalone"\nasset = "{asset}"',
                'release = "python-build-standalone"\ntag = "20200822"',
                f'digest = "{archive.oci}"\nsize = {archive.size}\n{tail}',
            ]
        )
    )


@pytest.mark.network
def test_an_image_on_the_canonical_base(
    tmp_path: Path,
    built: Checkout,
    clone: Callable[..., Checkout],
    registry: str,
) -> None:
    url = f"http://{registry}"
    rootfs = made_base(built, url)
    asset = "cpython-3.7-x86_64-unknown-linux-gnu-pgo.tar.zst"
    (tmp_path / "mirror").mkdir()
    archive = standalone(
        read_tree(find_python("3.7", Config()), "3.7"), tmp_path / "mirror" / asset
    )
    settings = tmp_path / "config.toml"
    # The first mirror is down: the next is asked.
    settings.write_text(
        f'[registries]\ndefault = ["http://127.0.0.1:9", "{url}"]\n'
        f'[files]\npython-build-standalone = "{tmp_path}/mirror"\n'
    )
    digests = []
    for number in range(2):
        checkout = clone(tmp_path / f"clone {number}")
        rewrite(checkout, rootfs, asset, archive)
        with_settings = {"PLINTH_CONFIG": str(settings)}
        done = checkout.doit("lock:base", env=with_settings)
        assert done.returncode == 0, done.stdout + done.stderr
        done = checkout.doit("build:minimal", env=with_settings)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "name      azureml/minimal-ubuntu18.04-py37-cpu-inference:latest" in done.stdout
        assert "library/ubuntu (unmodified)" in done.stdout
        digests.append(checkout.digests()["minimal"])
    assert digests[0] == digests[1]
    # What is in the store needs no registry any more.
    again = checkout.doit("build:minimal", env={"PLINTH_CONFIG": str(tmp_path / "none.toml")})
    assert again.returncode == 0, again.stdout + again.stderr
    assert references(checkout.ws.layout)["minimal"].manifest.hex == digests[0]
    assert "built on" not in again.stdout


@pytest.mark.engine
@pytest.mark.network
def test_it_serves(
    tmp_path: Path,
    built: Checkout,
    clone: Callable[..., Checkout],
    registry: str,
    engine: docker.DockerClient,
) -> None:
    rootfs = made_base(built, f"http://{registry}")
    asset = "cpython-3.7-x86_64-unknown-linux-gnu-pgo.tar.zst"
    archive = standalone(read_tree(find_python("3.7", Config()), "3.7"), tmp_path / asset)
    settings = tmp_path / "config.toml"
    settings.write_text(
        f'[registries]\ndefault = "http://{registry}"\n'
        f'[files]\npython-build-standalone = "{tmp_path}"\n'
    )
    checkout = clone(tmp_path / "clone")
    rewrite(checkout, rootfs, asset, archive)
    done = checkout.doit("lock:base", env={"PLINTH_CONFIG": str(settings)})
    assert done.returncode == 0, done.stdout + done.stderr
    done = checkout.doit(
        "build:sklearn-0.24.1", f"base={BASE}", env={"PLINTH_CONFIG": str(settings)}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    loaded = load(checkout.ws, "sklearn-0.24.1", client=engine)
    assert BASE in loaded.name
    smoke(
        checkout.ws,
        load_image(checkout.ws.images, "sklearn-0.24.1"),
        client=engine,
        progress=quiet,
    )
    engine.images.remove(loaded.name)
