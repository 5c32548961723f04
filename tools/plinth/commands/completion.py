"""Shell completion: a script made from the parser itself, once, so that Tab runs no Python.

shtab writes it. argcomplete would start plinth at every Tab and hook into every start of it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import shtab

from plinth.commands.parser import command_line

# Ids are the names of the specifications of the checkout around.
_IDS = """\
  local folder="$PWD"
  while [ -n "$folder" ] && ! { [ -d "$folder/images" ] && [ -d "$folder/base" ]; }; do
    folder="${folder%/*}"
  done
"""
_PREAMBLE = {
    "bash": "_plinth_ids() {\n"
    + _IDS
    + '  local names="$(cd "$folder/images" 2>/dev/null && ls | sed -n "s/\\.toml$//p")"\n'
    + '  compgen -W "$names" -- "$1"\n}\n',
    "zsh": "_plinth_ids() {\n" + _IDS + '  compadd -- "$folder"/images/*.toml(N:t:r)\n}\n',
}


def completion(*, shell: str) -> None:
    """Print the completion script for `shell`."""
    sys.stdout.write(script(command_line(), shell))


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The completion script of `parser` for `shell`, `bash` or `zsh`."""
    for action in _actions(parser):
        if action.metavar == "ID":
            action.complete = {"bash": "_plinth_ids", "zsh": "_plinth_ids"}  # type: ignore[attr-defined]
        elif action.metavar == "FILE":
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    text: str = shtab.complete(parser, shell=shell, preamble=_PREAMBLE[shell])
    return text


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _actions(inner)
