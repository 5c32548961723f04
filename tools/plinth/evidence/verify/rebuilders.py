"""Who else built the image again and got the same bytes, and are they as many as is wanted?"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from plinth.evidence.rebuilt import parse
from plinth.evidence.statement import REBUILT
from plinth.evidence.verify.bundle import BundleVerifier, signer_of
from plinth.evidence.verify.request import RawBundle
from plinth.evidence.verify.root import told
from plinth.evidence.verify.statements import about, authenticate, kind_of
from plinth.evidence.verify.verdict import Check

MAX_REBUILT = 64 << 10
"""The largest bundle of a statement of a rebuild (bytes); ours have a tenth of it."""


@dataclass(frozen=True)
class Rebuilder:
    """Somebody whose word counts, and what verifies their bundles."""

    identity: str
    issuer: str
    verifier: BundleVerifier


def without_rebuilt(bundles: Iterable[RawBundle], rebuilt: list[RawBundle]) -> Iterator[RawBundle]:
    """Those of `bundles` that state no rebuild; the others are added to `rebuilt`, as many bytes of
    them as their form has."""
    for one in bundles:
        if kind_of(one) != REBUILT:
            yield one
        elif len(one.data) > MAX_REBUILT:
            problem = f"{len(one.data)} bytes are too many for a statement of a rebuild"
            rebuilt.append(RawBundle(one.where, b"", one.filed, (problem,)))
        else:
            rebuilt.append(one)


@dataclass(frozen=True)
class Subject:
    """What must have been rebuilt: the manifest's digest (hexadecimal), the name that the image is
    published as, and the SHA-256 of the statements of provenance that hold for it."""

    manifest: str
    name: str
    provenances: Collection[str]


def check_rebuilders(
    bundles: Sequence[RawBundle], wanted: int, named: Sequence[Rebuilder], subject: Subject
) -> tuple[Check, list[str]]:
    """Whether `wanted` of those `named` state, in `bundles`, that they rebuilt `subject`; and notes
    on bundles that do not count. An identity counts once."""
    found: list[str] = []
    reasons: list[str] = []
    for bundle in bundles:
        try:
            found += _counted(bundle, named, subject)
        except ValueError as error:
            reasons.append(str(error))
    identities = dict.fromkeys(one.identity for one in named)
    counted = [one for one in identities if one in found]
    missing = [one for one in identities if one not in found]
    names = f" ({', '.join(counted)})" if counted else ""
    detail = f"by {len(counted)}{names}; the policy wants {wanted}"
    if len(counted) >= wanted:
        return Check("rebuilt", detail), [f"not counted: {reason}" for reason in reasons]
    detail += "; each says so with plinth attest --rebuilt"
    return Check("rebuilt", detail, (f"not by {', '.join(missing)}", *reasons)), []


def _counted(bundle: RawBundle, named: Sequence[Rebuilder], subject: Subject) -> Iterator[str]:
    """The identity that the bundle counts for.

    Raises:
        ValueError: it counts for nobody; says why.
    """
    try:
        identity, issuer = signer_of(bundle.data)
    # Parsers of JSON, base64 and DER have nothing but Exception in common.
    except Exception as error:
        raise ValueError(f"{bundle.where}: not a Sigstore bundle: {told(error)[:200]}") from None
    signers = [one for one in named if (one.identity, one.issuer) == (identity, issuer)]
    if not signers:
        raise ValueError(
            f"{bundle.where}: signed by {identity} (issuer {issuer}), who is not a rebuilder that "
            "the policy names"
        )
    # The certificate is believed by nobody yet.
    stated = authenticate([bundle], signers[0].verifier)
    stated = about(stated, subject.manifest, subject.name)
    refused = [reason for kind in stated.refused.values() for reason in kind]
    if refused:
        raise ValueError(refused[0])
    for proven in stated.proven.get(REBUILT, []):
        try:
            rebuilt = parse(proven.statement.predicate)
        except ValueError as error:
            raise ValueError(f"{bundle.where}: {error}") from None
        if rebuilt.manifest != subject.manifest:
            raise ValueError(f"{bundle.where}: its rebuild gave sha256:{rebuilt.manifest}")
        if rebuilt.provenance not in subject.provenances:
            raise ValueError(
                f"{bundle.where}: rebuilt from the provenance sha256:{rebuilt.provenance}, which "
                "is none that holds for this image"
            )
        yield identity
