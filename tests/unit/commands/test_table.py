"""The table of verbs, and what is made of it: both front ends offer the same, each in its form."""

from __future__ import annotations

import argparse
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from doit.task import Task

from plinth.commands.main import main
from plinth.commands.parser import command_line, parse
from plinth.commands.tasks import option_words, tasks
from plinth.commands.verb import Option, Verb
from plinth.commands.verbs import VERBS
from plinth.graph.workspace import Workspace
from support.small_checkout import IMAGE, SmallCheckout, make, wheel

ROOT = Path(__file__).resolve().parents[3]
BY_NAME = {verb.name: verb for verb in VERBS}
Output = pytest.CaptureFixture[str]


def parsers(
    parser: argparse.ArgumentParser, name: str = ""
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command below `parser` that has no commands of its own, by its name."""
    below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not below:
        yield name, parser
    for action in below:
        for word, inner in action.choices.items():
            yield from parsers(inner, f"{name} {word}".strip())


def doit(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "doit", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tools")},
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SmallCheckout:
    """A checkout with one small image that can be built."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "wheels").mkdir()
    checkout = make(folder / "checkout", [wheel(folder / "wheels", "one", "1.0")])
    checkout.seed(debs=True)
    for path in (folder / "wheels").iterdir():
        checkout.ws.cache.put_file(path)
    return checkout


@pytest.fixture
def checkout(made: SmallCheckout, monkeypatch: pytest.MonkeyPatch) -> SmallCheckout:
    monkeypatch.chdir(made.root)
    monkeypatch.setenv("PLINTH_CONFIG", str(made.settings))
    monkeypatch.delenv("PLINTH_BUILD", raising=False)
    return made


@pytest.fixture(scope="module")
def by_task() -> dict[str, Task]:
    return {task.name: task for task in tasks(Workspace.find(ROOT))}


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.task)
def test_a_verb_names_a_function_that_takes_what_the_verb_has(verb: Verb) -> None:
    taken = [name for name in inspect.signature(verb.function()).parameters if name != "ws"]
    offered = [one.keyword for one in verb.operands] + [one.keyword for one in verb.options]
    assert sorted(taken) == sorted(offered)


def test_doit_list_and_plinth_help_name_the_same_verbs() -> None:
    done = doit(ROOT, "list", "--quiet")
    assert done.returncode == 0, done.stderr
    listed = {line.strip() for line in done.stdout.splitlines() if not line.startswith("lock:")}
    helped = {name.replace(" ", ":") for name, _ in parsers(command_line())}
    assert listed == helped == {verb.task for verb in VERBS}


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.task)
def test_both_front_ends_take_the_same_options(verb: Verb, by_task: dict[str, Task]) -> None:
    parser = dict(parsers(command_line()))[verb.name]
    words = {word for action in parser._actions for word in action.option_strings}
    expected = {f"--{option.name}" for option in verb.options}
    assert {word for word in words if word.startswith("--")} - {"--help"} == expected
    names = [verb.task, f"{verb.task}:minimal"] if verb.per_image else [verb.task]
    for name in names:
        task = by_task[name]
        assert {f"--{param['long']}" for param in task.params} == expected
        # What doit makes of it; it refuses names and forms of its own accord.
        task.init_options()


def test_one_name_is_a_flag_everywhere_or_nowhere() -> None:
    flags: dict[str, set[bool]] = {}
    for verb in VERBS:
        for option in verb.options:
            flags.setdefault(option.name, set()).add(option.kind is bool)
    assert [name for name, kinds in flags.items() if len(kinds) > 1] == []


@pytest.mark.parametrize(
    ("verb", "option"),
    [
        pytest.param(verb, option, id=f"{verb.task}-{option.name}")
        for verb in VERBS
        for option in verb.options
    ],
)
def test_name_value_of_doit_is_the_option(verb: Verb, option: Option) -> None:
    value = "1" if option.kind in (int, bool) else option.choices[-1] if option.choices else "v"
    operands = [
        operand.choices[0] if operand.choices else "x"
        for operand in verb.operands
        if operand.count in ("1", "+")
    ]
    needed = [f"--{o.name}=y" for o in verb.options if o.required and o is not option]
    form = [f"--{option.name}"] if option.kind is bool else [f"--{option.name}", value]
    expected = parse(verb, [*needed, *form, *operands], "plinth")
    said = [*needed, *option_words(verb, {option.name: value}), *operands]
    assert parse(verb, said, "doit") == expected
    after = {option.keyword: {bool: True, list: [value]}.get(option.kind, value)}
    said = [*needed, *option_words(verb, {}, after), *operands]
    assert parse(verb, said, "doit") == expected
    assert expected[option.keyword] != option.default or option.default == "log"


def test_an_option_after_a_task_counts_more_than_one_for_all() -> None:
    verb = BY_NAME["build"]
    words = option_words(verb, {"base": "a", "jobs": "2"}, {"base": "b"}, {"base": "c"})
    assert parse(verb, words, "doit")["base"] == "c"
    assert parse(verb, words, "doit")["jobs"] == 2
    assert option_words(BY_NAME["verify"], {"rebuild": "0", "trust": ""}) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["list", "bsae=x"], "bsae=x: no command has such an option"),
        ([f"verify:{IMAGE}", "rebuild=maybe"], "rebuild=maybe: invalid value of an option"),
    ],
)
def test_a_name_value_that_is_no_option_is_refused(
    checkout: SmallCheckout, words: list[str], message: str
) -> None:
    done = doit(checkout.root, *words)
    assert done.returncode == 3
    assert message in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_wrong_usage_of_a_task_is_shown_as_usage(checkout: SmallCheckout) -> None:
    done = doit(checkout.root, "why", IMAGE)
    assert done.returncode == 1
    assert "usage: doit why [-h] [--all] [--json] ID PACKAGE" in done.stderr
    assert "the following arguments are required: PACKAGE" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_specification_that_is_not_text_ends_doit_without_a_traceback(
    checkout: SmallCheckout, tmp_path: Path
) -> None:
    for name in ("images", "base", "dodo.py"):
        source = checkout.root / name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, tmp_path / name)
    (tmp_path / "images" / "bad.toml").write_bytes(b"\xff")
    done = doit(tmp_path, "list")
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    done = doit(tmp_path, "build:bad")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert "images/bad.toml" in done.stdout + done.stderr
    shutil.rmtree(tmp_path / "images")
    done = doit(tmp_path, "list")
    assert (done.returncode, "Traceback" in done.stderr) == (3, False), done.stderr
    assert "not inside a plinth checkout" in done.stderr


def test_both_front_ends_do_the_same(checkout: SmallCheckout, capsys: Output) -> None:
    done = doit(checkout.root, f"build:{IMAGE}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert main(["build", IMAGE]) == 0
    manifest = capsys.readouterr().out.splitlines()[-1]
    assert "sha256:" in manifest
    assert manifest in done.stdout
    for words in (["why", IMAGE, "one", "--json"], ["du", "--by", "package"], ["validate"]):
        assert main(words) == 0
        done = doit(checkout.root, *words)
        # Nothing but the output: it may be piped.
        assert (done.returncode, done.stdout) == (0, capsys.readouterr().out), done.stderr


def test_a_form_of_an_image_is_a_task_as_it_is_an_operand(
    checkout: SmallCheckout, capsys: Output
) -> None:
    done = doit(checkout.root, f"build:{IMAGE}+zstd")
    assert done.returncode == 0, done.stdout + done.stderr
    assert main(["build", f"{IMAGE}+zstd"]) == 0
    manifest = capsys.readouterr().out.splitlines()[-1]
    assert "sha256:" in manifest
    assert manifest in done.stdout
    assert doit(checkout.root, f"build:{IMAGE}+zstd").stdout == f"-- build:{IMAGE}+zstd\n"
    # With what it needs before.
    listed = doit(checkout.root, "info", f"sbom:{IMAGE}+zstd").stdout
    assert f"build:{IMAGE}+zstd" in listed


@pytest.mark.parametrize("name", [f"build:{IMAGE}+xz", "build:none+zstd", f"lock:{IMAGE}+zstd"])
def test_what_is_no_form_of_an_image_is_no_task(checkout: SmallCheckout, name: str) -> None:
    done = doit(checkout.root, name)
    assert done.returncode == 3
    assert name in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["validate"], ["du"], [f"build:{IMAGE}"]])
def test_a_reader_that_has_ended_is_no_traceback(checkout: SmallCheckout, words: list[str]) -> None:
    assert doit(checkout.root, f"build:{IMAGE}").returncode == 0
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [sys.executable, "-m", "doit", *words],
        cwd=checkout.root,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tools")},
        check=False,
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    assert "Traceback" not in done.stderr


def test_an_option_of_all_images_reaches_each(checkout: SmallCheckout) -> None:
    for words in (["--base", "nonesuch"], ["base=nonesuch"]):
        done = doit(checkout.root, "build", *words)
        assert done.returncode == 1
        assert "not 'nonesuch'" in done.stdout


def test_a_build_for_another_base_or_with_a_set_is_not_up_to_date(checkout: SmallCheckout) -> None:
    assert doit(checkout.root, f"build:{IMAGE}").returncode == 0
    assert doit(checkout.root, f"build:{IMAGE}").stdout == f"-- build:{IMAGE}\n"
    for words in (["--base", "nonesuch"], ["--accelerator", "cpu"]):
        done = doit(checkout.root, f"build:{IMAGE}", *words)
        assert done.stdout.startswith(f".  build:{IMAGE}\n"), done.stdout


@pytest.mark.parametrize("front_end", ["plinth", "doit"])
def test_bases_are_locked_by_their_names_and_all_together(
    checkout: SmallCheckout, capsys: Output, front_end: str
) -> None:
    for folder in ("base", "locks/base"):
        # The name of the base is the image's, too, which is what it then names.
        text = (checkout.root / folder / "small.toml").read_text()
        (checkout.root / folder / "second.toml").write_text(text)
    for name in ("second", "base"):
        if front_end == "doit":
            done = doit(checkout.root, f"lock:{name}")
            assert done.returncode == 0, done.stdout
            shown = done.stderr
        else:
            assert main(["lock", name]) == 0
            shown = capsys.readouterr().err
        assert "locks/base/second.toml is fresh: nothing to do" in shown
        assert ("locks/base/small.toml is fresh" in shown) == (name == "base")


def readme_commands() -> list[str]:
    """The commands of README's table."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition("| command | what it does |\n")[2].partition("\n\n")[0]
    cells = [line.split(" | ")[0] for line in table.splitlines()]
    return [
        span
        for cell in cells
        for span in re.findall(r"`([^`]+)`", cell)
        if span.startswith(("doit ", "plinth "))
    ]


def test_readme_writes_nothing_that_git_would_see() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    places = re.findall(r"--out[= ]([\w./-]+)", text)
    assert "build/auditor" in places
    # In capitals it is the reader's own.
    assert [one for one in places if not one.startswith("build/") and not one.isupper()] == []


def test_the_readme_names_every_verb_and_no_other() -> None:
    named = set()
    for command in readme_commands():
        program, *words = shlex.split(command)
        name = words.pop(0)
        if program == "doit":
            task, _, rest = name.partition(":")
            name = f"{task} {rest}" if f"{task} {rest}" in BY_NAME else task
        elif words and f"{name} {words[0]}" in BY_NAME:
            name = f"{name} {words.pop(0)}"
        verb = BY_NAME[name]
        named.add(name.split()[0])
        known = {f"--{option.name}" for option in verb.options}
        known |= {f"-{option.short}" for option in verb.options if option.short}
        for word in words:
            if word.startswith("-"):
                assert word.partition("=")[0] in known, command
            elif program == "doit" and "=" in word:
                assert f"--{word.partition('=')[0]}" in known, command
    assert named == {verb.name.split()[0] for verb in VERBS}
