"""The names engines know images by, and which of them are one name."""

from __future__ import annotations

from collections.abc import Iterable


def canonical(name: str) -> str:
    """The name in full, as engines keep it: registry, repository and tag
    (github.com/distribution/reference, normalize.go)."""
    registry, slash, rest = name.partition("/")
    is_host = "." in registry or ":" in registry or registry == "localhost"
    if not slash or not (is_host or registry != registry.lower()):
        registry, rest = "docker.io", name
    elif registry == "index.docker.io":
        registry = "docker.io"
    if registry == "docker.io" and "/" not in rest:
        rest = f"library/{rest}"
    tagged = ":" in rest.rpartition("/")[2]
    return f"{registry}/{rest}" if tagged else f"{registry}/{rest}:latest"


def share(some: Iterable[str], others: Iterable[str]) -> bool:
    """Whether one of `some` is, as it is written or in full, one of `others`."""
    return not {canonical(name) for name in some}.isdisjoint(map(canonical, others))
