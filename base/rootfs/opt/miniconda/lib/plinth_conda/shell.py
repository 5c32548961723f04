"""What a shell has to do to activate an environment, as text for it."""

import os
import shlex

from plinth_conda import prefixes
from plinth_conda.errors import CondaError

_MARK = "# plinth: conda as a shell function"


def activate(name):
    """Commands that activate the environment `name`, a name or a path."""
    path = name if "/" in name else ""
    prefix = prefixes.prefix_of("" if path else name or prefixes.DEFAULT, path)
    if not prefixes.exists(prefix):
        raise CondaError("there is no environment %s" % (name or prefix))
    rest = _without(os.environ.get("CONDA_PREFIX", ""))
    shown = name if name and not path else os.path.basename(prefix) if path else prefixes.DEFAULT
    return [
        "export CONDA_PREFIX=%s" % shlex.quote(prefix),
        "export CONDA_DEFAULT_ENV=%s" % shlex.quote(shown),
        "export PATH=%s" % shlex.quote("%s/bin:%s" % (prefix, rest)),
    ]


def deactivate():
    """Commands that deactivate the active environment."""
    path = _without(os.environ.get("CONDA_PREFIX", ""))
    return ["unset CONDA_PREFIX CONDA_DEFAULT_ENV", "export PATH=%s" % shlex.quote(path)]


def _without(prefix):
    """PATH without what was activated."""
    parts = os.environ.get("PATH", os.defpath).split(":")
    # The image's own stays: it is there without anybody having activated it.
    if prefix and prefix != prefixes.amlenv() and prefix + "/bin" in parts:
        parts.remove(prefix + "/bin")
    return ":".join(parts)


def environment_of(prefix):
    """The variables of a process that runs in the environment at `prefix`."""
    path = "%s/bin:%s" % (prefix, os.environ.get("PATH", os.defpath))
    name = os.path.basename(prefix) if prefix != prefixes.amlenv() else prefixes.DEFAULT
    return dict(os.environ, PATH=path, CONDA_PREFIX=prefix, CONDA_DEFAULT_ENV=name)


def hook():
    """What makes `conda` a function of the shell."""
    return ". %s" % os.path.join(prefixes.ROOT, "etc", "profile.d", "conda.sh")


def init():
    """Write the hook into ~/.bashrc, once; the file's path."""
    path = os.path.join(os.path.expanduser("~"), ".bashrc")
    try:
        with open(path, encoding="utf-8") as stream:
            there = stream.read()
    except FileNotFoundError:
        there = ""
    if _MARK not in there:
        with open(path, "a", encoding="utf-8") as stream:
            stream.write("%s\n%s\n" % (_MARK, hook()))
    return path
