"""Why bubblewrap cannot run is known by what it does, and answered with the switch that lets it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from plinth.core.errors import SandboxError
from plinth.core.report import quiet
from plinth.graph import sandbox
from plinth.graph.sandbox import Root, refusal, supervisor
from support import needs
from support.patience import at_most
from support.sandboxes import path_of

ASK = """
import json, sys
from plinth.graph import sandbox
found = sandbox.missing()
json.dump(found and [found.what, found.found, found.remedy], sys.stdout)
"""


@pytest.fixture
def no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A machine without a container engine: its PATH."""
    path = path_of(tmp_path / "programs", "bwrap", "unshare", "setpriv", "sh")
    monkeypatch.setenv("PATH", path)
    return path


def asked(*before: str) -> tuple[str, str, str]:
    """What, found and remedy where no sandbox can be had, asked under the command `before`."""
    began = time.monotonic()
    done = subprocess.run(
        [*before, sys.executable, "-c", ASK], check=True, text=True, stdout=subprocess.PIPE
    )
    assert time.monotonic() - began < at_most(30)
    what, found, remedy = json.loads(done.stdout)
    return what, found, remedy


def refused_by_seccomp() -> Sequence[str]:
    """A command that runs another where the kernel refuses new user namespaces."""
    program = (
        "import os, sys; from plinth.graph.sandbox import supervisor; supervisor._seal();"
        "os.execvp(sys.argv[1], sys.argv[1:])"
    )
    return (sys.executable, "-c", program)


def test_a_machine_that_allows_none(no_engine: str) -> None:
    """Root in a user namespace of its own, in which no other may be made."""
    none = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"'
    what, found, remedy = asked("unshare", "-r", "sh", "-c", none, "sh")
    assert what == "no sandbox to build sdists in: this machine allows no user namespaces"
    assert "ENOSPC" in found or "No space left" in found
    assert remedy.startswith("sysctl -w user.max_user_namespaces=15000 (to keep it: ")
    assert "or start a Docker Engine, or install podman" in remedy


@pytest.mark.skipif(os.geteuid() != 0, reason=needs.reason(needs.ROOT))
def test_root_that_may_not_map_itself(no_engine: str) -> None:
    what, found, remedy = asked("setpriv", "--bounding-set", "-all", "--inh-caps", "-all")
    assert "root lacks the capability CAP_SETFCAP" in what
    assert "uid map: Operation not permitted" in found
    assert "--cap-add SETFCAP" in remedy


@pytest.mark.skipif(
    os.uname().machine not in supervisor._CALLS, reason="no filter for this machine"
)
def test_a_container_with_the_usual_seccomp_filter(no_engine: str) -> None:
    what, found, remedy = asked(*refused_by_seccomp())
    assert "may not make user namespaces" in what
    assert found.startswith("bwrap: No permissions to creat")
    assert "--security-opt seccomp=unconfined" in remedy


def fake(folder: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    """A bubblewrap that is refused, which this machine's is not."""
    program = folder / "bin" / "bwrap"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)


@pytest.mark.parametrize(
    "said",
    [
        "bwrap: setting up uid map: Permission denied",
        "bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted",
    ],
)
@pytest.mark.parametrize(("user", "before"), [(0, ""), (1000, "sudo ")])
def test_apparmor_of_ubuntu(
    no_engine: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
    user: int,
    before: str,
) -> None:
    """What bubblewrap writes on Ubuntu 23.10 and later; the kernel here has no such restriction."""
    fake(tmp_path, monkeypatch, said)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    error = sandbox.missing()
    assert error is not None
    assert error.what.endswith("AppArmor restricts user namespaces on this machine")
    assert error.found == said
    assert error.remedy.startswith(
        f"{before}sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 "
    )
    assert f"profile bwrap {tmp_path}/bin/bwrap flags=(unconfined) {{ userns, }}" in error.remedy
    assert f"{before}apparmor_parser -r /etc/apparmor.d/bwrap" in error.remedy


@pytest.mark.parametrize(
    ("said", "reason", "remedy"),
    [
        (
            "bwrap: Can't mount proc on /newroot/proc: Operation not permitted",
            "/proc of this container is masked",
            "systempaths=unconfined",
        ),
        (
            "bwrap: Creating new namespace failed, likely because the kernel does not support user "
            "namespaces.  bwrap must be installed setuid on such systems.",
            "the kernel has no user namespaces",
            "CONFIG_USER_NS",
        ),
        ("bwrap: Unknown option --as-pid-1", "too old", "install release"),
        ("bwrap: something else", "bubblewrap does not work", "bwrap --unshare-all"),
    ],
)
def test_other_refusals(said: str, reason: str, remedy: str) -> None:
    found = refusal.explain(said, "/usr/bin/bwrap")
    assert reason in found.reason
    assert remedy in found.remedy


def test_debians_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels of Debian have it, and no other."""
    setting = {"kernel/unprivileged_userns_clone": "0"}
    monkeypatch.setattr(refusal, "_sysctl", lambda name: setting.get(name, ""))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = refusal.explain("bwrap: No permissions to create new namespace", "/usr/bin/bwrap")
    assert found.reason == "only root may make user namespaces on this machine"
    assert found.remedy.startswith("sudo sysctl -w kernel.unprivileged_userns_clone=1 ")


@pytest.mark.parametrize("installer", ["apt-get", "dnf"])
def test_bubblewrap_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installer: str
) -> None:
    (tmp_path / installer).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match="bubblewrap is not installed") as caught:
        sandbox.run(
            Root(lambda: tmp_path),
            ["/true"],
            writable=tmp_path,
            results=(),
            what="building demo",
            progress=quiet,
        )
    assert caught.value.where == "building demo"
    assert f"{installer} install bubblewrap" in caught.value.remedy


def test_a_program_that_is_missing_inside(tmp_path: Path) -> None:
    needs.program("bwrap")
    (tmp_path / "root").mkdir()
    with pytest.raises(SandboxError, match="could not be set up") as caught:
        sandbox.run(
            Root(lambda: tmp_path / "root"),
            ["/nonexistent"],
            writable=tmp_path,
            results=(),
            what="the probe",
            progress=quiet,
        )
    assert "bwrap: execvp /nonexistent" in caught.value.found


def test_an_engine_that_does_not_answer_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\nexec {shutil.which('sleep')} 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    began = time.monotonic()
    assert sandbox.missing() is not None
    assert time.monotonic() - began < at_most(3)
