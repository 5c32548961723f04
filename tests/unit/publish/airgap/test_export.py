"""Exports: everything that is needed and nothing else, in equal bytes wherever it is done."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import AirgapError, AttestationError, IntegrityError, SpecError
from plinth.core.settings import Config
from plinth.formats.oci.documents import is_image
from plinth.formats.oci.model import MANIFEST, Descriptor
from plinth.formats.oci.referrers import attach_to_layout
from plinth.formats.python.tree import tree_digest
from plinth.publish.airgap.collect import Cargo
from plinth.publish.airgap.export import write_archive
from support import needs
from support.oci_images import as_before
from unit.publish.airgap.conftest import (
    DEB,
    IMAGE,
    NAME,
    OTHER,
    PYTHON,
    TRUST,
    WHEEL,
    Checkout,
    bundle,
    make_checkout,
)


def held(path: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(path, "r:") as tar:
        return {member.name: member for member in tar}


def test_equal_things_are_exported_in_equal_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the umask, the time zone, the order of names and of blobs in memory."""
    one, two = make_checkout(tmp_path / "one"), make_checkout(tmp_path / "two")
    digest = write_archive(one.collect(OTHER, IMAGE, inputs=False), tmp_path / "one.tar")
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    before = os.umask(0o077)
    try:
        cargo = two.collect(IMAGE, OTHER, IMAGE, inputs=False)
        turned = Cargo(cargo.entries[::-1], dict(reversed(cargo.blobs.items())))
        again = write_archive(turned, tmp_path / "two.tar")
    finally:
        os.umask(before)
        monkeypatch.undo()
        time.tzset()
    assert digest == again == Digest.of_file(tmp_path / "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    assert (tmp_path / "two.tar").stat().st_mode & 0o777 == 0o644


def test_entries_are_sorted_and_say_nothing_of_the_machine(
    checkout: Checkout, tmp_path: Path
) -> None:
    write_archive(checkout.collect(), tmp_path / "a.tar")
    members = held(tmp_path / "a.tar")
    assert list(members) == sorted(members)
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members.values()} == {
        (0, 0, "", "", 0)
    }
    assert {m.mode for m in members.values() if m.isfile()} == {0o644}
    assert (tmp_path / "a.tar").stat().st_size % tarfile.BLOCKSIZE == 0


def test_all_that_rebuilding_takes_is_in_it(checkout: Checkout, tmp_path: Path) -> None:
    cargo = checkout.collect()
    hexes = {digest.hex for digest in cargo.blobs}
    for data in (WHEEL, DEB, TRUST.root, TRUST.policy, b"\x7fELF", b"x = 1\n"):
        assert Digest.of(data).hex in hexes
    assert tree_digest(PYTHON).hex in hexes
    without = checkout.collect(inputs=False, trust=None)
    assert without.blobs.keys() < cargo.blobs.keys()
    lost = {digest.hex for digest in cargo.blobs.keys() - without.blobs.keys()}
    assert {Digest.of(data).hex for data in (WHEEL, DEB, TRUST.root)} < lost
    assert not cargo.notes


def test_an_image_without_provenance_has_no_inputs(checkout: Checkout) -> None:
    with pytest.raises(AirgapError, match="it has none") as raised:
        checkout.collect(IMAGE, OTHER)
    assert raised.value.where == OTHER
    notes = checkout.collect(IMAGE, OTHER, inputs=False).notes
    assert notes == ["other is not signed: nobody can verify it"]


def test_inputs_that_are_gone_are_named(checkout: Checkout) -> None:
    for data in (WHEEL, DEB):
        checkout.ws.cache.path(Digest.of(data)).unlink()
    with pytest.raises(AirgapError, match="2 inputs are not in the store") as raised:
        checkout.collect()
    assert raised.value.found == f"{NAME}, demo.deb"


def test_no_image_of_that_name(checkout: Checkout) -> None:
    with pytest.raises(SpecError, match="there is no such specification") as raised:
        checkout.collect("none")
    assert raised.value.remedy == "known here: other, small"


def test_an_interpreter_that_is_not_here_is_said_not_to_travel(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = checkout.collect().blobs.keys()
    checkout.ws.cache.path(tree_digest(PYTHON)).unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    cargo = checkout.collect(config=Config())
    (note,) = cargo.notes
    assert note.startswith("the interpreter does not travel: there is no CPython 3.7")
    assert tree_digest(PYTHON).oci in note
    assert cargo.blobs.keys() < whole


@pytest.mark.parametrize("data", [b"not json", b"{}", b"[]", bundle(b"{}"), bundle(b"\xff")])
def test_a_provenance_that_cannot_be_read_is_told(checkout: Checkout, data: bytes) -> None:
    image = Descriptor(MANIFEST, checkout.image(OTHER))
    attach_to_layout(checkout.ws.layout, image, [("https://slsa.dev/provenance/v1", data)])
    with pytest.raises(AttestationError, match="cannot be read"):
        checkout.collect(OTHER)


def test_a_damaged_store_leaves_no_archive(checkout: Checkout, tmp_path: Path) -> None:
    cargo = checkout.collect()
    wheel = checkout.ws.cache.path(Digest.of(WHEEL))
    for damaged in (b"b" * len(WHEEL), WHEEL[:-1], WHEEL + b"x"):
        wheel.write_bytes(damaged)
        with pytest.raises(IntegrityError, match="no archive was written") as raised:
            write_archive(cargo, tmp_path / "out" / "a.tar")
        assert raised.value.where == str(wheel)
        assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("before", [False, True])
def test_only_images_have_names_and_engines_find_them_by_these(
    checkout: Checkout, before: bool
) -> None:
    if before:
        as_before(checkout.ws.layout, checkout.image())
    listed = json.loads(checkout.collect(IMAGE, OTHER, inputs=False).index())["manifests"]
    names = [entry["annotations"] for entry in listed if is_image(entry)]
    assert sorted(noted["io.containerd.image.name"] for noted in names) == [
        f"docker.io/team/{name}:latest" for name in (OTHER, IMAGE)
    ]
    others = [entry["annotations"] for entry in listed if not is_image(entry)]
    assert sorted(noted["io.containerd.manifest.subject"] for noted in others) == [
        "",  # the root and its policy are attached to no image
        *[checkout.image().oci] * 2,
    ]
    assert not any("name" in key for noted in others for key in noted)


def test_skopeo_reads_images(checkout: Checkout, tmp_path: Path) -> None:
    program = needs.program("skopeo")
    write_archive(checkout.collect(), tmp_path / "a.tar")
    done = subprocess.run(
        [program, "inspect", "--raw", f"oci-archive:{tmp_path / 'a.tar'}:{IMAGE}"],
        check=True,
        capture_output=True,
    )
    assert Digest.of(done.stdout) == checkout.image()
