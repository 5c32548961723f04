"""The token issuer: short-lived OIDC identity tokens (ES256), minted by who holds the key."""

from __future__ import annotations

import base64
import datetime
import secrets
from dataclasses import dataclass

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from plinth.authority.keys import key_id
from plinth.authority.refused import RefusedError

AUDIENCE = "sigstore"
TOKEN_LIFE = datetime.timedelta(minutes=5)


@dataclass(frozen=True)
class Issuer:
    """An issuer of tokens: its URL (the claim `iss`) and its key."""

    url: str
    key: ec.EllipticCurvePrivateKey

    @property
    def _kid(self) -> str:
        return base64.urlsafe_b64encode(key_id(self.key.public_key())).decode().rstrip("=")

    def token(self, identity: str, now: datetime.datetime) -> str:
        """A token for `identity`, good for five minutes from `now`."""
        issued = int(now.timestamp())
        claims: dict[str, object] = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": identity,
            "iat": issued,
            "exp": issued + int(TOKEN_LIFE.total_seconds()),
            "jti": secrets.token_hex(16),
        }
        if "@" in identity and ":" not in identity:
            claims |= {"email": identity, "email_verified": True}
        return jwt.encode(claims, self.key, algorithm="ES256", headers={"kid": self._kid})

    def identity_of(self, token: str) -> str:
        """Whom the token stands for.

        Raises:
            RefusedError: 401: it is not a token of this issuer, for this audience, in force.
        """
        try:
            claims = jwt.decode(
                token,
                self.key.public_key(),
                algorithms=["ES256"],
                audience=AUDIENCE,
                issuer=self.url,
                options={"require": ["iss", "aud", "sub", "iat", "exp"]},
            )
        except jwt.InvalidTokenError as error:
            raise RefusedError(401, f"the identity token is not accepted: {error}") from None
        return str(claims["sub"])

    def keys(self) -> dict[str, object]:
        """The public key as a JSON Web Key Set (RFC 7517)."""
        found = ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return {"keys": [{**found, "kid": self._kid, "use": "sig", "alg": "ES256"}]}
