"""One digest, and no crash, whatever locale and encoding the environment names; and what is left of
a version whose digests depended on them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

from integration.conftest import ROOT, Checkout
from plinth.formats.oci.layout import references
from support import needs
from support.helpers import make_wheel
from support.small_checkout import IMAGE, SmallCheckout, make

LOCALES = {
    "C": "ascii",
    "C.UTF-8": "utf-8",
    "de_DE.ISO-8859-1": "iso8859-1",
    "ja_JP.EUC-JP": "euc_jp",
    "ja_JP.SHIFT_JIS": "shift_jis",
    "ru_RU.KOI8-R": "koi8-r",
    "tr_TR.UTF-8": "utf-8",
    "zh_CN.GB18030": "gb18030",
}
"""Eight, with the encoding that Python takes of each where it is not told to take UTF-8."""

_NAMES = {
    "demo/__init__.py": b"x = 1\n",
    "demo/größe.py": b"GROSS = True\n",
    "demo/データ.txt": b"data\n",
}
_SOURCE = Path("/usr/share/i18n/charmaps")
NO_UTF8 = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""What keeps Python from taking UTF-8 although the locale is another."""


@pytest.fixture(scope="module")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """A function that compiles one of `LOCALES` where it is not yet, and returns its LOCPATH."""
    if shutil.which("localedef") is None or not _SOURCE.is_dir():
        needs.skip(needs.LOCALES)
    folder = tmp_path_factory.mktemp("locales")

    @cache
    def make(name: str) -> str:
        language, _, charmap = name.partition(".")
        if language != "C":
            # It warns about characters that a charmap lacks, with exit status 1.
            command = ["localedef", "-c", "-i", language, "-f", charmap, str(folder / name)]
            subprocess.run(command, check=False, capture_output=True)
        # Where it is not found, the C library takes C, and a test would show nothing.
        taken = subprocess.run(
            [sys.executable, "-c", "import sys; print(sys.getfilesystemencoding())"],
            env={"LC_ALL": name, "LOCPATH": str(folder), **NO_UTF8},
            check=True,
            capture_output=True,
            text=True,
        )
        assert taken.stdout.strip() == LOCALES[name]
        return str(folder)

    return make


@pytest.fixture
def checkout(tmp_path: Path) -> SmallCheckout:
    """A checkout, in a folder whose name is not ASCII, of files whose names are not ASCII."""
    wheel = make_wheel(tmp_path, _NAMES)
    checkout = make(tmp_path / "Café", [wheel])
    shutil.copy(wheel, checkout.wheels)
    checkout.seed(debs=True)
    return checkout


def clean_environment(more: Mapping[str, str]) -> dict[str, str]:
    """The environment without what says how text is encoded, and `more`."""
    hidden = ("LANG", "LC_", "PYTHONUTF8", "PYTHONIOENCODING", "PYTHONCOERCECLOCALE", "LANGUAGE")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
    return {**kept, **more}


def run(checkout: Path, command: list[str], more: Mapping[str, str]) -> None:
    """Run `command` in the checkout, in an environment with `more`."""
    done = subprocess.run(
        command, cwd=checkout, env=clean_environment(more), capture_output=True, check=False
    )
    assert done.returncode == 0, (more, done.stdout + done.stderr)


def forget(build: Path) -> None:
    """Take from a build folder all but its inputs."""
    for made in (build / "oci", build / "cache" / "actions", build / "cache" / "roots"):
        shutil.rmtree(made, ignore_errors=True)
    (build / "doit.db").unlink(missing_ok=True)


def built(checkout: SmallCheckout, command: list[str], more: Mapping[str, str]) -> str:
    """The digest of the image that `command` makes from nothing but its inputs."""
    forget(checkout.ws.build)
    run(checkout.root, command, {"PLINTH_CONFIG": str(checkout.settings), **more})
    return digest(checkout)


def digest(checkout: SmallCheckout) -> str:
    """The digest of the checkout's image."""
    return references(checkout.ws.layout)[IMAGE].manifest.hex


ENVIRONMENTS: tuple[Mapping[str, str], ...] = (
    {"LC_ALL": "C"},
    {"LC_ALL": "POSIX", **NO_UTF8},
    {"LANG": "C", **NO_UTF8},
    {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "de_DE.ISO-8859-1"},
    {"LC_CTYPE": "de_DE.ISO-8859-1", "PYTHONUTF8": "0"},
    {"LC_ALL": "ja_JP.SHIFT_JIS", "PYTHONUTF8": "1"},
    {"LC_ALL": "ja_JP.EUC-JP", "PYTHONIOENCODING": "ascii:strict"},
    {"LC_ALL": "tr_TR.UTF-8"},
)


def test_build_gives_one_digest_under_every_locale(
    checkout: SmallCheckout, locales: Callable[[str], str]
) -> None:
    wanted = built(checkout, checkout.command("build", IMAGE), {"LC_ALL": "C.UTF-8"})
    for number, more in enumerate(ENVIRONMENTS):
        # Both front ends, in turn.
        command = checkout.doit("build") if number % 2 else checkout.command("build", IMAGE)
        named = next((name for name in more.values() if name in LOCALES), "C")
        found = built(checkout, command, {**more, "LOCPATH": locales(named)})
        assert found == wanted, more


@pytest.mark.nightly
@pytest.mark.network
def test_minimal_has_one_digest_under_eight_locales_with_and_without_utf8_mode(
    tmp_path: Path, locales: Callable[[str], str], clone: Callable[..., Checkout]
) -> None:
    wanted = Checkout(ROOT).digests()["minimal"]
    checkout = clone(tmp_path / "Café")
    for mode in (NO_UTF8, {"PYTHONUTF8": "1"}):
        for name in reversed(LOCALES):
            more = {"LC_ALL": name, "LOCPATH": locales(name), **mode}
            forget(checkout.ws.build)
            run(checkout.root, checkout.command("build:minimal"), more)
            assert checkout.digests()["minimal"] == wanted, more


READ = 'return name.decode("utf-8", "surrogateescape")'
"""How names in archives are read; once it was by the locale."""


def older(checkout: SmallCheckout) -> None:
    """Give the checkout a plinth that reads names in archives as versions before 2026-11-30 did
    under a locale of ISO 8859-1. (Under C they ended with an error: it cannot write them.)"""
    tools = checkout.root / "tools"
    tools.unlink()
    shutil.copytree(ROOT / "tools", tools, ignore=shutil.ignore_patterns("__pycache__"))
    path = tools / "plinth" / "formats" / "tar.py"
    text = path.read_text()
    assert text.count(READ) == 1
    path.write_text(text.replace(READ, READ.replace("utf-8", "iso8859-1")))


def current(checkout: SmallCheckout) -> None:
    """Give the checkout the plinth under test again."""
    shutil.rmtree(checkout.root / "tools")
    (checkout.root / "tools").symlink_to(ROOT / "tools")


def holds(checkout: SmallCheckout, name: str) -> bool:
    """Whether a layer in the layout has a file whose path ends in `name`."""
    paths = []
    for blob in checkout.ws.layout.blobs.iterdir():
        with suppress(tarfile.ReadError), tarfile.open(blob, encoding="utf-8") as layer:
            paths += layer.getnames()
    return any(path.endswith(name) for path in paths)


def test_what_an_older_version_made_under_a_wrong_locale_is_made_again(
    checkout: SmallCheckout,
) -> None:
    """All it left is in the store: results of steps, layers, its image, and doit's memory."""
    more = {"LC_ALL": "C.UTF-8", "PLINTH_CONFIG": str(checkout.settings)}
    wanted = built(checkout, checkout.doit("build"), more)
    right = "Főtanúsítvány.crt"
    wrong = right.encode().decode("iso8859-1")
    assert holds(checkout, right)
    older(checkout)
    assert built(checkout, checkout.doit("build"), more) != wanted
    assert holds(checkout, wrong)
    current(checkout)
    run(checkout.root, checkout.doit("build"), more)
    assert digest(checkout) == wanted
    # What nothing refers to any more goes, when it is an hour old.
    for path in checkout.ws.build.rglob("*"):
        os.utime(path, (0, 0), follow_symlinks=False)
    run(checkout.root, checkout.command("gc", "--delete"), more)
    assert holds(checkout, right)
    assert not holds(checkout, wrong)
