"""Settings of this machine: where indexes, mirrors, registries and interpreters are.

Nothing here may change a byte of an output: settings say where verified bytes are looked for.
Read from `$PLINTH_CONFIG`, else `~/.config/plinth/config.toml`; absent means all defaults. Relative
paths are beside that file, never in the current folder, where anybody's may lie. Public places
(`PUBLIC_REGISTRIES`, `PUBLIC_FILES`, `PUBLIC_SNAPSHOTS`, `PUBLIC_APT`) are defaults, too: a user's
own key replaces one, and `public = false`, or `PLINTH_PUBLIC=false` in the environment, switches
all of them off.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import tomli

from plinth.core import remote_settings
from plinth.core.errors import Problem, ProblemsError
from plinth.core.home import beside, user_folder
from plinth.core.remote_settings import RemoteSettings

_KEYS: Mapping[str, type[Any]] = {
    "index-url": str,
    "python": dict,
    "apt": dict,
    "snapshots": dict,
    "registries": dict,
    "files": dict,
    "keyrings": dict,
    "indexes": dict,
    "trust": str,
    "builder": str,
    "policy": str,
    "publish": str,
    "tls": dict,
    "remote": dict,
    "public": bool,
}
_URLS = ("index-url", "apt", "snapshots", "registries", "indexes")
_TLS_KEYS = {"ca", "cert", "key"}
PUBLIC, EMBEDDED = "public", "embedded"
"""What `trust` says where it is no file."""

PUBLIC_REGISTRIES: Mapping[str, str] = {"default": "https://registry-1.docker.io"}
"""Registries known to everybody, in force unless switched off: Docker Hub."""

PUBLIC_FILES: Mapping[str, str] = {
    "python-build-standalone": (
        "https://github.com/astral-sh/python-build-standalone/releases/download"
    ),
    "nvidia-cuda": "https://developer.download.nvidia.com/compute/cuda",
    "nvidia-cudnn": "https://developer.download.nvidia.com/compute/redist/cudnn",
}
"""Places of releases known to everybody, likewise."""

_DEBIAN = "https://snapshot.debian.org/archive"
PUBLIC_SNAPSHOTS: Mapping[str, str] = {
    "debian": f"{_DEBIAN}/debian/{{date}}",
    "bookworm-security": f"{_DEBIAN}/debian-security/{{date}}",
    "trixie-security": f"{_DEBIAN}/debian-security/{{date}}",
    "ubuntu": "https://snapshot.ubuntu.com/ubuntu/{date}",
}
"""Snapshot services of distributions, likewise."""

PUBLIC_APT: Mapping[str, str] = {
    "cuda-ubuntu1804": "https://developer.download.nvidia.com/compute/cuda/repos/ubuntu1804/x86_64"
}
"""Archives of vendors known to everybody, likewise; not those of distributions, which a machine's
own apt sources name."""


@dataclass(frozen=True)
class Config:
    """One machine's settings. Public places are added by `load`, not by this class.

    index_url: the Python package index (PEP 503/691); empty means pip's own setting.
    python: target interpreters by version, `{"3.7": "/path/to/python3.7"}`.
    apt: archive base URLs by distribution, `{"debian": "https://…"}`; empty means the
        machine's own apt sources.
    snapshots: base URLs of what archives once were, by distribution or suite, with `{date}` where
        the moment goes: `{"debian": "https://…/debian/{date}"}`; asked for what an archive no
        longer has.
    registries: registry base URLs to pull base images from, by the name of the registry a
        base names: one, or several in order of preference (mirrors first),
        `{"default": ["https://mirror…", "https://…"]}`.
    files: base URLs (or folders) by the name of a release a base pins, such as
        `{"python-build-standalone": "https://…"}`.
    keyrings: files with public keys of archives, by the name a specification gives them.
    indexes: further package indexes, by the name a specification gives them for certain
        projects, `{"pytorch-cpu": "https://…"}`.
    trust: whose signatures are made and believed: `public` (Sigstore's own), `embedded` (the
        trust domain on this machine), or the path of a client trust config; empty means that
        nobody chose yet.
    builder: the URI of who builds here, for provenance; empty means somebody's own machine.
    policy: the path of the policy file that `verify` applies where no other is named.
    publish: where `push` puts images, `HOST[:PORT][/PREFIX]`.
    tls: by `HOST[:PORT]` of a registry, files (PEM) of the authority that vouches for it and of
        the certificate and key it is shown: `{"registry.example": {"ca": …, "cert": …, "key": …}}`.
    remote: the remote cache and executor, if any; see `plinth.core.remote_settings`.
    """

    index_url: str = ""
    python: Mapping[str, str] = field(default_factory=dict)
    apt: Mapping[str, str] = field(default_factory=dict)
    snapshots: Mapping[str, str] = field(default_factory=dict)
    registries: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    keyrings: Mapping[str, str] = field(default_factory=dict)
    indexes: Mapping[str, str] = field(default_factory=dict)
    trust: str = ""
    builder: str = ""
    policy: str = ""
    publish: str = ""
    tls: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    remote: RemoteSettings | None = None

    def registry_urls(self, name: str) -> tuple[str, ...]:
        """The base URLs of registry `name`, in order of preference; empty where none is set."""
        found = self.registries.get(name, ())
        return (found,) if isinstance(found, str) else tuple(found)


def load(environment: Mapping[str, str] = os.environ) -> Config:
    """The settings in force.

    Raises:
        ProblemsError: the settings file is not TOML or has unknown or mistyped keys, or
            `PLINTH_PUBLIC` is neither true nor false.
    """
    public = environment.get("PLINTH_PUBLIC") or "true"
    if public not in ("true", "false"):
        problem = Problem("PLINTH_PUBLIC", f"expected true or false, found {public!r}")
        raise ProblemsError("environment", [problem])
    named = environment.get("PLINTH_CONFIG")
    home = user_folder("XDG_CONFIG_HOME", ".config", environment)
    # Who has no home has no settings file, unless one is named.
    path = Path(named) if named else (home or Path(os.devnull)) / "plinth" / "config.toml"
    folder = path.parent
    document: dict[str, Any] = {}
    try:
        document = tomli.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (tomli.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ProblemsError(str(path), [Problem("", str(error))]) from None
    problems = []
    remote = None
    for key, value in document.items():
        kind = _KEYS.get(key)
        if kind is None:
            known = ", ".join(_KEYS)
            problems.append(Problem(key, f"unknown setting; known are {known}"))
        elif not isinstance(value, kind):
            problems.append(Problem(key, f"expected {kind.__name__}, found {value!r}"))
        elif key == "tls":
            problems += [
                Problem(f"tls.{name}", f"expected a table of ca, cert and key, found {item!r}")
                for name, item in value.items()
                if not _is_tls(item)
            ]
        elif key == "remote":
            remote, found = remote_settings.parse(value, folder)
            problems += found
        elif kind is dict:
            problems += [
                Problem(f"{key}.{name}", f"expected a string, found {item!r}")
                for name, item in value.items()
                if not isinstance(item, str) and not (key == "registries" and _is_texts(item))
            ]
        if key in _URLS:
            problems += [Problem(*found) for found in _no_urls(key, value)]
    if problems:
        raise ProblemsError(str(path), problems)
    with_public = public == "true" and document.get("public", True)
    trust = document.get("trust", "")
    return Config(
        index_url=document.get("index-url", ""),
        # A bare name is looked for on PATH.
        python={
            version: beside(folder, text) if "/" in text else text
            for version, text in document.get("python", {}).items()
        },
        apt=(dict(PUBLIC_APT) if with_public else {}) | document.get("apt", {}),
        snapshots=(dict(PUBLIC_SNAPSHOTS) if with_public else {}) | document.get("snapshots", {}),
        registries=(dict(PUBLIC_REGISTRIES) if with_public else {})
        | document.get("registries", {}),
        files=(dict(PUBLIC_FILES) if with_public else {})
        | {
            name: text if "://" in text else beside(folder, text)
            for name, text in document.get("files", {}).items()
        },
        keyrings={
            name: beside(folder, text) for name, text in document.get("keyrings", {}).items()
        },
        indexes=document.get("indexes", {}),
        trust=trust if trust in (PUBLIC, EMBEDDED) else beside(folder, trust),
        builder=document.get("builder", ""),
        policy=beside(folder, document.get("policy", "")),
        publish=document.get("publish", ""),
        tls={
            host: {name: beside(folder, text) for name, text in files.items()}
            for host, files in document.get("tls", {}).items()
        },
        remote=remote,
    )


def _is_tls(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() <= _TLS_KEYS
        and all(isinstance(item, str) for item in value.values())
    )


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _no_urls(key: str, value: object) -> Iterator[tuple[str, str]]:
    """Where under `key` there is text that is no URL of a server, and why."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _no_urls(f"{key}.{name}", item)
    elif isinstance(value, list):
        for item in value:
            yield from _no_urls(key, item)
    elif isinstance(value, str):
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError:
            yield key, f"not a URL: {value}"
            return
        if value and not (parts.scheme in ("http", "https") and parts.hostname):
            host = re.sub(r"^([a-z+]*:)?/*([^/]*@)?", "", value)
            yield key, f'expected a URL such as "https://{host}", found {host!r} without http(s)://'
