"""Replies of registries: manifests, lists, tokens, challenges."""

from __future__ import annotations

import io
import unittest.mock
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse

from plinth.core.digest import Digest
from plinth.core.errors import PlinthError
from plinth.fetch.registry.registry import Registry


class Replies(BaseAdapter):
    """Gives the same answer to everything: a status, headers as lines, an empty line, a body."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        head, _, self.body = data.partition(b"\n\n")
        status, *lines = head.split(b"\n")
        self.status = int(status) if status in (b"200", b"202", b"401", b"404", b"206") else 200
        pairs = (line.decode("latin-1").partition(":") for line in lines[:20])
        self.headers = {name: value.strip() for name, _, value in pairs if name.isascii()}

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        raw = HTTPResponse(io.BytesIO(self.body), self.headers, self.status, preload_content=False)
        return requests.adapters.HTTPAdapter().build_response(request, raw)

    def close(self) -> None:
        """Nothing is open."""


def parse(data: bytes, folder: Path) -> None:
    """Ask a registry that answers `data` to everything."""
    failed = None
    digest = Digest.of(b"x")
    registry = Registry("http://registry.test", "demo")
    registry._session.mount("http://", Replies(data))
    registry._session.mount("https://", Replies(data))
    registry._session.trust_env = False
    asks: tuple[Callable[[], object], ...] = (
        lambda: registry.manifest("latest"),
        lambda: registry.manifest(digest.oci),
        registry.tags,
        lambda: list(registry.referrers(digest, "application/x")),
        lambda: registry.blob(digest),
        lambda: registry._retried(lambda: registry.start_upload(digest), "upload"),
    )
    with unittest.mock.patch("time.sleep"):
        for ask in asks:
            try:
                ask()
            except PlinthError as error:
                failed = error
    if failed:
        raise failed
