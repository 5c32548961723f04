"""The one way from a policy to verdicts: for `verify`, for what hands images on or takes them in,
for tags that move, and for the site."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from plinth.core.errors import AttestationError, LayoutError, PlinthError, VerificationError
from plinth.core.loading import loading
from plinth.core.settings import Config
from plinth.evidence.trusted_root import Root, chosen
from plinth.evidence.verify.known import Whom, known_or
from plinth.evidence.verify.policy import Policy, Signers, in_force
from plinth.evidence.verify.request import RawBundle, Request
from plinth.evidence.verify.verdict import Verdict
from plinth.fetch.sources.model import ImageSource
from plinth.fetch.sources.source import open_source
from plinth.formats.oci.layout import ImageReference
from plinth.formats.oci.reference import LayoutReference
from plinth.graph.workspace import Workspace
from plinth.inspect.contents.cache import ContentsCache, contents_cache, known_layers
from plinth.inspect.contents.hashing import Hashing, LayerBlob

if TYPE_CHECKING:
    from plinth.evidence.verify.bundle import BundleVerifier
    from plinth.evidence.verify.rebuilders import Rebuilder


@dataclass(frozen=True)
class Gate(Whom):
    """Verification by one policy. Roots are parsed, and the libraries that verify are loaded, when
    the first verdict is not known already."""

    @property
    def shown(self) -> str:
        """The signers and the root for people."""
        signers = self.signers
        who = " or ".join(signers.identities)
        return f"{who}, issuer {signers.issuer} (root: {self.root.shown})"

    @cached_property
    def verifier(self) -> BundleVerifier:
        """What verifies the signers' bundles.

        Raises:
            AttestationError: the root cannot be used.
        """
        return _verifier(self.root, self.signers)

    @cached_property
    def rebuilders(self) -> tuple[Rebuilder, ...]:
        """The policy's rebuilders, each with what verifies their bundles.

        Raises:
            AttestationError: a root cannot be used.
        """
        from plinth.evidence.verify.rebuilders import Rebuilder

        named = zip(self.policy.rebuilder_identities, self.rebuilder_roots, strict=True)
        return tuple(
            Rebuilder(
                one.identity, one.issuer, _verifier(root, Signers((one.identity,), one.issuer))
            )
            for one, root in named
        )

    def verdict(self, source: ImageSource, request: Request) -> Verdict:
        """What is found of the image in `source`.

        Raises:
            AttestationError: a root cannot be used.
        """

        def verify(bundles: Iterable[RawBundle]) -> Verdict:
            with loading():
                from plinth.evidence.verify.image import verify_image

            verifier, rebuilders = self.verifier, self.rebuilders
            return verify_image(
                source, verifier, self.policy, request, rebuilders, bundles, hashing
            )

        with Hashing(_known(source, request.cache)) as hashing:
            return known_or(verify, source, request, self, hashing)

    def proves(self, bundle: bytes) -> bool:
        """Whether a bundle is of one of the signers, or of the policy's rebuilders; of whatever
        image."""
        for one in (self.verifier, *(rebuilder.verifier for rebuilder in self.rebuilders)):
            with suppress(AttestationError):
                one.verify(bundle, "a bundle")
                return True
        return False

    def admit(self, source: ImageSource, request: Request) -> Verdict:
        """The verdict on the image in `source`, which is to be handed on or taken in.

        Raises:
            VerificationError: it does not verify.
        """
        verdict = self.verdict(source, request)
        if not verdict.passed:
            raise VerificationError(
                f"it does not verify\n{failures(verdict)}",
                where=f"{source.name}, {verdict.digest}".removesuffix(", "),
                remedy="sign it (plinth sign) where it is yours; --no-verify takes it all the same",
            )
        return verdict

    def admit_built(self, ws: Workspace, image: ImageReference, config: Config) -> None:
        """See that an image of the layout verifies by its name, and is still that very manifest.

        Raises:
            VerificationError: it does not verify.
            LayoutError: the name stands for another image by now.
        """
        with open_source(LayoutReference(ws.layout.root, image.name), config) as source:
            request = Request(expected=image.name, cache=contents_cache(), config=config)
            found = self.admit(source, request).digest
        if found != image.manifest.oci:
            raise LayoutError(
                "the image was built again meanwhile",
                where=image.name,
                expected=image.manifest.oci,
                found=found,
                remedy="run it again",
            )


def _known(source: ImageSource, cache: ContentsCache | None) -> Sequence[LayerBlob]:
    """The layers in `source` that are on this machine, and of which `cache` has what they hold.
    They are hashed before a signature counts, and nothing more."""
    if cache is None or source.place:
        return []
    try:
        return known_layers(source.layers(), cache)
    except PlinthError:
        # Whoever goes on to read the manifest hears what is wrong.
        return []


def _verifier(root: Root, signers: Signers) -> BundleVerifier:
    from plinth.evidence.choice import parsed
    from plinth.evidence.verify.bundle import BundleVerifier

    return BundleVerifier(parsed(root), signers)


def open_gate(policy: Policy, *, offline: bool = False, later: bool = False) -> Gate:
    """The gate by `policy`; `offline` is as in `plinth.evidence.trusted_root.chosen`. An identity
    and an issuer that the policy lacks are those that its root is there for. `later` parses roots
    with the first verdict that needs them.

    Raises:
        AttestationError: no root, no identity or no issuer is given, or the root cannot be used.
    """
    root = chosen(policy.trust, trusted_root=policy.trusted_root, offline=offline)
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
    theirs = tuple(
        chosen("", trusted_root=one.trusted_root) if one.trusted_root else root
        for one in policy.rebuilder_identities
    )
    gate = Gate(policy, root, Signers(identities, issuer), theirs)
    if not later:
        _ = gate.verifier, gate.rebuilders
    return gate


def required(
    config: Config, *, policy: str = "", trust: str = "", no_verify: bool = False
) -> Gate | None:
    """The gate of commands that hand images on or take them in: by the policy file `policy`, else
    the settings'. None where there is neither, or `no_verify` was asked for.

    Raises:
        AttestationError, ProblemsError: as `open_gate` and `in_force`.
    """
    if no_verify or not (policy or config.policy):
        return None
    return open_gate(in_force(config, Policy(trust=trust), policy))


def state(gate: Gate | None) -> str:
    """What a command says of images that went by the gate."""
    return "not verified" if gate is None else "verified"


def failures(verdict: Verdict) -> str:
    """The checks that failed, a line each, with the first thing wrong."""
    return "\n".join(
        f"{check.name}: {check.problems[0]}" for check in verdict.checks if not check.passed
    )
