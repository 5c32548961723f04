"""`python -m plinth.graph.steps`: one step in a folder of its own, as workers do it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from plinth.core.digest import Digest
from plinth.core.store import BlobStore
from plinth.formats.layer.model import Layer
from plinth.formats.layer.writer import LayerWriter
from plinth.graph.remote import probe
from plinth.graph.steps.model import INFO, INPUTS, OUTPUTS, PARAMETERS, REFUSED, UNABLE


def do(root: Path, mnemonic: str, **parameters: object) -> subprocess.CompletedProcess[str]:
    (root / PARAMETERS).write_text(json.dumps({"mnemonic": mnemonic, "parameters": parameters}))
    command = [sys.executable, "-m", "plinth.graph.steps"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / INPUTS).mkdir(parents=True)
    return tmp_path / "root"


MOTD = b"hello\n"


def a_layer(folder: Path) -> Layer:
    with LayerWriter(BlobStore(folder)) as writer:
        writer.file("motd", MOTD)
        return writer.commit("x")


def test_outputs_have_their_names_and_nothing_else_is_left(root: Path, tmp_path: Path) -> None:
    (root / INPUTS / "motd").write_bytes(MOTD)
    done = do(root, "contract-layer", folders=[], files=[["motd", 0o644, 0, 0]], links=[])
    assert (done.returncode, done.stderr) == (0, "")
    wanted = a_layer(tmp_path / "store")
    assert Digest.of_file(root / OUTPUTS / "layer") == wanted.digest
    assert json.loads((root / OUTPUTS / INFO).read_bytes())["diff_id"] == wanted.diff_id
    assert {path.name for path in (root / OUTPUTS).iterdir()} == {"layer", "scan", INFO}


def test_input_that_is_not_usable(root: Path) -> None:
    (root / INPUTS / "demo").write_bytes(b"no package")
    done = do(root, "deb-layer", filenames={"demo": "demo_1_all.deb"})
    assert done.returncode == REFUSED
    assert "demo_1_all.deb" in done.stderr and "Traceback" not in done.stderr
    assert list((root / OUTPUTS).iterdir()) == []


def test_an_interpreter_that_does_not_run(root: Path, tmp_path: Path) -> None:
    """It is the worker that is unable: the step may be done elsewhere."""
    from support.helpers import wheel_files, zipped

    store = BlobStore(tmp_path)
    (root / INPUTS / "interpreter").write_bytes(store.get(a_layer(tmp_path).digest))
    files = wheel_files({"demo/__init__.py": b"x = 1\n"})
    (root / INPUTS / "wheel").write_bytes(zipped(files))
    done = do(root, "wheel-layer", filename="demo-1.0-py3-none-any.whl", python="3.7")
    assert done.returncode == UNABLE, done.stderr
    assert "Traceback" not in done.stderr
    assert list((root / OUTPUTS).iterdir()) == []


def test_what_a_python_that_does_every_step_has_loaded() -> None:
    done = subprocess.run([sys.executable, "-m", probe.__name__], capture_output=True, check=True)
    found = json.loads(done.stdout)
    assert {"plinth.graph.steps.wheels", "plinth.graph.steps.__main__", "zlib"} <= set(
        found["used"]
    )
    assert found["version"] == list(sys.version_info[:2])
    assert Path(found["executable"]).samefile(sys.executable)
    names = {Path(path).name.partition(".")[0] for path in found["extensions"]}
    assert "_hashlib" in names or "_hashlib" in sys.builtin_module_names
    assert not any(name.startswith(("_test", "_tkinter")) for name in names)
    assert all(Path(path).is_relative_to(found["site"]) for path in found["packages"])
    assert any("libc.so" in path for path in found["mapped"])
