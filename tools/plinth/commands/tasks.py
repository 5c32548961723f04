"""The doit tasks, made from the table of verbs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from doit import doit_cmd
from doit.exceptions import InvalidDodoFile, TaskFailed
from doit.reporter import ConsoleReporter
from doit.task import Task
from doit.tools import config_changed

from plinth.commands.memory import common_files, is_built, places_of_set, shared_inputs
from plinth.commands.verb import Option, Verb
from plinth.commands.verbs import ALL_BASES, INTERPRETER, VERBS
from plinth.core.errors import PlinthError
from plinth.core.report import discard_output
from plinth.formats.oci.model import GZIP, ZSTD
from plinth.graph.workspace import Workspace
from plinth.recipe.forms import MARK, split
from plinth.recipe.ids import all_accelerators, all_bases, all_images, watched_files

Words = Callable[[Mapping[str, Any]], list[str]]
"""All options of a task that were given, as words, from those that doit parsed after it."""

_OF_LOCKS = ("lock", "outdated")
"""Verbs on what is locked for images; the forms of one have the same lock."""

_FLAG = {"1": True, "yes": True, "true": True, "on": True}
_FLAG |= {"0": False, "no": False, "false": False, "off": False}


class Reporter(ConsoleReporter):  # type: ignore[misc]
    """doit's own, for output that is piped: silent of a task that is not one of several, and of a
    reader that has ended."""

    def execute_task(self, task: Task) -> None:
        if ":" in task.name:
            super().execute_task(task)

    def write(self, text: str) -> None:
        try:
            super().write(text)
            self.outstream.flush()
        except BrokenPipeError:
            discard_output()


@contextmanager
def errors_shown() -> Iterator[None]:
    """Raise errors for people as doit's own kind, which it shows without a traceback."""
    try:
        yield
    except (PlinthError, OSError, UnicodeError) as error:
        raise InvalidDodoFile(str(error)) from None


def tasks(ws: Workspace) -> Iterator[Task]:
    """The tasks of the checkout, in the order of the table.

    Raises:
        InvalidDodoFile: the checkout cannot be read, or a `name=value` of the command line is no
            option.
    """
    with errors_shown():
        given = _variables()
        for verb in VERBS:
            yield from _image_tasks(ws, verb, given) if verb.per_image else [_task(ws, verb, given)]


def _variables() -> Mapping[str, str]:
    """What the command line has as `name=value`."""
    given: dict[str, str] = doit_cmd._CMDLINE_VARS or {}
    known = {option.name: option for verb in VERBS for option in verb.options}
    for name, text in given.items():
        if name not in known:
            raise PlinthError(
                "no command has such an option",
                where=f"{name}={text}",
                expected=f"one of {', '.join(sorted(known))}",
            )
        if known[name].kind is bool and text and text.lower() not in _FLAG:
            raise PlinthError(
                "invalid value of an option", where=f"{name}={text}", expected="1 or 0"
            )
    return given


def _task(ws: Workspace, verb: Verb, given: Mapping[str, str]) -> Task:
    def words(options: Mapping[str, Any]) -> list[str]:
        return option_words(verb, given, options)

    return Task(
        verb.task,
        [_action(ws, verb, verb.task, words)],
        doc=verb.help,
        params=_params(verb),
        pos_arg="operands" if verb.operands else None,
        task_dep=[verb.after] if verb.after else [],
    )


def _image_tasks(ws: Workspace, verb: Verb, given: Mapping[str, str]) -> Iterator[Task]:
    """A task for each image, and the task of all."""
    names = all_images(ws)
    beside = [] if verb.name in _OF_LOCKS else _forms(names)
    if verb.name == "lock":
        # Not of all: `doit lock` must not fail where no archive of accelerators is configured.
        beside = [INTERPRETER, *all_bases(ws), *all_accelerators(ws)]
        beside = [name for name in beside if name not in names]
        names = [*names, *([] if ALL_BASES in names else [ALL_BASES])]
    params = _params(verb)
    together = Task(
        verb.task,
        None,
        doc=verb.help,
        params=params,
        task_dep=[f"{verb.task}:{name}" for name in names],
        has_subtask=True,
    )
    yield together

    def words(options: Mapping[str, Any]) -> list[str]:
        return option_words(verb, given, together.options or {}, options)

    for name in [*names, *beside]:
        yield Task(
            f"{verb.task}:{name}",
            [_action(ws, verb, f"{verb.task}:{name}", words, [name])],
            doc=f"{verb.task} {name}",
            params=params,
            task_dep=[f"{verb.after}:{name}"] if verb.after else [],
            subtask_of=None if name in beside else verb.task,
            **(_unless_built(ws, verb, name, words) if verb.name == "build" else {}),
        )


def _forms(ids: Sequence[str]) -> list[str]:
    """The forms `ID+FORM` of images that the command line names in tasks. doit makes every task on
    every run, and few runs are about a form."""
    said = {word.partition(":")[2] for word in sys.argv[1:] if MARK in word}
    known = {f"{image_id}{MARK}{form}" for image_id in ids for form in (GZIP, ZSTD)}
    return sorted(said & known)


def _unless_built(ws: Workspace, verb: Verb, name: str, words: Words) -> dict[str, Any]:
    """When the build of an image is up to date: its own inputs and those of all images are as
    they were, and the layout has the image on the base that is asked for."""
    image_id, _ = split(name)

    def is_there(task: Task, values: object) -> bool:
        asked = dict(word.partition("=")[::2] for word in words(task.options or {}))
        return not asked.get("--accelerator") and is_built(ws, name, asked.get("--base", ""))

    return {
        "file_dep": [str(path) for path in watched_files(ws, image_id)],
        "uptodate": [is_there, config_changed(_shared(ws) + places_of_set(ws, image_id))],
    }


@lru_cache(maxsize=1)
def _shared(ws: Workspace) -> str:
    """One text for all images: as dependencies of each, doit would look at each file for each."""
    return shared_inputs(ws.root, common_files(ws.root))


def _action(
    ws: Workspace, verb: Verb, task: str, words: Words, names: Sequence[str] = ()
) -> Callable[..., TaskFailed | None]:
    """The verb as a doit action, of the images `names`: its errors are shown as text, never as a
    traceback."""

    def run(operands: list[str] | None = None, **options: Any) -> TaskFailed | None:
        # Not before: a doit with nothing to do needs no parser.
        from plinth.commands.parser import parse

        try:
            arguments = [*words(options), *names, *(operands or [])]
            code = verb.run(parse(verb, arguments, f"doit {task}"), ws)
        except BrokenPipeError:
            discard_output()
            return TaskFailed("the reader of the output has ended")
        except (PlinthError, OSError) as error:
            return TaskFailed(str(error))
        except SystemExit:
            return TaskFailed("wrong usage; see above")
        except KeyboardInterrupt:
            return TaskFailed("interrupted; nothing half-written is left, run it again")
        return TaskFailed(f"exit code {code}; see above") if code else None

    return run


def _params(verb: Verb) -> list[dict[str, Any]]:
    """The options as doit takes them; the verb's own parser reads and checks their values."""
    return [
        {
            "name": option.keyword,
            "short": option.short,
            "long": option.name,
            "type": option.kind if option.kind in (bool, list) else str,
            "default": {bool: False, list: []}.get(option.kind, ""),
            "help": option.help.replace("%", "%%"),
        }
        for option in verb.options
    ]


def option_words(verb: Verb, given: Mapping[str, str], *options: Mapping[str, Any]) -> list[str]:
    """The options that were given, as words of a command line: `name=value` first, then those
    after a task; the last one counts."""
    values: list[tuple[Option, Any]] = []
    values += [(o, _value(o, given[o.name])) for o in verb.options if given.get(o.name)]
    values += [(o, one.get(o.keyword)) for one in options for o in verb.options]
    words = []
    for option, value in values:
        if value is True:
            words.append(f"--{option.name}")
        elif value:
            several = value if isinstance(value, list) else [value]
            words += [f"--{option.name}={one}" for one in several]
    return words


def _value(option: Option, text: str) -> bool | str | list[str]:
    if option.kind is bool:
        return _FLAG[text.lower()]
    return text.split(",") if option.kind is list else text
