"""Who signs: a token that was given, the one of the machine's surroundings, or a browser's."""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
from sigstore.oidc import IdentityToken, Issuer, detect_credential

from plinth.core.errors import AttestationError
from plinth.core.http import system_reason
from plinth.core.report import Progress
from plinth.evidence.choice import SigningTrust

VARIABLE = "PLINTH_IDENTITY_TOKEN"
AUDIENCE = "sigstore"
"""Whom a token must be for, by Fulcio's convention."""


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
    except AttestationError:
        raise
    # Of the library, of what it asks a provider with, and of what it reads the answer with.
    except Exception as error:
        raise AttestationError(
            "the identity token cannot be used",
            where=where,
            expected=f"a token (JWT) of an OIDC issuer, for the audience {AUDIENCE!r}, valid now",
            found=_told(error, raw),
            remedy="get a new one, for this audience; a token is good for minutes",
        ) from None
    progress(f"signing as {token.identity} ({token.federated_issuer}); token from {where}")
    return token


def _told(error: Exception, raw: str) -> str:
    """Why a token or its provider failed; the token's own claims, of which none is secret."""
    # The library says of all of them that the token is malformed or lacks claims.
    cause = error.__cause__ or error
    claims: dict[str, Any] = {}
    with contextlib.suppress(jwt.PyJWTError):
        claims = jwt.decode(raw.strip(), options={"verify_signature": False})
    if isinstance(cause, jwt.ExpiredSignatureError):
        return f"it expired at {_shown(claims.get('exp'))}"
    if "not within its validity period" in str(error):
        return f"it is not valid before {_shown(claims.get('nbf'))}"
    if isinstance(cause, jwt.InvalidAudienceError):
        return f"it is for the audience {claims.get('aud')!r}"
    if isinstance(cause, jwt.MissingRequiredClaimError):
        return f"it has no claim {cause.claim!r}"
    if isinstance(cause, jwt.PyJWTError):
        return str(cause) if claims else "it is not a JSON Web Token"
    return system_reason(cause) or str(error).strip() or type(cause).__name__


def _shown(seconds: object) -> str:
    try:
        moment = datetime.datetime.fromtimestamp(int(str(seconds)), datetime.timezone.utc)
    except (ValueError, OverflowError, OSError):
        return repr(seconds)
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


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
