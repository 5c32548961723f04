"""What an environment file, or a command line, asks for."""

import os
import re

from plinth_conda import subset
from plinth_conda.errors import UNSATISFIABLE, CondaError
from plinth_conda.specs import Names, UnavailableError, requirement

_KEYS = {"name", "channels", "dependencies", "prefix", "variables"}
_FILE_OPTION = re.compile(r"(-r|-c|--requirement|--constraint)(\s+|=)?(\S.*)$")


class Wanted:
    """Requirements for pip, in two lots as conda installs them, and lines for people."""

    def __init__(self):
        self.name = ""
        self.packages = []
        self.pip = []
        self.notes = []
        self.variables = {}


def of_specs(specs, python, where="", names=None):
    """What the match specifications `specs` ask for, in an environment of this `python`.

    Raises:
        CondaError: some cannot be satisfied; all of them are named.
    """
    wanted, refused = Wanted(), []
    names = names or Names()
    for spec in specs:
        try:
            found, note = requirement(spec, names, python)
        except UnavailableError as error:
            refused.append("%s: %s" % (spec, error))
            continue
        if found:
            wanted.packages.append(found)
        shown = [part for part in (found if found != spec else "", note) if part]
        wanted.notes.append("%s: %s" % (spec, "; ".join(shown)) if shown else spec)
    if refused:
        what = "%s cannot be installed here" % count(len(refused), "package")
        raise CondaError(where + ": " + what if where else what, refused, UNSATISFIABLE)
    return wanted


def of_file(path, python):
    """What the environment file at `path` asks for.

    Raises:
        CondaError: it cannot be read, or not be satisfied; all that is wrong is named.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
    except (OSError, UnicodeDecodeError) as error:
        raise CondaError("%s: cannot be read: %s" % (path, error)) from None
    document = subset.read(text, path)
    if not isinstance(document, dict) or not _strings(document.get("dependencies") or [], "pip"):
        raise CondaError(
            "%s: not an environment file" % path,
            ["expected: a list 'dependencies' of packages, with at most lists 'pip' in it"],
        )
    unknown = sorted(set(document) - _KEYS)
    if unknown:
        raise CondaError(
            "%s: unknown key %s" % (path, ", ".join(unknown)),
            ["known: %s" % ", ".join(sorted(_KEYS))],
        )
    dependencies = document.get("dependencies") or []
    wanted = of_specs([d for d in dependencies if isinstance(d, str)], python, path)
    wanted.name = document.get("name") or ""
    for lot in dependencies:
        for line in (lot["pip"] or []) if isinstance(lot, dict) else []:
            wanted.pip.append(_anchored(line, os.path.dirname(os.path.abspath(path))))
            wanted.notes.append("pip: %s" % line)
    channels = [one for one in document.get("channels") or [] if one != "defaults"]
    if channels:
        wanted.notes.insert(0, "channels (%s): not asked, packages come from the index of pip's "
                            "settings" % ", ".join(channels))  # fmt: skip
    variables = document.get("variables") or {}
    if variables:
        raise CondaError(
            "%s: variables cannot be kept in an environment here" % path,
            ["set them with ENV, or when the container is started: %s" % ", ".join(variables)],
            UNSATISFIABLE,
        )
    return wanted


def count(number, thing):
    """`1 package`, `2 packages`."""
    return "%d %s%s" % (number, thing, "" if number == 1 else "s")


def _strings(found, nested=""):
    """Whether it is a list of strings, and of mappings of the key `nested` to such lists."""
    return isinstance(found, list) and all(
        isinstance(one, str)
        or (
            nested
            and isinstance(one, dict)
            and set(one) == {nested}
            and _strings(one[nested] or [])
        )
        for one in found
    )


def _anchored(line, folder):
    """A line of a pip section, files of requirements relative to the environment file's folder."""
    match = _FILE_OPTION.match(line)
    if not match or "://" in match.group(3):
        return line
    return "%s %s" % (match.group(1), os.path.join(folder, match.group(3)))
