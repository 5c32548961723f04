"""All bundles of an image: which of them are authentic, about this image, and of which type."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from plinth.core.errors import AttestationError
from plinth.evidence.statement import PREDICATES, Statement, parse
from plinth.evidence.verify.bundle import Authentic, BundleVerifier
from plinth.evidence.verify.request import RawBundle
from plinth.evidence.verify.verdict import Check

_PLACE = re.compile(r"(localhost|[^/]*[.:][^/]*)/.")
"""A repository with its registry's host: Docker tells a host from a name by dot, port or
`localhost`."""

_PAYLOAD = re.compile(rb'"payload"\s*:\s*"([A-Za-z0-9+/=]+)"')
_KIND = re.compile(rb'"predicateType"\s*:\s*"([^"]{1,200})"')


@dataclass(frozen=True)
class Proven:
    """An authentic statement and the bundle it came in."""

    where: str
    statement: Statement
    authentic: Authentic


@dataclass
class Statements:
    """What all bundles came to: proven statements by predicate type, and refusals likewise (under
    the empty type where it cannot be told)."""

    proven: dict[str, list[Proven]] = field(default_factory=dict)
    refused: dict[str, list[str]] = field(default_factory=dict)

    def refuse(self, kind: str, reason: str) -> None:
        """Note that a bundle of `kind` proves nothing."""
        self.refused.setdefault(kind, []).append(reason)


def authenticate(bundles: Iterable[RawBundle], verifier: BundleVerifier) -> Statements:
    """Verify every one of `bundles`; whose image they are about is not looked at yet.

    One bundle that is attached several times, one behind the other, is verified once; of several
    that hold one statement by one signer (anybody may have it logged again), the first counts.
    """
    found, last = Statements(), b""
    proven: set[tuple[object, ...]] = set()
    result: tuple[Authentic, Statement] | AttestationError
    for bundle in bundles:
        if bundle.problems:
            found.refuse(kind_of(bundle), f"{bundle.where}: {'; '.join(bundle.problems)}")
            continue
        if bundle.data is not last or not last:
            result, last = _verified(bundle, verifier), bundle.data
        if isinstance(result, AttestationError):
            found.refuse(kind_of(bundle), str(result))
            continue
        authentic, statement = result
        if bundle.filed and bundle.filed != statement.predicate_type:
            for kind in (bundle.filed, statement.predicate_type):
                found.refuse(
                    kind,
                    f"{bundle.where}: filed as {bundle.filed}, it states "
                    f"{statement.predicate_type}",
                )
            continue
        signer = authentic.identity, authentic.issuer, *sorted(authentic.certified.items())
        key = hashlib.sha256(authentic.payload).digest(), signer
        if key not in proven:
            proven.add(key)
            found.proven.setdefault(statement.predicate_type, []).append(
                Proven(bundle.where, statement, authentic)
            )
    return found


def _verified(
    bundle: RawBundle, verifier: BundleVerifier
) -> tuple[Authentic, Statement] | AttestationError:
    try:
        authentic = verifier.verify(bundle.data, bundle.where)
        return authentic, parse(authentic.payload, bundle.where)
    except AttestationError as error:
        return error


def about(statements: Statements, digest: str, name: str) -> Statements:
    """Of `statements`, those whose one subject is the manifest `digest` (hexadecimal) and has the
    image's `name`, no name, or the name of a repository in a registry; the others are refused."""
    kept = Statements(refused={kind: list(reasons) for kind, reasons in statements.refused.items()})
    for kind, entries in statements.proven.items():
        for proven in entries:
            subjects = proven.statement.subjects
            if set(subjects) != {digest}:
                listed = ", ".join(f"sha256:{one} ({called})" for one, called in subjects.items())
                kept.refuse(kind, f"{proven.where}: it is about {listed}, not this image")
            # cosign's signatures have no name, and what it attests has the place where the image
            # was. The digest is of a manifest that has the name.
            elif subjects[digest] not in ("", name) and not _PLACE.match(subjects[digest]):
                kept.refuse(
                    kind, f"{proven.where}: it calls the image {subjects[digest]!r}, not {name!r}"
                )
            else:
                kept.proven.setdefault(kind, []).append(proven)
    return kept


def checks(statements: Statements) -> tuple[list[Check], list[str]]:
    """A check for each predicate type an image must have a statement of, and notes on bundles
    that were refused beside one that is good."""
    made, notes = [], []
    unknown = statements.refused.get("", [])
    for kind, called in PREDICATES.items():
        proven = statements.proven.get(kind, [])
        refused = [*statements.refused.get(kind, []), *unknown]
        label = "signature" if called == "signature" else f"signed {called}"
        if proven:
            made.append(Check(label, _detail(proven)))
            notes += [f"ignored: {reason}" for reason in statements.refused.get(kind, [])]
        else:
            problems = tuple(refused) or (f"no bundle with a statement of type {kind} was found",)
            made.append(Check(label, "", problems))
    if not statements.proven and not statements.refused:
        notes.append(
            "no bundle came with it, as with copies by skopeo and archives of `docker save`; "
            "--bundle PATH takes the signer's files"
        )
    if all(check.passed for check in made):
        notes += [f"ignored: {reason}" for reason in unknown]
    for kind, entries in statements.proven.items():
        if kind not in PREDICATES:
            notes += [
                f"{one.where}: a statement of type {kind} is not looked at" for one in entries
            ]
    return made, notes


def _detail(proven: Sequence[Proven]) -> str:
    one = proven[-1].authentic
    more = f" (and {len(proven) - 1} more)" if len(proven) > 1 else ""
    moment = one.time.strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"{one.identity}, log entry {one.log_index}, {moment}{more}"


def kind_of(bundle: RawBundle) -> str:
    """The predicate type that the payload claims, else the one it is filed under; believed by
    nobody: it sorts bundles and messages."""
    return _declared(bundle.data) or bundle.filed


# Of bundles that are attached several times, one behind the other, each is read once.
@lru_cache(maxsize=1)
def _declared(raw: bytes) -> str:
    try:
        # Not parsed: a stranger's may be large, and of any form.
        envelope = _PAYLOAD.search(raw)
        found = _KIND.search(base64.b64decode(envelope[1])) if envelope else None
    except ValueError:
        return ""
    return found[1].decode("utf-8", "replace") if found else ""
