"""Merkle trees against RFC 6962's published vectors and against another implementation."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import tamperlog  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from plinth.authority import merkle

# The reference tree of Certificate Transparency's own tests.
LEAVES = [
    bytes.fromhex(one)
    for one in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CONSISTENCY = {
    (1, 1): [],
    (0, 5): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


def stored(leaves: Sequence[bytes]) -> list[bytes]:
    hashes: list[bytes] = []
    for index, leaf in enumerate(leaves):
        new = list(merkle.completed(hashes.__getitem__, index, merkle.leaf_hash(leaf)))
        assert merkle.stored(index) == len(hashes)
        hashes += new
    return hashes


TREE = stored(LEAVES)


@pytest.mark.parametrize("size", range(9))
def test_roots(size: int) -> None:
    assert merkle.root(TREE.__getitem__, size).hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_inclusion(index: int, size: int) -> None:
    found = merkle.inclusion(TREE.__getitem__, index, size)
    assert [one.hex() for one in found] == INCLUSION[index, size]


@pytest.mark.parametrize(("first", "second"), CONSISTENCY)
def test_consistency(first: int, second: int) -> None:
    found = merkle.consistency(TREE.__getitem__, first, second)
    assert [one.hex() for one in found] == CONSISTENCY[first, second]


def test_what_is_not_in_the_tree_has_no_proof() -> None:
    for index, size in ((-1, 3), (3, 3), (0, 0)):
        with pytest.raises(ValueError, match="is not in a tree"):
            merkle.inclusion(TREE.__getitem__, index, size)
    for first, second in ((4, 3), (-1, 3)):
        with pytest.raises(ValueError, match="does not extend"):
            merkle.consistency(TREE.__getitem__, first, second)


@given(st.integers(1, 300), st.data())
def test_tamperlog_agrees_and_verifies(size: int, data: st.DataObject) -> None:
    leaves = [number.to_bytes(2, "big") for number in range(size)]
    hashes, theirs = stored(leaves), [tamperlog.hash_leaf(leaf) for leaf in leaves]
    root = merkle.root(hashes.__getitem__, size)
    assert root == tamperlog.merkle_root(theirs)
    index = data.draw(st.integers(0, size - 1))
    path = merkle.inclusion(hashes.__getitem__, index, size)
    assert path == tamperlog.inclusion_proof(index, theirs)
    tamperlog.verify_inclusion(index, size, theirs[index], path, root)
    first = data.draw(st.integers(1, size))
    prior = merkle.root(hashes.__getitem__, first)
    path = merkle.consistency(hashes.__getitem__, first, size)
    assert path == tamperlog.consistency_proof(first, theirs)
    tamperlog.verify_consistency(first, prior, size, root, path)


def test_reads_grow_with_the_logarithm() -> None:
    hashes = stored([b""] * 5000)
    reads: list[int] = []

    def counted(place: int) -> bytes:
        reads.append(place)
        return hashes[place]

    for work in (
        lambda: merkle.root(counted, 4999),
        lambda: merkle.inclusion(counted, 1234, 4999),
        lambda: merkle.consistency(counted, 1234, 4999),
        lambda: list(merkle.completed(counted, 4095, b"")),
    ):
        reads.clear()
        work()
        assert 0 < len(reads) <= 2 * 13
