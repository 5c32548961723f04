"""What locking changed, in the images and in what their sdists are built with."""

from __future__ import annotations

from plinth.core.digest import Digest
from plinth.lock.moves import Move, moves, table
from plinth.recipe.locks.pylock import LockedFile, LockedPackage


def package(name: str, version: str, *needs: LockedPackage) -> LockedPackage:
    file = LockedFile(f"{name}-{version}", Digest.of(f"{name}{version}".encode()), "")
    return LockedPackage(name, version, file, bool(needs), build_requires=needs)


def test_a_package_that_an_image_holds_and_builds_with_moves_in_both_parts_by_itself() -> None:
    before = {"a": {"s": package("s", "1", package("b", "1")), "b": package("b", "1")}}
    after = {"a": {"s": package("s", "1", package("b", "2")), "b": package("b", "1")}}
    found = moves(before, after)
    assert found == [Move("b", "s", "1", "2", 2, ("a",))]
    assert found[0].to_json()["builds"] == "s"
    assert table(found).splitlines()[1].split() == ["b", "(builds", "s)", "1", "2", "2", "B", "a"]
    both = {"a": {"s": package("s", "1", package("b", "2")), "b": package("b", "2")}}
    found = moves(before, both)
    assert [(one.name, one.builds) for one in found] == [("b", ""), ("b", "s")]
    # It is one file, fetched once.
    assert table(found).endswith("\n2 B of new files")
    assert moves(both, both) == []
