"""The images' service: which script it serves, with which settings, and its exit codes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[3] / "base/rootfs/var/runit/server/run"
FRONT = "plinth-front 5001 31311 azmlinfsrv --port 5001 --entry_script"
GUNICORN = "gunicorn --proxy-protocol --config /var/runit/server/gunicorn.conf.py"
PIP = "python -m pip install --disable-pip-version-check --no-cache-dir"


@pytest.fixture(autouse=True)
def programs(tmp_path: Path) -> Path:
    """A folder of programs: a scoring server, its front and a Python that print their calls."""
    folder = tmp_path / "bin"
    folder.mkdir()
    dirname = shutil.which("dirname")
    assert dirname is not None
    (folder / "dirname").symlink_to(dirname)
    program(folder, "azmlinfsrv", "")
    script = 'echo "plinth-front $*"; echo "in $(pwd)"; echo "path $PYTHONPATH"'
    program(folder, "plinth-front", f'{script}; echo "gunicorn $GUNICORN_CMD_ARGS"')
    program(folder, "python", 'echo "python $*"')
    return folder


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def app(tmp_path: Path, *files: str) -> Path:
    folder = tmp_path / "app"
    folder.mkdir(exist_ok=True)
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return folder


def ran(tmp_path: Path, **environment: str) -> tuple[int, list[str]]:
    """The exit code and the output of the service, in an environment of these alone."""
    done = subprocess.run(
        ["/bin/sh", str(RUN)],
        env={"PATH": str(tmp_path / "bin"), "AML_APP_ROOT": str(tmp_path / "app"), **environment},
        check=False,
        capture_output=True,
        text=True,
    )
    # Logs go to standard output, all of them.
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def served(tmp_path: Path, script: Path, **environment: str) -> str:
    """Check that the service serves `script`; its PYTHONPATH."""
    code, (server, folder, path, gunicorn) = ran(tmp_path, **environment)
    assert code == 0
    assert server == f"{FRONT} {script}"
    assert gunicorn == f"{GUNICORN} {environment.get('GUNICORN_CMD_ARGS', '')}"
    assert folder == f"in {tmp_path / 'app'}"
    return path.removeprefix("path ")


def test_score_is_served_before_main(tmp_path: Path) -> None:
    folder = app(tmp_path, "main.py")
    assert served(tmp_path, folder / "main.py") == ""
    app(tmp_path, "score.py")
    served(tmp_path, folder / "score.py")


@pytest.mark.parametrize("script", ["predict.py", "deep/er/predict.py"])
def test_the_entry_script_is_relative_to_the_application(tmp_path: Path, script: str) -> None:
    folder = app(tmp_path, "score.py", script)
    served(tmp_path, folder / script, AZUREML_ENTRY_SCRIPT=script)


def test_the_entry_script_may_be_absolute(tmp_path: Path) -> None:
    app(tmp_path, "score.py")
    script = tmp_path / "elsewhere" / "predict.py"
    served(tmp_path, script, AZUREML_ENTRY_SCRIPT=str(script))


def test_names_with_spaces_are_one_name(tmp_path: Path) -> None:
    folder = app(tmp_path, "my models/score it.py", "my models/my lib/x.py", "my models/re q.txt")
    code, lines = ran(
        tmp_path,
        AZUREML_ENTRY_SCRIPT="my models/score it.py",
        AZUREML_EXTRA_PYTHON_LIB_PATH="my lib",
        AZUREML_EXTRA_REQUIREMENTS_TXT="re q.txt",
    )
    assert code == 0
    assert lines == [
        f"{PIP} -r {folder}/my models/re q.txt",
        f"{FRONT} {folder}/my models/score it.py",
        f"in {folder}",
        f"path {folder}/my models/my lib",
        f"{GUNICORN} ",
    ]


def test_nothing_to_serve_is_111_with_what_to_do(tmp_path: Path) -> None:
    folder = app(tmp_path, "other.py", "score.py.d/x")
    assert ran(tmp_path) == (
        111,
        [
            f"plinth: nothing to serve: mount a folder with score.py at {folder}, "
            "or set AZUREML_ENTRY_SCRIPT"
        ],
    )


def test_an_application_that_is_not_there_is_111(tmp_path: Path) -> None:
    code, (line,) = ran(tmp_path, AZUREML_ENTRY_SCRIPT="/elsewhere/score.py")
    assert code == 111
    assert str(tmp_path / "app") in line


def test_the_default_application_is_the_contracts(tmp_path: Path) -> None:
    code, (line,) = ran(tmp_path, AML_APP_ROOT="")
    assert code == 111
    assert "mount a folder with score.py at /var/azureml-app," in line


def test_the_extra_library_comes_first_on_the_path(tmp_path: Path) -> None:
    folder = app(tmp_path, "code/predict.py", "code/lib/x.py")
    settings = {
        "AZUREML_ENTRY_SCRIPT": "code/predict.py",
        "AZUREML_EXTRA_PYTHON_LIB_PATH": "lib",
    }
    script = folder / "code" / "predict.py"
    assert served(tmp_path, script, **settings) == f"{folder}/code/lib"
    assert served(tmp_path, script, **settings, PYTHONPATH="/a:/b") == f"{folder}/code/lib:/a:/b"


def test_an_extra_library_that_is_not_there_is_97(tmp_path: Path) -> None:
    folder = app(tmp_path, "score.py", "file")
    for name in ("lib", "file"):
        assert ran(tmp_path, AZUREML_EXTRA_PYTHON_LIB_PATH=name) == (
            97,
            [f"plinth: there is no folder {folder}/{name} (AZUREML_EXTRA_PYTHON_LIB_PATH)"],
        )


def test_extra_requirements_are_installed_before_serving(tmp_path: Path) -> None:
    folder = app(tmp_path, "score.py", "requirements.txt")
    code, lines = ran(tmp_path, AZUREML_EXTRA_REQUIREMENTS_TXT="requirements.txt")
    assert code == 0
    assert lines[:2] == [
        f"{PIP} -r {folder}/requirements.txt",
        f"{FRONT} {folder}/score.py",
    ]


def test_extra_requirements_that_are_not_there_are_99(tmp_path: Path) -> None:
    folder = app(tmp_path, "score.py")
    assert ran(tmp_path, AZUREML_EXTRA_REQUIREMENTS_TXT="gone.txt") == (
        99,
        [f"plinth: there is no file {folder}/gone.txt (AZUREML_EXTRA_REQUIREMENTS_TXT)"],
    )


@pytest.mark.parametrize("code", [1, 2, 97])
def test_a_failing_installation_is_95(tmp_path: Path, programs: Path, code: int) -> None:
    app(tmp_path, "score.py", "requirements.txt")
    program(programs, "python", f"echo 'no matching distribution' >&2; exit {code}")
    assert ran(tmp_path, AZUREML_EXTRA_REQUIREMENTS_TXT="requirements.txt") == (
        95,
        ["no matching distribution"],
    )


def test_no_scoring_server_is_100(tmp_path: Path, programs: Path) -> None:
    app(tmp_path, "score.py")
    (programs / "azmlinfsrv").unlink()
    assert ran(tmp_path) == (100, ["plinth: azureml-inference-server-http is not installed"])


def test_settings_of_gunicorn_stay_the_users(tmp_path: Path) -> None:
    folder = app(tmp_path, "score.py")
    served(tmp_path, folder / "score.py", GUNICORN_CMD_ARGS="--worker-tmp-dir /dev/shm")


def test_a_separate_health_port_has_the_same_front(tmp_path: Path) -> None:
    app(tmp_path, "score.py")
    code, (front, *_) = ran(tmp_path, SEPERATE_HEALTH_ENDPOINT="true")
    assert code == 0
    assert front.startswith("plinth-front 5001,5000 31311 azmlinfsrv ")


def test_the_front_takes_the_services_place(tmp_path: Path, programs: Path) -> None:
    # A signal must reach the front itself, and its code is the service's.
    app(tmp_path, "score.py")
    program(programs, "plinth-front", "echo $$; exit 42")
    with subprocess.Popen(
        ["/bin/sh", str(RUN)],
        env={"PATH": str(programs), "AML_APP_ROOT": str(tmp_path / "app")},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        out, _ = process.communicate(timeout=10)
    assert process.returncode == 42
    assert int(out) == process.pid


def test_an_unset_application_root_is_the_default(tmp_path: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", str(RUN)],
        env={"PATH": os.fspath(tmp_path / "bin")},
        check=False,
        capture_output=True,
        text=True,
    )
    assert "/var/azureml-app" in done.stdout
