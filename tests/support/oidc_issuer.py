"""An OIDC issuer on loopback: `python -m support.oidc_issuer PORT KEY` serves it."""

from __future__ import annotations

import http.server
import json
import sys
import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import RSAAlgorithm

CI = "/ci"
"""Below the issuer's URL is another issuer, that of a CI system."""


def token(issuer: str, key: Path, identity: str, **claims: object) -> str:
    """A token for `identity`; claims in place of its own, or None for none."""
    now = int(time.time())
    whole: dict[str, object] = {
        "iss": issuer,
        "aud": "sigstore",
        "sub": identity,
        "email": identity,
        "email_verified": True,
        "iat": now,
        "exp": now + 600,
        **claims,
    }
    kept = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(kept, key.read_bytes(), algorithm="RS256", headers={"kid": "1"})


def _pages(url: str, key: RSAPrivateKey) -> dict[str, object]:
    public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {
        "/.well-known/openid-configuration": {
            "issuer": url,
            "jwks_uri": f"{url}/keys",
            "authorization_endpoint": f"{url}/auth",
            "token_endpoint": f"{url}/token",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        },
        "/keys": {"keys": [{**public, "alg": "RS256", "use": "sig", "kid": "1"}]},
    }


def serve(port: int, key: Path) -> None:
    """Answer until the process ends."""
    private = load_pem_private_key(key.read_bytes(), None)
    assert isinstance(private, RSAPrivateKey)
    pages = {
        f"{of}{path}": page
        for of in ("", CI)
        for path, page in _pages(f"http://127.0.0.1:{port}{of}", private).items()
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path)
            body = json.dumps(page).encode()
            self.send_response(404 if page is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]))
