"""What every image promises the people who run it: user, folders, environment, supervisor.

The contract of the original prebuilt inference images (docs/contract.md).
"""

from __future__ import annotations

from plinth.formats.layer.header import DOCKERUSER, ROOT, Owner
from plinth.formats.oci.image import Runtime
from plinth.formats.python.place import PREFIX

APP_ROOT = "/var/azureml-app"
CONTRACT_TITLE = "contract"
"""What a person calls its layer."""

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
FOLDERS: tuple[tuple[str, int, Owner], ...] = (
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
FILES: tuple[tuple[str, int, Owner], ...] = (
    ("usr/local/bin/plinth-front", 0o755, ROOT),
    ("usr/local/bin/runsvdir", 0o755, ROOT),
    ("var/runit/server/gunicorn.conf.py", 0o644, DOCKERUSER),
    ("var/runit/server/run", 0o755, DOCKERUSER),
)
