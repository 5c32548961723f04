"""What is looked at of the things attached to an image: bounded, each blob once, the rest named."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import LayoutError
from plinth.formats.oci.attached import MAX_ARTIFACT, Referrer, find
from plinth.formats.oci.model import MANIFEST, Descriptor
from plinth.formats.oci.referrers import BUNDLE, MAX_BUNDLE, Artifact, artifact

KIND = "https://slsa.dev/provenance/v1"
SUBJECT = Descriptor(MANIFEST, Digest("a" * 64, 7))


@dataclass
class Place:
    """Blobs, and how often each was read."""

    blobs: dict[Digest, bytes] = field(default_factory=dict)
    reads: Counter[Digest] = field(default_factory=Counter)

    def attach(self, data: bytes, kind: str = KIND) -> dict[str, Any]:
        made: Artifact = artifact(SUBJECT, kind, data)
        self.blobs[made.digest], self.blobs[Digest.of(data)] = made.manifest, data
        return dict(made.entry)

    def read(self, digest: Digest, kind: str) -> bytes:
        self.reads[digest] += 1
        return self.blobs[digest]

    def found(self, listed: Any, only: tuple[str, ...] = ()) -> list[Referrer]:
        return list(find(listed, SUBJECT.digest, BUNDLE, self.read, "here", only))


@pytest.fixture
def place() -> Place:
    return Place()


def test_a_bundle_that_many_name_is_read_once_and_held_once(place: Place) -> None:
    data = b"{" + b" " * 1000
    listed = [place.attach(data, f"{KIND}?{number}") for number in range(100)]
    found = place.found(listed)
    assert len(found) == 100
    assert place.reads[Digest.of(data)] == 1
    assert {id(one.data) for one in found} == {id(found[0].data)}


def test_the_first_and_the_last_are_looked_at_and_the_rest_is_counted(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plinth.formats.oci.attached.MAX_ENDS", 2)
    listed = [place.attach(b"%d" % number) for number in range(7)]
    problem, *found = place.found(listed)
    assert "3 things attached to the image were not looked at" in problem.problems[0]
    assert sorted(one.data for one in found) == [b"0", b"1", b"5", b"6"]
    (middle,) = place.found(listed, (str(listed[3]["digest"]),))
    assert (middle.data, middle.problems) == (b"3", ())


def test_what_a_descriptor_shows_to_be_no_bundle_is_not_read(place: Place) -> None:
    good = place.attach(b"{}")
    odd = [{**good, "digest": f"sha256:{n:064x}", "size": MAX_ARTIFACT + 1} for n in range(1000)]
    others = [{**good, "digest": f"sha256:{n:064x}", "artifactType": "a/b"} for n in range(1000)]
    found = place.found([*odd, *others, good, *odd])
    assert [one.data for one in found if not one.problems] == [b"{}"]
    assert len(found) == 14
    assert "988 more have manifests that are too large" in found[12].problems[0]
    assert len(place.reads) == 2


def test_of_an_entry_what_is_looked_at_is_kept(place: Place) -> None:
    """Else megabytes in each of many entries stay in memory, while the rest of the list comes."""
    kept: list[weakref.ref[Any]] = []

    class Large(list[int]):
        """Something that nobody asks an entry for."""

    def listed() -> Iterator[dict[str, Any]]:
        for number in range(4):
            # All but the last are looked at no more.
            assert all(one() is None for one in kept[:-1])
            large = Large()
            kept.append(weakref.ref(large))
            yield {**place.attach(b"%d" % number), "more": large}
            del large

    assert [one.problems for one in place.found(listed())] == [()] * 4


@pytest.mark.parametrize("size", [99, MAX_ARTIFACT + 1])
@pytest.mark.parametrize("digest", ["sha256:x\nverified: 14 checks", "x" * 10_000, ["x\ny"]])
def test_what_is_no_digest_writes_no_line(place: Place, digest: Any, size: int) -> None:
    entry = {"digest": digest, "size": size, "artifactType": BUNDLE}
    (found,) = place.found([entry])
    text = f"{found.where}\n{found.problems}"
    assert not any(line.startswith("verified") for line in "\n".join(found.problems).split("\n"))
    assert "\nverified" not in text.replace("found:    ", "")
    assert len(text) < 1000


def test_small_bundles_come_first_and_all_together_are_bounded(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plinth.formats.oci.attached.MAX_BUNDLES", 100)
    listed = [place.attach(bytes([65 + size]) * size) for size in (60, 50, 2, 40)]
    *found, problem = place.found(listed)
    assert [len(one.data) for one in found] == [2, 40, 50]
    assert "1 of the largest were not looked at" in problem.problems[0]


def test_a_bundle_larger_than_bundles_are_is_not_read(place: Place) -> None:
    data = bytes(MAX_BUNDLE + 1)
    (found,) = place.found([place.attach(data)])
    assert "are too many" in found.problems[0]
    assert place.reads[Digest.of(data)] == 0


def test_a_list_that_breaks_off_is_a_problem_beside_what_it_had(place: Place) -> None:
    def listed() -> Iterator[dict[str, Any]]:
        yield place.attach(b"{}")
        raise LayoutError("the list goes on")

    problem, found = place.found(listed())
    assert problem.problems == ("the list goes on",)
    assert found.data == b"{}"


def test_what_cannot_be_fetched_is_no_problem_of_the_bundle(place: Place) -> None:
    def read(digest: Digest, kind: str) -> bytes:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        list(find([place.attach(b"{}")], SUBJECT.digest, BUNDLE, read, "here"))
