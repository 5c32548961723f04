"""One digest, and no crash, whatever locale and encoding the environment names."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from plinth.formats.oci.layout import references
from support import needs
from support.helpers import make_wheel
from support.small_checkout import IMAGE, SmallCheckout, make

LOCALES = ("de_DE.ISO-8859-1", "ja_JP.EUC-JP", "tr_TR.UTF-8")
_NAMES = {
    "demo/__init__.py": b"x = 1\n",
    "demo/größe.py": b"GROSS = True\n",
    "demo/データ.txt": b"data\n",
}
_SOURCE = Path("/usr/share/i18n/charmaps")


@pytest.fixture(scope="module")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `LOCALES`, for LOCPATH."""
    if shutil.which("localedef") is None or not _SOURCE.is_dir():
        needs.skip(needs.LOCALES)
    folder = tmp_path_factory.mktemp("locales")
    for name in LOCALES:
        language, _, charmap = name.partition(".")
        # It warns about characters that a charmap lacks, with exit status 1.
        subprocess.run(
            ["localedef", "-c", "-i", language, "-f", charmap, str(folder / name)],
            check=False,
            capture_output=True,
        )
        assert (folder / name).is_dir()
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> SmallCheckout:
    """A checkout, in a folder whose name is not ASCII, of files whose names are not ASCII."""
    wheel = make_wheel(tmp_path, _NAMES)
    checkout = make(tmp_path / "Café", [wheel])
    shutil.copy(wheel, checkout.wheels)
    checkout.seed(debs=True)
    return checkout


def environment(checkout: SmallCheckout, more: Mapping[str, str]) -> dict[str, str]:
    """The environment without what says how text is encoded, and `more`."""
    hidden = ("LANG", "LC_", "PYTHONUTF8", "PYTHONIOENCODING", "PYTHONCOERCECLOCALE", "LANGUAGE")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
    return {**kept, "PLINTH_CONFIG": str(checkout.settings), **more}


def built(checkout: SmallCheckout, command: list[str], more: Mapping[str, str]) -> str:
    """The digest of the image that `command` makes from nothing but its inputs."""
    build = checkout.ws.build
    for made in (build / "oci", build / "cache" / "actions", build / "cache" / "roots"):
        shutil.rmtree(made, ignore_errors=True)
    (build / "doit.db").unlink(missing_ok=True)
    done = subprocess.run(
        command,
        cwd=checkout.root,
        env=environment(checkout, more),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, (more, done.stdout + done.stderr)
    return references(checkout.ws.layout)[IMAGE].manifest.hex


ENVIRONMENTS: tuple[Mapping[str, str], ...] = (
    {"LC_ALL": "C"},
    {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "de_DE.ISO-8859-1"},
    {"LC_CTYPE": "de_DE.ISO-8859-1", "PYTHONUTF8": "0"},
    {"LC_ALL": "de_DE.ISO-8859-1", "PYTHONUTF8": "1"},
    {"LC_ALL": "ja_JP.EUC-JP", "PYTHONIOENCODING": "ascii:strict"},
    {"LC_ALL": "tr_TR.UTF-8"},
)


def test_build_gives_one_digest_under_every_locale(checkout: SmallCheckout, locales: Path) -> None:
    wanted = built(checkout, checkout.command("build", IMAGE), {"LC_ALL": "C.UTF-8"})
    for number, more in enumerate(ENVIRONMENTS):
        # Both front ends, in turn.
        command = checkout.doit("build") if number % 2 else checkout.command("build", IMAGE)
        found = built(checkout, command, {**more, "LOCPATH": str(locales)})
        assert found == wanted, more
