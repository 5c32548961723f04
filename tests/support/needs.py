"""What tests need and a machine may lack: one wording, and the line that a run ends with."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterable
from typing import NoReturn

import pytest

ENGINES = {
    "PLINTH_TEST_DOCKER_HOST": "a Docker Engine (PLINTH_TEST_DOCKER_HOST)",
    "PLINTH_TEST_DOCKER_CURRENT": (
        "an engine with containerd's image store (PLINTH_TEST_DOCKER_CURRENT)"
    ),
    "PLINTH_TEST_PODMAN": "podman's service (PLINTH_TEST_PODMAN)",
}
"""The variables that name engines for tests, each with what lacks where it names none."""

PACKAGES = {
    "apt-get": "apt",
    "bwrap": "bubblewrap",
    "docker": "docker.io",
    "dot": "graphviz",
    "dpkg-query": "dpkg",
    "gpg": "gnupg",
    "ip": "iproute2",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}
"""Programs whose packages have other names."""

REGISTRY = "a registry (PLINTH_TEST_REGISTRY)"
LOCALES = "the package locales"
ROOT = "root"

_REASON = re.compile(r"(?:Skipped: )?needs (.+)", re.DOTALL)


def reason(what: str) -> str:
    """The reason of a test that is skipped because the machine lacks `what`."""
    return f"needs {what}"


def skip(what: str) -> NoReturn:
    """Skip the test: the machine lacks `what`."""
    pytest.skip(reason(what))


def package(name: str) -> str:
    """The package that a program is in."""
    return PACKAGES.get(name, name)


def program(name: str) -> str:
    """The path of a program; a test of a machine without it is skipped, which names the package."""
    found = shutil.which(name)
    if found is None:
        skip(package(name))
    return found


def without(name: str) -> pytest.MarkDecorator:
    """Skips a test of a machine without a program."""
    return pytest.mark.skipif(shutil.which(name) is None, reason=reason(package(name)))


def python(version: str) -> str:
    """What is lacking where no CPython `version` is found."""
    return f"CPython {version} (pyenv install {version})"


def summary(reasons: Iterable[str]) -> str:
    """One line about the tests skipped for these reasons: what they need, how many need it, and
    how to get it. Empty where nothing is lacking; reasons of another kind are left out."""
    found = Counter(match[1] for text in reasons if (match := _REASON.fullmatch(text)))
    if not found:
        return ""
    total = found.total()
    needs = ", ".join(
        f"{count} {'need' if count > 1 else 'needs'} {what}" for what, count in found.most_common()
    )
    return (
        f"{total} {'tests' if total > 1 else 'test'} skipped: {needs}; "
        "`.ci/run` installs and starts all but interpreters"
    )
