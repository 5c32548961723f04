"""Reading requirement files as pip does: names, versions, hashes, other such files.

Its grammar: https://pip.pypa.io/en/stable/reference/requirements-file-format/. What would let the
machine decide a lock (indexes, variables, editable folders) is refused. pip's own reader is the
oracle of the tests; it opens URLs and decodes by the locale, so it reads nothing here.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement

from plinth.core.errors import Problem, SpecError
from plinth.core.requirement import comparable, requirement
from plinth.recipe.asked.files import Files

_VARIABLE = re.compile(r"\$\{[A-Z0-9_]+\}")
_OPTION = re.compile(r"(-[a-zA-Z]|--[a-z-]+)(?:\s*=\s*|\s+|$)?(.*)", re.DOTALL)
_HASH = re.compile(r"--hash[\s=]+(\S*)")
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_NESTED = {"-r": False, "--requirement": False, "-c": True, "--constraint": True}
_INDEX = (
    *("-i", "--index-url", "--pypi-url", "--extra-index-url", "--no-index", "-f", "--find-links"),
    "--trusted-host",
)


@dataclass(frozen=True)
class Line:
    """One logical line: its first line number, and its text without comments."""

    number: int
    text: str


@dataclass(frozen=True)
class Asked:
    """One requirement: what it is, the SHA-256 of the files it allows (none: any), whether it
    only bounds, and where it stands.

    Raises:
        ValueError: it names a version that cannot be compared.
    """

    requirement: Requirement
    hashes: frozenset[str]
    bounds: bool
    where: str

    def __post_init__(self) -> None:
        comparable(self.requirement)


def logical_lines(text: str) -> Iterator[Line]:
    """The lines of a requirement file that have something in them, with continued ones joined and
    without comments."""
    joined, start = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        start = start or number
        # As pip has it: a line that is only a comment ends what is continued, and a comment
        # begins at the start or after white space.
        if line.endswith("\\") and not re.match(r"\s*#", line):
            joined += line[:-1]
            continue
        joined += (" " if re.match(r"\s*#", line) else "") + line
        stripped = _uncommented(joined).strip()
        if stripped:
            yield Line(start, stripped)
        joined, start = "", 0
    if stripped := _uncommented(joined).strip():
        yield Line(start, stripped)


def _uncommented(text: str) -> str:
    """`text` up to a comment; not by pip's expression, which never ends on a line of blanks."""
    at = text.find("#")
    while at > 0 and not text[at - 1].isspace():
        at = text.find("#", at + 1)
    return text[:at] if at >= 0 else text


def _continued_wrongly(text: str) -> Iterator[Problem]:
    """Lines whose backslash does not continue them, as something that is not seen follows it."""
    for number, line in enumerate(text.splitlines(), 1):
        seen = _uncommented(line).rstrip()
        if seen.endswith("\\") and not line.endswith("\\"):
            what = "a comment" if "#" in line[len(seen) :] else "a blank"
            yield Problem(
                f"line {number}",
                f"{what} follows the backslash, which continues a line only as its very last "
                "character; remove what follows it",
            )


def read_requirements(files: Files, path: str, asked_by: str, *, bounds: bool) -> list[Asked]:
    """The requirements of the file at `path`, which the specification `asked_by` names, and of
    all files that it names; `bounds`: they are constraints.

    Raises:
        SpecError: a file cannot be read, names itself, or has what a lock cannot be made of; with
            the line.
    """
    return list(_Reader(files).read(path, asked_by, 0, bounds, ()))


class _Reader:
    def __init__(self, files: Files) -> None:
        self._files = files
        self._done: set[tuple[str, bool]] = set()

    def read(
        self, path: str, asked_by: str, line: int, bounds: bool, above: tuple[str, ...]
    ) -> Iterator[Asked]:
        name, text = self._files.text(path, asked_by, line)
        if name in above:
            chain = " -> ".join([*above[above.index(name) :], name])
            raise SpecError(asked_by, [Problem(f"line {line}", f"files name each other: {chain}")])
        if (name, bounds) in self._done:
            return
        self._done.add((name, bounds))
        problems = list(_continued_wrongly(text))
        if problems:
            raise SpecError(name, problems)
        strict = False
        found: list[Asked] = []
        for one in logical_lines(text):
            at = f"line {one.number}"
            try:
                if not one.text.startswith("-"):
                    found.append(_requirement(one.text, bounds, f"{name} {at}"))
                    continue
                option, value = _option(one.text)
                if option == "--require-hashes":
                    strict = True
                    continue
            except ValueError as error:
                problems.append(Problem(at, str(error)))
                continue
            inner = bounds or _NESTED[option]
            found += self.read(value, name, one.number, inner, (*above, name))
        if strict:
            problems += [
                Problem(one.where.removeprefix(f"{name} "), f"{one.requirement} has no --hash")
                for one in found
                if not one.hashes and not one.bounds
            ]
        if problems:
            raise SpecError(name, problems)
        yield from found


def _option(text: str) -> tuple[str, str]:
    match = _OPTION.fullmatch(text)
    option, value = (match[1], match[2].strip()) if match else (text, "")
    if option == "--require-hashes" and not value:
        return option, ""
    if option in _INDEX:
        raise ValueError(
            f"{option} is a setting of the machine, not of an image: set index-url in the "
            "settings, or name an index for a project in [python.indexes]"
        )
    if option in ("-e", "--editable"):
        raise ValueError("an image holds no editable install; name the folder in [[python.local]]")
    if option not in _NESTED:
        raise ValueError(f"the option {option!r} has no meaning in a lock")
    words = shlex.split(value)
    if len(words) != 1:
        raise ValueError(f"{option} takes one file, found {value!r}")
    if "://" in words[0]:
        raise ValueError(f"{words[0]!r} is a URL; copy the file into the checkout")
    _no_variable(words[0])
    return option, words[0]


def _no_variable(text: str) -> None:
    if _VARIABLE.search(text):
        raise ValueError(f"a variable of the environment cannot decide a lock: {text!r}")


def _requirement(text: str, bounds: bool, where: str) -> Asked:
    _no_variable(text)
    # In lower case, as pip reads them.
    hashes = [one.lower() for one in _HASH.findall(text)]
    wanted = _HASH.sub("", text).strip()
    if " --" in wanted or wanted.endswith("\\"):
        raise ValueError(f"an option of one requirement has no meaning in a lock: {wanted!r}")
    for one in hashes:
        if not re.fullmatch(r"sha(256|384|512):[0-9a-f]+", one):
            raise ValueError(f"not a hash that pip takes: {one!r}")
    known = frozenset(one[7:] for one in hashes if _SHA256.fullmatch(one))
    if hashes and not known:
        raise ValueError("no sha256 among its hashes")
    if wanted.startswith((".", "/")) or (
        re.search(r"(\.whl|\.tar\.gz|\.zip)$", wanted) and " " not in wanted
    ):
        raise ValueError(f"only names and versions, not the file {wanted!r}; see [[python.local]]")
    try:
        found = requirement(wanted)
    except InvalidRequirement as error:
        # Its further lines repeat the whole text.
        raise ValueError(f"not a PEP 508 requirement: {str(error).splitlines()[0]}") from None
    if found.url:
        raise ValueError(f"a URL has no place in a lock; name a version of {wanted!r}")
    return Asked(found, known, bounds, where)
