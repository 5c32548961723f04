"""The one resolver: what it is asked, in which environment, and how it is prepared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest

from plinth.core.errors import LockError
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.fetch.pypi.index import Index
from plinth.lock.resolver import _DRIVER, Job, Resolver


class _Index:
    def pip_options(self) -> list[str]:
        return ["--index-url=http://127.0.0.1:9/simple"]


def resolver(tmp_path: Path, script: str) -> Resolver:
    """One whose target Python is a shell script."""
    python = tmp_path / "python3.7"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    made = Resolver(tmp_path / "tools", "3.7", Config(), cast(Index, _Index()))
    vars(made)["python"] = python
    return made


def test_what_pip_compile_is_asked(tmp_path: Path) -> None:
    job = Job(tmp_path, ("a.in", "b.in"), "http://127.0.0.1:9/x", "doit lock", ("six", "numpy"))
    assert job.arguments() == [
        "--quiet",
        "--generate-hashes",
        "--allow-unsafe",
        "--strip-extras",
        "--resolver=backtracking",
        "--no-emit-index-url",
        "--no-emit-trusted-host",
        "--no-emit-find-links",
        "--index-url=http://127.0.0.1:9/x",
        "--output-file=requirements.txt",
        "--upgrade-package=six",
        "--upgrade-package=numpy",
        "a.in",
        "b.in",
    ]


# Stands for `python -m venv FOLDER`, which leaves an interpreter there that notes what it is run
# with; that one answers each job with the name of its folder.
VENV = """\
echo venv >>"{log}"
mkdir -p "$4/bin"
cat >"$4/bin/python" <<'SCRIPT'
#!/bin/sh
if [ "$3" = pip ]; then echo "pip $*" >>"{log}"; exit 0; fi
env >>"{log}.env"
exec python3 -c '
import json, sys
folders = [job["folder"] for job in json.load(sys.stdin)]
print(json.dumps([folder if folder != "/j0" else None for folder in folders]))
'
SCRIPT
chmod +x "$4/bin/python"
"""


def test_it_is_prepared_once_and_answers_each_job_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "http://127.0.0.1:9/more")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("LC_ALL", "tr_TR.UTF-8")
    monkeypatch.setenv("OTHER", "kept")
    log = tmp_path / "log"
    told: list[str] = []
    for count in (5, 1):
        jobs = [Job(Path(f"/j{number}"), (), "", "doit lock") for number in range(count)]
        made = resolver(tmp_path, VENV.format(log=log))
        assert made.compile(jobs, told.append) == [None, "/j1", "/j2", "/j3", "/j4"][:count]
    (only,) = (path for path in (tmp_path / "tools").iterdir() if path.is_dir())
    assert (only / "ready").exists()
    lines = log.read_text().splitlines()
    assert lines[0] == "venv"
    (pip,) = lines[1:]
    assert "--index-url=http://127.0.0.1:9/simple" in pip
    assert "--require-hashes" in pip
    assert len(told) == 1
    seen = (tmp_path / "log.env").read_text().splitlines()
    wanted = {
        f"PIP_CONFIG_FILE={os.devnull}",
        "PIP_NO_CACHE_DIR=1",
        "PIP_DEFAULT_TIMEOUT=900",
        "LC_ALL=C.UTF-8",
        "OTHER=kept",
    }
    assert wanted <= set(seen)
    assert not any(line.startswith(("PIP_EXTRA", "PYTHONPATH", "LC_ALL=tr")) for line in seen)
    # An interrupted preparation is begun anew.
    (only / "ready").unlink()
    (only / "left-over").touch()
    resolver(tmp_path, VENV.format(log=log)).compile(jobs, quiet)
    assert sorted(path.name for path in only.iterdir()) == ["bin", "ready"]


def test_two_at_once_prepare_it_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    made = [resolver(tmp_path, f"sleep 0.3\n{VENV.format(log=log)}") for _ in range(2)]
    jobs = [Job(Path("/j1"), (), "", "doit lock")]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda one: one.compile(jobs, quiet), made))
    assert answers == [["/j1"], ["/j1"]]
    assert log.read_text().splitlines().count("venv") == 1


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("echo what went wrong >&2; echo more; exit 3", "what went wrong\n"),
        ("echo only this; exit 1", "only this\n"),
        ("printf 'x%.0s' $(seq 3000) >&2; exit 1", "x" * 2000),
    ],
)
def test_an_environment_that_cannot_be_made(tmp_path: Path, script: str, found: str) -> None:
    made = resolver(tmp_path, script)
    with pytest.raises(LockError, match="the resolver's environment cannot be made") as raised:
        made.compile([], quiet)
    assert raised.value.found == found
    assert raised.value.where == f"{tmp_path / 'python3.7'} -s -m venv"
    assert not [*(tmp_path / "tools").rglob("ready")]


def test_what_pip_compile_ends_with_is_told(tmp_path: Path) -> None:
    (tmp_path / "some.in").write_text("six\n")
    (tmp_path / "none.in").write_text("")
    common = ("--quiet", "--no-index", "--output-file=requirements.txt")
    jobs = [
        {"folder": str(tmp_path), "command": "doit lock", "arguments": [*common, *more]}
        for more in (("--resolver=legacy", "some.in"), ("none.in",), ("some.in",), ("gone.in",))
    ]
    done = subprocess.run(
        [sys.executable, _DRIVER],
        input=json.dumps(jobs),
        capture_output=True,
        check=True,
        text=True,
    )
    # The first ends by its exit status, the third and the fourth by what they raise.
    legacy, fine, backtracking, gone = json.loads(done.stdout)
    assert "Could not find a version that matches six" in legacy
    assert fine is None
    assert backtracking.endswith("(from versions: none)\nasked for: six")
    assert gone.startswith("BadParameter: ")
    assert "# via" not in (tmp_path / "requirements.txt").read_text()
