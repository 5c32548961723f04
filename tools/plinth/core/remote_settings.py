"""The `[remote]` table of the settings: which servers share results and run actions, and how."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast
from urllib.parse import urlsplit

from plinth.core.errors import Problem
from plinth.core.home import beside

TOKEN = "PLINTH_REMOTE_TOKEN"  # noqa: S105 the name of a variable, not a token
"""The environment variable with a bearer token; it wins over `token-file`."""

_TEXTS = ("cache", "executor", "instance", "token-file", "ca", "cert", "key", "upload", "download")
DOWNLOADS = ("minimal", "toplevel", "all")
"""What a remote cache may send, from least to most."""

_CHOICES = {"upload": ("all", "none"), "download": DOWNLOADS}
_KEYS = (*_TEXTS, "headers", "platform", "jobs", "timeout")
# Segments that would end the instance in a resource's name (REAPI, ContentAddressableStorage).
_RESERVED = frozenset(
    ("blobs", "uploads", "actions", "actionResults", "operations", "capabilities")
) | {"compressed-blobs"}
_HEADER = re.compile(r"[0-9a-z_.-]+")
_LOOPBACK = re.compile(r"127\.\d+\.\d+\.\d+|localhost|::1")


@dataclass(frozen=True)
class RemoteSettings:
    """How to reach a remote cache and executor.

    cache, executor: `grpc://host:port` or `grpcs://host[:port]`; the cache holds blobs and
        results, the executor runs actions on those blobs. One of them may be empty.
    instance: the server's instance name.
    token_file: a file with a bearer token, read again whenever it changes.
    headers: sent with every call.
    ca, cert, key: PEM files: who vouches for the server, and what it is shown (mTLS).
    upload: whether results made here are sent to the cache.
    download: which outputs are fetched: none that a command does not read (`minimal`), those of
        what was asked for (`toplevel`), or all.
    platform: properties that a worker must have; execution only.
    jobs: actions run remotely at once.
    timeout: seconds that a call may take, beyond what its bytes take at a slow line's rate.
    """

    cache: str = ""
    executor: str = ""
    instance: str = ""
    token_file: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca: str = ""
    cert: str = ""
    key: str = ""
    upload: Literal["all", "none"] = "all"
    download: Literal["minimal", "toplevel", "all"] = "toplevel"
    platform: Mapping[str, str] = field(default_factory=dict)
    jobs: int = 8
    timeout: float = 60


def parse(table: Mapping[str, object], folder: Path) -> tuple[RemoteSettings, list[Problem]]:
    """The settings of a `[remote]` table in a file in `folder`, and everything wrong with it.

    The settings are to be used only where there are no problems.
    """
    problems = _types(table)
    if problems:
        return RemoteSettings(), problems
    text = {key: str(table.get(key, "")) for key in _TEXTS}
    for key, choices in _CHOICES.items():
        if key in table and text[key] not in choices:
            problems.append(_problem(key, " or ".join(choices), text[key]))
    for key in ("cache", "executor"):
        if text[key] and not _is_address(text[key]):
            problems.append(_problem(key, "grpc://host:port or grpcs://host[:port]", text[key]))
    addresses = [text[key] for key in ("cache", "executor") if text[key]]
    if not addresses:
        problems.append(Problem("remote", "needs a cache, an executor or both"))
    segments = text["instance"].split("/") if text["instance"] else []
    if not all(segments) or _RESERVED & set(segments) or not text["instance"].isprintable():
        problems.append(_problem("instance", "a name without reserved parts", text["instance"]))
    if bool(text["cert"]) != bool(text["key"]):
        problems.append(Problem("remote.cert", "cert and key come together"))
    for key in ("ca", "cert", "key"):
        if text[key] and not any(address.startswith("grpcs:") for address in addresses):
            problems.append(Problem(f"remote.{key}", "certificates need a grpcs:// address"))
    headers = cast("Mapping[str, str]", table.get("headers", {}))
    for name, value in headers.items():
        # What is in a header may be secret, so it is not shown.
        if not _HEADER.fullmatch(name) or name.endswith("-bin") or name.startswith("grpc-"):
            problems.append(Problem(f"remote.headers.{name}", "not the name of a text header"))
        if not (value.isascii() and value.isprintable()):
            problems.append(Problem(f"remote.headers.{name}", "expected printable ASCII"))
    if problems:
        return RemoteSettings(), problems
    return RemoteSettings(
        cache=text["cache"] or text["executor"],
        executor=text["executor"],
        instance=text["instance"],
        token_file=beside(folder, text["token-file"]),
        headers=headers,
        ca=beside(folder, text["ca"]),
        cert=beside(folder, text["cert"]),
        key=beside(folder, text["key"]),
        upload=cast("Literal['all', 'none']", text["upload"] or "all"),
        download=cast("Literal['minimal', 'toplevel', 'all']", text["download"] or "toplevel"),
        platform=cast("Mapping[str, str]", table.get("platform", {})),
        jobs=cast("int", table.get("jobs", 8)),
        timeout=float(cast("float", table.get("timeout", 60))),
    ), []


def may_carry_token(address: str) -> bool:
    """Whether a bearer token may be sent there: encrypted, or not leaving this machine."""
    parts = urlsplit(address)
    return parts.scheme == "grpcs" or bool(_LOOPBACK.fullmatch(parts.hostname or ""))


def _types(table: Mapping[str, object]) -> list[Problem]:
    problems = []
    for key, value in table.items():
        if key in _TEXTS:
            if not isinstance(value, str):
                problems.append(_problem(key, "a string", value))
        elif key in ("headers", "platform"):
            if not isinstance(value, dict):
                problems.append(_problem(key, "a table of strings", value))
            else:
                problems += [
                    Problem(f"remote.{key}.{name}", "expected a string")
                    for name, item in value.items()
                    if not isinstance(item, str)
                ]
        elif key == "jobs":
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1000:
                problems.append(_problem(key, "a number from 1 to 1000", value))
        elif key == "timeout":
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 1 <= cast("float", value) <= 3600:
                problems.append(_problem(key, "seconds, from 1 to 3600", value))
        else:
            known = ", ".join(_KEYS)
            problems.append(Problem(f"remote.{key}", f"unknown setting; known are {known}"))
    return problems


def _problem(key: str, expected: str, found: object) -> Problem:
    return Problem(f"remote.{key}", f"expected {expected}, found {found!r}")


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    rest = parts.path or parts.query or parts.fragment or parts.username is not None
    named = bool(parts.hostname) and not rest
    return named and (parts.scheme == "grpcs" or (parts.scheme == "grpc" and port is not None))
