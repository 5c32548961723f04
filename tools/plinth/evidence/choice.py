"""Whose signatures are made and believed: chosen by name, said aloud, never one for another."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sigstore._internal.rekor.client_v2 import RekorV2Client
from sigstore._utils import is_timerange_valid
from sigstore.errors import Error as SigstoreError
from sigstore.models import ClientTrustConfig, TrustedRoot
from sigstore.sign import SigningContext
from sigstore_models.trustroot.v1 import ClientTrustConfig as ClientModel
from sigstore_models.trustroot.v1 import TrustedRoot as Model

from plinth.core.errors import AttestationError
from plinth.formats.oci.strict import loads

# Libraries warn on standard error where nobody listens; what matters of it is an error here.
for _name in ("sigstore", "tuf", "securesystemslib"):
    logging.getLogger(_name).addHandler(logging.NullHandler())

PUBLIC, EMBEDDED = "public", "embedded"
_CHOICES = (
    "--trust TRUST (with doit: trust=TRUST), or `trust` in the settings, where TRUST is one of\n"
    "public: Sigstore's own\n"
    "embedded: a trust domain on this machine; plinth trust init makes one\n"
    "FILE: the client trust config of a private instance"
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
                found=_told(error),
                remedy="check the network, or choose another: " + _CHOICES,
            ) from None
    else:
        path = _file(choice, "sign")
        yield SigningTrust(f"the instance of {path}", ClientTrustConfig(_client_model(path)))


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
            found=_told(error),
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
    """What `choice` says to believe; `trusted_root`, a file, comes before it. `offline` takes the
    public root as it was last seen, without asking.

    Raises:
        AttestationError: nothing is chosen, or what is chosen cannot be used.
    """
    if trusted_root:
        path = Path(trusted_root)
        try:
            return Believed(f"the trusted root {path}", Model.from_json(_read(path)))
        except (SigstoreError, OSError, ValueError) as error:
            raise AttestationError(
                "not a trusted root that can be used",
                where=str(path),
                expected="a trusted_root.json, as `plinth trust export` or Sigstore's TUF "
                "repository have it",
                found=_told(error),
            ) from None
    if choice == EMBEDDED:
        from plinth.authority.domain import default_folder, read_state
        from plinth.authority.roots import trusted_root as root_of

        # Believing takes no private key, so none is opened.
        state = read_state(default_folder())
        root = Model.from_json(root_of(state))
        shown = f"the embedded trust domain {default_folder()}"
        return Believed(shown, root, state.identity, state.issuer)
    if choice == PUBLIC:
        try:
            # The library has no other way to what its TUF client holds.
            model = ClientTrustConfig.production(offline=offline)._inner.trusted_root
        except SigstoreError as error:
            raise AttestationError(
                "the public Sigstore's trusted root is not available",
                found=_told(error),
                remedy="give it as a file: --trusted-root",
            ) from None
        return Believed("the public Sigstore", model)
    path = _file(choice, "verify")
    return Believed(f"the instance of {path}", _client_model(path).trusted_root)


def _file(choice: str, verb: str) -> Path:
    if not choice:
        raise AttestationError(
            "no trusted root was given" if verb == "verify" else "no trust was given to sign with",
            remedy=("--trusted-root FILE, or " if verb == "verify" else "") + _CHOICES,
        )
    path = Path(choice)
    if not path.is_file():
        raise AttestationError("no such trust", where=choice, remedy=_CHOICES)
    return path


def _client_model(path: Path) -> ClientModel:
    try:
        model = ClientModel.from_json(_read(path))
    except (SigstoreError, OSError, ValueError) as error:
        raise AttestationError(
            "not a client trust config that can be used",
            where=str(path),
            expected="JSON of media type application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            found=_told(error),
        ) from None
    services = model.signing_config
    for service in (*services.ca_urls, *services.rekor_tlog_urls, *services.oidc_urls):
        # The library puts "/api/…" behind.
        service.url = service.url.rstrip("/")
    return model


def _read(path: Path) -> bytes:
    """The JSON in a file, in which every reader finds the same: the library takes the last of two
    keys."""
    data = path.read_bytes()
    loads(data)
    return data


def _passphrase() -> str | None:
    from plinth.authority.passphrase import passphrase_from_environment

    return passphrase_from_environment()


def _told(error: BaseException) -> str:
    """What a library's error says, without the advice it has for its own users."""
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
