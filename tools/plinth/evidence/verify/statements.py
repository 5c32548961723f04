"""All bundles of an image: which of them are authentic, about this image, and of which type."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from plinth.core.errors import AttestationError, LayoutError
from plinth.evidence.statement import PREDICATES, Statement, parse
from plinth.evidence.verify.bundle import Authentic, BundleVerifier
from plinth.evidence.verify.verdict import Check
from plinth.formats.oci.referrers import payload
from plinth.formats.oci.strict import loads

_PLACE = re.compile(r"(localhost|[^/]*[.:][^/]*)/.")
"""A repository with its registry's host: Docker tells a host from a name by dot, port or
`localhost`."""


@dataclass(frozen=True)
class RawBundle:
    """A bundle as it was found: `where`, its bytes, the predicate type it is filed under (empty
    where nothing says), and what was wrong with how it is attached."""

    where: str
    data: bytes
    filed: str = ""
    problems: tuple[str, ...] = ()


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
    """Verify every one of `bundles`; whose image they are about is not looked at yet."""
    found = Statements()
    for bundle in bundles:
        kind = kind_of(bundle)
        if bundle.problems:
            found.refuse(kind, f"{bundle.where}: {'; '.join(bundle.problems)}")
            continue
        try:
            authentic = verifier.verify(bundle.data, bundle.where)
            statement = parse(authentic.payload, bundle.where)
        except AttestationError as error:
            found.refuse(kind, str(error))
            continue
        if bundle.filed and bundle.filed != statement.predicate_type:
            for kind in (bundle.filed, statement.predicate_type):
                found.refuse(
                    kind,
                    f"{bundle.where}: filed as {bundle.filed}, it states "
                    f"{statement.predicate_type}",
                )
            continue
        found.proven.setdefault(statement.predicate_type, []).append(
            Proven(bundle.where, statement, authentic)
        )
    return found


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
    try:
        kind = loads(payload(bundle.data))["predicateType"]
    except (LayoutError, ValueError, KeyError, TypeError):
        return bundle.filed
    return kind if isinstance(kind, str) and kind else bundle.filed
