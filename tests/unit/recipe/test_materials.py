"""Package URLs of what an image is made from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from plinth.core.digest import Digest
from plinth.recipe.asked.local import OwnFile
from plinth.recipe.materials import python_purl
from plinth.recipe.recipe import Recipe

FILE = Digest.of(b"wheel")
OWN = OwnFile("demo-own", "1.0", "demo_own-1.0-py3-none-any.whl", FILE, "path", None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("demo", "pkg:pypi/demo@1.0"),
        # No index has it; somebody else's of that name is not it.
        ("demo-own", f"pkg:generic/demo-own@1.0?checksum=sha256:{FILE.hex}"),
        ("Demo.Own", f"pkg:generic/Demo.Own@1.0?checksum=sha256:{FILE.hex}"),
    ],
)
def test_only_what_an_index_has_is_of_the_type_pypi(name: str, expected: str) -> None:
    recipe = cast(Recipe, SimpleNamespace(spec=SimpleNamespace(own={"demo-own": OWN})))
    assert python_purl(recipe, name, "1.0").to_string() == expected
