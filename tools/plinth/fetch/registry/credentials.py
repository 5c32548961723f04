"""What `docker login` left on this machine: passwords, identity tokens, helpers."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from plinth.core.errors import FetchError

_HUB = ("docker.io", "https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io")
"""Docker Hub's names: `docker login` keeps its password by the second, others by the rest."""


@dataclass(frozen=True)
class Credentials:
    """A user's password, or an identity token: what token services give it for (distribution,
    "OAuth2 Token Authentication")."""

    user: str = ""
    password: str = ""
    identity_token: str = ""

    @property
    def basic(self) -> tuple[str, str] | None:
        """User and password; None where there are none."""
        return (self.user, self.password) if self.user else None


def login_command(host: str) -> str:
    """The command by which a person logs in at the registry `host`."""
    return "docker login" if host in _HUB else f"docker login {host}"


def credentials(url: str) -> Credentials:
    """The credentials for the registry at base URL `url`; empty ones where there are none.

    Raises:
        FetchError: they cannot be read.
    """
    from docker import auth
    from docker.credentials.errors import StoreError
    from docker.errors import DockerException

    host = urlsplit(url).netloc.rpartition("@")[2]
    try:
        with warnings.catch_warnings():
            # Of a helper that is missing the library only warns, and then fails unclearly.
            warnings.simplefilter("error", UserWarning)
            found = next(filter(None, _entries(auth.load_config(), host)), {})
    except (DockerException, StoreError, UserWarning, OSError, ValueError) as error:
        raise FetchError(
            "the credentials for the registry cannot be read",
            where=host,
            found=str(error),
            remedy=f"log in again ({login_command(host)}), or correct credHelpers in its settings",
        ) from None
    # What the settings hold and what helpers say is spelled differently by the library.
    known = {key.lower(): str(value or "") for key, value in found.items()}
    return Credentials(*(known.get(key, "") for key in ("username", "password", "identitytoken")))


def _entries(config: Any, host: str) -> Iterator[Mapping[str, Any]]:
    """What is known of a host, by each of its names; an entry may be empty."""
    if host not in _HUB:
        yield config.resolve_authconfig(host) or {}
        return
    for name in _HUB:
        yield config.resolve_authconfig(name) or {}
    helper = config.cred_helpers.get(_HUB[0]) or config.creds_store
    if helper:
        from docker.credentials import CredentialsNotFound, Store

        # The library asks helpers for the second name where the first is meant.
        with contextlib.suppress(CredentialsNotFound):
            found = Store(helper).get(_HUB[0])
            yield {"Username": found["Username"], "Password": found["Secret"]}
