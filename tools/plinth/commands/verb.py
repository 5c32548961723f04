"""What a verb is: its name, operands and options, and the function that does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from typing import Any

from plinth.core.loading import loading
from plinth.graph.workspace import Workspace


@dataclass(frozen=True)
class Option:
    """`--name VALUE`, and `name=VALUE` of a doit task; `keyword` is the function's parameter.

    `kind` is str, int, bool (a flag without a value) or list (may be repeated).
    """

    name: str
    help: str
    kind: type = str
    default: Any = ""
    metavar: str = ""
    choices: tuple[str, ...] = ()
    short: str = ""
    required: bool = False
    to: str = ""

    @property
    def keyword(self) -> str:
        return self.to or self.name.replace("-", "_")

    @property
    def value(self) -> str:
        """What stands for the value in help; empty for a flag."""
        if self.kind is bool:
            return ""
        listed = "{" + ",".join(self.choices) + "}" if self.choices else ""
        return self.metavar or listed or self.name.upper()


@dataclass(frozen=True)
class Operand:
    """An argument by its place; `count` is "1", "?", "*" (any number) or "+" (one or more)."""

    keyword: str
    metavar: str
    help: str = ""
    count: str = "1"
    choices: tuple[str, ...] = ()

    @property
    def value(self) -> str:
        one = "{" + ",".join(self.choices) + "}"
        return one if self.choices and self.count == "1" else self.metavar


@dataclass(frozen=True)
class Verb:
    """One command.

    `action` is `module:function` below plinth.commands. The function takes operands and options by
    keyword, a parameter `ws` where it needs a checkout, and returns an exit code or None.
    `per_image`: doit has a task for each image. `after`: the verb that doit runs before this one,
    for the same image or, without one, for all.
    """

    name: str
    help: str
    action: str
    operands: tuple[Operand, ...] = ()
    options: tuple[Option, ...] = ()
    epilog: str = ""
    per_image: bool = False
    after: str = ""

    @property
    def task(self) -> str:
        """The name of its doit task."""
        return self.name.replace(" ", ":")

    def run(self, keywords: Mapping[str, Any], ws: Workspace | None = None) -> int:
        """Do it in `ws` (default: the checkout around, if it needs one); the exit code.

        Raises:
            PlinthError, OSError: as the function.
        """
        function = self.function()
        if "ws" in signature(function).parameters:
            keywords = {**keywords, "ws": ws or Workspace.find()}
        return function(**keywords) or 0

    def function(self) -> Callable[..., int | None]:
        """The function that does it."""
        module, _, name = self.action.partition(":")
        # Not before: doit loads the table on every run, also on those that find nothing to do.
        with loading():
            found: Callable[..., int | None] = getattr(
                import_module(f"plinth.commands.{module}"), name
            )
        return found


def verb(
    name: str,
    action: str,
    text: str,
    *arguments: Operand | Option,
    epilog: str = "",
    images: bool = False,
    after: str = "",
) -> Verb:
    """A row of the table of verbs; `arguments` are its operands and options, as help shows them."""
    operands = tuple(one for one in arguments if isinstance(one, Operand))
    options = tuple(one for one in arguments if isinstance(one, Option))
    return Verb(name, text, action, operands, options, epilog, images, after)


def text(name: str, metavar: str, text: str, *, required: bool = False, short: str = "") -> Option:
    """An option with a text for a value."""
    return Option(name, text, metavar=metavar, required=required, short=short)


def flag(name: str, text: str, to: str = "") -> Option:
    """An option without a value."""
    return Option(name, text, bool, default=False, to=to)


def many(name: str, metavar: str, text: str, to: str = "") -> Option:
    """An option that may be repeated."""
    return Option(name, text + " (may be repeated)", list, default=(), metavar=metavar, to=to)


def number(name: str, metavar: str, text: str, default: int | None = 0) -> Option:
    """An option with a number for a value."""
    return Option(name, text, int, default=default, metavar=metavar)


def choice(
    name: str, choices: tuple[str, ...], text: str, default: str = "", to: str = ""
) -> Option:
    """An option with one of `choices` for a value."""
    return Option(name, text, default=default, choices=choices, to=to)
