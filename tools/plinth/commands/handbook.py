"""docs/commands.md: every command and its arguments, from the parser itself."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from plinth.commands.main import command_line
from plinth.core.store import atomic_write

_HEAD = """\
# Commands

Made by `doit commands` from the commands' own help; do not edit. `plinth COMMAND --help` says the
same. Those that work on images of the checkout exist as `doit COMMAND:ID`, too (`doit list`).
Tables are drawn on a terminal and plain text elsewhere; `NO_COLOR` is respected. `eval "$(plinth
completion bash)"` teaches a shell the commands, their options and the ids of images.
"""


def handbook() -> str:
    """The text of docs/commands.md; the same for every version of Python."""
    parser = command_line()
    commands = dict(_commands(parser, "plinth"))
    lines = [_HEAD, "| command | what it does |", "|---|---|"]
    lines += [
        f"| [`{name}`](#{_anchor(name)}) | {_cell(text)} |" for name, (text, _) in commands.items()
    ]
    for name, (text, inner) in commands.items():
        lines += ["", f"## {name}", "", f"{_sentence(text)}", ""]
        lines += [f"    {_usage(name, inner)}"]
        arguments = [f"- {_argument(action)}" for action in _shown(inner)]
        lines += ["", *arguments] if arguments else []
        if inner.epilog:
            lines += ["", _sentence(inner.epilog)]
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


def _commands(
    parser: argparse.ArgumentParser, name: str
) -> Iterator[tuple[str, tuple[str, argparse.ArgumentParser]]]:
    """Every command below `parser` that does something, with its help and its parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for verb, inner in action.choices.items():
                full = f"{name} {verb}"
                below = list(_commands(inner, full))
                yield from below or [(full, (texts.get(verb, ""), inner))]


def _shown(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [
        action
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction) and action.help != argparse.SUPPRESS
    ]


def _usage(name: str, parser: argparse.ArgumentParser) -> str:
    shown = _shown(parser)
    options = [a for a in shown if a.option_strings]
    words = [_form(a) if a.required else f"[{_form(a)}]" for a in options]
    for action in shown:
        if not action.option_strings:
            one = _metavar(action)
            words.append(
                {"*": f"[{one} ...]", "+": f"{one} [{one} ...]", "?": f"[{one}]"}.get(
                    str(action.nargs), one
                )
            )
    return " ".join([name, *words])


def _argument(action: argparse.Action) -> str:
    names = ", ".join(f"`{option}`" for option in action.option_strings) or f"`{_metavar(action)}`"
    if action.option_strings and action.nargs != 0:
        names += f" `{_metavar(action)}`"
    return f"{names}: {_cell(action.help)}" if action.help else names


def _form(action: argparse.Action) -> str:
    option = action.option_strings[-1]
    return option if action.nargs == 0 else f"{option} {_metavar(action)}"


def _metavar(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return action.dest.upper().replace("_", "-")


def _cell(text: str | None) -> str:
    return " ".join((text or "").replace("%%", "%").replace("|", "\\|").split())


def _sentence(text: str) -> str:
    """A help text, which begins small and has no full stop, as a sentence."""
    words = _cell(text)
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", ")", '"')) else ".")


def _anchor(text: str) -> str:
    """The anchor GitHub and GitLab give a heading."""
    kept = "".join(c for c in text.lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")
