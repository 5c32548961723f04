"""Where this machine finds a Debian archive: its own apt sources, or the settings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plinth.core.errors import FetchError, PackageError
from plinth.core.settings import Config
from plinth.formats.debian.control import paragraphs, parse
from plinth.recipe.accelerator import Archive

APT = Path("/etc/apt")
_OPTIONS = re.compile(r"^(\s*deb)\s+\[[^]]*\]")
_RELEASES: Mapping[str, tuple[str, ...]] = {
    "debian": (
        *("bullseye", "bookworm", "trixie", "forky", "duke", "sid"),
        *("oldoldstable", "oldstable", "stable", "testing", "unstable"),
    )
}
"""Names of releases by distribution: one archive has all of them."""
_NO = ("no", "false", "without", "off", "disable", "0")
"""What apt takes for no."""


@dataclass(frozen=True)
class Source:
    """One suite of an archive: `uri` is the archive's base, without trailing slash. A suite that
    ends in `/` is a folder of a flat repository; `label` is what its packages' lock calls it."""

    uri: str
    suite: str
    label: str = ""

    @property
    def name(self) -> str:
        """What messages and locks call it."""
        return self.label or self.suite

    @property
    def is_flat(self) -> bool:
        """Whether it is a flat repository, without suites and components."""
        return self.suite.endswith("/")

    @property
    def base(self) -> str:
        """Where its InRelease is, without trailing slash."""
        if self.is_flat:
            return f"{self.uri}/{self.suite.strip('/')}".rstrip("/")
        return f"{self.uri}/dists/{self.suite}"


def snapshots(
    distribution: str, suites: Iterable[str], date: str, config: Config
) -> Mapping[str, str]:
    """Base URLs of what the archive of each suite was at `date` (RFC 3339, UTC), by suite; none
    where the settings name no snapshot service, or no date is known."""
    stamp = date.replace("-", "").replace(":", "")
    found = {
        suite: config.snapshots.get(suite) or config.snapshots.get(distribution, "")
        for suite in suites
    }
    return {
        suite: url.replace("{date}", stamp).rstrip("/")
        for suite, url in found.items()
        if url and stamp
    }


def find_sources(
    distribution: str, suites: tuple[str, ...], config: Config, apt: Path = APT
) -> list[Source]:
    """A source for each of `suites`, in their order.

    The settings' `apt.<distribution>` and `apt.<suite>` come before the machine's own sources, and
    these may name another release of the distribution: archives have them all.

    Raises:
        FetchError: a suite is configured nowhere, or the machine's sources are malformed.
    """
    own = {source.suite: source for source in reversed(list(_machine(apt)))}
    found, missing = [], []
    for suite in suites:
        uri = config.apt.get(suite) or config.apt.get(distribution)
        if uri:
            found.append(Source(uri.rstrip("/"), suite))
        elif suite in own:
            found.append(own[suite])
        elif likes := [own[like] for like in _alike(distribution, suite) if like in own]:
            found.append(Source(likes[0].uri, suite))
        else:
            missing.append(suite)
    if missing:
        raise FetchError(
            f"no archive is configured for {', '.join(missing)}",
            expected=f"the suites {', '.join(suites)} in the machine's apt sources",
            remedy=f"set apt.{distribution} (a base URL) in the settings file",
        )
    return found


def _alike(distribution: str, suite: str) -> list[str]:
    """The suites of all releases that are what `suite` is of its own, such as `-security`."""
    releases = _RELEASES.get(distribution, ())
    release, dash, purpose = suite.partition("-")
    return [f"{one}{dash}{purpose}" for one in releases] if release in releases else []


def _machine(apt: Path) -> Iterator[Source]:
    """The binary sources of `apt`: deb822 files and one-line lists."""
    for path in sorted((apt / "sources.list.d").glob("*.sources")):
        for text in paragraphs(path.read_text(encoding="utf-8")):
            try:
                fields = parse(text, comments=True)
            except PackageError as error:
                remedy = "mend the file, or set apt.<suite> (a base URL) in the settings"
                raise FetchError(error.what, where=str(path), remedy=remedy) from None
            if "deb" in fields.get("Types").split() and (
                fields.get("Enabled", "yes").lower() not in _NO
            ):
                for uri in fields.get("URIs").split():
                    for suite in fields.get("Suites").split():
                        yield Source(uri.rstrip("/"), suite)
    for path in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))]:
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                words = _OPTIONS.sub(r"\1 ", line.split("#")[0]).split()
                if words[:1] == ["deb"] and len(words) >= 3:
                    yield Source(words[1].rstrip("/"), words[2])


def source_of(archive: Archive, config: Config) -> Any:
    """Where the machine finds `archive`: the settings, or its own apt sources."""
    from plinth.fetch.apt.sources import Source, find_sources

    own = config.apt.get(archive.name)
    if own:
        return Source(own.rstrip("/"), archive.suite, archive.name)
    if archive.suite.endswith("/"):
        raise FetchError(f"no archive is configured for {archive.name}")
    found = find_sources(archive.name, (archive.suite,), config)[0]
    return Source(found.uri, found.suite, archive.name)
