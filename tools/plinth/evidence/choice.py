"""Whose signatures are made and believed: chosen by name, said aloud, never one for another."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from sigstore._internal.rekor.client_v2 import RekorV2Client
from sigstore._utils import is_timerange_valid
from sigstore.errors import Error as SigstoreError
from sigstore.models import ClientTrustConfig, TrustedRoot
from sigstore.sign import SigningContext
from sigstore_models.trustroot.v1 import ClientTrustConfig as ClientModel
from sigstore_models.trustroot.v1 import TrustedRoot as Model

from plinth.core.errors import AttestationError
from plinth.core.settings import EMBEDDED, PUBLIC
from plinth.evidence.trusted_root import (
    CHOICES,
    Root,
    chosen,
    read_client,
    told,
    usable,
)

_WEB = re.compile(r"https?://([\w.-]+|\[[0-9a-f:.]+\])(:\d+)?(/|$)", re.IGNORECASE)


@dataclass(frozen=True)
class SigningTrust:
    """Where to sign: `shown` names it for people, `token` is the raw OIDC token it gives by
    itself, empty where one must be had elsewhere."""

    shown: str
    config: ClientTrustConfig
    token: str = ""

    @property
    def believed(self) -> Believed:
        """The root that verifiers of what is signed here believe."""
        # The library has no other way to it.
        return Believed(self.shown, self.config._inner.trusted_root)


@dataclass(frozen=True)
class Believed:
    """What is believed: `shown` names the root for people; `identity` and `issuer` are whose
    signatures it is there for, empty where it serves everybody."""

    shown: str
    model: Model
    identity: str = ""
    issuer: str = ""

    @property
    def root(self) -> TrustedRoot:
        """The root as sigstore-python takes it."""
        return TrustedRoot(self.model)


@contextlib.contextmanager
def signing_trust(choice: str) -> Iterator[SigningTrust]:
    """Where `choice` says to sign; the embedded domain's services run while the block does.

    Raises:
        AttestationError: nothing is chosen, or what is chosen cannot be used.
    """
    if choice == EMBEDDED:
        from plinth.authority.domain import default_folder, open_domain
        from plinth.authority.server import serving

        with serving(open_domain(default_folder(), passphrase=_passphrase())) as running:
            shown = f"the embedded trust domain {default_folder()}"
            config = ClientTrustConfig.from_json(running.trust_config)
            yield SigningTrust(shown, config, running.token())
    elif choice == PUBLIC:
        try:
            yield SigningTrust("the public Sigstore", ClientTrustConfig.production())
        except SigstoreError as error:
            raise AttestationError(
                "the public Sigstore's trusted root is not available",
                found=told(error),
                remedy="check the network, or choose another: " + CHOICES,
            ) from None
    else:
        root = read_client(choice, "sign")
        yield SigningTrust(root.shown, ClientTrustConfig(_client_model(root)))


def signing_context(trust: SigningTrust) -> SigningContext:
    """What the library needs to sign with `trust`.

    Raises:
        AttestationError: its signing config lacks a service, or names one that cannot be used.
    """
    services = trust.config._inner.signing_config
    try:
        for service in (*services.ca_urls, *services.rekor_tlog_urls, *services.tsa_urls):
            if not _WEB.match(service.url):
                raise ValueError(f"not a URL of http or https: {service.url!r}")
        context = SigningContext.from_trust_config(trust.config)
        if not any(
            is_timerange_valid(log.public_key.valid_for, allow_expired=False)
            for log in trust.believed.model.ctlogs
        ):
            raise ValueError("no certificate log of the trusted root is valid now")
    except (SigstoreError, ValueError) as error:
        raise AttestationError(
            "the signing config cannot be used to sign",
            where=trust.shown,
            expected="a Fulcio (API version 1), a Rekor (1 or 2) and time stamp authorities (1) "
            "that are valid now",
            found=told(error),
        ) from None
    if isinstance(context._rekor, RekorV2Client) and not context._tsa_clients:
        raise AttestationError(
            "the signing config cannot be used to sign",
            where=trust.shown,
            expected="a time stamp authority: Rekor v2 does not state when it took an entry",
            found="no tsaUrls that are valid now",
        )
    return context


def believed(choice: str, *, trusted_root: str = "", offline: bool = False) -> Believed:
    """What `choice` says to believe (see `plinth.evidence.trusted_root.chosen`), parsed.

    Raises:
        AttestationError: nothing is chosen, or what is chosen cannot be used.
    """
    return parsed(chosen(choice, trusted_root=trusted_root, offline=offline))


def parsed(root: Root) -> Believed:
    """The chosen `root`, parsed.

    Raises:
        AttestationError: it is no root.
    """
    if root.client:
        model = _client_model(root).trusted_root
    else:
        with usable(root.path, client=False):
            model = Model.from_json(root.data)
    return Believed(root.shown, model, root.identity, root.issuer)


def _client_model(root: Root) -> ClientModel:
    with usable(root.path, client=True):
        model = ClientModel.from_json(root.data)
    services = model.signing_config
    for service in (*services.ca_urls, *services.rekor_tlog_urls, *services.oidc_urls):
        # The library puts "/api/…" behind.
        service.url = service.url.rstrip("/")
    return model


def _passphrase() -> str | None:
    from plinth.authority.passphrase import passphrase_from_environment

    return passphrase_from_environment()
