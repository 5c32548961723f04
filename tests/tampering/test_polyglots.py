"""A file that is a tar archive to some readers and something else to others."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from support.containers import connected
from support.forge import Copy, Judge
from support.polyglots import polyglot, tar_of
from tampering.conftest import IMAGE, OTHER
from tampering.test_ambiguous import layout_files, listed

COMPRESSED = "the archive is compressed, or engines would take it for that"


def saved(copy: Copy, tag: str) -> dict[str, bytes]:
    """The files of an archive as `docker save` writes one, without what a layout has besides."""
    entry = listed(copy, tag)
    paths = (entry["Config"], *entry["Layers"])
    files = {path: (copy.root / path).read_bytes() for path in paths}
    return {**files, "manifest.json": json.dumps([entry]).encode()}


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_an_archive_that_is_another_one_to_who_unpacks_zstd(
    judge: Judge, copy: Copy, tmp_path: Path, form: str
) -> None:
    path = tmp_path / "image.tar"
    files = layout_files(copy) if form == "oci-archive" else saved(copy, f"{IMAGE}:latest")
    path.write_bytes(tar_of(files))
    name = f"{form}:{path}" + (f":{IMAGE}" if form == "oci-archive" else "")
    assert COMPRESSED not in "".join(judge.problems(copy, name))
    path.write_bytes(
        polyglot(tar_of(files), tar_of(saved(Copy(copy.root, OTHER), f"{IMAGE}:latest")))
    )
    (said,) = judge.problems(copy, name)
    assert COMPRESSED in said


@pytest.mark.parametrize(
    "start", ['\x04"M\x18', "\x02!L\x18", "]\u0001", "q*M\x18", "x\x9c", "PK\x03\x04", " ", "a\nb"]
)
def test_an_archive_that_begins_like_no_archive_of_an_image(
    judge: Judge, copy: Copy, tmp_path: Path, start: str
) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(tar_of({start: b"", **layout_files(copy)}))
    (said,) = judge.problems(copy, f"oci-archive:{path}:{IMAGE}")
    assert "its first bytes are none of a file name" in said


@pytest.mark.engine
@pytest.mark.judge("docker")
def test_todays_docker_takes_the_image_in_zstd(copy: Copy, tmp_path: Path) -> None:
    """Why the other tests of this file are there; where it fails, engines have become stricter."""
    other = Copy(copy.root, OTHER)
    tag = "plinth-test/polyglot:latest"
    path = tmp_path / "image.tar"
    path.write_bytes(polyglot(tar_of(saved(copy, tag)), tar_of(saved(other, tag))))
    with connected("PLINTH_TEST_DOCKER_CURRENT") as client:
        (image,) = client.images.load(io.BytesIO(path.read_bytes()))
        try:
            layers = image.attrs["RootFS"]["Layers"]
        finally:
            client.images.remove(tag, force=True)
    assert layers == other.config()["rootfs"]["diff_ids"] != copy.config()["rootfs"]["diff_ids"]
