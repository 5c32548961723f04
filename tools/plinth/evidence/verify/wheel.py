"""Verifying plinth's own wheel, which `plinth self --sign` signed, by the bundles beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from plinth.core.digest import Digest
from plinth.core.errors import PlinthError
from plinth.evidence.provenance import parse_wheel
from plinth.evidence.statement import PROVENANCE, SBOM
from plinth.evidence.verify.bundle import BundleVerifier
from plinth.evidence.verify.policy import Policy
from plinth.evidence.verify.provenance import check_origin
from plinth.evidence.verify.request import RawBundle
from plinth.evidence.verify.statements import about, authenticate, checks
from plinth.evidence.verify.verdict import Check, Verdict


def verify_wheel(
    path: Path, bundles: Sequence[RawBundle], verifier: BundleVerifier, policy: Policy
) -> Verdict:
    """Check signatures, origin and SBOM of the wheel at `path`.

    Raises:
        OSError: it cannot be read.
    """
    digest = Digest.of_file(path)
    found = about(authenticate(bundles, verifier), digest.hex, path.name)
    signed, notes = checks(found)
    made = list(signed)
    for one in found.proven.get(PROVENANCE, []):
        try:
            made.append(
                check_origin(parse_wheel(one.statement.predicate), one.authentic.certified, policy)
            )
        except PlinthError as error:
            made.append(Check("origin", "", (f"{one.where}: {error}",)))
    for one in found.proven.get(SBOM, []):
        try:
            main = one.statement.predicate["metadata"]["component"]
            hashes = [one["content"] for one in main["hashes"] if one["alg"] == "SHA-256"]
        except (KeyError, TypeError):
            hashes = []
        problem = f"it is of a file with SHA-256 {hashes}, this has {digest.hex}"
        made.append(Check("sbom", digest.oci, () if hashes == [digest.hex] else (problem,)))
    if policy.rebuilders:
        problem = "rebuilders state that of images alone; leave `rebuilders` out for the wheel"
        made.append(Check("rebuilt", "", (problem,)))
    return Verdict(str(path), digest.oci, tuple(made), tuple(notes))
