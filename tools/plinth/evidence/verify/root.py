"""A trusted root: can all of it be read, before anything is verified against it?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import urlsplit

from cryptography.x509 import Certificate, load_der_x509_certificate
from pydantic import ValidationError
from sigstore._internal.trust import Key
from sigstore.models import TrustedRoot
from sigstore_models.trustroot.v1 import CertificateAuthority, TransparencyLogInstance
from sigstore_models.trustroot.v1 import TrustedRoot as Model

_ADVICE = re.compile(r"\s*For further information visit \S+| \[type=\w+, input_value=.*?\]$", re.M)


def check_root(model: Model) -> None:
    """See that `model` has what verifying needs, and that all it has can be read. One log that
    cannot is an error, as for sigstore-go; sigstore-python would warn and go on without it.

    Raises:
        ValueError: says what is missing, or which log or authority cannot be read and why.
    """
    for name, held in (
        ("tlogs", model.tlogs),
        ("ctlogs", model.ctlogs),
        ("certificateAuthorities", model.certificate_authorities),
    ):
        if not held:
            raise ValueError(f"{name}: there is none")
    for where, check in _checks(model):
        try:
            check()
        # The parsers of keys and certificates have no error in common.
        except Exception as error:
            raise ValueError(f"{where}: {told(error) or type(error).__name__}") from None


def _checks(model: Model) -> Iterator[tuple[str, Callable[[], object]]]:
    """Each part of a root by its place, and what reads it."""
    yield "mediaType", partial(TrustedRoot, model)
    for name, logs in (("tlogs", model.tlogs), ("ctlogs", model.ctlogs)):
        for number, log in enumerate(logs):
            yield f"{name}[{number}]", partial(_check_log, log)
    for name, authorities in (
        ("certificateAuthorities", model.certificate_authorities),
        ("timestampAuthorities", model.timestamp_authorities),
    ):
        for number, authority in enumerate(authorities):
            yield f"{name}[{number}]", partial(_check_authority, authority)


def _check_log(log: TransparencyLogInstance) -> None:
    Key(log.public_key)
    if not log.log_id.key_id:
        raise ValueError("its id is empty")
    urlsplit(log.base_url)


def _check_authority(authority: CertificateAuthority) -> None:
    if not list(certificates(authority)):
        raise ValueError("it has no certificate")


def certificates(authority: CertificateAuthority) -> Iterator[Certificate]:
    """The chain of an authority: leaf first, root last."""
    for certificate in authority.cert_chain.certificates:
        yield load_der_x509_certificate(certificate.raw_bytes)


def told(error: Exception) -> str:
    """What a parser's error says, without addresses and advice for programmers."""
    if isinstance(error, ValidationError):
        found = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        return "; ".join(found[:3])
    # Errors that the library wrapped in its own.
    return _ADVICE.sub("", str(error))
