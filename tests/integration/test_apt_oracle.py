"""The packages plinth resolves are those apt itself would install from the same suites."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from plinth.core.digest import Digest
from plinth.core.settings import load
from plinth.fetch.apt import archive
from plinth.fetch.apt.archive import Index, keyring_of, read_index
from plinth.fetch.apt.resolve import resolve
from plinth.fetch.apt.sources import Source, find_sources
from plinth.recipe.base import DebianRootfs, load_base
from support import needs

ROOT = Path(__file__).resolve().parents[2]
_LINE = re.compile(r"'(?P<url>[^']+)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})")

pytestmark = [
    pytest.mark.network,
    needs.without("apt-get"),
]


@dataclass(frozen=True)
class PrivateApt:
    """An apt with settings, sources and state of its own; the machine's are neither read nor
    changed, but for the keyring."""

    root: Path

    @classmethod
    def make(cls, root: Path, rootfs: DebianRootfs, sources: list[Source]) -> PrivateApt:
        (keyring,) = archive.KEYRINGS.glob(f"{rootfs.keyring}.*")
        for name in ("etc", "state/lists/partial", "cache/archives/partial", "log", "none"):
            (root / name).mkdir(parents=True)
        (root / "state" / "status").touch()
        (root / "etc" / "sources.list").write_text(
            "".join(
                f"deb [arch=amd64 signed-by={keyring}] {source.uri} {source.suite} "
                f"{' '.join(rootfs.components)}\n"
                for source in sources
            )
        )
        options = {
            "Dir": f"{root}/",
            "Dir::State": "state",
            "Dir::State::status": f"{root}/state/status",
            "Dir::Cache": "cache",
            "Dir::Log": "log",
            "Dir::Etc": "etc",
            "Dir::Etc::sourcelist": "sources.list",
            "Dir::Etc::sourceparts": f"{root}/none",
            "Dir::Etc::preferencesparts": f"{root}/none",
            "Dir::Etc::parts": f"{root}/none",
            "Dir::Etc::trustedparts": f"{root}/none",
            # As root it would read its own folders as another user.
            "APT::Sandbox::User": "root",
            "APT::Architecture": "amd64",
            "APT::Architectures": "amd64",
            "Acquire::Languages": "none",
        }
        (root / "apt.conf").write_text(
            "".join(f'{key} "{value}";\n' for key, value in options.items())
        )
        return cls(root)

    def get(self, *arguments: str) -> str:
        """What `apt-get` prints."""
        done = subprocess.run(
            ["apt-get", *arguments],
            env={**os.environ, "APT_CONFIG": str(self.root / "apt.conf"), "LC_ALL": "C"},
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def unquoted(file: str) -> tuple[str, str, str]:
    """Name, version and architecture of the name apt keeps a package under."""
    name, version, architecture = file.removesuffix(".deb").split("_")
    return name, version.replace("%3a", ":"), architecture


def test_the_packages_are_those_apt_would_install(tmp_path: Path) -> None:
    spec = load_base(ROOT / "base", "debian12-py37")
    rootfs = spec.rootfs
    assert isinstance(rootfs, DebianRootfs)
    sources = find_sources(rootfs.distribution, rootfs.suites, load())
    apt = PrivateApt.make(tmp_path, rootfs, sources)
    apt.get("update")
    printed = apt.get(
        "install",
        "--print-uris",
        "--assume-yes",
        "--no-install-recommends",
        "-o",
        "Acquire::ForceHash=SHA256",
        *rootfs.packages,
    )
    theirs = {
        unquoted(match["file"]): Digest(match["sha256"], int(match["size"]))
        for match in _LINE.finditer(printed)
    }
    keyring = keyring_of(rootfs.keyring, load())
    indexes: list[Index] = [
        read_index(source, rootfs.components, spec.architecture, keyring) for source in sources
    ]
    ours = {
        (package.name, package.version, package.architecture): package.digest
        for package in resolve(indexes, rootfs.packages, ())
    }
    assert len(theirs) > len(rootfs.packages)
    assert ours == theirs
