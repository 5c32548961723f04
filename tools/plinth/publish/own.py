"""plinth's own wheel, from a checkout: the same bytes on every machine, with SBOM and signatures.

setuptools, pinned by hash in requirements/plinth.txt, decides what is in it (PEP 517); the archive
is written as all of plinth's are, by the pinned libdeflate, so that times, modes, the order of a
folder and the zlib of an interpreter have no say.
"""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from plinth.core.digest import Digest
from plinth.core.errors import WheelError
from plinth.core.report import Progress
from plinth.core.settings import Config
from plinth.core.store import atomic_write
from plinth.evidence.git import git_state
from plinth.evidence.provenance import LOCAL_BUILDER, wheel_provenance
from plinth.evidence.sbom.own import RUN, own_sbom
from plinth.evidence.signing import sign_statements
from plinth.evidence.statement import COSIGN, PREDICATES, PROVENANCE, SBOM, statement
from plinth.formats.oci.strict import loads
from plinth.formats.wheel.zipwriter import write_zip
from plinth.recipe.locks.pins import Pin, pins

_FILES = ("pyproject.toml", "README.md", "LICENSE")
_PACKAGE = "tools/plinth"
_MODE = 0o644
# Run apart (-I) in the copy: whatever is installed here has no say.
_BUILD = "import sys; sys.path.insert(0, sys.argv[1]); from setuptools.build_meta import *; "
_BUILD += "build_wheel(sys.argv[2])"


@dataclass(frozen=True)
class Own:
    """The wheel, its SBOM, and the files that signing it leaves; all in one folder."""

    wheel: Path
    sbom: Path
    digest: Digest
    bundles: tuple[Path, ...] = ()


def make_own(root: Path, folder: Path) -> Own:
    """Make the wheel of the checkout `root` and its SBOM in `folder`, beside the requirements by
    hashes to install it with.

    Raises:
        WheelError: the build requirement cannot be had, or the build fails.
        OSError, SbomError: as `plinth.evidence.sbom.own`.
    """
    version = _version(root / _PACKAGE / "__init__.py")
    data = make_wheel(root)
    digest = Digest.of(data)
    wheel = folder / f"plinth-{version}-py3-none-any.whl"
    sbom = folder / f"plinth-{version}.cdx.json"
    locked = (root / RUN).read_bytes()
    for path, content in (
        (wheel, data),
        (sbom, own_sbom(root, version, digest)),
        (folder / "requirements.txt", locked),
    ):
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
    return Own(wheel, sbom, digest)


def sign_own(
    root: Path, own: Own, *, trust: str, token: str, config: Config, progress: Progress
) -> Own:
    """Sign the wheel as images are: a bundle for signature, provenance and SBOM, each a file beside
    it.

    Raises:
        AttestationError: as `plinth.evidence.sign.sign_images`; nothing is replaced then.
    """
    predicates = {
        COSIGN: {},
        PROVENANCE: wheel_provenance(
            git_state(root),
            {RUN: (root / RUN).read_bytes()},
            config.builder or LOCAL_BUILDER,
            _version(root / _PACKAGE / "__init__.py"),
        ),
        SBOM: loads(own.sbom.read_bytes()),
    }
    name = own.wheel.name
    statements = [
        (f"{name}.{PREDICATES[kind]}", statement(name, own.digest, kind, predicate))
        for kind, predicate in predicates.items()
    ]
    signed = sign_statements(statements, trust=trust, token=token, config=config, progress=progress)
    bundles = []
    for (called, _), (data, _) in zip(statements, signed, strict=True):
        bundles.append(own.wheel.with_name(f"{called}.sigstore.json"))
        with atomic_write(bundles[-1]) as temporary:
            temporary.write_bytes(data)
    return Own(own.wheel, own.sbom, own.digest, tuple(bundles))


def make_wheel(root: Path) -> bytes:
    """The wheel of plinth in the checkout `root`: equal files, equal bytes.

    Raises:
        WheelError: see `make_own`.
        OSError: a file cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="plinth-self-") as name:
        source, tools, out = (Path(name) / part for part in ("source", "tools", "out"))
        for path in _sources(root):
            target = source / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((root / path).read_bytes())
        out.mkdir()
        _install(_build_requirement(root), tools)
        _run([sys.executable, "-I", "-B", "-c", _BUILD, str(tools), str(out)], source)
        (made,) = out.iterdir()
        return _rewritten(made.read_bytes())


def _sources(root: Path) -> Iterator[str]:
    """The files that the wheel is made of, by path below the checkout; nothing that was built."""
    yield from _FILES
    for path in sorted((root / _PACKAGE).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(root).as_posix()


def _version(path: Path) -> str:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__":
            return str(ast.literal_eval(node.value))
    raise WheelError("it has no __version__", where=str(path))


def _build_requirement(root: Path) -> Pin:
    for pin in pins((root / RUN).read_text(encoding="utf-8")):
        if pin.name == "setuptools":
            return pin
    raise WheelError("setuptools is not pinned", where=RUN)


def _install(pin: Pin, folder: Path) -> None:
    """Install a pinned package by its hash, from the configured index."""
    wanted = folder.with_suffix(".txt")
    hashes = " ".join(f"--hash=sha256:{one}" for one in sorted(pin.hashes))
    wanted.write_text(f"{pin.name}=={pin.version} {hashes}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--require-hashes", "--only-binary=:all:", "--no-compile"]
    _run([*command, "--target", str(folder), "-r", str(wanted)], folder.parent)


def _run(command: list[str], folder: Path) -> None:
    told = {"SOURCE_DATE_EPOCH": "315532800", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **told},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise WheelError(
            "plinth's own wheel could not be made",
            found=f"{done.stdout}{done.stderr}".strip()[-2000:],
            remedy="see that pip is installed beside plinth, and that its index can be reached",
        )


def _rewritten(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {one.filename: archive.read(one) for one in archive.infolist() if not one.is_dir()}
    (record,) = (name for name in files if name.endswith(".dist-info/RECORD"))
    files[record] = b"".join(sorted(files[record].splitlines(keepends=True)))
    return write_zip({name: (_MODE, content) for name, content in files.items()})
