"""One digest: whatever the path, umask, time zone, locale, hash seed, workers, host Python, user,
home, or order in which the file system lists a folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from integration.conftest import ALL, IMAGES, Checkout, build
from plinth.core.settings import Config
from plinth.evidence.sbom.own import RUN
from plinth.fetch.interpreter import find_python
from plinth.formats.oci.validate import validate
from support import needs
from support.helpers import pip_for

RUNS = [
    pytest.param("3.13", IMAGES, id="3.13"),
    *(pytest.param(v, IMAGES, id=v, marks=pytest.mark.nightly) for v in ("3.11", "3.12")),
    *(pytest.param(v, ALL, id=f"{v} all", marks=pytest.mark.nightly) for v in ("3.10", "3.13")),
]
"""Of which Python which images are built; the test of shuffled folders takes another."""
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
    return needs.skip(needs.python(version))


@pytest.mark.network
@pytest.mark.parametrize(("version", "images"), RUNS)
def test_one_digest_everywhere(
    version: str, images: Sequence[str], tmp_path: Path, clone: Callable[..., Checkout]
) -> None:
    built = build(*images)
    options, environment, umask = VARIANTS[version]
    python = tmp_path / "venv" / "bin" / "python"
    checkout = clone(tmp_path / f"a path of its own {version}", python)
    # Whoever runs it may write what it compiles.
    install(host_python(version), checkout, "--no-compile")
    tasks = [f"build:{image_id}" for image_id in images]
    done = checkout.doit(*options[:2], *tasks, *options[2:], env=environment, umask=umask)
    assert done.returncode == 0, done.stdout + done.stderr
    expected = built.digests()
    assert checkout.digests() == {image_id: expected[image_id] for image_id in images}
    assert validate(checkout.ws.layout.root) == []


@pytest.mark.network
@pytest.mark.parametrize(
    "images", [IMAGES[:1], pytest.param(IMAGES, marks=pytest.mark.nightly)], ids=len
)
def test_one_digest_for_another_user_at_home_elsewhere_on_shuffled_folders(
    images: Sequence[str], built: Checkout, clone: Callable[..., Checkout]
) -> None:
    if os.geteuid():
        needs.skip(needs.ROOT)
    for tool in ("bwrap", "diffoscope", "disorderfs", "setpriv"):
        needs.program(tool)
    with tempfile.TemporaryDirectory(prefix="plinth-elsewhere-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        home, below = folder / "home", folder / "below"
        checkout = clone(below, folder / "venv" / "bin" / "python")
        # The distribution's own Python, which any user may run.
        install(Path("/usr/bin/python3"), checkout)
        target = find_python("3.7", Config())
        (home / ".config" / "plinth").mkdir(parents=True)
        (home / ".config" / "plinth" / "config.toml").write_text(f'[python]\n"3.7" = "{target}"\n')
        for owned in (home, below):
            give_away(owned, "nobody")
        with shuffled(below, folder / "seen") as seen:
            there = Checkout(seen, checkout.python)
            command = there.command(*(f"build:{image_id}" for image_id in images))
            done = subprocess.run(
                [*reachable(target.parents[1]), *as_user("nobody"), *command],
                cwd=seen,
                env={"HOME": str(home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
                check=False,
                text=True,
                capture_output=True,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            assert (seen / "build" / "oci" / "index.json").owner() == "nobody"
            expected = built.digests()
            assert there.digests() == {image_id: expected[image_id] for image_id in images}
        here, other = exported(built, folder / "here"), exported(checkout, folder / "there")
        assert difference(here, other) == ""
        with tarfile.open(other, "a") as tar:
            tar.addfile(tarfile.TarInfo("one-file-more"))
        assert "one-file-more" in difference(here, other)


def install(host: Path, checkout: Checkout, *options: str) -> None:
    """Make the virtual environment of the checkout's Python, of `host`, and install plinth from it
    with what it is locked to; `options` are pip's."""
    venv = checkout.python.parents[1]
    subprocess.run([str(host), "-m", "venv", "--without-pip", str(venv)], check=True)
    locked = checkout.root / RUN
    for what in (["--require-hashes", "-r", str(locked)], ["--no-deps", "-e", str(checkout.root)]):
        command = [*pip_for(checkout.python), *options, *what]
        subprocess.run(command, check=True, capture_output=True)


def give_away(folder: Path, user: str) -> None:
    """Let `user` own the folder and all in it but the blobs, which are links to another's."""
    for path in [folder, *folder.rglob("*")]:
        if path.parent.name != "sha256":
            shutil.chown(path, user)


@contextmanager
def shuffled(below: Path, seen: Path) -> Iterator[Path]:
    """The folder `below`, at `seen`, where each listing of a folder comes in another order."""
    seen.mkdir()
    options = ("--multi-user=yes", "--shuffle-dirents=yes", "--reverse-dirents=no")
    subprocess.run(["disorderfs", "-q", *options, str(below), str(seen)], check=True)
    try:
        yield seen
    finally:
        subprocess.run(["fusermount", "-u", str(seen)], check=True)


def reachable(prefix: Path) -> list[str]:
    """The beginning of a command line that sees the interpreter in `prefix` where it is, though
    folders above it be closed to other users, as root's home is; what else they hold is hidden."""
    closed = [path for path in reversed(prefix.parents) if not path.stat().st_mode & 0o001]
    if not closed:
        return []
    between = [path for path in reversed(prefix.parents) if closed[0] in path.parents]
    folders = [option for path in between for option in ("--perms", "0755", "--dir", str(path))]
    seen = ["--tmpfs", str(closed[0]), *folders, "--ro-bind", str(prefix), str(prefix)]
    return ["bwrap", "--dev-bind", "/", "/", *seen, "--cap-add", "ALL"]


def as_user(name: str) -> list[str]:
    """The beginning of a command line that runs as the user `name`."""
    return ["setpriv", f"--reuid={name}", "--regid=nogroup", "--clear-groups"]


def exported(checkout: Checkout, folder: Path) -> Path:
    """The archive of `minimal`, made in that checkout."""
    folder.mkdir()
    archive = folder / "minimal.tar"
    done = subprocess.run(
        [sys.executable, "-m", "plinth", "export", "minimal", "--no-inputs", f"--out={archive}"],
        cwd=checkout.root,
        check=False,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    return archive


def difference(one: Path, other: Path) -> str:
    """What diffoscope says of the two: nothing, where they are equal."""
    done = subprocess.run(
        ["diffoscope", str(one), str(other)],
        check=False,
        text=True,
        capture_output=True,
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout
