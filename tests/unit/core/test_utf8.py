"""Names and output that do not depend on the locale."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from plinth.core import utf8
from plinth.core.errors import PlinthError
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.formats.debian.deb import read_deb
from plinth.formats.gunzip import gunzipped_tar
from plinth.formats.layer.writer import LayerWriter
from plinth.graph.session import session
from plinth.graph.workspace import Workspace
from support import needs
from support.debs import Package, make_deb

NAME = "usr/share/Főtanúsítvány.crt"


@pytest.fixture
def latin(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `tarfile` assumes under a locale of ISO 8859-1."""
    monkeypatch.setattr(tarfile.TarFile, "encoding", "iso8859-1")


@pytest.mark.usefixtures("latin")
def test_names_in_a_deb_are_utf8_whatever_the_locale(tmp_path: Path) -> None:
    path = make_deb(tmp_path, Package("demo", files={NAME: b""}))
    assert NAME in [file.path for file in read_deb(path, "demo").files]


@pytest.mark.usefixtures("latin")
def test_names_in_a_layer_are_utf8_whatever_the_locale(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    with LayerWriter(store) as writer:
        writer.file("Grüße", b"")
        layer = writer.commit("layer")
    # As another tool writes it: without an extended header.
    plain = tmp_path / "plain.tar"
    with tarfile.open(plain, "w", format=tarfile.GNU_FORMAT, encoding="utf-8") as tar:
        tar.addfile(tarfile.TarInfo("Grüße"))
    (tmp_path / "plain.tar.gz").write_bytes(gzip.compress(plain.read_bytes()))
    for path in (store.path(layer.digest), tmp_path / "plain.tar.gz"):
        with gunzipped_tar(path) as entries:
            assert [member.name for member, _ in entries] == ["Grüße"]


def run(code: str, *options: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run Python code in a process of its own."""
    return subprocess.run(
        [sys.executable, *options, "-c", code], env=environment, capture_output=True, check=False
    )


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_check_refuses_a_process_whose_file_names_are_not_utf8() -> None:
    utf8.check()
    done = run(
        "from plinth.core import utf8\nfrom plinth.core.errors import PlinthError\n"
        "try: utf8.check()\nexcept PlinthError as error: print(error)",
        **ASCII,
    )
    assert b"found:    ascii" in done.stdout
    assert b"PYTHONUTF8=1" in done.stdout


def test_start_makes_file_names_utf8_and_keeps_the_arguments() -> None:
    code = (
        "import sys\nfrom plinth.core import utf8\nutf8.start()\n"
        "print(sys.getfilesystemencoding(), sys.flags.dev_mode, ascii(sys.argv))"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", code, "Größe", b"\xff"],
        env=ASCII,
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == "utf-8 True ['-c', 'Gr\\xf6\\xdfe', '\\udcff']\n"


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "iso8859-1:strict"},
        ASCII,
    ],
)
def test_output_that_cannot_be_shown_is_replaced(environment: dict[str, str]) -> None:
    done = run(
        "from plinth.core import utf8\nutf8.start()\nprint('a \\u2026 \\udcff')", **environment
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout in (b"a \\u2026 \\udcff\n", "a … \\udcff\n".encode())


def test_a_session_of_a_build_checks_the_encoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "iso8859-1")
    ws = Workspace(tmp_path, tmp_path / "build")
    with (
        pytest.raises(PlinthError, match="file names are not UTF-8"),
        session(ws, Config(), jobs=1, progress=print),
    ):
        raise AssertionError


def test_output_keeps_the_encoding_of_the_terminal(tmp_path: Path) -> None:
    if shutil.which("localedef") is None or not Path("/usr/share/i18n/charmaps").is_dir():
        needs.skip(needs.LOCALES)
    name = "de_DE.ISO-8859-1"
    made = ["localedef", "-c", "-i", "de_DE", "-f", "ISO-8859-1", str(tmp_path / name)]
    subprocess.run(made, check=False, capture_output=True)
    code = "from plinth.core import utf8\nutf8.start()\nprint('\\u00fc \\u2026')"
    environment = {"LC_ALL": name, "LOCPATH": str(tmp_path)}
    assert run(code, **environment).stdout == b"\xfc \\u2026\n"
    assert run(code, PYTHONUTF8="1", **environment).stdout == "ü …\n".encode()
