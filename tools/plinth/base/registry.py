"""Pulling a pinned base image by digest (OCI distribution-spec, "Pulling manifests", "blobs")."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import requests

from plinth.digest import Digest
from plinth.errors import FetchError, IntegrityError
from plinth.http import TIMEOUT, into_store, retried
from plinth.oci.model import CONFIG, LAYER_GZIP, MANIFEST
from plinth.spec.base import ImageRootfs
from plinth.store import BlobStore

_PROBE_TIMEOUT = 5
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


def manifest_bytes(rootfs: ImageRootfs) -> bytes:
    """The image's manifest, rebuilt from the pinned facts (two spaces after no separator:
    `json.dumps` as it is, which is how the publisher wrote it)."""
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
    """One repository of a registry at base URL `url`."""

    def __init__(self, url: str, repository: str) -> None:
        self._base = f"{url.rstrip('/')}/v2/{repository}"
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
        if store.has(digest):
            return

        def ask() -> None:
            url = f"{self._base}/blobs/{digest.oci}"
            with self._get(url) as answer:
                into_store(answer, digest, store)

        retried(
            ask,
            f"{self._repository}@{digest.oci}",
            place="the registry",
            remedy="check the network, or registries in the settings",
        )

    def _get(self, url: str) -> requests.Response:
        answer = self._session.get(url, stream=True, timeout=TIMEOUT)
        if answer.status_code == 401:
            answer.close()
            self._session.headers["Authorization"] = self._token(answer.headers)
            answer = self._session.get(url, stream=True, timeout=TIMEOUT)
        if answer.status_code in (401, 403, 404):
            answer.close()
            raise FetchError(f"the registry answered {answer.status_code}", where=self._repository)
        answer.raise_for_status()
        return answer

    def _token(self, headers: Mapping[str, str]) -> str:
        """An anonymous bearer token (distribution, token authentication)."""
        fields = dict(_CHALLENGE.findall(headers.get("WWW-Authenticate", "")))
        if "realm" not in fields:
            raise FetchError("the registry wants credentials", where=self._repository)
        answer = self._session.get(
            fields["realm"],
            params={k: fields[k] for k in ("service", "scope") if k in fields},
            timeout=TIMEOUT,
        )
        answer.raise_for_status()
        document = answer.json()
        return f"Bearer {document.get('token') or document.get('access_token')}"


def pull(rootfs: ImageRootfs, url: str, store: BlobStore) -> None:
    """Bring the base image's one layer into `store` from the registry at `url`.

    Raises:
        IntegrityError: the specification's own facts do not fit together.
        FetchError: see `Registry.pull_blob`.
    """
    manifest = Digest.of(manifest_bytes(rootfs))
    if manifest != rootfs.manifest:
        raise IntegrityError(
            "the pinned facts do not make the pinned manifest",
            where="rootfs.manifest",
            expected=rootfs.manifest.oci,
            found=manifest.oci,
        )
    Registry(url, rootfs.repository).pull_blob(rootfs.layer, store)
