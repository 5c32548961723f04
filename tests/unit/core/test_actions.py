"""The action cache: keys change with every input; damaged or dangling entries are misses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from plinth.actions import Action, ActionCache, ActionResult
from plinth.digest import Digest
from plinth.store import BlobStore

A, B = Digest.of(b"a"), Digest.of(b"b")


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
def cache(tmp_path: Path) -> ActionCache:
    return ActionCache(tmp_path / "actions")


def test_the_key_is_the_same_everywhere() -> None:
    action = Action("layer", 1, {"wheel": A}, {"python": "3.7"})
    assert action.digest.hex == "85fd69856fa31a5fe07619d91a162529b7500554434c670f2438336165591ccd"


@pytest.mark.parametrize(
    "other",
    [
        Action("other", 1, {"wheel": A}, {"python": "3.7"}),
        Action("layer", 2, {"wheel": A}, {"python": "3.7"}),
        Action("layer", 1, {"wheel": B}, {"python": "3.7"}),
        Action("layer", 1, {"sdist": A}, {"python": "3.7"}),
        Action("layer", 1, {"wheel": A}, {"python": "3.8"}),
    ],
)
def test_every_part_is_in_the_key(other: Action) -> None:
    assert other.digest != Action("layer", 1, {"wheel": A}, {"python": "3.7"}).digest


def test_work_runs_once(cache: ActionCache, blobs: BlobStore) -> None:
    action, runs = Action("layer", 1, {}), []

    def work() -> ActionResult:
        runs.append(1)
        return ActionResult({"layer": blobs.put(b"layer")}, {"files": 3})

    with ThreadPoolExecutor(8) as pool:
        results = [pool.submit(cache.run, action, blobs, work) for _ in range(8)]
    found = [result.result() for result in results]
    assert len(runs) == 1
    assert sum(not hit for _, hit in found) == 1
    assert all(r == ActionResult({"layer": Digest.of(b"layer")}, {"files": 3}) for r, _ in found)


def test_a_lost_output_is_a_miss(cache: ActionCache, blobs: BlobStore) -> None:
    action = Action("layer", 1, {})
    digest = blobs.put(b"layer")
    cache.store(action, ActionResult({"layer": digest}))
    assert cache.lookup(action, blobs) is not None
    blobs.path(digest).unlink()
    assert cache.lookup(action, blobs) is None


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b"{}", b'{"outputs":{"l":["x",1]},"info":{}}', b"null"]
)
def test_a_damaged_entry_is_a_miss(cache: ActionCache, blobs: BlobStore, damage: bytes) -> None:
    action = Action("layer", 1, {})
    cache.store(action, ActionResult({}))
    (entry,) = cache.root.glob("*.json")
    entry.write_bytes(damage)
    assert cache.lookup(action, blobs) is None
