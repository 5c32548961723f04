"""A file that is a tar archive to some readers and something else to others."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from support.containers import connected
from support.forge import Copy, Judge, docker_archive
from support.oci_images import tarred
from support.polyglots import polyglot
from tampering.conftest import IMAGE, OTHER
from tampering.test_ambiguous import layout_files

COMPRESSED = "the archive is compressed, or engines would take it for that"


def hide(other: Copy, path: Path) -> None:
    """Put the other image, as an archive in zstd, into the archive at `path`."""
    hidden = path.with_name("other.tar")
    docker_archive(other, hidden)
    path.write_bytes(polyglot(path.read_bytes(), hidden.read_bytes()))


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_an_archive_that_is_another_one_to_who_unpacks_zstd(
    judge: Judge, copy: Copy, tmp_path: Path, form: str
) -> None:
    path = tmp_path / "image.tar"
    if form == "oci-archive":
        name = f"oci-archive:{tarred(path, layout_files(copy))}:{IMAGE}"
    else:
        name = docker_archive(copy, path)
    assert COMPRESSED not in "".join(judge.problems(copy, name))
    hide(Copy(copy.root, OTHER), path)
    (said,) = judge.problems(copy, name)
    assert COMPRESSED in said


@pytest.mark.parametrize(
    "start", ['\x04"M\x18', "\x02!L\x18", "]\u0001", "q*M\x18", "x\x9c", "PK\x03\x04", " ", "a\nb"]
)
def test_an_archive_that_begins_like_no_archive_of_an_image(
    judge: Judge, copy: Copy, tmp_path: Path, start: str
) -> None:
    path = tmp_path / "image.tar"
    tarred(path, layout_files(copy))
    path.write_bytes(tarfile.TarInfo(start).tobuf(tarfile.USTAR_FORMAT) + path.read_bytes())
    (said,) = judge.problems(copy, f"oci-archive:{path}:{IMAGE}")
    assert "its first bytes are none of a file name" in said


@pytest.mark.engine
@pytest.mark.judge("docker")
def test_todays_docker_takes_the_image_in_zstd(copy: Copy, tmp_path: Path) -> None:
    """Why the other tests of this file are there; where it fails, engines have become stricter."""
    other = Copy(copy.root, OTHER)
    path = tmp_path / "image.tar"
    docker_archive(copy, path)
    hide(other, path)
    with connected("PLINTH_TEST_DOCKER_CURRENT") as client:
        (image,) = client.images.load(io.BytesIO(path.read_bytes()))
        try:
            layers = image.attrs["RootFS"]["Layers"]
        finally:
            client.images.remove(image.tags[0], force=True)
    assert layers == other.config()["rootfs"]["diff_ids"] != copy.config()["rootfs"]["diff_ids"]
