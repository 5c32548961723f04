"""The `plinth` command: exit codes, errors as text, never a traceback."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plinth import __version__
from plinth.commands import images as commands
from plinth.commands.main import main
from plinth.commands.verbs import VERBS
from plinth.core.digest import Digest, canonical_json
from plinth.core.errors import PlinthError
from plinth.formats.layer.writer import LayerWriter
from plinth.formats.oci.image import Runtime, assemble
from plinth.formats.oci.layout import tag
from plinth.graph.workspace import Workspace
from plinth.recipe.base import load_base

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of two specifications, the current folder, on a machine without settings."""
    for path in ("images/minimal.toml", "images/sklearn-0.24.1.toml"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / path, tmp_path / path)
    shutil.copytree(ROOT / "base", tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PLINTH_BUILD", raising=False)
    monkeypatch.setenv("PLINTH_CONFIG", str(tmp_path / "settings.toml"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    return tmp_path


@pytest.fixture
def layout(checkout: Path) -> Path:
    """The layout of the checkout, with one image."""
    store = Workspace.find(checkout).layout
    with LayerWriter(store) as writer:
        writer.file("x", b"1")
        layer = writer.commit("layer")
    runtime = Runtime("root", "/", {}, ["x"], [], "SIGTERM")
    image = assemble(
        store, [layer], architecture="amd64", created="", runtime=runtime, annotations={}
    )
    tag(store, "a", image.manifest, image_name="azureml/a:latest", architecture="amd64")
    return store.root


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command that fails shows."""
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("plinth: ")
    assert "Traceback" not in err
    return err


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--version"])
    assert raised.value.code == 0
    assert capsys.readouterr().out == f"plinth {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        (["explain"], "the following arguments are required: ID"),
        (["build", "--jobs", "many"], "invalid int value: 'many'"),
        (["validate", "--all"], "unrecognized arguments: --all"),
        (["verify", "x", "--checkout", ""], "argument --checkout: the value is empty"),
        (["verify", "x", "--identity", "a", "--identity", ""], "argument --identity: the value is"),
        (["verify", "x", "--bundle", ""], "argument --bundle: the value is empty"),
    ],
)
def test_wrong_usage_is_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["validate", "build", "lock", "gc"])
def test_outside_a_checkout_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert failed(capsys, verb) == (
        f"plinth: {tmp_path}: not inside a plinth checkout\n"
        "  expected: a folder with images/ and base/, here or above\n"
        "  next:     change into your checkout and run the command again\n"
    )


def test_a_folder_of_the_checkout_will_do(
    layout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(layout.parents[1] / "base" / "rootfs")
    assert main(["validate"]) == 0
    assert capsys.readouterr().out == f"{layout}: valid, 1 image\n"


def test_the_build_folder_may_be_elsewhere(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLINTH_BUILD", str(checkout / "elsewhere"))
    assert f"{checkout}/elsewhere/oci" in failed(capsys, "validate")


UNKNOWN = {
    "attach": ["minmal", "127.0.0.1:9/x/y"],
    "attest": ["--rebuilt", "minmal", "--trust", "embedded"],
    "diff": ["minmal", "minimal"],
    "export": ["minmal", "--out", "x.tar"],
    "push": ["minmal", "--to", "127.0.0.1:9/x"],
    "verify": ["minmal", "--trust", "embedded"],
    "why": ["minmal", "numpy"],
}
"""What is said to verbs that take more than an id."""

NO_ID = {"validate", "catalog", "site", "commands", "self", "completion", "doctor", "gc"}
NO_ID |= {"import", "tags", "pull"}


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize(
    "verb", [v.name for v in VERBS if v.name not in NO_ID and not v.name.startswith("trust ")]
)
def test_an_unknown_image_is_named_with_those_there_are(
    checkout: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    verb: str,
    built: bool,
) -> None:
    monkeypatch.setenv("PLINTH_TRUST", str(checkout / "trust"))
    if verb in ("attest", "verify"):
        assert main(["trust", "init"]) == 0
        capsys.readouterr()
    if built:
        request.getfixturevalue("layout")
    assert main([verb, *UNKNOWN.get(verb, ["minmal"])]) != 0
    out, error = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in error
    assert "next:     did you mean minimal? known here: " in error
    assert "sklearn-0.24.1" in error
    assert "doit build:minmal" not in error


def test_a_name_like_none_there_is_named_with_those_there_are(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = failed(capsys, "build", "nonesuch")
    assert "images/nonesuch.toml: there is no such specification" in error
    assert "next:     known here: minimal, sklearn-0.24.1" in error
    # A lock may be that of a base, too.
    error = failed(capsys, "lock", "debian12-py3")
    assert "did you mean debian12-py37? known here: base, " in error


def test_an_unknown_base_is_named_with_those_there_are(
    checkout: Path,
) -> None:
    with pytest.raises(PlinthError) as raised:
        load_base(checkout / "base", "nonesuch")
    error = str(raised.value)
    assert "base/nonesuch.toml: there is no such specification" in error
    assert "debian12-py37, ubuntu18.04-py37" in error.partition("known here: ")[2]


def test_an_image_without_a_lock_says_how_to_make_it(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = failed(capsys, "build", "minimal")
    assert "locks/minimal/pylock.toml" in error
    assert "doit lock:minimal" in error


def test_an_image_that_is_not_built_cannot_be_loaded(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "plinth: " in failed(capsys, "load", "minimal")


def test_damaged_settings_are_named_with_their_file(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "settings.toml").write_text("index = 3\n")
    error = failed(capsys, "lock", "minimal")
    assert f"{checkout}/settings.toml: index: unknown setting" in error


def test_validate_lists_problems_for_programs(
    layout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"layout": str(layout), "problems": []}
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "2"}')
    assert main(["validate", "--json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert problem == {"path": "oci-layout", "message": "imageLayoutVersion is '2', not '1.0.0'"}


def test_no_layout_is_an_error_with_what_to_do(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = failed(capsys, "validate")
    assert f"{checkout}/build/oci: 2 problems" in error
    assert "there is no OCI image layout here" in error


def set_entry(**fields: object) -> Callable[[Any], None]:
    return lambda index: index["manifests"][0].update(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.update(manifests={}), "not an OCI image index"),
        (lambda index: index.update(manifests=[3]), "manifests[0]"),
        (set_entry(digest="sha256:00"), "manifests[0]: not a descriptor"),
        (set_entry(digest=7), "manifests[0]"),
        (set_entry(size="3"), "manifests[0]"),
        (set_entry(size=1), "manifests[0]"),
        (set_entry(mediaType="text/plain"), "manifests[0]: expected a descriptor of"),
        (set_entry(annotations=3), "manifests[0]"),
        (set_entry(annotations={"org.opencontainers.image.ref.name": ["a"]}), "manifests[0]"),
    ],
)
def test_a_damaged_index_is_shown_with_its_place(
    layout: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Any], None],
    message: str,
) -> None:
    index = json.loads((layout / "index.json").read_text())
    change(index)
    (layout / "index.json").write_text(json.dumps(index))
    error = failed(capsys, "validate")
    assert str(layout) in error
    assert message in error


def test_a_damaged_layer_is_shown_with_its_place(
    layout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blobs = sorted(
        (layout / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_mtime_ns
    )
    blobs[0].write_bytes(blobs[0].read_bytes() + b"x")
    error = failed(capsys, "validate")
    assert f"{layout}: 1 problem\n" in error
    assert "index.json: manifests[0].layers[0]: " in error
    assert "blob on disk is damaged" in error


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["manifests", "mediaType", "digest", "size", "annotations", "layers"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=20))
def test_whatever_the_index_holds_is_an_error_and_no_crash(
    layout: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (layout / "index.json").write_bytes(content)
    assert main(["validate"]) in (0, 1)
    out, err = capsys.readouterr()
    assert bool(out) != bool(err)


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(JSON)
def test_whatever_a_manifest_holds_is_an_error_and_no_crash(
    layout: Path, capsys: pytest.CaptureFixture[str], content: Any
) -> None:
    document = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "schemaVersion": 2}
    whole = {**document, **content} if isinstance(content, dict) else content
    data = canonical_json(whole)
    digest = Digest.of(data)
    (layout / "blobs" / "sha256" / digest.hex).write_bytes(data)
    index = json.loads((layout / "index.json").read_text())
    index["manifests"][0].update(digest=digest.oci, size=digest.size)
    (layout / "index.json").write_text(json.dumps(index))
    assert main(["validate"]) in (0, 1)
    out, err = capsys.readouterr()
    assert bool(out) != bool(err)


def test_an_interruption_is_130(
    layout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(ws: Workspace, **_: bool) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "validate", interrupt)
    assert main(["validate"]) == 130
    assert capsys.readouterr().err == "plinth: interrupted; nothing half-written is left\n"


_SLEEPING = """
import sys, time
from plinth.commands import images
from plinth.commands.main import main
from plinth.core.scratch import scratch

def validate(*, as_json):
    with scratch("plinth-"):
        print("begun", flush=True)
        time.sleep(60)

images.validate = validate
sys.argv = ["plinth", "validate"]
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("number", "code", "what"),
    [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")],
)
def test_a_signal_that_ends_a_command_leaves_no_folder_behind(
    tmp_path: Path, number: signal.Signals, code: int, what: str
) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUTF8": "1"}
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", _SLEEPING]
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout and process.stdout.readline() == "begun\n"
        assert [*tmp_path.iterdir()]
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (code, f"plinth: {what}; nothing half-written is left\n")
    assert not [*tmp_path.iterdir()]


_INTERRUPTED = """
import os, signal, sys

class Finder:
    def find_spec(self, name, *_):
        if name == "plinth.commands.verbs":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
"""
"""A `sitecustomize` that has ^C come while plinth is loaded."""


@pytest.mark.parametrize("front_end", ["module", "script"])
def test_an_interruption_while_modules_are_loaded_is_130(tmp_path: Path, front_end: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(_INTERRUPTED)
    scripts = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, name = scripts["plinth"].split(":")
    # What pip writes for it.
    script = f"import sys\nfrom {module} import {name}\nsys.exit({name}())"
    done = subprocess.run(
        [sys.executable, *(["-m", "plinth"] if front_end == "module" else ["-c", script])],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONUTF8": "1"},
        check=False,
        capture_output=True,
        text=True,
    )
    told = "plinth: interrupted; nothing half-written is left\n"
    assert (done.returncode, done.stderr) == (130, told)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/x/locks/a"),
            "/x/locks/a: No space left on device\n  next:     make room there (plinth gc deletes "
            "what no image needs), and do the same again\n",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "No space left on device\n  next:     make room for the checkout and "
            f"{tempfile.gettempdir()} (plinth gc",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "/x/locks"),
            "/x/locks: Read-only file system\n  next:     let this user read and write there, or "
            "work in a copy where it may\n",
        ),
        (OSError(errno.EIO, "Input/output error", "/x"), "[Errno 5] Input/output error: '/x'\n"),
    ],
)
def test_a_disk_that_cannot_be_written_is_told_with_what_to_do(
    checkout: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: OSError,
    said: str,
) -> None:
    def fail(ws: Workspace, **_: bool) -> None:
        raise error

    monkeypatch.setattr(commands, "validate", fail)
    assert main(["validate"]) == 1
    assert capsys.readouterr().err.startswith(f"plinth: {said}")


def test_the_command_is_a_module_too(checkout: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "plinth", "validate"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"plinth: {checkout}/build/oci: ")
