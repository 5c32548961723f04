"""The one way from a policy to verdicts: for `verify`, for tags that move, and for the site."""

from __future__ import annotations

from dataclasses import dataclass

from plinth.core.errors import AttestationError
from plinth.evidence.choice import believed
from plinth.evidence.verify.bundle import BundleVerifier, Signers
from plinth.evidence.verify.image import Request, verify_image
from plinth.evidence.verify.policy import Policy
from plinth.evidence.verify.verdict import Verdict
from plinth.fetch.sources.model import ImageSource


@dataclass(frozen=True)
class Gate:
    """Verification by one policy; `shown` names the signers and the root for people."""

    policy: Policy
    verifier: BundleVerifier
    signers: Signers
    shown: str

    def verdict(self, source: ImageSource, request: Request) -> Verdict:
        """What is found of the image in `source`."""
        return verify_image(source, self.verifier, self.policy, request)


def open_gate(policy: Policy, *, offline: bool = False) -> Gate:
    """The gate by `policy`; `offline` is as in `plinth.evidence.choice.believed`. An identity and
    an issuer that the policy lacks are those that its root is there for.

    Raises:
        AttestationError: no root, no identity or no issuer is given, or the root cannot be used.
    """
    root = believed(policy.trust, trusted_root=policy.trusted_root, offline=offline)
    identities = policy.identities or ((root.identity,) if root.identity else ())
    issuer = policy.issuer or root.issuer
    if not identities or not issuer:
        # One without the other is anybody who has that name somewhere.
        raise AttestationError(
            "no signer identity and issuer were given",
            where=root.shown,
            remedy="`identity` and `issuer` in a policy file: --policy FILE, or `policy` in the "
            "settings; for `plinth verify` also --identity WHO --issuer URL",
        )
    signers = Signers(identities, issuer)
    shown = f"{' or '.join(identities)}, issuer {issuer} (root: {root.shown})"
    return Gate(policy, BundleVerifier(root, signers), signers, shown)


def failures(verdict: Verdict) -> str:
    """The checks that failed, a line each, with the first thing wrong."""
    return "\n".join(
        f"{check.name}: {check.problems[0]}" for check in verdict.checks if not check.passed
    )
