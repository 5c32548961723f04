"""What every image promises the people who run it: user, folders, environment, supervisor.

The contract of the original prebuilt inference images (docs/contract.md).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from plinth.formats.layer.header import DOCKERUSER, ROOT, SHARED, Owner
from plinth.formats.oci.image import Runtime
from plinth.formats.python.place import PREFIX

APP_ROOT = "/var/azureml-app"
CONDA = "opt/miniconda"
"""Where the command `conda` is, and environments made with it."""

CONTRACT_TITLE = "contract"
"""What a person calls its layer."""

RUNTIME = Runtime(
    # A number, which Kubernetes' runAsNonRoot can tell from root; /etc/passwd calls it dockeruser.
    user=str(DOCKERUSER.uid),
    working_dir=APP_ROOT,
    environment={
        "PATH": f"/{PREFIX}/bin:/{CONDA}/bin"
        ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/home/dockeruser",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "AZUREML_CONDA_ENVIRONMENT_PATH": f"/{PREFIX}",
        "LD_LIBRARY_PATH": f"/{PREFIX}/lib",
        "AML_APP_ROOT": APP_ROOT,
        "AZUREML_MODEL_DIR": f"{APP_ROOT}/azureml-models",
        "AZUREML_LOG_LEVEL": "INFO",
        "WORKER_COUNT": "1",
        "WORKER_TIMEOUT": "300",
        "SCORING_TIMEOUT_MS": "3600000",
        "FRONT_BODY_LIMIT_MB": "100",
        "FRONT_TIMEOUT": "1000",
        "FRONT_CLIENT_TIMEOUT": "60",
        "SVDIR": "/var/runit",
        "PYTHONUNBUFFERED": "1",
        # Where there is no network it would hold up every pip install by ten seconds.
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        # There is no compiler: a release with a wheel can be installed, a newer one may not be.
        "PIP_PREFER_BINARY": "1",
        # Workers prove they live by touching a file; on a read-only root only memory can.
        "GUNICORN_CMD_ARGS": "--worker-tmp-dir /dev/shm",
        "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
    },
    command=["runsvdir", "/var/runit"],
    ports=[5001, 8883, 8888],
    stop_signal="SIGTERM",
)

# In base/rootfs, and in an image, whatever the Python's version.
_LIBRARY = f"{PREFIX}/lib/python3"
_LIBRARY_PATH = re.compile(rf"{_LIBRARY}(?=/|$)")
_VERSIONED_PATH = re.compile(rf"{_LIBRARY}\.\d+(?=/|$)")

Row = tuple[str, int, Owner]
"""A path in the image, its mode, its owner."""

# `var` and the like are there in every base with these very values.
_FOLDERS: tuple[Row, ...] = (
    ("etc", 0o755, ROOT),
    ("home", 0o755, ROOT),
    ("home/dockeruser", 0o755, DOCKERUSER),
    ("opt", 0o755, ROOT),
    (CONDA, 0o755, DOCKERUSER),
    (f"{CONDA}/bin", 0o755, DOCKERUSER),
    (f"{CONDA}/envs", 0o755, DOCKERUSER),
    (f"{CONDA}/etc", 0o755, DOCKERUSER),
    (f"{CONDA}/etc/profile.d", 0o755, DOCKERUSER),
    (f"{CONDA}/lib", 0o755, DOCKERUSER),
    (f"{CONDA}/lib/plinth_conda", 0o755, DOCKERUSER),
    (PREFIX, 0o755, DOCKERUSER),
    (f"{PREFIX}/lib", 0o755, DOCKERUSER),
    (_LIBRARY, 0o755, DOCKERUSER),
    ("run", 0o755, DOCKERUSER),
    ("usr", 0o755, ROOT),
    ("usr/local", 0o755, ROOT),
    ("usr/local/bin", 0o755, ROOT),
    ("usr/local/lib", 0o755, ROOT),
    ("usr/local/lib/plinth", 0o755, ROOT),
    # The user may make folders here, and rename or remove none of root's: sticky.
    ("var", 0o1775, SHARED),
    ("var/azureml-app", 0o755, DOCKERUSER),
    ("var/azureml-app/azureml-models", 0o755, DOCKERUSER),
    ("var/lib", 0o755, ROOT),
    ("var/lib/nginx", 0o755, DOCKERUSER),
    ("var/log", 0o755, DOCKERUSER),
    ("var/runit", 0o755, DOCKERUSER),
    ("var/runit/server", 0o755, DOCKERUSER),
)
# Modes are here and not in the checkout, whose umask may be anything.
_FILES: tuple[Row, ...] = (
    ("IMAGE_INFORMATION", 0o644, ROOT),
    (f"{CONDA}/bin/activate", 0o644, DOCKERUSER),
    (f"{CONDA}/bin/conda", 0o755, DOCKERUSER),
    (f"{CONDA}/etc/profile.d/conda.sh", 0o644, DOCKERUSER),
    *(
        (f"{CONDA}/lib/plinth_conda/{name}", 0o644, DOCKERUSER)
        for name in (
            *("about.py", "cli.py", "environment.py", "errors.py", "names.json"),
            *("place.py", "prefixes.py", "shell.py", "specs.py", "subset.py"),
        )
    ),
    (f"{_LIBRARY}/ensurepip.py", 0o644, DOCKERUSER),
    ("usr/local/bin/plinth-place", 0o755, ROOT),
    ("usr/local/bin/runsvdir", 0o755, ROOT),
    ("usr/local/lib/plinth/service.sh", 0o644, ROOT),
    ("var/runit/server/gunicorn.conf.py", 0o644, DOCKERUSER),
    ("var/runit/server/json_logs.py", 0o644, DOCKERUSER),
    ("var/runit/server/run", 0o755, DOCKERUSER),
)
_OWN_FILES: tuple[Row, ...] = (
    ("usr/local/bin/plinth-front", 0o755, ROOT),
    ("usr/local/lib/plinth/supervise", 0o755, ROOT),
)
_NGINX_FOLDERS: tuple[Row, ...] = (
    ("etc/nginx", 0o755, ROOT),
    ("etc/nginx/sites-available", 0o755, ROOT),
    ("etc/nginx/sites-enabled", 0o755, ROOT),
    ("var/log/nginx", 0o755, DOCKERUSER),
    ("var/runit/nginx", 0o755, DOCKERUSER),
    ("var/runit/nginx/control", 0o755, DOCKERUSER),
    ("var/runit/server/control", 0o755, DOCKERUSER),
)
_NGINX_FILES: tuple[Row, ...] = (
    ("etc/nginx/front.conf", 0o644, ROOT),
    ("etc/nginx/sites-available/health", 0o644, ROOT),
    ("etc/nginx/sites-enabled/app", 0o644, ROOT),
    ("var/runit/nginx/control/t", 0o755, DOCKERUSER),
    ("var/runit/nginx/finish", 0o755, DOCKERUSER),
    ("var/runit/nginx/run", 0o755, DOCKERUSER),
    ("var/runit/server/control/t", 0o755, DOCKERUSER),
    ("var/runit/server/finish", 0o755, DOCKERUSER),
)
ALL_FILES = frozenset(path for path, _, _ in (*_FILES, *_OWN_FILES, *_NGINX_FILES))
"""The files of base/rootfs."""

ALL_FOLDERS: tuple[Row, ...] = tuple(
    row for row in (*_FOLDERS, *_NGINX_FOLDERS) if row[0] != _LIBRARY
)
"""The folders of the contract's layer on any base, but that of Python's own version."""

LINKS: tuple[tuple[str, str, Owner], ...] = (
    (f"{CONDA}/bin/pip", f"/{PREFIX}/bin/pip", DOCKERUSER),
    (f"{CONDA}/bin/python", f"/{PREFIX}/bin/python", DOCKERUSER),
    (f"{CONDA}/envs/amlenv", f"/{PREFIX}", DOCKERUSER),
)
"""Path, target, owner of each symbolic link."""


def folders(packages: Collection[str], python: str) -> tuple[Row, ...]:
    """The folders of the contract's layer on a base of these OS packages and this Python, which is
    as "3.7"."""
    return _placed((*_FOLDERS, *(_NGINX_FOLDERS if _held(packages) else ())), python)


def files(packages: Collection[str], python: str) -> tuple[Row, ...]:
    """The files of base/rootfs that are in the contract's layer on a base of these OS packages and
    this Python ("3.7"): with nginx and runit where the distribution's are there, and else with
    plinth's own front and supervisor."""
    return _placed((*_FILES, *(_NGINX_FILES if _held(packages) else _OWN_FILES)), python)


def source(path: str) -> str:
    """Where in base/rootfs the file is that an image has at `path`: Python's folder has no minor
    version there."""
    return _VERSIONED_PATH.sub(_LIBRARY, path)


def _placed(rows: Iterable[Row], python: str) -> tuple[Row, ...]:
    own = f"{PREFIX}/lib/python{python}"
    return tuple(sorted((_LIBRARY_PATH.sub(own, path), mode, owner) for path, mode, owner in rows))


def _held(packages: Collection[str]) -> bool:
    return {"nginx", "runit"} <= set(packages)
