"""Signing statements by a trust that was chosen, and verifying what came of it."""

from __future__ import annotations

from collections.abc import Sequence

from sigstore.dsse import Statement

from plinth.core.errors import AttestationError, PlinthError
from plinth.core.report import Progress
from plinth.core.settings import Config
from plinth.evidence.choice import SigningTrust, signing_context, signing_trust
from plinth.evidence.identity import identity_token
from plinth.evidence.services import unusable, watch
from plinth.evidence.verify.bundle import BundleVerifier, log_index, signer_of
from plinth.evidence.verify.policy import Signers


def sign_statements(
    statements: Sequence[tuple[str, bytes]],
    *,
    trust: str,
    token: str,
    config: Config,
    progress: Progress,
) -> list[tuple[bytes, int]]:
    """Sign each of `statements`, which go by names for messages: its bundle, and the bundle's index
    in the log.

    Args:
        trust: the trust to sign with (see `plinth.evidence.choice`); empty for the settings'.
        token: the file of an identity token (see `plinth.evidence.identity`).

    Raises:
        AttestationError: the trust, the identity or a service failed, or what was signed does not
            verify against the trust's own root.
    """
    with signing_trust(trust or config.trust) as where:
        progress(f"signing with {where.shown}")
        # So is the root that they are verified against.
        BundleVerifier(where.believed, Signers(()))
        context = signing_context(where)
        identity = identity_token(where, token, progress=progress)
        asked = watch(context)
        try:
            with context.signer(identity) as signer:
                signed = [signer.sign_dsse(Statement(data)) for _, data in statements]
            bundles = [(one.to_json().encode(), log_index(one)) for one in signed]
        # The library's errors, and those of its parsers, have nothing else in common.
        except Exception as error:
            found = (
                error
                if isinstance(error, PlinthError)
                else unusable([where.shown, *asked][-1], error)
            )
            found.what += "; nothing was attached or replaced"
            found.where = where.shown
            raise found from None
        for (name, _), (bundle, _) in zip(statements, bundles, strict=True):
            _verify(name, bundle, where)
    return bundles


def _verify(name: str, bundle: bytes, where: SigningTrust) -> None:
    """What was signed verifies, as anybody who believes the trust's own root will see it.

    Raises:
        AttestationError: it does not.
    """
    identity, issuer = signer_of(bundle)
    verifier = BundleVerifier(where.believed, Signers((identity,), issuer))
    try:
        verifier.verify(bundle, name)
    except AttestationError as error:
        raise AttestationError(
            "what was signed does not verify; nothing was attached or replaced",
            where=where.shown,
            expected="signatures that verify against the trusted root of the same trust",
            found=str(error),
            remedy="mend the trust: its trusted root must be that of the services it signs "
            "with, and valid now",
        ) from None
