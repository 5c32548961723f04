"""A set of vendors' archives: missed early, fetched, built, signed, sent, and built again.

The set is the CUDA row's own, but for the digests: its archives are made here, in the same shape.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import tomli
import tomli_w

from plinth.formats.oci.layout import references
from plinth.recipe.accelerator import load_accelerator
from support.http_server import Server, serving
from support.patience import at_most
from support.small_checkout import IMAGE, SmallCheckout, make, wheel
from support.vendor import CUDA, CUDNN, cuda_files, cudnn_tgz, makeself, stand_in

ROOT = Path(__file__).resolve().parents[2]
SET = "cuda11.0.3-cudnn8.0.5.39"
KEYS = ("nvidia-cuda", "nvidia-cudnn")


@dataclass(frozen=True)
class Gpu:
    """A checkout of a small image that asks for the set; where its archives are."""

    checkout: SmallCheckout
    places: Path

    def use(self, places: str) -> None:
        """Let the archives come from below the folder or base URL `places`; empty: from nowhere."""
        document = tomli.loads(self.checkout.settings.read_text())
        files = {key: value for key, value in document["files"].items() if key not in KEYS}
        files |= {key: f"{places}/{key}" for key in KEYS if places}
        self.checkout.settings.write_text(tomli_w.dumps({**document, "files": files}))

    def run(self, *command: str, ends: int = 0) -> str:
        """What a command prints; it must end with that code, and not by accident."""
        done = subprocess.run(
            command,
            cwd=self.checkout.root,
            env={
                **os.environ,
                "PLINTH_CONFIG": str(self.checkout.settings),
                "PLINTH_TRUST": str(self.checkout.root.parent / "domain"),
            },
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == ends, said
        assert "Traceback" not in said
        return said

    def doit(self, *arguments: str, ends: int = 0) -> str:
        return self.run(*self.checkout.doit(*arguments), ends=ends)

    def plinth(self, *arguments: str, ends: int = 0) -> str:
        return self.run(*self.checkout.command(*arguments), ends=ends)

    def digest(self) -> str:
        return references(self.checkout.ws.layout)[IMAGE].manifest.hex


def seconds() -> float:
    """What the processes started here took so far, without what they waited for others."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of the two places, with archives of the vendor's shape in them."""
    root = tmp_path_factory.mktemp("places")
    cuda, cudnn = load_accelerator(ROOT / "base", SET).files
    makeself(root / cuda.place / cuda.path, cuda_files())
    cudnn_tgz(root / cudnn.place / cudnn.path)
    return root


def gpu(root: Path, places: Path) -> Gpu:
    wheels = root.parent / "wheels"
    wheels.mkdir(exist_ok=True)
    made = make(root, [wheel(wheels, "one", "1.0")])
    (made.wheels / "one-1.0-py3-none-any.whl").write_bytes(
        (wheels / "one-1.0-py3-none-any.whl").read_bytes()
    )
    made.seed(debs=True)
    stand_in(ROOT / "base" / f"{SET}.toml", made.ws.bases / f"{SET}.toml", places)
    path = made.ws.images / f"{IMAGE}.toml"
    text = path.read_text().replace('"cpu"', f'"{SET}"')
    path.write_text(f"{text}[closure]\ndlopen = {[*CUDA, *CUDNN]}\n")
    made.lock([wheels / "one-1.0-py3-none-any.whl"])
    found = Gpu(made, places)
    found.plinth("lock", SET)
    return found


@pytest.fixture(scope="module")
def server(places: Path) -> Iterator[Server]:
    with serving(places) as running:
        yield running


def test_where_the_archives_are_out_of_reach_it_is_said_early(tmp_path: Path, places: Path) -> None:
    here = gpu(tmp_path / "checkout", places)
    held = sorted(path.name for path in here.checkout.ws.cache.blobs.iterdir())
    begun = seconds()
    said = here.doit(f"build:{IMAGE}", f"accelerator={SET}", ends=1)
    assert seconds() - begun < at_most(3)
    assert f"the accelerator set {SET} is not available here" in said
    for name, size in (
        ("cuda_11.0.3_450.51.06_linux.run", "3.5 GB"),
        ("cudnn-11.0-linux-x64-v8.0.5.39.tgz", "3.0 GB"),
    ):
        assert re.search(rf"{re.escape(name)}, at most {size}, sha256:[0-9a-f]{{64}}", said)
    assert "[files]\n" in re.sub(" +", "", said)
    for key in KEYS:
        assert f'{key} = "/the/folder"' in said
    # Nothing was fetched or built.
    assert sorted(path.name for path in here.checkout.ws.cache.blobs.iterdir()) == held
    assert not references(here.checkout.ws.layout)
    # Who does not insist gets the image without the set, which its name says.
    said = here.doit(f"build:{IMAGE}")
    assert f"note: the accelerator set {SET} is not available here: no place is configured" in said
    assert f"accelerator={SET} insists" in said
    assert "small-small-nocuda-inference" in references(here.checkout.ws.layout)[IMAGE].image_name
    assert "archives" not in here.plinth("explain", IMAGE)


def test_the_whole_way(tmp_path: Path, places: Path, server: Server) -> None:
    here = gpu(tmp_path / "checkout", places)
    assert "archives" not in here.plinth("explain", IMAGE)
    server.asked.clear()
    # Not without the set, as it was built while no place was known.
    assert "nocuda" in here.doit(f"build:{IMAGE}")
    assert f"-- build:{IMAGE}" in here.doit(f"build:{IMAGE}")
    here.use(server.url)
    said = here.doit(f"build:{IMAGE}")
    assert "fetching cuda_11.0.3_450.51.06_linux.run, at most 3.5 GB" in said
    reference = references(here.checkout.ws.layout)[IMAGE]
    assert reference.image_name == "azureml/small-small-cuda11.0.3-gpu-inference:latest"
    # A byte of each is asked for first, before anything is fetched.
    assert len(server.asked) == 4
    said = here.plinth("explain", IMAGE)
    assert "accelerator archives to build from: 0 of 2" in said
    said = here.plinth("why", IMAGE, "cudnn")
    assert f"base/{SET}.toml: cudnn-11.0-linux-x64-v8.0.5.39.tgz" in said
    assert "cuda_11.0.3_450.51.06_linux.run" in here.plinth("graph", "--full")
    # The same image from folders, on another machine; here again nobody is asked.
    other = gpu(tmp_path / "other", places)
    other.use(str(places))
    other.plinth("build", IMAGE)
    assert other.digest() == here.digest()
    server.asked.clear()
    here.plinth("build", IMAGE)
    assert server.asked == []
    # A signature needs sizes, which the lock takes from what was fetched.
    here.plinth("trust", "init")
    said = here.plinth("sign", IMAGE, "--trust", "embedded", ends=1)
    assert "the lock does not have the size of cuda_11.0.3_450.51.06_linux.run yet" in said
    assert "2 files, now with their sizes" in here.plinth("lock", SET)
    before = here.digest()
    here.plinth("build", IMAGE)
    assert here.digest() == before
    here.plinth("sign", IMAGE, "--trust", "embedded")
    # What is claimed of it names the archives.
    spec = load_accelerator(here.checkout.ws.bases, SET)
    here.plinth("sbom", IMAGE)
    document = json.loads((here.checkout.ws.build / "sbom" / f"{IMAGE}.cdx.json").read_bytes())
    components = {one["name"]: one for one in document["components"]}
    for file in spec.files:
        found = components[file.name]
        assert found["hashes"] == [{"alg": "SHA-256", "content": file.sha256}]
        assert found["purl"] == f"pkg:generic/{file.name}@{file.version}"
        assert found["licenses"][0]["license"]["name"] == file.licence
    assert not [name for name in components if "libcu" in name or "/usr/share/doc" in name]
    # Sent over a gap, verified and built again there from what came along.
    archive = tmp_path / "small.tar"
    here.plinth("export", IMAGE, "--trust", "embedded", "--out", str(archive))
    here.plinth("trust", "export", "--out", str(tmp_path / "auditor"))
    here.use("")
    there = tmp_path / "there"
    here.plinth("import", str(archive), "--into", str(there))
    policy = str(tmp_path / "auditor" / "policy.toml")
    imported = f"oci:{there / 'oci'}:{IMAGE}"
    said = here.plinth(
        *("verify", imported, "--policy", policy, "--rebuild", "--inputs", str(there / "cache"))
    )
    assert "the same to the last bit" in said


def test_an_archive_that_lacks_a_library_gives_no_image(tmp_path: Path, places: Path) -> None:
    cuda, cudnn = load_accelerator(ROOT / "base", SET).files
    others = tmp_path / "places"
    makeself(others / cuda.place / cuda.path, cuda_files("libcurand.so.10"))
    cudnn_tgz(others / cudnn.place / cudnn.path)
    here = gpu(tmp_path / "checkout", others)
    here.use(str(others))
    said = here.plinth("build", IMAGE, ends=1)
    assert "the archive has no libcurand.so.10" in said
    assert not references(here.checkout.ws.layout)
