"""What every image promises the people who run it: user, folders, environment, supervisor.

The contract of the original prebuilt inference images (docs/contract.md).
"""

from __future__ import annotations

from pathlib import Path

from plinth.core.digest import Digest
from plinth.core.errors import PlinthError
from plinth.formats import gzip
from plinth.formats.layer.header import DOCKERUSER, ROOT, Owner
from plinth.formats.layer.model import Layer
from plinth.formats.oci.image import Runtime
from plinth.formats.python.place import PREFIX
from plinth.graph.actions import Action
from plinth.graph.run import run
from plinth.graph.session import Session

APP_ROOT = "/var/azureml-app"

RUNTIME = Runtime(
    user="dockeruser",
    working_dir=APP_ROOT,
    environment={
        "PATH": f"/{PREFIX}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/home/dockeruser",
        "LANG": "C.UTF-8",
        "AML_APP_ROOT": APP_ROOT,
        "AZUREML_MODEL_DIR": f"{APP_ROOT}/azureml-models",
        "AZUREML_LOG_LEVEL": "INFO",
        "WORKER_COUNT": "1",
        "WORKER_TIMEOUT": "300",
        "SCORING_TIMEOUT_MS": "3600000",
        "SVDIR": "/var/runit",
        "PYTHONUNBUFFERED": "1",
        # Where there is no network it would hold up every pip install by ten seconds.
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        # Workers prove they live by touching a file; on a read-only root only memory can.
        "GUNICORN_CMD_ARGS": "--worker-tmp-dir /dev/shm",
        "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
    },
    command=["runsvdir", "/var/runit"],
    ports=[5001, 8883, 8888],
    stop_signal="SIGTERM",
)

# Folder, mode, owner. `var` and the like are there in every base with these very values.
_FOLDERS: tuple[tuple[str, int, Owner], ...] = (
    ("home", 0o755, ROOT),
    ("home/dockeruser", 0o755, DOCKERUSER),
    ("run", 0o755, DOCKERUSER),
    ("usr", 0o755, ROOT),
    ("usr/local", 0o755, ROOT),
    ("usr/local/bin", 0o755, ROOT),
    ("var", 0o755, ROOT),
    ("var/azureml-app", 0o755, DOCKERUSER),
    ("var/azureml-app/azureml-models", 0o755, DOCKERUSER),
    ("var/log", 0o755, DOCKERUSER),
    ("var/runit", 0o755, DOCKERUSER),
    ("var/runit/server", 0o755, DOCKERUSER),
)
# Modes are here and not in the checkout, whose umask may be anything.
_FILES: tuple[tuple[str, int, Owner], ...] = (
    ("usr/local/bin/plinth-front", 0o755, ROOT),
    ("usr/local/bin/runsvdir", 0o755, ROOT),
    ("var/runit/server/gunicorn.conf.py", 0o644, DOCKERUSER),
    ("var/runit/server/run", 0o755, DOCKERUSER),
)


def contract_layer(ws: Session) -> Layer:
    """The layer with the files of base/rootfs and the folders the contract names.

    Raises:
        PlinthError: base/rootfs lacks a file, or holds one the contract does not know.
    """
    folder = ws.bases / "rootfs"
    contents = {path: _content(folder, path) for path, _, _ in _FILES}
    known = {folder / path for path in contents}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path not in known:
            raise PlinthError(
                "a file no image would hold",
                where=f"base/rootfs/{path.relative_to(folder).as_posix()}",
                remedy="name it, its mode and its owner in plinth.build.contract, or remove it",
            )
    action = Action(
        "contract-layer",
        {path: Digest.of(data) for path, data in contents.items()},
        {
            "compressor": gzip.COMPRESSOR,
            "folders": [[path, mode, *owner] for path, mode, owner in _FOLDERS],
            "files": [[path, mode, *owner] for path, mode, owner in _FILES],
        },
        ("layer", "scan"),
    )

    def keep() -> None:
        for data in contents.values():
            ws.cache.put(data)

    result, hit = run(ws, action, prepare=keep)
    return Layer.of("contract", result, hit=hit)


def _content(folder: Path, path: str) -> bytes:
    try:
        return (folder / path).read_bytes()
    except FileNotFoundError:
        raise PlinthError(
            "a file of the contract is missing", where=f"base/rootfs/{path}"
        ) from None
