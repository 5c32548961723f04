"""Environments: where they are, and how they are made."""

import os
import re
import shutil
import subprocess
import sys

from plinth_conda.errors import UNSATISFIABLE, CondaError

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""/opt/miniconda"""

DEFAULT = "amlenv"
"""The environment that the image serves from; `base` and `root` are it, too."""


def amlenv():
    """The prefix of the image's own Python."""
    return os.path.realpath(os.path.join(ROOT, "envs", DEFAULT))


def prefix_of(name, path):
    """The prefix of the environment called `name`, or at `path`; of the active one without both."""
    if path:
        return os.path.realpath(os.path.expanduser(path))
    if not name:
        return os.environ.get("CONDA_PREFIX") or amlenv()
    if name in (DEFAULT, "base", "root"):
        return amlenv()
    if not re.match(r"[^/\s:#]+$", name):
        raise CondaError("%r cannot be the name of an environment" % name)
    for folder in _folders():
        if os.path.isdir(os.path.join(folder, name)):
            return os.path.join(folder, name)
    for folder in _folders():
        above = folder
        while not os.path.isdir(above):
            above = os.path.dirname(above)
        if os.access(above, os.W_OK):
            return os.path.join(folder, name)
    raise CondaError(
        "no folder for the environment %s can be written by user %d" % (name, os.getuid()),
        ["looked at: %s" % ", ".join(_folders()), "give a place with -p, below /tmp for instance"],
    )


def _folders():
    return [
        os.path.join(ROOT, "envs"),
        os.path.join(os.path.expanduser("~"), ".conda", "envs"),
    ]


def exists(prefix):
    """Whether there is an environment at `prefix`."""
    return os.path.exists(python_of(prefix))


def python_of(prefix):
    """The Python of the environment at `prefix`."""
    return os.path.join(prefix, "bin", "python")


def listed():
    """The environments, as pairs of name and prefix."""
    found = [("base", amlenv()), (DEFAULT, amlenv())]
    for folder in _folders():
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            prefix = os.path.join(folder, name)
            if exists(prefix) and os.path.realpath(prefix) != amlenv():
                found.append((name, prefix))
    return found


def create(prefix):
    """Make an environment of the image's Python, with pip, at `prefix`.

    Raises:
        CondaError: it is there, or cannot be made; nothing is left behind.
    """
    if os.path.lexists(prefix) and os.listdir(prefix):
        raise CondaError("there is something at %s already" % prefix, ["remove it, or use update"])
    python = os.path.realpath(python_of(amlenv()))
    done = subprocess.run([python, "-m", "venv", prefix], stdin=subprocess.DEVNULL)
    if done.returncode:
        shutil.rmtree(prefix, ignore_errors=True)
        raise CondaError("the environment %s could not be made" % prefix)


def remove(prefix):
    """Remove the environment at `prefix`.

    Raises:
        CondaError: it is the image's own.
    """
    if os.path.realpath(prefix) == amlenv():
        raise CondaError("%s is what the image serves from: it stays" % DEFAULT)
    shutil.rmtree(prefix)


def install(prefix, wanted, folder=".", upgrade=False):
    """Have pip install what is `wanted` into `prefix`: conda's packages, then the pip section.

    Paths in the pip section are relative to `folder`.

    Raises:
        CondaError: pip could not.
    """
    if wanted.packages:
        flags = ["--upgrade"] if upgrade else []
        _pip(prefix, flags, wanted.packages, folder)
    if wanted.pip:
        # As conda calls it.
        _pip(prefix, ["--upgrade"], wanted.pip, folder)


def _pip(prefix, flags, lines, folder):
    code = pip(
        prefix,
        ["install", "--no-cache-dir", *flags, "-r", "/dev/stdin"],
        folder,
        "\n".join(lines) + "\n",
    )
    if code:
        raise CondaError(
            "pip could not install what was asked for (see above): %s" % ", ".join(lines),
            [
                "check names and versions, and that the index of pip's settings has files for "
                "Python %d.%d" % sys.version_info[:2]
            ],
            UNSATISFIABLE,
        )


def pip(prefix, arguments, folder=".", text=""):
    """Run the environment's pip; its exit code. `text` is its standard input."""
    sys.stdout.flush()
    environment = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1")
    environment.setdefault("PIP_ROOT_USER_ACTION", "ignore")
    done = subprocess.run(
        [python_of(prefix), "-m", "pip", *arguments],
        cwd=folder or ".",
        env=environment,
        input=text.encode(),
    )
    return done.returncode
