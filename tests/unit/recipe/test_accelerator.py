"""Accelerator sets: what is accepted, and every problem reported with file and field path."""

from __future__ import annotations

from pathlib import Path

import pytest

from plinth.core.errors import SpecError
from plinth.graph.workspace import Workspace
from plinth.recipe.accelerator import Accelerator, Archive, load_accelerator
from plinth.recipe.ids import all_accelerators, all_bases
from plinth.recipe.image import load_image
from plinth.recipe.vendor import VendorFile

ROOT = Path(__file__).resolve().parents[3]

FINGERPRINT = "EB693B3035CD5710E231E123A4B469963BF863CC"
GOOD = """
kind = "accelerator"
label = "gpu1.0"
summary = "a summary"
architecture = "amd64"
folders = ["/opt/gpu/lib", "/opt/gpu/extras"]
wheels = ["nvidia-cudnn-cu11==8.5.0.96"]

[[archives]]
name = "vendor"
suite = "/"
keyring = "vendor-keys"
fingerprint = "EB693B3035CD5710E231E123A4B469963BF863CC"
key = "keys/3bf863cc.pub"
packages = ["gpu-runtime=1.0-1+gpu1~2", "gpu-extras"]

[[archives]]
name = "debian"
suite = "bookworm"
components = ["non-free"]
keyring = "debian-archive-keyring"
packages = ["libgpu1"]

[[files]]
name = "gpu"
version = "1.0"
licence = "its terms"
place = "vendor"
path = "1.0/gpu_1.0+1.run"
sha256 = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
at-most = 3_000
form = "makeself"
folders = ["builds/*/lib"]
libraries = ["libgpu.so.1"]
into = "/opt/gpu/lib"

[omit]
libc6 = "every base has it"

[host]
"libgpu.so.1" = "the driver"

[environment]
GPU_VERSION = "1.0"
"""


def load(folder: Path, text: str, name: str = "gpu1.0-set") -> Accelerator:
    (folder / f"{name}.toml").write_text(text)
    return load_accelerator(folder, name)


def problems_of(folder: Path, text: str, name: str = "gpu1.0-set") -> list[str]:
    with pytest.raises(SpecError) as raised:
        load(folder, text, name)
    assert raised.value.where == f"base/{name}.toml"
    assert all(
        f"base/{name}.toml: {problem}" in str(raised.value) for problem in raised.value.problems
    )
    return [str(problem) for problem in raised.value.problems]


def test_a_good_set(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD) == Accelerator(
        name="gpu1.0-set",
        label="gpu1.0",
        summary="a summary",
        architecture="amd64",
        archives=(
            Archive(
                "vendor",
                "/",
                (),
                "vendor-keys",
                "eb693b3035cd5710e231e123a4b469963bf863cc",
                ("gpu-runtime=1.0-1+gpu1~2", "gpu-extras"),
                "keys/3bf863cc.pub",
            ),
            Archive(
                "debian", "bookworm", ("non-free",), "debian-archive-keyring", "", ("libgpu1",)
            ),
        ),
        omit={"libc6": "every base has it"},
        folders=("/opt/gpu/lib", "/opt/gpu/extras"),
        host={"libgpu.so.1": "the driver"},
        environment={"GPU_VERSION": "1.0"},
        wheels=("nvidia-cudnn-cu11==8.5.0.96",),
        files=(
            VendorFile(
                "gpu",
                "1.0",
                "its terms",
                "vendor",
                "1.0/gpu_1.0+1.run",
                "a" * 64,
                3_000,
                "makeself",
                ("builds/*/lib",),
                ("libgpu.so.1",),
                (),
                "/opt/gpu/lib",
            ),
        ),
    )


def test_what_is_not_needed_may_be_absent(tmp_path: Path) -> None:
    head = GOOD[: GOOD.index("wheels")]
    spec = load(tmp_path, head)
    assert (spec.archives, spec.wheels, spec.files) == ((), (), ())
    assert (spec.omit, spec.host, spec.environment) == ({}, {}, {})


def test_the_checkouts_sets_are_good() -> None:
    ws = Workspace(ROOT, ROOT / "build")
    names = all_accelerators(ws)
    assert "cuda11.0.3-cudnn8.0.5.39" in names
    assert not set(names) & set(all_bases(ws))
    for name in names:
        spec = load_accelerator(ws.bases, name)
        assert spec.host == {
            "libcuda.so.1": "the driver; the container runtime brings it from the host"
        }
        assert spec.environment["NVIDIA_VISIBLE_DEVICES"] == "all"
        assert "libc6" in spec.omit or not spec.archives


def test_the_set_of_the_gpu_row_is_of_archives_by_their_published_digests() -> None:
    spec = load_accelerator(ROOT / "base", "cuda11.0.3-cudnn8.0.5.39")
    assert (spec.label, spec.archives, spec.wheels) == ("cuda11.0.3", (), ())
    assert {file.filename: file.sha256 for file in spec.files} == {
        "cuda_11.0.3_450.51.06_linux.run": (
            "b079c4e408adf88c3f1ffb8418a97dc4227c37935676b4bf4ca0beec6c328cc0"
        ),
        "cudnn-11.0-linux-x64-v8.0.5.39.tgz": (
            "4e16ee7895deb4a8b1c194b812ba49586ef7d26902051401d3717511898a9b73"
        ),
    }
    image = load_image(ROOT / "images", "tensorflow-2.4-cuda11.0.3")
    taken = {library for file in spec.files for library in file.libraries}
    assert set(image.dlopen) <= taken
    # The linker finds all of it.
    assert {file.into for file in spec.files} == {*spec.folders}


def test_the_other_set_of_the_gpu_row_is_pinned_to_versions_and_to_a_key() -> None:
    spec = load_accelerator(ROOT / "base", "cuda11.0.3-debs")
    (archive,) = spec.archives
    assert spec.label == "cuda11.0.3-debs"
    assert archive.suite == "/"
    assert archive.fingerprint == "eb693b3035cd5710e231e123a4b469963bf863cc"
    assert archive.key == "3bf863cc.pub"
    assert "libcudnn8=8.0.5.39-1+cuda11.0" in archive.packages
    assert all("=" in package for package in archive.packages)


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    text = """
kind = "base"
label = "GPU 1"
architecture = "arm64"
folders = ["opt/gpu", "/opt/../etc", 3]
wheels = ["a >=> 1", "b", "B"]
surprise = true
archives = [7, { name = 1, suite = "/", packages = ["Lib", "x=", "=1", "x=1/2", "good"], on = 1 }]
omit = "libc6"
[host]
"libgpu.so.1" = 2
"""
    problems = problems_of(tmp_path, text)
    syntax = problems.pop(13)
    assert syntax.startswith("wheels[0]: not a PEP 508 requirement")
    assert problems == [
        "kind: expected one of accelerator; found 'base'",
        "summary: missing; expected a string",
        "architecture: expected one of amd64; found 'arm64'",
        "archives[0]: expected a table, found 7",
        "archives[1].packages[0]: expected name or name=version, found 'Lib'",
        "archives[1].packages[1]: expected name or name=version, found 'x='",
        "archives[1].packages[2]: expected name or name=version, found '=1'",
        "archives[1].packages[3]: expected name or name=version, found 'x=1/2'",
        "archives[1].name: expected a string, found 1",
        "archives[1].keyring: missing; expected a string",
        "omit: expected a table of strings, found 'libc6'",
        "folders[2]: expected a string, found 3",
        "host.libgpu.so.1: expected a string, found 2",
        "wheels[2]: B is already required by wheels[1]",
        "folders[0]: expected an absolute path, found 'opt/gpu'",
        "folders[1]: expected an absolute path, found '/opt/../etc'",
        "label: 'GPU 1' cannot be part of an image name",
        "surprise: unknown field; known here: architecture, archives, environment, files, folders, "
        "host, kind, label, omit, summary, wheels",
        "archives[1].on: unknown field; known here: components, fingerprint, key, keyring, name, "
        "packages, suite",
    ]


def test_its_name_must_fit_into_an_image_name(tmp_path: Path) -> None:
    assert problems_of(tmp_path, GOOD, "GPU_1") == ["'GPU_1' cannot be part of an image name"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('kind = "accelerator"\n', "", "kind: missing; expected a string"),
        ('label = "gpu1.0"', "label = 1.0", "label: expected a string, found 1.0"),
        (
            'folders = ["/opt/gpu/lib", "/opt/gpu/extras"]\n',
            "",
            "folders: missing; expected a list",
        ),
        ('suite = "/"\n', "", "archives[0].suite: missing; expected a string"),
        ('"libgpu1"', "1", "archives[1].packages[0]: expected a string, found 1"),
        (
            '"nvidia-cudnn-cu11==8.5.0.96"',
            '"a @ https://host/a.whl"',
            "wheels[0]: a URL has no place in a lock; name a version of 'a @ https://host/a.whl'",
        ),
        *(
            (
                f'"{FINGERPRINT}"',
                f'"{wrong}"',
                "archives[0].fingerprint: expected the whole fingerprint, 40 or 64 hexadecimal",
            )
            for wrong in (FINGERPRINT[-8:], FINGERPRINT[1:], f"{FINGERPRINT}0", "g" * 40)
        ),
        (f'fingerprint = "{FINGERPRINT}"\n', "", "archives[0].key: a key from the archive itself"),
        ('sha256 = "sha256:', 'sha256 = "md5:', "files[0].sha256: expected sha256:<64 hex"),
        ('"1.0/gpu_1.0+1.run"', '"../gpu.run"', "files[0].path: '..' cannot be (part of) a name"),
        ('"1.0/gpu_1.0+1.run"', '"/gpu.run"', "files[0].path: '' cannot be (part of) a name"),
        ('place = "vendor"', 'place = "https://x"', "files[0].place: 'https://x' cannot be"),
        ('["libgpu.so.1"]', '["lib/gpu.so"]', "files[0].libraries: 'lib/gpu.so' cannot be"),
        ("at-most = 3_000", "at-most = 0", "files[0].at-most: expected bytes, found 0"),
        ('"makeself"', '"zip"', "files[0].form: expected one of makeself, tar; found 'zip'"),
        ('into = "/opt/', 'into = "/../', "files[0].into: expected an absolute path"),
        ('into = "/opt/', 'into = "opt/', "files[0].into: expected an absolute path"),
        ("[[archives]]\nname = ", "[archives]\nname = ", "not TOML"),
        ("[[archives]]", "[archives]", "not TOML"),
    ],
)
def test_bad_sets(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in GOOD
    (problem,) = problems_of(tmp_path, GOOD.replace(old, new, 1))
    assert problem.startswith(expected)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    file = GOOD[GOOD.index("[[files]]") : GOOD.index("[omit]")]
    (problem,) = problems_of(tmp_path, GOOD.replace("[omit]", f"{file}[omit]"))
    assert problem == "files: two of them have the same name"


def test_an_unknown_set_names_those_there_are(tmp_path: Path) -> None:
    load(tmp_path, GOOD)
    with pytest.raises(SpecError) as raised:
        load_accelerator(tmp_path, "gpu2")
    assert "base/gpu2.toml: there is no such specification" in str(raised.value)
    assert "known here: gpu1.0-set" in raised.value.remedy
