"""A trust domain, a server on it, and what sigstore-python signs with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sigstore.dsse import DigestSet, Statement, StatementBuilder, Subject
from sigstore.models import Bundle, ClientTrustConfig
from sigstore.oidc import IdentityToken
from sigstore.sign import SigningContext

from plinth.authority.domain import Domain, init_domain
from plinth.authority.server import Running, serving

IDENTITY = "me@example.org"
OLD_POLICY = "2.25.134270742004134242326968837599937132564"
"""The policy of time stamps made before cosign was tried, whose last arc has 128 bits."""

Sign = Callable[[Running, int], list[Bundle]]


@pytest.fixture
def domain(tmp_path: Path) -> Domain:
    return init_domain(tmp_path / "trust", IDENTITY)


@pytest.fixture
def running(domain: Domain) -> Iterator[Running]:
    with serving(domain) as found:
        yield found


def _statement(number: int) -> Statement:
    subject = Subject(name="image", digest=DigestSet({"sha256": f"{number:064x}"}))
    return StatementBuilder([subject], "https://example.org/predicate", {"number": number}).build()


@pytest.fixture
def sign() -> Sign:
    """Signs statements through sigstore-python's ordinary interface, one certificate for all."""

    def signed(running: Running, count: int) -> list[Bundle]:
        context = SigningContext.from_trust_config(
            ClientTrustConfig.from_json(running.trust_config)
        )
        with context.signer(IdentityToken(running.token())) as signer:
            return [signer.sign_dsse(_statement(number)) for number in range(count)]

    return signed
