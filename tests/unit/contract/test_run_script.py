"""The images' service: which script it serves, with which settings, and its exit codes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support import needs

ROOTFS = Path(__file__).resolve().parents[3] / "base/rootfs"
RUN = ROOTFS / "var/runit/server/run"
FRONT = "plinth-front 5001 31311 azmlinfsrv --port 5001 --entry_script"
CONFIG = "--config /var/runit/server/gunicorn.conf.py"
PIP = "python -m pip install --disable-pip-version-check --no-cache-dir"


@pytest.fixture(autouse=True)
def programs(tmp_path: Path) -> Path:
    """A folder of programs: a scoring server, its front and a Python that print their calls."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("dirname", "mktemp"):
        (folder / name).symlink_to(shutil.which(name) or "")
    program(folder, "azmlinfsrv", "")
    script = 'echo "plinth-front $*"; echo "in $(pwd)"; echo "path $PYTHONPATH"'
    program(folder, "plinth-front", f'{script}; echo "gunicorn $GUNICORN_CMD_ARGS"')
    program(folder, "python", 'case "$1" in -c) echo /env ;; *) echo "python $*" ;; esac')
    program(folder, "conda", 'echo "conda $*"')
    program(folder, "plinth-place", "")
    return folder


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def service(tmp_path: Path) -> list[str]:
    """The command that runs the service, with plinth's shell functions of this checkout, and the
    front that the test has."""
    text = RUN.read_text().replace(". /usr/local/lib/", f". {ROOTFS}/usr/local/lib/")
    copy = tmp_path / "run"
    copy.write_text(text.replace("/usr/local/bin/plinth-front", f"{tmp_path}/bin/plinth-front"))
    return ["/bin/sh", str(copy)]


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
        service(tmp_path),
        env={"PATH": str(tmp_path / "bin"), "AML_APP_ROOT": str(tmp_path / "app"), **environment},
        check=False,
        capture_output=True,
        text=True,
    )
    # Logs go to standard output, all of them.
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    return done.returncode, [line for line in lines if not line.startswith("plinth: serving ")]


def served(tmp_path: Path, script: Path, **environment: str) -> str:
    """Check that the service serves `script`; its PYTHONPATH."""
    code, (server, folder, path, gunicorn) = ran(tmp_path, **environment)
    assert code == 0
    assert server == f"{FRONT} {script}"
    given = environment.get("GUNICORN_CMD_ARGS", "")
    assert gunicorn == f"gunicorn --proxy-protocol {given} {CONFIG}"
    assert folder == f"in {tmp_path / 'app'}"
    return path.removeprefix("path ")


def test_main_is_served_before_score(tmp_path: Path) -> None:
    folder = app(tmp_path, "score.py")
    assert served(tmp_path, folder / "score.py") == ""
    app(tmp_path, "main.py")
    served(tmp_path, folder / "main.py")


def test_where_nginx_is_the_front_the_server_runs_alone(tmp_path: Path, programs: Path) -> None:
    folder = app(tmp_path, "score.py")
    program(programs, "nginx", "")
    # A base may bring nginx along.
    served(tmp_path, folder / "score.py")
    (programs / "plinth-front").unlink()
    call = 'echo "azmlinfsrv $*"; echo "gunicorn $GUNICORN_CMD_ARGS${LISTEN_FDS:-}"'
    program(programs, "azmlinfsrv", call)
    # Whoever starts the container may have sockets; this server has none of them.
    assert ran(tmp_path, SEPERATE_HEALTH_ENDPOINT="true", LISTEN_FDS="1") == (
        0,
        [
            f"azmlinfsrv --port 5001 --entry_script {folder}/score.py",
            f"gunicorn  {CONFIG}",
        ],
    )


def test_lines_are_json_where_that_is_asked_for(tmp_path: Path, programs: Path) -> None:
    folder = app(tmp_path, 'a "b" \\c.py')
    for name in ("date", "tr", "sed"):
        (programs / name).symlink_to(shutil.which(name) or "")
    script = {"AZUREML_ENTRY_SCRIPT": 'a "b" \\c.py', "AZUREML_LOG_FORMAT": "JSON"}
    code, (line, call, *_) = ran(tmp_path, **script)
    assert code == 0
    found = json.loads(line)
    assert (found["level"], found["logger"]) == ("INFO", "plinth")
    assert found["message"].startswith(f'plinth: serving {folder}/a "b" \\c.py with ')
    assert call.startswith("plinth-front 5001 31311 python /var/runit/server/json_logs.py --port ")


def test_the_start_is_logged_with_the_packages_at_debug(tmp_path: Path) -> None:
    folder = app(tmp_path, "score.py")
    environment = {"PATH": str(tmp_path / "bin"), "AML_APP_ROOT": str(folder), "PYTHONPATH": "/a"}
    for level, packages in (("INFO", 0), ("DEBUG", 1)):
        done = subprocess.run(
            service(tmp_path),
            env={**environment, "AZUREML_LOG_LEVEL": level},
            check=True,
            capture_output=True,
            text=True,
        )
        python = tmp_path / "bin" / "python"
        assert done.stdout.splitlines()[0] == (
            f"plinth: serving {folder}/score.py with {python}, PYTHONPATH=/a"
        )
        assert done.stdout.count("python -m pip list --format freeze") == packages


@pytest.mark.parametrize(
    ("port", "message"),
    [
        (
            "5678",
            "plinth: debugpy is not installed, and AZUREML_DEBUG_PORT is set: pip install debugpy",
        ),
        ("no", "plinth: AZUREML_DEBUG_PORT is 'no': give a port"),
        ("0", "plinth: AZUREML_DEBUG_PORT is '0': give a port"),
        ("123456", "plinth: AZUREML_DEBUG_PORT is '123456': give a port"),
    ],
)
def test_a_debugger_that_cannot_be_had_is_94(
    tmp_path: Path, programs: Path, port: str, message: str
) -> None:
    app(tmp_path, "score.py")
    program(programs, "python", "exit 1")
    assert ran(tmp_path, AZUREML_DEBUG_PORT=port) == (94, [message])


def test_a_debugger_that_is_installed_is_left_to_the_server(tmp_path: Path) -> None:
    folder = app(tmp_path, "score.py")
    code, lines = ran(tmp_path, AZUREML_DEBUG_PORT="5678")
    assert (code, lines[1]) == (0, f"{FRONT} {folder}/score.py")


def test_what_the_user_may_not_read_is_named(tmp_path: Path, programs: Path) -> None:
    if os.geteuid() == 0:
        needs.skip("a user other than root")
    folder = app(tmp_path, "score.py")
    for name in ("id", "stat"):
        (programs / name).symlink_to(shutil.which(name) or "")
    for path in (folder / "score.py", folder):
        path.chmod(0)
        code, (line,) = ran(tmp_path)
        assert code == 111
        assert line.startswith(f"plinth: user {os.geteuid()} may not read {path} (mode 0, owner ")
        path.chmod(0o755)


@pytest.mark.parametrize("script", ["predict.py", "deep/er/predict.py"])
def test_the_entry_script_is_relative_to_the_application(tmp_path: Path, script: str) -> None:
    folder = app(tmp_path, "score.py", script)
    served(tmp_path, folder / script, AZUREML_ENTRY_SCRIPT=script)


def test_the_entry_script_may_be_absolute(tmp_path: Path) -> None:
    app(tmp_path, "score.py")
    script = tmp_path / "elsewhere" / "predict.py"
    script.parent.mkdir()
    script.touch()
    served(tmp_path, script, AZUREML_ENTRY_SCRIPT=str(script))


def test_names_with_spaces_are_one_name(tmp_path: Path) -> None:
    folder = app(tmp_path, "my models/score it.py", "my models/my lib/x.py", "my models/re q.txt")
    script = {"AZUREML_ENTRY_SCRIPT": "my models/score it.py"}
    path = served(
        tmp_path,
        folder / "my models/score it.py",
        AZUREML_EXTRA_PYTHON_LIB_PATH="my lib",
        **script,
    )
    assert path == f"{folder}/my models/my lib"
    for name, command in (
        ("REQUIREMENTS_TXT", f"{PIP} -r"),
        ("CONDA_YAML", "conda env update --prefix /env --file"),
    ):
        code, lines = ran(tmp_path, **script, **{f"AZUREML_EXTRA_{name}": "re q.txt"})
        assert code == 0
        assert lines[0] == f"{command} {folder}/my models/re q.txt"


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
    missing = "there is no file /elsewhere/score.py (AZUREML_ENTRY_SCRIPT)"
    assert ran(tmp_path, AZUREML_ENTRY_SCRIPT="/elsewhere/score.py") == (
        111,
        [f"plinth: {missing}"],
    )


def test_a_script_that_python_cannot_import_is_111(tmp_path: Path) -> None:
    folder = app(tmp_path, "score.txt")
    assert ran(tmp_path, AZUREML_ENTRY_SCRIPT="score.txt") == (
        111,
        [f"plinth: {folder}/score.txt is no .py file (AZUREML_ENTRY_SCRIPT)"],
    )


@pytest.mark.parametrize("name", ["WORKER_COUNT", "WORKER_TIMEOUT", "SCORING_TIMEOUT_MS"])
@pytest.mark.parametrize("value", ["x", "1.5", "-1", "01", "9" * 10])
def test_a_setting_that_is_no_whole_number_is_111(tmp_path: Path, name: str, value: str) -> None:
    app(tmp_path, "score.py")
    code, (line,) = ran(tmp_path, **{name: value})
    assert code == 111
    assert line.startswith(f"plinth: {name} is '{value}': give a whole number, such as ")


def test_a_server_has_a_worker(tmp_path: Path) -> None:
    folder = app(tmp_path, "score.py")
    assert ran(tmp_path, WORKER_COUNT="0") == (111, ["plinth: WORKER_COUNT is 0: give 1 or more"])
    served(tmp_path, folder / "score.py", WORKER_TIMEOUT="0")


def test_a_variable_that_is_empty_is_not_set(tmp_path: Path, programs: Path) -> None:
    app(tmp_path, "score.py")
    names = ("WORKER_COUNT", "WORKER_TIMEOUT", "SCORING_TIMEOUT_MS", "AZUREML_DEBUG_PORT")
    program(programs, "plinth-front", f'echo "{" ".join(f"${{{name}-unset}}" for name in names)}"')
    assert ran(tmp_path, **dict.fromkeys(names, "")) == (0, ["unset unset unset unset"])


@pytest.mark.parametrize("port", ["0", "65536", "99999", "100000", "x"])
def test_a_port_for_a_debugger_is_one(tmp_path: Path, port: str) -> None:
    app(tmp_path, "score.py")
    message = f"plinth: AZUREML_DEBUG_PORT is '{port}': give a port"
    assert ran(tmp_path, AZUREML_DEBUG_PORT=port) == (94, [message])


def test_what_a_supervisor_tells_is_not_said_twice(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    supervised = {"PLINTH_SUPERVISOR": "1", "PLINTH_STATE": str(state)}
    assert ran(tmp_path, AZUREML_ENTRY_SCRIPT="/no.py", **supervised) == (111, [])
    (reason,) = state.iterdir()
    assert reason.name.startswith("reason.")
    assert reason.read_text() == "there is no file /no.py (AZUREML_ENTRY_SCRIPT)"


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


def test_extra_requirements_are_installed_before_serving(tmp_path: Path) -> None:
    folder = app(tmp_path, "score.py", "requirements.txt")
    code, lines = ran(tmp_path, AZUREML_EXTRA_REQUIREMENTS_TXT="requirements.txt")
    assert code == 0
    assert lines[:2] == [
        f"{PIP} -r {folder}/requirements.txt",
        f"{FRONT} {folder}/score.py",
    ]


EXTRAS = {
    "PYTHON_LIB_PATH": (97, "folder"),
    "CONDA_YAML": (96, "file"),
    "REQUIREMENTS_TXT": (99, "file"),
}
"""The three in their order: exit code where it is missing, and what it is."""


def test_of_three_extras_the_first_alone_is_used_and_the_log_says_so(tmp_path: Path) -> None:
    app(tmp_path, "score.py", "lib/x.py", "conda.yml", "extra.txt")
    lib, conda, requirements = (f"AZUREML_EXTRA_{name}" for name in EXTRAS)
    values = {lib: "lib", conda: "conda.yml", requirements: "extra.txt"}
    code, (note, front, *_) = ran(tmp_path, **values)
    assert (code, note) == (0, f"plinth: nothing is installed, since {lib} is set")
    assert front.startswith(FRONT)
    del values[lib]
    code, (note, installed, front, *_) = ran(tmp_path, **values)
    assert (code, note) == (0, f"plinth: {requirements} is not used, since {conda} is set")
    assert installed.startswith("conda env update ")
    assert front.startswith(FRONT)


@pytest.mark.parametrize("name", ["CONDA_YAML", "REQUIREMENTS_TXT"])
def test_what_is_installed_goes_where_plinth_place_says(
    tmp_path: Path, programs: Path, name: str
) -> None:
    app(tmp_path, "score.py", "extra")
    program(programs, "plinth-place", "test $# -eq 1 || echo 'export PYTHONPATH=\"/my place\"'")
    code, lines = ran(tmp_path, **{f"AZUREML_EXTRA_{name}": "extra"})
    assert code == 0
    assert "path /my place" in lines
    program(programs, "plinth-place", "echo 'echo no room; exit 95'")
    assert ran(tmp_path, **{f"AZUREML_EXTRA_{name}": "extra"}) == (95, ["no room"])


def test_a_conda_file_that_cannot_be_satisfied_is_98(tmp_path: Path, programs: Path) -> None:
    app(tmp_path, "score.py", "conda.yml")
    program(programs, "conda", "echo cudatoolkit; exit 1")
    assert ran(tmp_path, AZUREML_EXTRA_CONDA_YAML="conda.yml") == (98, ["cudatoolkit"])


@pytest.mark.parametrize("name", EXTRAS)
def test_an_extra_that_is_not_there_has_its_code(tmp_path: Path, name: str) -> None:
    code, kind = EXTRAS[name]
    folder = app(tmp_path, "score.py", "a file", "a folder/x")
    # What is there is of the other kind.
    for value in ("gone", "a file" if kind == "folder" else "a folder"):
        assert ran(tmp_path, **{f"AZUREML_EXTRA_{name}": value}) == (
            code,
            [f"plinth: there is no {kind} {folder}/{value} (AZUREML_EXTRA_{name})"],
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


@pytest.mark.parametrize("arguments", ["-- ", "--workers 2 --", "--name a\\"])
def test_arguments_that_take_in_what_follows_are_refused(tmp_path: Path, arguments: str) -> None:
    app(tmp_path, "score.py")
    code, (line,) = ran(tmp_path, GUNICORN_CMD_ARGS=arguments)
    assert code == 111
    assert line.startswith(f"plinth: GUNICORN_CMD_ARGS is '{arguments}': nothing may follow it")


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
        service(tmp_path),
        env={"PATH": str(programs), "AML_APP_ROOT": str(tmp_path / "app")},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 42
    assert int(out.splitlines()[-1]) == process.pid


def test_an_unset_application_root_is_the_default(tmp_path: Path) -> None:
    done = subprocess.run(
        service(tmp_path),
        env={"PATH": os.fspath(tmp_path / "bin")},
        check=False,
        capture_output=True,
        text=True,
    )
    assert "/var/azureml-app" in done.stdout
