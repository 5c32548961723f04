"""What breaks an image is one clear error, naming image, package and remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from integration.conftest import Checkout
from plinth.formats.oci.layout import references

IMAGE = "sklearn-0.24.1"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def refused(checkout: Checkout, *arguments: str) -> str:
    """The one error a command ends with."""
    done = checkout.doit(*arguments)
    assert done.returncode != 0
    output = done.stdout + done.stderr
    assert "Traceback" not in output
    assert output.count("TaskFailed") == 1
    assert IMAGE not in references(checkout.ws.layout)
    return output


@pytest.mark.network
def test_a_system_library_taken_out_of_the_base(
    tmp_path: Path, clone: Callable[..., Checkout]
) -> None:
    checkout = clone(tmp_path / "checkout", results=True)
    spec = checkout.root / "base" / "debian12-py37.toml"
    edit(spec, '"libstdc++6", ', "")
    edit(spec, "[rootfs.omit]", '[rootfs.omit]\n"libstdc++6" = "taken out by the test"')
    stale = refused(checkout, f"build:{IMAGE}")
    assert "the lock of the base debian12-py37 was made from another specification" in stale
    assert "rootfs.packages: libstdc++6 removed" in stale
    assert checkout.doit("lock:base").returncode == 0
    output = refused(checkout, f"build:{IMAGE}")
    assert f"{IMAGE}: shared libraries do not find what they need" in output
    assert "scipy 1.7.3: needs libstdc++.so.6, which is not in the image (opt/python/" in output
    assert "add the OS package that has the library to the base's rootfs.packages" in output


@pytest.mark.network
def test_a_wheel_for_another_python(tmp_path: Path, clone: Callable[..., Checkout]) -> None:
    checkout = clone(tmp_path / "checkout")
    lock = checkout.root / "locks" / IMAGE / "pylock.toml"
    edit(lock, "scikit_learn-0.24.1-cp37-cp37m-", "scikit_learn-0.24.1-cp38-cp38-")
    output = refused(checkout, f"build:{IMAGE}")
    assert f"locks/{IMAGE}/pylock.toml: packages[" in output
    assert "scikit_learn-0.24.1-cp38-cp38-manylinux" in output
    assert f"does not fit the image {IMAGE}: it wants CPython 3.7 and glibc up to 2.27" in output
    assert f"doit lock:{IMAGE}" in output


@pytest.mark.network
def test_requirements_that_cannot_agree(tmp_path: Path, clone: Callable[..., Checkout]) -> None:
    checkout = clone(tmp_path / "checkout", tools=True)
    edit(
        checkout.root / "images" / f"{IMAGE}.toml",
        '"numpy>=1.16.0"',
        '"numpy==1.16.0", "scipy==1.7.3"',
    )
    before = (checkout.root / "locks" / IMAGE / "requirements.txt").read_bytes()
    output = refused(checkout, f"lock:{IMAGE}")
    assert f"images/{IMAGE}.toml: the requirements cannot be met" in output
    assert "scipy" in output
    assert "numpy" in output
    assert "loosen a requirement, or add [[python.constraints]]" in output
    assert "127.0.0.1" not in output
    assert (checkout.root / "locks" / IMAGE / "requirements.txt").read_bytes() == before
    changed = "requirements: numpy>=1.16.0 became numpy==1.16.0, scipy==1.7.3"
    assert changed in refused(checkout, f"build:{IMAGE}")
