"""Verdicts that are remembered: what is the same for the same bytes is not worked out again.

A verdict that passed is a function of what its key is made of: digests, what was asked, and the
code that answers. Layers are part of it by their digests in the manifest, so that each is hashed
every time. It does not pass and later fail by the clock: all times are held against the time of
signing, by keys that are valid already. What was not shown for want of an interpreter stays so
until those of the machine change. Where anything differs nothing is known, and the full run gives
the verdict.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path

from plinth.core.digest import Digest
from plinth.core.errors import PlinthError
from plinth.evidence.trusted_root import Root
from plinth.evidence.verify.policy import Policy, Signers
from plinth.evidence.verify.request import RawBundle, Request, bundles_of, others_of
from plinth.evidence.verify.verdict import Check, Claim, Verdict
from plinth.fetch.sources.model import ImageSource
from plinth.formats.oci.manifest import parse_manifest
from plinth.graph.cache import Fact
from plinth.inspect.contents.hashing import Hashing

VERSION = 2
"""Raised whenever verdicts are kept in another form."""

PACKAGE = Path(__file__).parents[2]
MAX_HELD = 32 << 20
"""What bundles may have (bytes, all together) for a verdict on them to be remembered: so much is
held in memory before they are verified."""


@dataclass(frozen=True)
class Whom:
    """Whom a verifier believes, and what it insists on: `root` is for `signers`,
    `rebuilder_roots` are those of the policy's rebuilders, in order."""

    policy: Policy
    root: Root
    signers: Signers
    rebuilder_roots: tuple[Root, ...] = ()


def known_or(
    verify: Callable[[Iterable[RawBundle]], Verdict],
    source: ImageSource,
    request: Request,
    whom: Whom,
    hashing: Hashing,
) -> Verdict:
    """The verdict on the image in `source`: the one remembered in `request.cache`, if the layers
    have, by `hashing`, the digests that it is about, else what `verify` makes of the bundles."""
    rest = bundles_of(source, request)
    if request.cache is None:
        return verify(rest)
    held, total = [], 0
    for bundle in rest:
        held.append(bundle)
        total += len(bundle.data)
        if total > MAX_HELD:
            return verify(chain(held, rest))
    fact = _fact(source, request, whom, held)
    data = request.cache.lookup(fact, "verdict") if fact else None
    found = _read(data, source) if data else None
    if found is not None and hashing.are_named(source.layers()):
        return found
    verdict = verify(held)
    if fact is not None and _lasts(verdict, source):
        request.cache.store(fact, "verdict", json.dumps(asdict(verdict)).encode())
    return verdict


def _fact(
    source: ImageSource, request: Request, whom: Whom, bundles: Sequence[RawBundle]
) -> Fact | None:
    """What a verdict is remembered under; None where it is a function of more than that, or
    something cannot be read."""
    if request.checkout or request.rebuild or request.inputs or not source.compressed:
        return None
    try:
        data = source.manifest()
        if data is None:
            return None
        manifest = parse_manifest(data)
        # Else the config that is verified could be another than the one here.
        if Digest.of(source.config()) != manifest.config.digest:
            return None
        roots = (whom.root, *whom.rebuilder_roots)
        fact = Fact(
            "verdict",
            {
                "manifest": Digest.of(data),
                **{f"root {n}": Digest.of(one.data) for n, one in enumerate(roots)},
                **{f"bundle {n}": Digest.of(one.data) for n, one in enumerate(bundles)},
            },
            VERSION,
            {
                "code": code(),
                "libraries": libraries(),
                "bundles": [[one.where, one.filed, one.problems] for one in bundles],
                "roots": [[one.shown, one.client] for one in roots],
                "signers": asdict(whom.signers),
                "policy": asdict(whom.policy),
                "expected": request.expected,
                "platform": request.platform,
                "only": request.only,
                "interpreters": request.interpreters.stamp() if request.interpreters else None,
                "name": source.name,
                "place": source.place,
                "by digest": source.by_digest,
                "called": list(source.called),
                "others": list(others_of(source, manifest)),
            },
        )
        fact.digest  # noqa: B018 - names may be in no Unicode
    except (PlinthError, OSError, ValueError):
        return None
    return fact


def _lasts(verdict: Verdict, source: ImageSource) -> bool:
    """Whether another run must find the same: it passed, and is about this very manifest."""
    return verdict.passed and verdict.digest == Digest.of(source.manifest() or b"").oci


def _read(data: bytes, source: ImageSource) -> Verdict | None:
    """The verdict in `data`; None where it is damaged."""
    try:
        held = json.loads(data)
        checks = tuple(
            Check(
                one["name"],
                one["detail"],
                tuple(one["problems"]),
                tuple(Claim(**claim) for claim in one["claims"]),
            )
            for one in held.pop("checks")
        )
        notes, run = tuple(held.pop("notes")), tuple(held.pop("run"))
        verdict = Verdict(checks=checks, notes=notes, run=run, **held)
        return verdict if _lasts(verdict, source) else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


@lru_cache(maxsize=1)
def code() -> str:
    """The SHA-256 of all files of this package, with their paths."""
    state = hashlib.sha256()
    for path in sorted(_files(str(PACKAGE))):
        # Without a buffer it takes half as long, and there are hundreds.
        with open(path, "rb", buffering=0) as opened:  # noqa: PTH123
            data = opened.readall()
        state.update(f"{path[len(str(PACKAGE)) :]}\n{len(data)}\n".encode())
        state.update(data)
    return state.hexdigest()


def _files(folder: str) -> Iterator[str]:
    for entry in os.scandir(folder):
        if not entry.is_dir():
            yield entry.path
        elif entry.name != "__pycache__":
            yield from _files(entry.path)


@lru_cache(maxsize=1)
def libraries() -> list[str]:
    """This Python, and what is installed for it with versions, as its folders are called (PyPA,
    "Recording installed projects")."""
    suffixes = (".dist-info", ".egg-info")
    folders = [Path(folder) for folder in sys.path if Path(folder).is_dir()]
    found = {one.name for folder in folders for one in folder.iterdir() if one.suffix in suffixes}
    return [sys.version, sys.platform, *sorted(found)]
