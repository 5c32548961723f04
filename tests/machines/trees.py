"""What is on the disks of machines: Debian as debootstrap makes it, once for all runs.

Kept in `~/.cache/plinth/machines` with the packages plinth itself is installed from, as
`tests/field/build` keeps its tools.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from plinth.core.digest import Digest
from plinth.core.settings import Config
from plinth.fetch.apt.sources import find_sources
from support import needs

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plinth" / "machines"
SUITES = {"bookworm": "3.11", "trixie": "3.13"}
"""The releases of Debian that machines run, with the version of their Python."""

USER = 1000
"""The user `user` of every tree, who may use sudo."""

_PACKAGES = ("ca-certificates", "git", "sudo")
"""What whoever has a clone and reads README's command has already."""

_FINISH = f"""
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends {" ".join(_PACKAGES)} >/dev/null
useradd --create-home --uid {USER} --shell /bin/bash user
echo 'user ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/user
"""


def archive() -> str:
    """The base URL of the Debian archive that this machine's apt uses."""
    return find_sources("debian", ("bookworm",), Config())[0].uri


def lacking() -> str:
    """What a machine that makes machines lacks first; empty where it has all."""
    programs = ("debootstrap", "ip", "unshare")
    lacks = [needs.package(one) for one in programs if shutil.which(one) is None]
    return next(iter(lacks), "") if os.geteuid() == 0 else needs.ROOT


def debian(suite: str) -> Path:
    """The root folder of a fresh Debian, with what the reader of a README has."""
    tree = CACHE / suite
    if not tree.is_dir():
        part = CACHE / f"{suite}.{os.getpid()}"
        part.mkdir(parents=True)
        command = ["debootstrap", "--variant=minbase", suite, str(part), archive()]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        _sources(part, suite)
        shutil.copyfile("/etc/resolv.conf", part / "etc/resolv.conf")
        finish = ["chroot", str(part), "/bin/bash", "-euc", _FINISH]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        subprocess.run(finish, check=True, env=environment, stdout=subprocess.DEVNULL)
        part.rename(tree)
    return tree


def _sources(tree: Path, suite: str) -> None:
    """What Debian's own installer writes: the release, its updates, its security archive."""
    (tree / "etc/apt/sources.list").unlink()
    uris = {one: archive() for one in (suite, f"{suite}-updates")}
    security = f"{suite}-security"
    uris[security] = find_sources("debian", ("bookworm-security",), Config())[0].uri
    (tree / "etc/apt/sources.list.d/debian.sources").write_text(
        "\n".join(
            f"Types: deb\nURIs: {uri}\nSuites: {one}\nComponents: main\n"
            "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
            for one, uri in uris.items()
        )
    )


def packages(requirements: Path, suite: str) -> list[Path]:
    """Files of all packages that plinth's own installation needs on the Python of `suite`, from the
    index that this machine's pip uses."""
    key = Digest.of_file(requirements).hex[:16]
    folder = CACHE / f"packages-{suite}-{key}"
    if not folder.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as part:
            pip = [sys.executable, "-m", "pip", "download", "-q", "-d", part, "--no-deps"]
            pip += ["--only-binary=:all:", "--python-version", SUITES[suite]]
            subprocess.run([*pip, "-r", str(requirements)], check=True)
            # What `pip install -e .` builds with.
            subprocess.run([*pip, "setuptools>=77", "wheel"], check=True)
            shutil.copytree(part, folder)
    return sorted(folder.iterdir())
