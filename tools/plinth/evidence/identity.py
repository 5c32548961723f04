"""Who signs: a token that was given, the one of the machine's surroundings, or a browser's."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from sigstore.errors import Error as SigstoreError
from sigstore.oidc import IdentityError, IdentityToken, Issuer, IssuerError, detect_credential

from plinth.core.errors import AttestationError
from plinth.core.report import Progress
from plinth.evidence.choice import SigningTrust

VARIABLE = "PLINTH_IDENTITY_TOKEN"


def identity_token(
    trust: SigningTrust,
    given: str,
    *,
    progress: Progress,
    environment: Mapping[str, str] = os.environ,
) -> IdentityToken:
    """The token to sign with, said by `progress`: that in the file `given` (`-`: standard input),
    else in $PLINTH_IDENTITY_TOKEN, else the trust's own, else the ambient one of a CI system, else
    the one a browser brings where somebody sits at a terminal.

    Raises:
        AttestationError: there is none, or it cannot be used.
    """
    raw, where = _raw(trust, given, environment)
    try:
        if not raw:
            ambient = detect_credential()
            if ambient:
                raw, where = ambient, "the CI system"
        if raw:
            token = IdentityToken(raw.strip())
        elif sys.stdin.isatty():
            where = "the browser"
            token = Issuer(trust.config.signing_config.get_oidc_url()).identity_token()
        else:
            raise AttestationError(
                "no identity to sign with",
                where=trust.shown,
                remedy=f"give a token: --identity-token FILE or ${VARIABLE}; or run in a CI system "
                "with an ambient OIDC token, or at a terminal for a browser login",
            )
    except (IdentityError, IssuerError, SigstoreError) as error:
        raise AttestationError(
            "the identity token cannot be used", where=where, found=str(error).strip()
        ) from None
    progress(f"signing as {token.identity} ({token.federated_issuer}); token from {where}")
    return token


def _raw(trust: SigningTrust, given: str, environment: Mapping[str, str]) -> tuple[str, str]:
    if given == "-":
        return sys.stdin.read(), "standard input"
    if given:
        try:
            return Path(given).read_text(encoding="utf-8"), given
        except (OSError, UnicodeDecodeError) as error:
            raise AttestationError(
                "the identity token cannot be read", where=given, found=str(error)
            ) from None
    if environment.get(VARIABLE):
        return environment[VARIABLE], f"${VARIABLE}"
    return trust.token, trust.shown
