"""What clients are given: trusted root, signing configuration and client trust configuration.

Formats: https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_trustroot.proto
"""

from __future__ import annotations

import base64
import datetime
import json

from cryptography.hazmat.primitives.serialization import Encoding

from plinth.authority import HOSTS
from plinth.authority.keys import key_id, spki
from plinth.authority.state import KeyRecord, State


def host(state: State, service: str) -> str:
    """The stable, port-free name of a service; it resolves nowhere (RFC 2606)."""
    return f"{service}.{state.id}.{HOSTS}"


def _time(moment: datetime.datetime) -> str:
    utc = moment.astimezone(datetime.timezone.utc)
    return utc.strftime("%Y-%m-%dT%H:%M:%SZ")


def _valid(record: KeyRecord) -> dict[str, str]:
    found = {"start": _time(record.since)}
    return found if record.until is None else {**found, "end": _time(record.until)}


def _log(state: State, record: KeyRecord) -> dict[str, object]:
    return {
        "baseUrl": f"https://{host(state, record.role)}",
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": base64.b64encode(spki(record.public)).decode(),
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
            "validFor": _valid(record),
        },
        "logId": {"keyId": base64.b64encode(key_id(record.public)).decode()},
    }


def _authority(state: State, record: KeyRecord) -> dict[str, object]:
    return {
        "subject": {
            "organization": f"plinth trust domain {state.id}",
            "commonName": host(state, record.role),
        },
        "uri": f"https://{host(state, record.role)}",
        "certChain": {
            "certificates": [
                {"rawBytes": base64.b64encode(one.public_bytes(Encoding.DER)).decode()}
                for one in record.certificates
            ]
        },
        "validFor": _valid(record),
    }


def _trusted_root(state: State) -> dict[str, object]:
    # Newest first: some clients look at the first log only where they want to reach one.
    return {
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": [_log(state, record) for record in reversed(state.of("log"))],
        "certificateAuthorities": [
            _authority(state, record) for record in reversed(state.of("ca"))
        ],
        "ctlogs": [_log(state, record) for record in reversed(state.of("ct"))],
        "timestampAuthorities": [_authority(state, record) for record in reversed(state.of("tsa"))],
    }


def trusted_root(state: State) -> str:
    """`trusted_root.json`: every key and certificate the domain ever had, with its validity."""
    return json.dumps(_trusted_root(state), indent=2) + "\n"


def _signing_config(state: State, url: str) -> dict[str, object]:
    since = _time(min(record.since for record in state.records))

    def service(path: str) -> dict[str, object]:
        return {
            "url": url + path,
            "majorApiVersion": 1,
            "validFor": {"start": since},
            "operator": host(state, "operator"),
        }

    return {
        "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
        "caUrls": [service("")],
        "rekorTlogUrls": [service("")],
        "rekorTlogConfig": {"selector": "ANY"},
        "tsaUrls": [service("/api/v1/timestamp")],
        "tsaConfig": {"selector": "ANY"},
    }


def signing_config(state: State, url: str) -> str:
    """A SigningConfig for services listening at `url` (no path, no trailing slash).

    It names no OIDC provider: whoever may sign gets a token from the folder, and a browser
    could not tell the domain's owner from anyone else on the machine.
    """
    return json.dumps(_signing_config(state, url), indent=2) + "\n"


def client_trust_config(state: State, url: str) -> str:
    """A ClientTrustConfig: the trusted root and, for services at `url`, the signing config."""
    return json.dumps(
        {
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": _trusted_root(state),
            "signingConfig": _signing_config(state, url),
        },
        indent=2,
    )
