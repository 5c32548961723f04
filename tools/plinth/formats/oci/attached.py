"""What is attached to an image, read from a list to which strangers may have added.

Whoever may push to a repository may attach thousands of things to an image in it, and a builder's
own bundles stand somewhere among them. Everything here is bounded: entries by type and by size
before anything is read, then the oldest and the newest, then bundles from the smallest up. Each
blob is read once, however many name it, and no more than a few are in memory. What was not looked
at is said.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError, LayoutError, plain
from plinth.core.report import human_size
from plinth.core.stopping import Threads, meanwhile
from plinth.formats.oci.documents import annotations_of, descriptor, document
from plinth.formats.oci.manifest import parse_manifest
from plinth.formats.oci.model import MANIFEST
from plinth.formats.oci.referrers import CONTENT, MAX_BUNDLE, PREDICATE

MAX_ARTIFACT = 16 << 10
"""The largest manifest that attaches a bundle (bytes); ours and cosign's have less than 1 KiB."""

MAX_ENDS = 600
"""So many of the oldest are looked at, and of the newest: lists are mostly in the order of time."""

MAX_BUNDLES = 512 << 20
"""The bytes of all bundles of an image that are read."""

_SHOWN = 12
# Of what should be a digest; one has 71.
_LENGTH = 100
_READERS = 8
_AHEAD = 4

Read = Callable[[Digest, str], bytes]
"""Gives a blob, or no more of it than one byte too many; it is told the media type."""


@dataclass(frozen=True)
class Referrer:
    """What was found attached to an image.

    where: the place, for messages. data: its one layer, whatever its digest; of those that share
    a layer the same object, one behind the other. predicate_type: what its manifest files it
    under. problems: how it differs from what it should be; where there are any, the rest may be
    empty.
    """

    where: str
    digest: Digest | None = None
    data: bytes = b""
    predicate_type: str = ""
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Artifact:
    """A manifest that attaches a layer."""

    where: str
    digest: Digest
    layer: Digest
    predicate_type: str
    problems: tuple[str, ...]


def find(
    listed: Iterable[dict[str, Any]],
    subject: Digest,
    artifact_type: str,
    read: Read,
    where: str,
    only: Collection[str] = (),
) -> Iterator[Referrer]:
    """Those of the `listed` entries that are of the type, with what they hold; where digests are
    given (`sha256:…`), `only` those. Whatever is wrong with one, or with the list, becomes a
    problem, and so does what was not looked at.
    """
    chosen, problems = _chosen(listed, artifact_type, where, only)
    for problem in problems:
        yield Referrer(where, problems=(problem,))

    def artifact(entry: dict[str, Any]) -> _Artifact | Referrer | None:
        at = f"{where}: {plain(str(entry.get('digest'))[:_LENGTH])}"
        try:
            return _artifact(entry, subject, artifact_type, read, at)
        except (IntegrityError, LayoutError) as error:
            return Referrer(at, problems=(str(error),))

    with meanwhile(_READERS, "referrers") as pool:
        by_layer: dict[Digest, list[_Artifact]] = {}
        for one in pool.map(artifact, chosen):
            if isinstance(one, _Artifact):
                by_layer.setdefault(one.layer, []).append(one)
            elif one is not None:
                yield one
        order = sorted(by_layer, key=lambda layer: (layer.size, layer.hex))
        room, count = MAX_BUNDLES, 0
        while count < len(order) and (room := room - order[count].size) >= 0:
            count += 1
        for layer, data, wrong in _contents(order[:count], artifact_type, read, pool):
            for named in by_layer[layer]:
                problems_of = (*named.problems, *wrong)
                yield Referrer(named.where, named.digest, data, named.predicate_type, problems_of)
        if unseen := sum(len(by_layer[layer]) for layer in order[count:]):
            problem = f"{unseen} of the largest were not looked at: all together have more than "
            yield Referrer(where, problems=(problem + human_size(MAX_BUNDLES),))


def _chosen(
    listed: Iterable[dict[str, Any]], artifact_type: str, where: str, only: Collection[str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The entries to be looked at, each once, and what is wrong with the list or others."""
    first: list[dict[str, Any]] = []
    last: deque[dict[str, Any]] = deque(maxlen=MAX_ENDS)
    seen: set[str] = set()
    problems: list[str] = []
    unseen = odd = 0
    try:
        for entry in listed:
            digest = plain(str(entry.get("digest"))[:_LENGTH])
            if digest in seen or (only and digest not in only):
                continue
            if entry.get("artifactType", artifact_type) != artifact_type:
                continue
            seen.add(digest)
            size = entry.get("size")
            if isinstance(size, int) and size > MAX_ARTIFACT:
                odd += 1
                if odd <= _SHOWN:
                    problems.append(f"{digest}: {size} bytes are too many for its manifest")
            elif len(first) < MAX_ENDS:
                first.append(_looked_at(entry))
            else:
                unseen += len(last) == MAX_ENDS
                last.append(_looked_at(entry))
    except (IntegrityError, LayoutError) as error:
        problems.append(str(error))
    if odd > _SHOWN:
        problems.append(f"{odd - _SHOWN} more have manifests that are too large")
    if unseen:
        problems.append(
            f"{unseen} things attached to the image were not looked at, only the first and the "
            f"last {MAX_ENDS}; name those you mean by their digests: --bundle sha256:…"
        )
    return [*first, *last], problems


def _looked_at(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry without what nobody asks it for: of that it may have megabytes, while it is kept."""
    noted = annotations_of(entry)
    kept: dict[str, Any] = {
        key: entry[key] for key in ("digest", "size", "artifactType") if key in entry
    }
    return {**kept, "annotations": {k: noted[k] for k in (CONTENT, PREDICATE) if k in noted}}


def _artifact(
    entry: dict[str, Any], subject: Digest, artifact_type: str, read: Read, at: str
) -> _Artifact | None:
    """The manifest behind one entry; None where it turns out to be of another type."""
    digest = descriptor(entry, at)
    data = read(digest, MANIFEST)
    if Digest.of(data) != digest:
        raise IntegrityError(
            "its manifest is not what is listed",
            where=at,
            found=f"{Digest.of(data).oci}, {len(data)} bytes",
        )
    # Of another type, its form is not looked at.
    if document(data, at).get("artifactType") != artifact_type:
        if "artifactType" not in entry:
            return None
        raise LayoutError(f"its manifest is not of type {artifact_type}", where=at)
    manifest = parse_manifest(data, at)
    noted = manifest.annotations
    problems = []
    if manifest.subject is None or manifest.subject.digest != subject:
        found = manifest.subject.digest.oci if manifest.subject else "nothing"
        problems.append(f"it refers to {found}, not to {subject.oci}")
    # Registries without the API keep lists that clients write; cosign's lacks annotations.
    listed = annotations_of(entry)
    problems += [
        f"{key} is listed as {listed[key]!r:.200}, its manifest says {noted.get(key)!r:.200}"
        for key in (CONTENT, PREDICATE)
        if key in listed and listed[key] != noted.get(key)
    ]
    if len(manifest.layers) != 1:
        raise LayoutError("its manifest has not one layer", where=at)
    layer = manifest.layers[0]
    if layer.media_type != artifact_type:
        problems.append(f"its layer is of type {layer.media_type!r}")
    if layer.digest.size > MAX_BUNDLE:
        raise LayoutError(
            f"{layer.digest.size} bytes are too many", where=at, expected=f"≤ {MAX_BUNDLE}"
        )
    return _Artifact(at, digest, layer.digest, noted.get(PREDICATE, ""), tuple(problems))


def _contents(
    layers: Iterable[Digest], kind: str, read: Read, pool: Threads
) -> Iterator[tuple[Digest, bytes, tuple[str, ...]]]:
    """What each of `layers` holds, and what is wrong with it; a few are read ahead."""
    waiting: deque[tuple[Digest, Future[tuple[bytes, tuple[str, ...]]]]] = deque()

    def content(layer: Digest) -> tuple[bytes, tuple[str, ...]]:
        try:
            data = read(layer, kind)
        except (IntegrityError, LayoutError) as error:
            return b"", (str(error),)
        if (found := Digest.of(data)) == layer:
            return data, ()
        problem = (
            f"its layer is {found.oci} of {found.size} bytes, its manifest names "
            f"{layer.oci} of {layer.size} bytes"
        )
        return data, (problem,)

    for layer in layers:
        waiting.append((layer, pool.submit(content, layer)))
        if len(waiting) > _AHEAD:
            done, future = waiting.popleft()
            yield done, *future.result()
    for done, future in waiting:
        yield done, *future.result()
