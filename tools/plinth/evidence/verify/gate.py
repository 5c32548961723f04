"""What an image in a registry must pass before a tag that moves may name it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plinth.core.errors import AttestationError
from plinth.core.settings import Config
from plinth.evidence.choice import believed
from plinth.evidence.verify.bundle import BundleVerifier, Signers
from plinth.evidence.verify.image import Request, verify_image
from plinth.evidence.verify.policy import Policy, load_policy
from plinth.evidence.verify.verdict import Verdict
from plinth.fetch.sources.model import ImageSource
from plinth.inspect.contents.read import contents_cache


@dataclass(frozen=True)
class Gate:
    """Verification as `plinth verify` does it, by one policy."""

    policy: Policy
    verifier: BundleVerifier
    shown: str

    def verdict(self, source: ImageSource, expected: str, config: Config) -> Verdict:
        """What is found of the image in `source`, which must be the one called `expected`."""
        request = Request(expected=expected, cache=contents_cache(), config=config)
        return verify_image(source, self.verifier, self.policy, request)


def open_gate(config: Config, *, policy: str = "", trust: str = "") -> Gate:
    """The gate by a policy file (else the settings' own) and a choice of trust.

    Raises:
        AttestationError: nobody said whose signatures count, or it cannot be used.
        ProblemsError: the policy is not one.
    """
    said = Policy(trust=trust)
    path = policy or config.policy
    if path:
        said = said.over(load_policy(Path(path)))
    said = said.over(Policy(trust=config.trust))
    root = believed(said.trust, trusted_root=said.trusted_root)
    identities = said.identities or ((root.identity,) if root.identity else ())
    issuer = said.issuer or root.issuer
    if not identities or not issuer:
        raise AttestationError(
            "nobody said who must have signed, and who must vouch for them",
            where=root.shown,
            remedy="`policy` in the settings, or --policy FILE, with `identity` and `issuer`",
        )
    shown = f"{' or '.join(identities)} ({issuer}) by {root.shown}"
    return Gate(said, BundleVerifier(root, Signers(identities, issuer)), shown)


def failures(verdict: Verdict) -> str:
    """The checks that failed, a line each, with the first thing wrong."""
    return "\n".join(
        f"{check.name}: {check.problems[0]}" for check in verdict.checks if not check.passed
    )
