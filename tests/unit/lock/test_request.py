"""The file of a package that a lock names."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import LockError
from plinth.fetch.pypi.candidates import candidates
from plinth.fetch.pypi.page import IndexFile
from plinth.lock.request import Request, chosen
from plinth.recipe.image import Target
from plinth.recipe.locks.pins import Pin

TARGET = Target("3.7", (2, 27), "amd64", ())


def request(*names: str) -> Request:
    """A request whose index shows files of these names."""
    files = [IndexFile(n, "", Digest.of(n.encode()), "1", "", False, "") for n in names]
    index = SimpleNamespace(
        visible=lambda _: list(candidates(files, TARGET)),
        described=lambda file: file,
    )
    made = SimpleNamespace(
        index=index,
        target=TARGET,
        spec=SimpleNamespace(id="demo"),
    )
    return cast(Request, made)


def test_the_best_of_the_files_that_were_hashed() -> None:
    names = ["demo-1.0-py3-none-any.whl", "demo-1.0-cp37-cp37m-manylinux1_x86_64.whl"]
    names += ["demo-2.0-cp37-cp37m-manylinux1_x86_64.whl", "demo-1.0.tar.gz"]
    digests = {name: Digest.of(name.encode()).hex for name in names}
    found = request(*names)
    pin = Pin("demo", "1.0", set(digests.values()), [])
    assert chosen(found, pin).file.name == names[1]
    pin = Pin("demo", "1.0", {digests[names[0]], digests[names[2]]}, [])
    best = chosen(found, pin)
    assert (best.file.name, best.is_sdist) == (names[0], False)
    pin = Pin("demo", "1.0", {digests[names[3]]}, [])
    assert chosen(found, pin).is_sdist is True
    with pytest.raises(LockError, match=r"demo 1\.5 has no file the target can use"):
        chosen(found, Pin("demo", "1.5", set(digests.values()), []))
