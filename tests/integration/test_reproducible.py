"""One digest: whatever the path, umask, time zone, locale, hash seed, workers or host Python."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from integration.conftest import ALL, IMAGES, Checkout
from plinth.oci.validate import validate

HOSTS = ("3.10", "3.11", "3.12", "3.13")
# The whole catalogue twice, with one worker and with four; the others take the small ones.
BUILT = {"3.10": ALL, "3.11": IMAGES, "3.12": IMAGES, "3.13": ALL}
VARIANTS = {
    "3.10": (["-n", "1", "jobs=1"], {"TZ": "Pacific/Kiritimati", "LANG": "C"}, 0o077),
    "3.11": (["-n", "4", "jobs=4"], {"TZ": "UTC", "LC_ALL": "C.UTF-8"}, 0o000),
    "3.12": (["-n", "1", "jobs=3"], {"LANG": "tr_TR.UTF-8", "PYTHONHASHSEED": "1"}, 0o022),
    "3.13": (["-n", "4", "jobs=2"], {"TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "77"}, 0o027),
}


def host_python(version: str) -> Path:
    """A CPython `version` of this machine, looked for as a user would: PATH, then pyenv."""
    found = shutil.which(f"python{version}")
    candidates = [Path(found)] if found else []
    pyenv = shutil.which("pyenv")
    if pyenv:
        root = subprocess.run([pyenv, "root"], check=True, text=True, capture_output=True)
        versions = Path(root.stdout.strip()) / "versions"
        candidates += sorted(versions.glob(f"{version}.*/bin/python{version}"))
    for candidate in candidates:
        answer = subprocess.run(
            [str(candidate), "-c", "import venv, ssl"], check=False, capture_output=True
        )
        if answer.returncode == 0:
            return candidate
    pytest.skip(f"no CPython {version} on this machine")


@pytest.mark.network
@pytest.mark.parametrize("version", HOSTS)
def test_one_digest_everywhere(
    version: str, tmp_path: Path, built: Checkout, clone: Callable[..., Checkout]
) -> None:
    options, environment, umask = VARIANTS[version]
    venv = tmp_path / "venv"
    subprocess.run([str(host_python(version)), "-m", "venv", str(venv)], check=True)
    checkout = clone(tmp_path / f"a path of its own {version}", venv / "bin" / "python")
    subprocess.run(
        [str(checkout.python), "-m", "pip", "install", "-q", "-e", str(checkout.root)],
        check=True,
        capture_output=True,
    )
    tasks = [f"build:{image_id}" for image_id in BUILT[version]]
    done = checkout.doit(*options[:2], *tasks, *options[2:], env=environment, umask=umask)
    assert done.returncode == 0, done.stdout + done.stderr
    expected = built.digests()
    assert checkout.digests() == {image_id: expected[image_id] for image_id in BUILT[version]}
    assert validate(checkout.ws.layout.root) == []
    # Gigabytes that pytest would keep for three runs.
    shutil.rmtree(checkout.ws.build)
