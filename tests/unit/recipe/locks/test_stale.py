"""A lock is two files that say the same, of what is in the tree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import LockError, StaleLockError
from plinth.recipe.image import load_target
from plinth.recipe.locks import pylock, stale
from plinth.recipe.locks.pylock import PylockError
from support.small_checkout import BASE, IMAGE, SmallCheckout, make, wheel


@pytest.fixture
def checkout(tmp_path: Path) -> SmallCheckout:
    """A checkout with two packages locked."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    return make(tmp_path / "checkout", [wheel(folder, "one", "1.0"), wheel(folder, "two", "2.0")])


def lock(checkout: SmallCheckout) -> Path:
    return checkout.ws.locks / IMAGE / "pylock.toml"


def pin(checkout: SmallCheckout, text: str) -> None:
    """Let requirements.txt be `text`, and pylock.toml name it: neither is out of date."""
    held = pylock.load(lock(checkout), "")
    lock(checkout).with_name("requirements.txt").write_text(text)
    made = replace(held, requirements_digest=Digest.of(text.encode()).hex)
    lock(checkout).write_text(pylock.dump(made))


def refusal(checkout: SmallCheckout, kind: type[LockError | PylockError]) -> str:
    with pytest.raises(kind) as caught:
        stale.check(checkout.ws, IMAGE)
    return str(caught.value)


def test_two_files_that_agree(checkout: SmallCheckout) -> None:
    assert [package.name for package in stale.check(checkout.ws, IMAGE).packages] == ["one", "two"]


def test_another_version_than_was_pinned(checkout: SmallCheckout) -> None:
    text = lock(checkout).with_name("requirements.txt").read_text()
    pin(checkout, text.replace("two==2.0", "two==2.1"))
    assert "two 2.0, where requirements.txt pins 2.1" in refusal(checkout, PylockError)


def test_a_package_that_nothing_pins_and_one_that_is_pinned_only(checkout: SmallCheckout) -> None:
    text = lock(checkout).with_name("requirements.txt").read_text()
    pin(checkout, text.replace("two==2.0", "three==2.0"))
    said = refusal(checkout, PylockError)
    assert "packages[1].version: two 2.0, where requirements.txt pins nothing" in said
    assert "requirements.txt pins three too" in said
    assert f"doit lock:{IMAGE}" in said


def test_another_file_than_was_hashed(checkout: SmallCheckout) -> None:
    one = pylock.load(lock(checkout), "").packages[0].file.digest
    text = lock(checkout).with_name("requirements.txt").read_text()
    pin(checkout, text.replace(one.hex, "0" * 64))
    said = refusal(checkout, PylockError)
    assert f"requirements.txt has no such hash for one: {one.oci}" in said
    assert "packages[1]" not in said


def test_files_of_two_locks(checkout: SmallCheckout) -> None:
    path = lock(checkout).with_name("requirements.txt")
    path.write_text(path.read_text() + "\n")
    said = refusal(checkout, StaleLockError)
    assert "do not belong together" in said and Digest.of_file(path).oci in said
    path.unlink()
    assert "no file" in refusal(checkout, StaleLockError)


def test_a_wheel_that_the_image_cannot_load(checkout: SmallCheckout) -> None:
    held = pylock.load(lock(checkout), "")
    one, two = held.packages
    name = "two-2.0-cp37-cp37m-manylinux_2_99_x86_64.whl"
    made = replace(held, packages=(one, replace(two, file=replace(two.file, name=name))))
    lock(checkout).write_text(pylock.dump(made))
    target = load_target(checkout.ws.bases, BASE)
    said = refusal(checkout, PylockError)
    assert f"packages[1].wheels[0].name: {name} does not fit the image {IMAGE}" in said
    assert f"wants CPython 3.7 and glibc up to 2.{target.glibc[1]}" in said


def test_inputs_edited_by_hand(checkout: SmallCheckout) -> None:
    held = pylock.load(lock(checkout), "")
    lock(checkout).write_text(pylock.dump(replace(held, inputs_digest="0" * 64)))
    assert "was edited by hand" in refusal(checkout, LockError)


def test_other_inputs_and_no_lock(checkout: SmallCheckout) -> None:
    spec = checkout.ws.images / f"{IMAGE}.toml"
    spec.write_text(spec.read_text().replace("[]", '["three"]'))
    assert "was made from other inputs" in refusal(checkout, StaleLockError)
    lock(checkout).unlink()
    assert f"there is no lock for {IMAGE}" in refusal(checkout, LockError)
