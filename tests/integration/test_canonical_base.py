"""The canonical base for real: pulled by digest from a registry, with a standalone CPython.

The originals are out of reach here, so both are made of what is at hand and have the same shape:
an OCI image of one layer, pushed to a registry, and a python-build-standalone archive.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class Canonical:
    """A checkout whose canonical base is pinned to what is at hand, and settings that name it."""

    checkout: Checkout
    settings: Path

    def doit(self, *arguments: str) -> str:
        """What a task prints; it must succeed."""
        done = self.checkout.doit(*arguments, env={"PLINTH_CONFIG": str(self.settings)})
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


Make = Callable[[], Canonical]


@pytest.fixture(scope="module")
def make(
    built: Checkout,
    clone: Callable[..., Checkout],
    registry: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Make:
    """A function that makes such a checkout, with nothing built."""
    folder = tmp_path_factory.mktemp("canonical")
    url = f"http://{registry}"
    rootfs = made_base(built, url)
    asset = "cpython-3.7-x86_64-unknown-linux-gnu-pgo.tar.zst"
    (folder / "mirror").mkdir()
    archive = standalone(read_tree(find_python("3.7", Config()), "3.7"), folder / "mirror" / asset)
    settings = folder / "config.toml"
    # The first mirror is down: the next is asked.
    settings.write_text(
        f'[registries]\ndefault = ["http://127.0.0.1:9", "{url}"]\n'
        f'[files]\npython-build-standalone = "{folder}/mirror"\n'
    )

    def make() -> Canonical:
        made = Canonical(clone(tmp_path_factory.mktemp("clone") / "checkout"), settings)
        rewrite(made.checkout, rootfs, asset, archive)
        made.doit("lock:base")
        return made

    return make


@pytest.fixture(scope="module")
def canonical(make: Make) -> Canonical:
    """Such a checkout, with the minimal image."""
    made = make()
    said = made.doit("build:minimal")
    assert f"name      azureml/minimal-{BASE}-cpu-inference:latest" in said
    assert "library/ubuntu (unmodified)" in said
    return made


@pytest.mark.network
def test_what_is_in_the_store_needs_no_registry_any_more(
    canonical: Canonical, tmp_path: Path
) -> None:
    before = canonical.checkout.digests()
    said = replace(canonical, settings=tmp_path / "none.toml").doit("build:minimal")
    assert "built on" not in said
    assert canonical.checkout.digests() == before


@pytest.mark.network
@pytest.mark.nightly
def test_the_image_is_the_same_elsewhere(canonical: Canonical, make: Make) -> None:
    elsewhere = make()
    elsewhere.doit("build:minimal", f"base={BASE}")
    assert elsewhere.checkout.digests() == canonical.checkout.digests()


@pytest.mark.engine
@pytest.mark.network
def test_it_serves(canonical: Canonical, engine: docker.DockerClient) -> None:
    ws = canonical.checkout.ws
    loaded = load(ws, "minimal", client=engine)
    assert BASE in loaded.name
    smoke(ws, load_image(ws.images, "minimal"), client=engine, progress=quiet)
    engine.images.remove(loaded.name)
