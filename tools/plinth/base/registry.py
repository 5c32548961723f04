"""Pulling a pinned base image by digest (OCI distribution-spec, "Pulling manifests", "blobs")."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import requests

from plinth.digest import Digest
from plinth.errors import FetchError, IntegrityError
from plinth.http import TIMEOUT, fetch_blob
from plinth.oci.model import CONFIG, LAYER_GZIP, MANIFEST
from plinth.spec.base import ImageRootfs
from plinth.store import BlobStore

_PROBE_TIMEOUT = 5
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_REMEDY = "check the network, or registries in the settings"


def manifest_bytes(rootfs: ImageRootfs) -> bytes:
    """The image's manifest, rebuilt from the pinned facts: `json.dumps` with its default
    spacing, which is how the publisher wrote it."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _descriptor(CONFIG, rootfs.config),
            "layers": [_descriptor(LAYER_GZIP, rootfs.layer)],
        }
    ).encode()


def _descriptor(media_type: str, digest: Digest) -> dict[str, object]:
    return {"mediaType": media_type, "size": digest.size, "digest": digest.oci}


class Registry:
    """One repository of a registry at base URL `url`.

    Credentials are those `docker login` left for that host, helpers included.
    """

    def __init__(self, url: str, repository: str) -> None:
        self._url = url.rstrip("/")
        self._base = f"{self._url}/v2/{repository}"
        self._repository = repository
        self._session = requests.Session()

    def has(self, manifest: Digest) -> bool:
        """Whether the registry answers for the manifest: one request, briefly waited for."""
        try:
            answer = self._session.head(
                f"{self._base}/manifests/{manifest.oci}",
                headers={"Accept": MANIFEST},
                timeout=_PROBE_TIMEOUT,
            )
        except requests.RequestException:
            return False
        # A challenge is an answer: the token is fetched when there is something to pull.
        return answer.status_code in (200, 401)

    def pull_blob(self, digest: Digest, store: BlobStore) -> None:
        """Bring a blob into `store`, verified while it streams.

        Raises:
            FetchError: the registry cannot be reached or has no such blob.
            IntegrityError: what it sends is not what the digest names.
        """
        fetch_blob(
            lambda headers: self._get(f"{self._base}/blobs/{digest.oci}", headers),
            digest,
            store,
            f"{self._repository}@{digest.oci}",
            place="the registry",
            remedy=_REMEDY,
        )

    def _get(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        answer = self._session.get(url, headers=headers, stream=True, timeout=TIMEOUT)
        if answer.status_code == 401:
            answer.close()
            self._authorize(answer.headers.get("WWW-Authenticate", ""))
            answer = self._session.get(url, headers=headers, stream=True, timeout=TIMEOUT)
        if answer.status_code >= 400:
            answer.close()
        if answer.status_code in (401, 403, 404):
            raise FetchError(
                f"the registry answered {answer.status_code}",
                where=self._repository,
                remedy="log in with docker login, or name another registry in the settings",
            )
        answer.raise_for_status()
        return answer

    def _authorize(self, challenge: str) -> None:
        """Answer a challenge (distribution, token authentication; RFC 7617 for Basic)."""
        credentials = self._credentials()
        scheme = challenge.partition(" ")[0].lower()
        if scheme == "basic" and credentials:
            self._session.auth = credentials
            return
        fields = dict(_CHALLENGE.findall(challenge))
        if scheme != "bearer" or "realm" not in fields:
            raise FetchError(
                "the registry wants credentials",
                where=self._repository,
                remedy=f"log in: docker login {urlsplit(self._url).netloc}",
            )
        answer = self._session.get(
            fields["realm"],
            params={k: fields[k] for k in ("service", "scope") if k in fields},
            auth=credentials,
            timeout=TIMEOUT,
        )
        answer.raise_for_status()
        document = answer.json()
        token = document.get("token") or document.get("access_token")
        self._session.headers["Authorization"] = f"Bearer {token}"

    def _credentials(self) -> tuple[str, str] | None:
        from docker import auth
        from docker.errors import DockerException

        host = urlsplit(self._url).netloc
        try:
            with warnings.catch_warnings():
                # Of a helper that is missing the library only warns, and then fails unclearly.
                warnings.simplefilter("error", UserWarning)
                found = auth.load_config().resolve_authconfig(host)
        except (DockerException, UserWarning, OSError, ValueError) as error:
            raise FetchError(
                "the credentials for the registry cannot be read",
                where=host,
                found=str(error),
                remedy="log in again with docker login, or mend credHelpers in its settings",
            ) from None
        # What the settings hold and what helpers say is spelled differently by the library.
        known = {key.lower(): value for key, value in (found or {}).items()}
        if known.get("identitytoken"):
            raise FetchError(
                "the login for the registry is an identity token, which plinth does not speak",
                where=host,
                remedy=f"log in with a password or an access token: docker login {host}",
            )
        if not known.get("username"):
            return None
        return str(known["username"]), str(known.get("password") or "")


def pull(rootfs: ImageRootfs, urls: Sequence[str], store: BlobStore) -> None:
    """Bring the base image's one layer into `store` from the first of `urls` that has it.

    Raises:
        IntegrityError: the specification's own facts do not fit together, or a registry sends
            something else.
        FetchError: none has it; says what the last one answered.
    """
    manifest = Digest.of(manifest_bytes(rootfs))
    if manifest != rootfs.manifest:
        raise IntegrityError(
            "the pinned facts do not make the pinned manifest",
            where="rootfs.manifest",
            expected=rootfs.manifest.oci,
            found=manifest.oci,
        )
    last: FetchError | None = None
    for url in urls:
        try:
            Registry(url, rootfs.repository).pull_blob(rootfs.layer, store)
        except FetchError as error:
            last = error
        else:
            return
    raise last or FetchError("no registry is configured", where=rootfs.repository)
