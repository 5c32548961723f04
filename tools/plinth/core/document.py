"""Reading a TOML document field by field, collecting every problem with its dotted path."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import tomli
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from plinth.core.errors import PlinthError, Problem, SpecError
from plinth.core.regular import read_regular
from plinth.core.requirement import requirement

T = TypeVar("T")


def known_here(name: str, others: Iterable[str]) -> str:
    """What to do about a `name` that is none of `others`: the nearest of them, and all."""
    there = sorted(others)
    return f"{meant(name, there)}known here: {', '.join(there) or 'none'}"


def meant(name: str, others: Iterable[str]) -> str:
    """`did you mean numpy? `, where one of `others` is near to `name`; else nothing."""
    # Not before: it is for errors alone.
    from difflib import get_close_matches

    near = get_close_matches(name, sorted(others), n=1)
    return f"did you mean {near[0]}? " if near else ""


def no_such(shown: str, name: str, others: Iterable[str]) -> SpecError:
    """The error where there is no specification `shown` of `name`, but there are `others`."""
    problem = Problem("", "there is no such specification")
    return SpecError(shown, [problem], remedy=known_here(name, others))


class Table:
    """One table of a document; what it is asked for is checked, what it is not asked for is
    reported by `finish` as unknown."""

    def __init__(
        self, values: Mapping[str, object], path: str, problems: list[Problem], *, present: bool
    ) -> None:
        self._values = values
        self._path = path
        self._asked: set[str] = set()
        self._children: list[Table] = []
        self.problems = problems
        self.present = present

    def _at(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def problem(self, key: str, message: str) -> None:
        """Report a problem with field `key`."""
        self.problems.append(Problem(self._at(key), message))

    def _get(self, key: str, kind: type[T], default: T, *, required: bool, noun: str) -> T:
        self._asked.add(key)
        if key not in self._values:
            if required:
                self.problem(key, f"missing; expected {noun}")
            return default
        value = self._values[key]
        # bool is an int in Python, never in TOML.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.problem(key, f"expected {noun}, found {value!r}")
            return default
        return value

    def text(self, key: str, *, required: bool = True, choices: tuple[str, ...] = ()) -> str:
        """A string; one of `choices` where given."""
        value = self._get(key, str, "", required=required, noun="a string")
        if choices and value not in choices and (value or required) and key in self._values:
            self.problem(key, f"expected one of {', '.join(choices)}; found {value!r}")
        return value

    def integer(self, key: str) -> int:
        """A whole number."""
        return self._get(key, int, 0, required=True, noun="a whole number")

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false; `default` where the field is absent."""
        return self._get(key, bool, default, required=False, noun="true or false")

    def moment(self, key: str) -> datetime.datetime | None:
        """An offset date-time, or None where the field is absent."""
        self._asked.add(key)
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, datetime.datetime) or value.tzinfo is None:
            self.problem(key, f"expected a date-time with offset, found {value!r}")
            return None
        return value.astimezone(datetime.timezone.utc)

    def texts(self, key: str, *, required: bool = True) -> tuple[str, ...]:
        """A list of strings."""
        values = self._get(key, list, [], required=required, noun="a list of strings")
        for number, value in enumerate(values):
            if not isinstance(value, str):
                self.problem(f"{key}[{number}]", f"expected a string, found {value!r}")
        return tuple(value for value in values if isinstance(value, str))

    def requirement(self, key: str) -> str:
        """A PEP 508 requirement, without URL."""
        text = self.text(key)
        if text:
            self._parsed(key, text)
        return text

    def _parsed(self, where: str, text: str) -> Requirement | None:
        try:
            found = requirement(text)
        except ValueError as error:
            self.problem(where, f"not a PEP 508 requirement: {error}")
            return None
        if found.url:
            self.problem(where, f"a URL has no place in a lock; name a version of {text!r}")
        return found

    def requirements(self, key: str, *, required: bool = True) -> tuple[str, ...]:
        """A list of PEP 508 requirements, without URLs; each project once, or on several lines that
        have markers, each of its own."""
        texts = self.texts(key, required=required)
        seen: dict[str, dict[str, int]] = {}
        for number, text in enumerate(texts):
            where = f"{key}[{number}]"
            found = self._parsed(where, text)
            if found is None:
                continue
            others = seen.setdefault(canonicalize_name(found.name), {})
            marker = str(found.marker or "")
            if others and (not marker or "" in others or marker in others):
                first = others.get(marker, min(others.values()))
                message = f"{found.name} is already required by {key}[{first}]"
                self.problem(where, message)
            others.setdefault(marker, number)
        return texts

    def mapping(self, key: str) -> dict[str, str]:
        """A table of strings, empty where absent."""
        values = self._get(key, dict, {}, required=False, noun="a table of strings")
        for name, value in values.items():
            if not isinstance(value, str):
                self.problem(f"{key}.{name}", f"expected a string, found {value!r}")
        return {k: v for k, v in values.items() if isinstance(v, str)}

    def texts_or_tables(self, key: str) -> dict[str, str | Table]:
        """A table of strings and tables, empty where absent."""
        values = self._get(key, dict, {}, required=False, noun="a table")
        inner = {name: value for name, value in values.items() if isinstance(value, dict)}
        tables = Table(inner, self._at(key), self.problems, present=True)
        self._children.append(tables)
        found: dict[str, str | Table] = {}
        for name, value in values.items():
            if isinstance(value, dict):
                found[name] = tables.table(name)
            elif isinstance(value, str):
                found[name] = value
            else:
                self.problem(f"{key}.{name}", f"expected a string or a table, found {value!r}")
        return found

    def table(self, key: str, *, required: bool = False) -> Table:
        """A table; empty where absent."""
        values = self._get(key, dict, {}, required=required, noun="a table")
        child = Table(values, self._at(key), self.problems, present=key in self._values)
        self._children.append(child)
        return child

    def tables(self, key: str) -> list[Table]:
        """An array of tables; empty where absent."""
        values = self._get(key, list, [], required=False, noun="an array of tables")
        found = []
        for number, value in enumerate(values):
            if isinstance(value, dict):
                found.append(
                    Table(value, self._at(f"{key}[{number}]"), self.problems, present=True)
                )
            else:
                self.problem(f"{key}[{number}]", f"expected a table, found {value!r}")
        self._children += found
        return found

    def named_tables(self, key: str) -> dict[str, Table]:
        """A table of tables, by name; empty where absent."""
        parent = self.table(key)
        return {name: parent.table(name) for name in parent._values}

    def finish(self) -> None:
        """Report every field, here and below, that nobody asked for."""
        for key in self._values:
            if key not in self._asked:
                self.problem(key, f"unknown field; {known_here(key, self._asked)}")
        for child in self._children:
            child.finish()


def read(path: Path, shown: str) -> Table:
    """The document at `path`, named `shown` in messages.

    Raises:
        SpecError: the file is absent, no regular file of the checkout, not UTF-8 or not TOML.
    """
    try:
        # Some editors begin a file with a mark.
        document = tomli.loads(read_regular(path, shown, path.parents[1]).decode("utf-8-sig"))
    except FileNotFoundError:
        others = (other.stem for other in path.parent.glob("*.toml"))
        raise no_such(shown, path.stem, others) from None
    except PlinthError as error:
        problem = Problem("", f"{error.what}, found {error.found}" if error.found else error.what)
        raise SpecError(shown, [problem], remedy=error.remedy) from None
    except UnicodeDecodeError as error:
        raise SpecError(shown, [Problem("", f"not UTF-8: {error}")]) from None
    # Not all that tomli raises is its own error: of a number with too many digits it is int's.
    except (ValueError, RecursionError) as error:
        raise SpecError(shown, [Problem("", f"not TOML: {error}")]) from None
    return Table(document, "", [], present=True)
