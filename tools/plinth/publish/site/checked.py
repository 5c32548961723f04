"""Verifying images while the site is made, by the policy or trust that somebody chose."""

from __future__ import annotations

from pathlib import Path

from plinth.core.errors import PlinthError
from plinth.core.settings import Config
from plinth.evidence.choice import believed
from plinth.evidence.verify.bundle import BundleVerifier, Signers
from plinth.evidence.verify.image import Request, verify_image
from plinth.evidence.verify.policy import Policy, load_policy
from plinth.fetch.sources.source import open_source
from plinth.graph.workspace import Workspace
from plinth.inspect.contents.read import ContentsCache
from plinth.publish.site.gather import Verify
from plinth.publish.site.model import Checked


def verify_by(
    ws: Workspace, config: Config, cache: ContentsCache, *, policy: str = "", trust: str = ""
) -> Verify | None:
    """What verifies an image of the layout by `policy` (a file) and `trust`, else by those of the
    settings; None where nobody chose any.

    Raises:
        PlinthError: what was chosen cannot be used, or says of nobody that they must have signed.
    """
    path = policy or config.policy
    said = Policy(trust=trust)
    if path:
        said = said.over(load_policy(Path(path)))
    said = said.over(Policy(trust=config.trust))
    if not said.trust and not said.trusted_root:
        return None
    root = believed(said.trust, trusted_root=said.trusted_root)
    identities = said.identities or ((root.identity,) if root.identity else ())
    issuer = said.issuer or root.issuer
    if not identities or not issuer:
        raise PlinthError(
            "nobody said who must have signed, and who must vouch for them",
            where=root.shown,
            remedy="`identity` and `issuer` in a --policy file",
        )
    verifier = BundleVerifier(root, Signers(identities, issuer))

    def verify(image_id: str) -> Checked:
        with open_source(f"oci:{ws.layout.root}:{image_id}", config) as source:
            request = Request(expected=image_id, checkout=ws.root, cache=cache, config=config)
            verdict = verify_image(source, verifier, said, request)
        failed = tuple(check.name for check in verdict.checks if not check.passed)
        if not verdict.passed and not failed:
            failed = ("manifest",)
        return Checked(len(verdict.checks), failed, identities, issuer)

    return verify
