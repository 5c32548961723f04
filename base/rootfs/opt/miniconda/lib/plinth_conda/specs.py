"""A package as conda asks for it, and what pip is asked for instead.

Match specifications: conda's documentation, "Package match specifications".
"""

import fnmatch
import json
import os
import re

_SPEC = re.compile(r"(?:(?P<channel>[^\s:]+)::)?(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*)(?P<rest>.*)$")
_VERSION = re.compile(r"\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?$")
_CLAUSE = re.compile(r"(==|!=|>=|<=|~=|=|>|<|)([^=<>!~]+)$")
_NAMES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "names.json")


class UnavailableError(Exception):
    """Why a package cannot be installed, and what to do."""


class Names:
    """The table of conda's names: names.json."""

    def __init__(self, path=_NAMES):
        with open(path, encoding="utf-8") as stream:
            table = json.load(stream)
        self._pip = table["pip"]
        self._held = table["held"]
        self._refused = table["refused"]

    def pip(self, name):
        """What the index calls the package."""
        return self._pip.get(name, name)

    def held(self, name):
        """Why nothing has to be installed for it, or an empty string."""
        return self._reason(self._held, name)

    def refused(self, name):
        """Why it cannot be had, and what to do, or an empty string."""
        return self._reason(self._refused, name)

    @staticmethod
    def _reason(groups, name):
        for group in groups:
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in group["names"]):
                return group["why"]
        return ""


def requirement(spec, names, python):
    """What pip is asked for, or an empty string, and a note for people.

    `python` is the version of the environment's, as a tuple.

    Raises:
        UnavailableError: it cannot be satisfied.
    """
    match = _SPEC.match(spec.strip())
    if not match:
        raise UnavailableError("not a package as conda writes them")
    name, rest = match.group("name").lower(), match.group("rest")
    why = names.refused(name)
    if why:
        raise UnavailableError(why)
    clauses, build = _clauses(rest)
    notes = []
    if match.group("channel"):
        notes.append("from the package index, not from %s" % match.group("channel"))
    if build:
        notes.append("indexes have no builds such as %s" % build)
    if name == "python":
        if not all(_allows(operator, version, python) for operator, version in clauses):
            raise UnavailableError(
                "this image has Python %s: ask for that one, or take an image of the other"
                % ".".join(map(str, python[:2]))
            )
        return "", "; ".join(["Python %s is there" % ".".join(map(str, python)), *notes])
    why = "pip is there" if name == "pip" and not clauses else names.held(name)
    if why:
        return "", "; ".join([why, *notes])
    return names.pip(name) + ",".join(_specifier(*clause) for clause in clauses), "; ".join(notes)


def _clauses(rest):
    """The bounds of a specification, each an operator (`=` for conda's fuzzy one) and a version;
    and its build."""
    if "[" in rest:
        raise UnavailableError("write the version without brackets: name=1.2")
    rest = re.sub(r"([<>=!~|,])\s+", r"\1", rest.strip())
    rest = re.sub(r"\s+([,|<>=!~])", r"\1", rest)
    if "|" in rest:
        raise UnavailableError("alternatives (|) cannot be asked of an index: name one version")
    # name=1.2=build, and name 1.2 build
    match = re.match(r"(={0,2}[^=<>!~,\s]+)[=\s]([^=<>!~,\s]+)$", rest)
    build = match.group(2) if match else ""
    version = match.group(1) if match else rest
    if build and version.startswith("=") and not version.startswith("=="):
        version = "=" + version
    if " " in version:
        raise UnavailableError("not a version: %r" % rest)
    found = []
    for part in version.split(",") if version and version != "*" else ():
        match = _CLAUSE.match(part)
        if not match:
            raise UnavailableError("not a version: %r" % part)
        operator, text = match.group(1) or "==", match.group(2)
        if text.endswith("*") and text != "*":
            text = re.sub(r"\.?\*$", "", text)
            operator = {"==": "=", "!=": "!=*"}.get(operator, operator)
        if text == "*":
            continue
        if not _VERSION.match(text):
            raise UnavailableError("no index has a version such as %s" % text)
        found.append((operator, text))
    return found, build if build != "*" else ""


def _specifier(operator, version):
    """A bound as PEP 440 writes it."""
    plain = re.match(r"\d+(\.\d+)*$", version)
    if operator == "=":
        return "==%s%s" % (version, ".*" if plain else "")
    if operator == "!=*":
        return "!=%s%s" % (version, ".*" if plain else "")
    return operator + version


def _allows(operator, version, python):
    """Whether a bound admits some patch level of the environment's Python."""
    asked = tuple(int(part) for part in re.match(r"\d+(\.\d+)*", version).group().split("."))[:2]
    mine = tuple(python[: len(asked)])
    exact = version.count(".") >= 2
    return {
        "=": mine == asked,
        "==": mine == asked,
        "~=": mine == asked or (len(asked) == 2 and version.count(".") == 1 and mine > asked),
        "!=": exact or mine != asked,
        "!=*": exact or mine != asked,
        ">=": mine >= asked,
        ">": mine > asked or (mine == asked and len(asked) == 2),
        "<=": mine <= asked,
        "<": mine < asked or (mine == asked and exact),
    }[operator]
