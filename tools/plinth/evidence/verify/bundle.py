"""One Sigstore bundle: is it what somebody we believe signed, logged and had timestamped?

sigstore-python checks certificate, SCT, identity, inclusion proof, checkpoint, promise and
signature. What it leaves open is checked here: the payload's type, that a timestamp which is
there is also true, that a log's promise is there, that log and authority were in office then,
and that proof and checkpoint speak of the same tree.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509 import Certificate
from rfc3161_client import (
    TimeStampResponse,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)
from sigstore.models import Bundle, TrustedRoot
from sigstore.verify import Verifier
from sigstore.verify.policy import AllOf, AnyOf, Identity, OIDCIssuerV2, VerificationPolicy
from sigstore_models.bundle.v1 import Bundle as Model
from sigstore_models.common.v1 import TimeRange
from sigstore_models.rekor.v1 import TransparencyLogEntry
from sigstore_models.trustroot.v1 import CertificateAuthority

from plinth.core.errors import AttestationError
from plinth.evidence.choice import Believed
from plinth.evidence.statement import PAYLOAD_TYPE
from plinth.evidence.verify.certificate import facts, signer
from plinth.evidence.verify.logs import certificate_log_of, log_of, timeless
from plinth.evidence.verify.policy import Signers
from plinth.evidence.verify.root import certificates, check_root, told
from plinth.formats.oci.referrers import BUNDLE
from plinth.formats.oci.strict import loads

_TOKENS, _MAX_TOKENS = (b"{", b"[", b",", b"\\"), 10_000


@dataclass(frozen=True)
class Authentic:
    """What a bundle proved: the payload, who signed it and who vouched for them, when (by the
    timestamp authority where the root has one), its index in the log, and what the certificate
    says of the build (see `plinth.evidence.verify.certificate`)."""

    payload: bytes
    identity: str
    issuer: str
    time: datetime.datetime
    log_index: int
    certified: Mapping[str, str] = field(default_factory=dict)


def _policy(signers: Signers) -> VerificationPolicy:
    """The library's policy for `signers`."""
    who = AnyOf([Identity(identity=one) for one in signers.identities])
    return AllOf([who, OIDCIssuerV2(signers.issuer)]) if signers.issuer else who


def log_index(bundle: Bundle) -> int:
    """The index in its log of what `bundle` holds."""
    return _model(bundle.to_json()).verification_material.tlog_entries[0].log_index


def signer_of(raw: bytes) -> tuple[str, str]:
    """Who signed the bundle in `raw`, by its certificate, and who vouched for them; nothing is
    verified."""
    return signer(Bundle.from_json(raw).signing_certificate)


def _is_of_many(raw: bytes) -> bool:
    return sum(map(raw.count, _TOKENS)) > _MAX_TOKENS


def _model(raw: str | bytes) -> Model:
    return Model.from_json(raw)


class BundleVerifier:
    """Checks bundles against one root and one set of signers.

    Raises:
        AttestationError: the root lacks an authority or a log, or holds one that cannot be read.
    """

    def __init__(self, believed: Believed, signers: Signers) -> None:
        self._believed = believed
        self._signers = signers
        try:
            check_root(believed.model)
        except ValueError as error:
            raise AttestationError(
                "the trusted root cannot be used to verify",
                where=believed.shown,
                expected="certificate authorities, transparency logs and certificate logs that "
                "can be read",
                found=str(error)[:500],
                remedy="get the root again from whoever runs the instance",
            ) from None

    def verify(self, raw: bytes, where: str) -> Authentic:
        """What the bundle in `raw`, called `where` in messages, proves.

        Raises:
            AttestationError: it proves nothing; says which part of it is wrong.
        """
        # Nearly all of a bundle is the payload, one string; what else could take long to read?
        if _is_of_many(raw):
            raise self._wrong(where, "not a Sigstore bundle", "more fields than one has")
        try:
            # Its parsers take the last of two keys; others' need not.
            held = loads(raw)
            bundle, model = Bundle.from_json(raw), _model(raw)
            for logged in model.verification_material.tlog_entries:
                if _is_of_many(logged.canonicalized_body):
                    raise ValueError("a log entry has more fields than one has")
                loads(logged.canonicalized_body)
        # Parsers of JSON, base64, DER and RFC 3161 each have errors of their own, some of which
        # have nothing but Exception in common.
        except Exception as error:
            what = "not a Sigstore bundle that can be read"
            raise self._wrong(where, what, told(error)) from None
        if model.media_type != BUNDLE:
            raise self._wrong(where, "another kind of bundle", model.media_type, BUNDLE)
        certificate = bundle.signing_certificate
        entry = model.verification_material.tlog_entries[0]
        try:
            log = log_of(self._believed.model, self._believed.shown, entry)
            ct, certified = certificate_log_of(self._believed.model, certificate)
        except AttestationError as error:
            error.where = where
            raise
        if not entry.inclusion_promise:
            if entry.kind_version.version == "0.0.1":
                raise self._wrong(
                    where, "the log's promise is missing", "none", "a signed entry timestamp"
                )
            if entry.integrated_time:
                what = "the log entry has a time, and no promise that signs it"
                raise self._wrong(where, what, entry.integrated_time, "none, as of Rekor v2")
        if entry.inclusion_promise:
            promised = self._integrated(entry, where)
            self._check_office(log.public_key.valid_for, promised, "the log's key", where)
        # No other log's key may have signed; when it was valid is checked here, at signing time.
        logs = {"tlogs": [timeless(log)], "ctlogs": [timeless(ct)]}
        only = self._believed.model.model_copy(update=logs)
        try:
            verifier = Verifier(trusted_root=TrustedRoot(only))
            kind, payload = verifier.verify_dsse(bundle, _policy(self._signers))
        except Exception as error:
            raise self._refused(where, error, certificate) from None
        if kind != PAYLOAD_TYPE:
            raise self._wrong(where, "the payload is no in-toto statement", kind, PAYLOAD_TYPE)
        time = self._check_times(bundle, model, where)
        self._check_office(log.public_key.valid_for, time, "the log's key", where)
        for moment in (certified, time):
            self._check_office(ct.public_key.valid_for, moment, "the certificate log's key", where)
        self._check_authority(certificate, time, where)
        # Its parsers take base64, numbers and names of fields that others' read otherwise.
        found = _unlike(held, loads(model.to_json().encode()))
        if found:
            form = "fields, numbers and base64 in ProtoJSON's own form"
            raise self._wrong(where, "readers of this bundle would differ", found, form)
        try:
            said = facts(certificate)
        except ValueError as error:
            what = "an extension of the certificate cannot be read"
            raise self._wrong(where, what, error) from None
        return Authentic(payload, *signer(certificate), time, entry.log_index, said)

    def _wrong(self, where: str, what: str, found: object, expected: str = "") -> AttestationError:
        text = str(found).strip() or type(found).__name__
        return AttestationError(what, where=where, expected=expected, found=text[:500])

    def _refused(self, where: str, error: Exception, certificate: Certificate) -> AttestationError:
        """The library's refusal; where it is about who signed, both sides are named."""
        identity, issuer = signer(certificate)
        signers = self._signers
        if identity not in signers.identities or signers.issuer not in ("", issuer):
            wanted = " or ".join(signers.identities) or "an identity"
            return AttestationError(
                "signed by somebody else",
                where=where,
                expected=wanted + (f", vouched for by {signers.issuer}" if signers.issuer else ""),
                found=f"signed by {identity}, vouched for by {issuer}",
            )
        return self._wrong(where, f"does not verify against {self._believed.shown}", error)

    def _integrated(self, entry: TransparencyLogEntry, where: str) -> datetime.datetime:
        """When the log says it took the entry."""
        seconds = entry.integrated_time or 0
        try:
            return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
        except (ValueError, OverflowError, OSError):
            raise self._wrong(where, "the log entry has an invalid time", seconds) from None

    def _check_times(self, bundle: Bundle, model: Model, where: str) -> datetime.datetime:
        """When it was signed. Every timestamp must be true, and there must be one wherever the
        root has an authority for them: the log's own time is only as good as the log."""
        material = model.verification_material
        stamps = material.timestamp_verification_data
        responses = list(stamps.rfc3161_timestamps or ()) if stamps else []
        authorities = self._believed.model.timestamp_authorities
        if authorities and not responses:
            raise self._wrong(
                where, "there is no timestamp", "none", "one of the root's timestamp authority"
            )
        times = []
        for number, response in enumerate(responses):
            at = f"timestamp {number + 1}"
            try:
                decoded = decode_timestamp_response(response.signed_timestamp)
            except ValueError as error:
                raise self._wrong(where, f"{at} cannot be read", error) from None
            authority = self._authority_of(decoded, bundle.signature)
            if authority is None:
                raise self._wrong(
                    where,
                    f"{at} is of no authority the root knows, or not for this signature",
                    f"made at {decoded.tst_info.gen_time.isoformat()}",
                )
            times.append(decoded.tst_info.gen_time)
            self._check_office(authority.valid_for, times[-1], "the timestamp authority", where)
        if times:
            return max(times)
        return self._integrated(material.tlog_entries[0], where)

    def _authority_of(
        self, response: TimeStampResponse, message: bytes
    ) -> CertificateAuthority | None:
        for authority in self._believed.model.timestamp_authorities:
            leaf, *rest = certificates(authority)
            builder = VerifierBuilder().tsa_certificate(leaf)
            if rest:
                builder = builder.add_root_certificate(rest[-1])
            for between in rest[:-1]:
                builder = builder.add_intermediate_certificate(between)
            try:
                builder.build().verify_message(response, message)
            except (VerificationError, ValueError):
                continue
            return authority
        return None

    def _check_authority(
        self, certificate: Certificate, time: datetime.datetime, where: str
    ) -> None:
        """The certificate authority was in office: the library takes those of all times."""
        for authority in self._believed.model.certificate_authorities:
            for issuer in certificates(authority):
                try:
                    certificate.verify_directly_issued_by(issuer)
                except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
                    continue
                self._check_office(authority.valid_for, time, "the certificate authority", where)
                return
        raise self._wrong(where, "no certificate authority of the root issued the certificate", "")

    def _check_office(
        self, period: TimeRange | None, time: datetime.datetime, who: str, where: str
    ) -> None:
        if period is None or (period.start <= time and (not period.end or time <= period.end)):
            return
        raise self._wrong(
            where,
            f"{who} was not valid at signing time",
            time.isoformat(),
            f"{period.start.isoformat()} to {period.end.isoformat() if period.end else 'now'}",
        )


def _unlike(held: object, made: object, at: str = "") -> str:
    """Where two JSON values first differ, as a path; empty where nowhere."""
    if isinstance(held, dict) and isinstance(made, dict) and held.keys() == made.keys():
        pairs = [(f"{at}.{key}".lstrip("."), held[key], made[key]) for key in held]
    elif isinstance(held, list) and isinstance(made, list) and len(held) == len(made):
        pairs = [(f"{at}[{n}]", *both) for n, both in enumerate(zip(held, made, strict=True))]
    elif isinstance(held, dict) and isinstance(made, dict):
        return f"{at or 'the bundle'}: {', '.join(sorted(held.keys() ^ made.keys()))}"
    else:
        return "" if held == made else f"{at}: {held!r:.200}"
    return next(filter(None, (_unlike(one, other, path) for path, one, other in pairs)), "")
