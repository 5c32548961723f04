"""What a person writes to name an image: in a layout, in an archive, in a registry."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from plinth.core.digest import parse_oci
from plinth.core.errors import ImageNameError, IntegrityError

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?"
)
_HUB, _OLD_HUB, _HUB_HOST = "docker.io", "index.docker.io", "registry-1.docker.io"
LINUX_AMD64 = "linux/amd64"
"""The platform of all that plinth builds."""

_FORMS = (
    "oci:FOLDER[:NAME | @sha256:…], docker-archive:FILE[:NAME], or HOST[:PORT]/REPOSITORY[:TAG | "
    "@sha256:…]"
)


@dataclass(frozen=True)
class LayoutReference:
    """An image in the OCI layout in folder `path`: by `name`, by `digest` (hexadecimal), or,
    where both are empty, its only one; of an index, the one for `platform`."""

    path: Path
    name: str = ""
    digest: str = ""
    platform: str = LINUX_AMD64

    def __str__(self) -> str:
        return f"oci:{self.path}{_which(self.name, self.digest)}"


@dataclass(frozen=True)
class ArchiveReference:
    """An image in the tar file `path`, which holds a layout or is what `docker save` writes; the
    rest is as in `LayoutReference`."""

    path: Path
    name: str = ""
    digest: str = ""
    platform: str = LINUX_AMD64

    def __str__(self) -> str:
        return f"oci-archive:{self.path}{_which(self.name, self.digest)}"


@dataclass(frozen=True)
class RegistryReference:
    """An image in `repository` of the registry at `host`, by `tag`, or by `digest` where it is
    not empty (distribution-spec, "Pulling manifests"); of an index, the one for `platform`."""

    host: str
    repository: str
    tag: str = "latest"
    digest: str = ""
    platform: str = LINUX_AMD64

    @property
    def url(self) -> str:
        """The registry's base URL: HTTP on the machine itself, as Docker has it, else HTTPS. Docker
        Hub is at another host than its name says."""
        if self.host in (_HUB, _OLD_HUB):
            return f"https://{_HUB_HOST}"
        return f"{'http' if _is_loopback(self.host) else 'https'}://{self.host}"

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}{_which(self.tag, self.digest)}"

    @property
    def place(self) -> str:
        """The tag or digest, as manifests are asked for."""
        return f"sha256:{self.digest}" if self.digest else self.tag


def _which(name: str, digest: str) -> str:
    return f"@sha256:{digest}" if digest else f":{name}" if name else ""


Reference: TypeAlias = LayoutReference | ArchiveReference | RegistryReference


def parse(text: str) -> Reference:
    """What `text` names.

    `oci:`, `oci-archive:`, `docker-archive:` and `docker://` say what it is. Without, a path that
    exists is a layout or an archive, and anything else is in a registry. A path ends at the first
    colon, as with skopeo, unless there is a file of the whole name.

    Raises:
        ImageNameError: it is none of these.
    """
    form, _, rest = text.partition(":")
    if form == "docker" and rest.startswith("//"):
        return _in_registry(text, rest[2:])
    if form == "oci":
        return LayoutReference(*_path(text, rest))
    if form in ("docker-archive", "oci-archive"):
        return ArchiveReference(*_path(text, rest))
    path, name, digest = _path(text, text)
    if path.is_dir():
        return LayoutReference(path, name, digest)
    if path.is_file():
        return ArchiveReference(path, name, digest)
    return _in_registry(text, text)


def _path(text: str, rest: str) -> tuple[Path, str, str]:
    """Path, name and digest of what follows `oci:`."""
    if rest and Path(rest).exists():
        return Path(rest), "", ""
    path, at, digest = rest.rpartition("@sha256:")
    name = ""
    if not at:
        path, _, name = rest.partition(":")
        digest = ""
    elif not (at and _is_digest(digest)):
        raise _unclear(text, "the digest is not 64 lower-case hexadecimal digits")
    if not path:
        raise _unclear(text, "there is no path")
    return Path(path), name, digest


def _in_registry(text: str, rest: str) -> RegistryReference:
    host, slash, path = rest.partition("/")
    if not slash or not _is_host(host):
        raise _unclear(text, "there is no such file, and no registry's host in front")
    if not _HOST.fullmatch(host):
        raise _unclear(text, f"{host!r} is not a host")
    path, at, digest = path.partition("@")
    if at:
        try:
            digest = parse_oci(digest)
        except IntegrityError as error:
            raise _unclear(text, f"{error.what}: {error.found!r}") from None
    repository, colon, tag = path.partition(":")
    if not _REPOSITORY.fullmatch(repository) or len(repository) > 255:
        raise _unclear(text, f"{repository!r} is not a repository's name")
    if colon and not TAG.fullmatch(tag):
        raise _unclear(text, f"{tag!r} is not a tag")
    if host in (_HUB, _OLD_HUB, _HUB_HOST) and "/" not in repository:
        repository = f"library/{repository}"
    return RegistryReference(host, repository, tag or "latest", digest)


def canonical(name: str) -> str:
    """The name of an image in full, as engines keep it and `io.containerd.image.name` must have
    it: registry, repository and tag (distribution/reference, `ParseNormalizedNamed`)."""
    host, slash, rest = name.partition("/")
    # Repositories have small letters, so anything else is a host.
    if not slash or not (_is_host(host) or host != host.lower()):
        host, rest = _HUB, name
    elif host == _OLD_HUB:
        host = _HUB
    if host == _HUB and "/" not in rest:
        rest = f"library/{rest}"
    tagged = ":" in rest.rpartition("/")[2]
    return f"{host}/{rest}" if tagged else f"{host}/{rest}:latest"


def is_repository(name: str) -> bool:
    """Whether engines take `name` for that of a repository, with a registry's host or without."""
    host, slash, rest = name.partition("/")
    if slash and _is_host(host):
        return bool(_HOST.fullmatch(host) and _REPOSITORY.fullmatch(rest))
    return bool(_REPOSITORY.fullmatch(name))


def share(some: Iterable[str], others: Iterable[str]) -> bool:
    """Whether one of `some` is, as it is written or in full, one of `others`."""
    return not {canonical(name) for name in some}.isdisjoint(map(canonical, others))


def answers(name: str, wanted: str) -> bool:
    """Whether an image's `name` is `wanted`: as it is written, in full, or behind a registry, which
    some tools put in front of the name they were given."""
    return share([name], [wanted]) or f"/{name}".endswith(f"/{wanted}")


def unasked(names: Iterable[str], wanted: str) -> tuple[str, ...]:
    """Those of `names` that are not `wanted` (empty: no name)."""
    return tuple(name for name in names if not (wanted and answers(name, wanted)))


def familiar(name: str) -> str:
    """The name as Docker shows it to people: without Docker Hub's host."""
    host, _, rest = name.partition("/")
    return rest.removeprefix("library/") if host == _HUB and rest else name


def _is_host(text: str) -> bool:
    """Docker's own rule for telling a host from the first part of a repository."""
    return text == "localhost" or "." in text or ":" in text


def _is_digest(text: str) -> bool:
    return re.fullmatch("[0-9a-f]{64}", text) is not None


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if re.search(r":[0-9]+$", host) else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _unclear(text: str, why: str) -> ImageNameError:
    return ImageNameError(f"this names no image: {why}", where=text or "(empty)", expected=_FORMS)
