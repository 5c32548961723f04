"""Where pip can install at start, so that Python finds it: under any user, on a read-only root.

`plinth-place` prints settings for a shell; `plinth-place --check` fails where what was installed
cannot be loaded.
"""

import mmap
import os
import shlex
import subprocess
import sys

_FOLDER = "plinth-python"
_NOEXEC = (
    "plinth: compiled packages were installed in %s, which is mounted noexec, so Python cannot "
    "load them: mount a folder with exec, as in --tmpfs /tmp:exec"
)


def main(arguments):
    """Print what to set, or check; the exit code."""
    if arguments == ["--check"]:
        return check(os.environ.get("PLINTH_PLACE", ""))
    python = os.path.join(_prefix(), "bin", "python")
    found = subprocess.run(
        [python, "-c", "import sys, sysconfig; print(sysconfig.get_path('purelib'));"
         "print(sys.prefix != sys.base_prefix)"],
        stdout=subprocess.PIPE, check=True,
    ).stdout.decode().splitlines()  # fmt: skip
    for line in settings(found[0], found[1] == "True"):
        print(line)
    return 0


def _prefix():
    """The environment whose Python is first on PATH."""
    for folder in os.environ.get("PATH", os.defpath).split(":"):
        if os.access(os.path.join(folder, "python"), os.X_OK):
            return os.path.dirname(os.path.realpath(folder))
    return sys.prefix


def settings(packages, is_venv):
    """Lines of shell: none where the folder `packages` itself can be written."""
    if _can_write(packages):
        return []
    place = choose([os.path.expanduser("~"), "/tmp", "/var/tmp", "/dev/shm", "/run"])
    if place is None:
        lost = (
            "plinth: pip has nowhere to install: user %d can write neither %s nor /tmp; mount a "
            "tmpfs, as in --tmpfs /tmp:exec" % (os.getuid(), packages)
        )
        return ["echo %s" % shlex.quote(lost), "exit 95"]
    quoted = shlex.quote(place)
    lines = ["PLINTH_PLACE=%s" % quoted, 'PATH=%s/bin:"$PATH"' % quoted]
    if is_venv:
        # It has no folder of the user: what is there already is installed again.
        lines += ["PIP_TARGET=%s" % quoted, 'PYTHONPATH=%s"${PYTHONPATH:+:$PYTHONPATH}"' % quoted]
    else:
        lines += ["PYTHONUSERBASE=%s" % quoted, "PIP_USER=1"]
    said = shlex.quote("plinth: packages are installed in %s" % place)
    return [*("export %s" % line for line in lines), "echo %s" % said]


def choose(folders):
    """A folder of our own in the first of `folders` that can be written, and holds libraries that
    can be loaded; else, that can be written."""
    writable = []
    for folder in folders:
        if _can_write(folder):
            writable.append(folder)
            if may_execute(folder):
                break
    else:
        if not writable:
            return None
        folder = writable[0]
    place = os.path.join(folder, "%s-%d" % (_FOLDER, os.getuid()))
    os.makedirs(place, mode=0o700, exist_ok=True)
    about = os.lstat(place)
    # In a folder that all may write, somebody else's would be somebody else's code.
    if about.st_uid != os.getuid() or os.path.islink(place) or about.st_mode & 0o022:
        return None
    return place


def _can_write(folder):
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)


def may_execute(folder):
    """Whether what is in `folder` may be mapped for execution."""
    path = os.path.join(folder, ".plinth-%d" % os.getpid())
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:
        return False
    try:
        os.write(fd, b"\0" * mmap.PAGESIZE)
        mmap.mmap(fd, mmap.PAGESIZE, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC).close()
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
        os.unlink(path)


def check(place):
    """The exit code: 95 where `place` holds libraries that cannot be loaded from it."""
    if not place or may_execute(place):
        return 0
    for _, _, names in os.walk(place):
        if any(name.endswith(".so") or ".so." in name for name in names):
            print(_NOEXEC % place)
            return 95
    return 0
