"""What `python -m venv` asks for pip: the image's own pip, setuptools and wheel, copied.

CPython's module of this name holds wheels of its own, three megabytes of older releases.
"""

import argparse
import configparser
import csv
import glob
import os
import shutil
import sys
import sysconfig

_PROJECTS = ("pip", "setuptools", "wheel")
_SCRIPT = """\
#!%s
import sys

from %s import %s

if __name__ == "__main__":
    sys.exit(%s())
"""


def _own():
    """The folder of the image's own packages."""
    version = "python%d.%d" % sys.version_info[:2]
    return os.path.join(sys.base_prefix, "lib", version, "site-packages")


def _folder(project):
    """The .dist-info of an installed project; empty where it is not installed."""
    return max(glob.glob(os.path.join(_own(), project + "-*.dist-info")), default="")


def version():
    """The version of pip that `bootstrap` installs."""
    return os.path.basename(_folder("pip"))[len("pip-") : -len(".dist-info")]


def bootstrap(
    *, root=None, upgrade=False, user=False, altinstall=False, default_pip=False, verbosity=0
):
    """Install pip into the environment that this runs in.

    `root` and `user` are not supported: `pip install` has both.
    """
    if root or user:
        raise ValueError("neither root nor user is supported here: use pip itself")
    if not _folder("pip"):
        raise RuntimeError("pip is not in this image any more: nothing to copy")
    target = sysconfig.get_path("purelib")
    if os.path.samefile(target, _own()):
        return
    for project in _PROJECTS:
        if _folder(project):
            _copy(_folder(project), target)


def _copy(info, target):
    scripts = [*_scripts(os.path.join(info, "entry_points.txt"))]
    with open(os.path.join(info, "RECORD"), newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.reader(stream) if row and not row[0].startswith("..")]
    for path, *_ in rows:
        source = os.path.join(_own(), path)
        # Bytecode need not be there, wherever it is listed.
        if os.path.exists(source):
            os.makedirs(os.path.dirname(os.path.join(target, path)), exist_ok=True)
            shutil.copy2(source, os.path.join(target, path))
    for path, text in scripts:
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(path, 0o755)
        rows.append([os.path.relpath(path, target), "", ""])
    record = os.path.join(target, os.path.basename(info), "RECORD")
    with open(record, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)


def _scripts(entry_points):
    """Path and text of each script that an entry_points.txt declares."""
    if not os.path.exists(entry_points):
        return
    parser = configparser.ConfigParser(delimiters=("=",))
    parser.optionxform = str
    parser.read(entry_points, encoding="utf-8")
    names = dict(parser["console_scripts"]) if parser.has_section("console_scripts") else {}
    if "pip" in names:
        names["pip%d.%d" % sys.version_info[:2]] = names["pip"]
    for name, value in sorted(names.items()):
        module, _, function = value.split("[")[0].strip().partition(":")
        path = os.path.join(sysconfig.get_path("scripts"), name)
        yield path, _SCRIPT % (sys.executable, module, function, function)


def _main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m ensurepip")
    parser.add_argument("--version", action="version", version="pip %s" % version())
    parser.add_argument("-v", "--verbose", action="count", default=0, dest="verbosity")
    parser.add_argument("-U", "--upgrade", action="store_true")
    parser.add_argument("--user", action="store_true")
    parser.add_argument("--root")
    parser.add_argument("--altinstall", action="store_true")
    parser.add_argument("--default-pip", action="store_true")
    options = parser.parse_args(argv)
    try:
        bootstrap(**vars(options))
    except (RuntimeError, ValueError) as error:
        print("ensurepip: %s" % error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
