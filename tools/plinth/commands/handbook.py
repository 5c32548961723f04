"""docs/commands.md: every command and its arguments, from the table of verbs."""

from __future__ import annotations

from pathlib import Path

from plinth.commands.verb import Operand, Option, Verb
from plinth.commands.verbs import VERBS
from plinth.core.store import atomic_write

_HEAD = """\
# Commands

Made by `doit commands` from the table of commands (`tools/plinth/commands/verbs.py`); do not edit.
`plinth COMMAND --help` shows the same. Tables are drawn on a terminal and plain text elsewhere;
`NO_COLOR` is respected. `eval "$(plinth completion bash)"` teaches a shell the commands, their
options and the ids of images.

Every command is a task of doit, too, with the same options: `--name VALUE` after the task, or
`name=VALUE` anywhere (`name=1` for an option without a value, `name=A,B` for one that may be
repeated). A command of images is a task for each, and by its own name one for all: `plinth build
minimal --base NAME` is `doit build:minimal --base NAME` or `doit build:minimal base=NAME`, and
`doit build` builds all images; `doit build:minimal+zstd` builds a form of one. Others take their
arguments after the name: `doit why minimal numpy`. Two words are one task: `doit trust:init`. doit
also runs first what a command needs.
"""


def handbook() -> str:
    """The text of docs/commands.md; the same for every version of Python."""
    lines = [_HEAD, "| command | what it does |", "|---|---|"]
    for verb in VERBS:
        anchor = f"plinth {verb.name}".replace(" ", "-")
        lines += [f"| [`plinth {verb.name}`](#{anchor}) | {_cell(verb.help)} |"]
    for verb in VERBS:
        lines += ["", f"## plinth {verb.name}", "", _sentence(verb.help), ""]
        lines += [f"    {_usage(verb)}"]
        arguments = [*map(_operand, verb.operands), *map(_option, verb.options)]
        lines += ["", *arguments] if arguments else []
        if verb.after:
            both = (f"{one}:ID" if verb.per_image else one for one in (verb.task, verb.after))
            lines += ["", "`doit {}` runs `doit {}` first.".format(*both)]
        lines += ["", _sentence(verb.epilog)] if verb.epilog else []
    return "\n".join(lines) + "\n"


def write_handbook(root: Path) -> bool:
    """Write docs/commands.md in the checkout `root`; whether it changed."""
    path = root / "docs" / "commands.md"
    text = handbook()
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return True


def _usage(verb: Verb) -> str:
    words = ["plinth", verb.name]
    for option in verb.options:
        one = f"--{option.name} {option.value}".rstrip()
        words.append(one if option.required else f"[{one}]")
    forms = {"?": "[{0}]", "*": "[{0} ...]", "+": "{0} [{0} ...]", "1": "{0}"}
    words += [forms[operand.count].format(operand.value) for operand in verb.operands]
    return " ".join(words)


def _operand(operand: Operand) -> str:
    return _argument([operand.value], "", operand.help)


def _option(option: Option) -> str:
    names = [*([f"-{option.short}"] if option.short else []), f"--{option.name}"]
    return _argument(names, option.value, option.help)


def _argument(names: list[str], value: str, text: str) -> str:
    shown = ", ".join(f"`{name}`" for name in names) + (f" `{value}`" if value else "")
    return f"- {shown}: {_cell(text)}" if text else f"- {shown}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _sentence(text: str) -> str:
    """A help text, which begins small and has no full stop, as a sentence."""
    words = _cell(text)
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", ")", '"')) else ".")
