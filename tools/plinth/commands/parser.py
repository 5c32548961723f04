"""The command line of plinth, made from the table of verbs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from plinth import __version__
from plinth.commands.verb import Verb
from plinth.commands.verbs import GROUPS, VERBS


def command_line() -> argparse.ArgumentParser:
    """The parser of all verbs; what it parses has the verb as `verb`, beside its keywords."""
    parser = argparse.ArgumentParser(
        prog="plinth", description="A reproducible build graph for ML inference images."
    )
    parser.add_argument("--version", action="version", version=f"plinth {__version__}")
    groups = {"": parser.add_subparsers(required=True, metavar="COMMAND")}
    for verb in VERBS:
        group, _, name = verb.name.rpartition(" ")
        if group not in groups:
            made = groups[""].add_parser(group, help=GROUPS[group], description=GROUPS[group])
            groups[group] = made.add_subparsers(required=True, metavar="COMMAND")
        inner = groups[group].add_parser(
            name, help=verb.help, description=verb.help, epilog=verb.epilog
        )
        _add_arguments(inner, verb)
        inner.set_defaults(verb=verb)
    return parser


def parse(verb: Verb, words: Sequence[str], prog: str) -> dict[str, Any]:
    """The keywords that `words` are for `verb`.

    Raises:
        SystemExit: wrong usage, which is shown on standard error with `prog`.
    """
    parser = argparse.ArgumentParser(prog=prog)
    _add_arguments(parser, verb)
    return vars(parser.parse_args(words))


def _one_of(choices: Sequence[str]) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in choices:
            raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(choices)}")
        return text

    return check


class _Given(argparse.Action):
    """Takes a value that is not empty, as `"$UNSET"` in a script is: what it was to insist on would
    silently not count."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        if values == "":
            raise argparse.ArgumentError(self, "the value is empty; leave the option out")
        self._keep(namespace, values)

    def _keep(self, namespace: argparse.Namespace, values: str | Sequence[Any] | None) -> None:
        setattr(namespace, self.dest, values)


class _Added(_Given):
    """The same of an option that may be repeated."""

    def _keep(self, namespace: argparse.Namespace, values: str | Sequence[Any] | None) -> None:
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), values])


def _add_arguments(parser: argparse.ArgumentParser, verb: Verb) -> None:
    for operand in verb.operands:
        more: dict[str, Any] = {} if operand.count == "1" else {"nargs": operand.count}
        if operand.choices and operand.count == "1":
            more["choices"] = operand.choices
        else:
            more["metavar"] = operand.metavar
            # Pythons before 3.12 compare the empty list, too, with the choices of any number.
            more |= {"type": _one_of(operand.choices)} if operand.choices else {}
        parser.add_argument(operand.keyword, help=operand.help, **more)
    for option in verb.options:
        if option.kind is bool:
            more = {"action": "store_true"}
        else:
            more = {"default": option.default, "metavar": option.value}
            more |= {"action": _Added, "default": []} if option.kind is list else {}
            more |= {"type": int} if option.kind is int else {}
            more |= {"action": _Given} if option.kind is str else {}
            more |= {"choices": option.choices} if option.choices else {}
            more |= {"required": True} if option.required else {}
        names = [f"-{option.short}"] if option.short else []
        parser.add_argument(
            *names, f"--{option.name}", dest=option.keyword, help=option.help, **more
        )
