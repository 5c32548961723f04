"""On a terminal and off it: tables, completion, and the page of all commands."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from plinth.commands.completion import script
from plinth.commands.handbook import handbook, write_handbook
from plinth.commands.parser import command_line
from plinth.core.table import Column, plain
from support import needs

ROOT = Path(__file__).resolve().parents[3]
COLUMNS = [Column("NAME"), Column("SIZE", number=True), Column("STATE")]
ROWS = [["one [bold]", "1.0 kB", "ok"], ["a much longer name", "12 B", "fail"]]
SHOW = (
    "from plinth.core.table import Column, show\n"
    f"show([Column('NAME'), Column('SIZE', number=True), Column('STATE')], {ROWS!r})\n"
)
WORK = (
    "from plinth.core.report import working\n"
    "with working('building [it]') as progress:\n"
    "    progress('fetching 3 files')\n"
    "    progress('note: once')\n"
    "    progress('note: once')\n"
)
WAIT = (
    "import time\n"
    "from plinth.core import report\n"
    "from plinth.core.transfer import transfers\n"
    "report._NOW_AND_THEN = 0.05\n"
    "with report.working('building it') as progress, transfers.of('scipy', 3_000_000) as at:\n"
    "    progress('fetching 1 file')\n"
    "    at(1_200_000)\n"
    "    time.sleep(1)\n"
)


def on_terminal(code: str, env: Mapping[str, str]) -> str:
    """What `code` writes to a terminal that is 80 columns wide."""
    ours, theirs = pty.openpty()
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM", "FORCE_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**clean, "COLUMNS": "80", **env},
    )
    os.close(theirs)
    found = b""
    while True:
        try:
            chunk = os.read(ours, 4096)
        except OSError:
            # Linux' way to say that the other end is closed.
            break
        if not chunk:
            break
        found += chunk
    os.close(ours)
    assert process.wait() == 0, found
    return found.decode()


def test_plain_tables_are_aligned_and_have_nothing_behind() -> None:
    assert plain(COLUMNS, ROWS) == (
        "NAME                  SIZE  STATE\n"
        "one [bold]          1.0 kB  ok\n"
        "a much longer name    12 B  fail"
    )


def test_a_pipe_gets_plain_lines() -> None:
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True)
    assert done.stdout == plain(COLUMNS, ROWS) + "\n"


def test_a_terminal_gets_colours_unless_it_says_no() -> None:
    coloured = on_terminal(SHOW, {"TERM": "xterm-256color"})
    assert "\x1b[31mfail" in coloured
    assert "one [bold]" in coloured
    bare = on_terminal(SHOW, {"TERM": "xterm-256color", "NO_COLOR": "1"})
    assert "\x1b[31m" not in bare
    assert "fail" in bare
    assert "\x1b" not in on_terminal(SHOW, {"TERM": "dumb"})


def test_on_a_narrow_terminal_no_figure_is_cut_off() -> None:
    seen = on_terminal(SHOW, {"TERM": "xterm-256color", "COLUMNS": "20"})
    assert seen.replace("\r\n", "\n") == plain(COLUMNS, ROWS) + "\n"


def test_progress_is_lines_and_on_a_terminal_a_clock_too() -> None:
    done = subprocess.run([sys.executable, "-c", WORK], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "fetching 3 files\nnote: once\n")
    seen = on_terminal(WORK, {"TERM": "xterm-256color"})
    assert "building [it]" in seen
    assert seen.count("note: once") == 1
    assert "fetching 3 files" in seen


def test_what_is_on_its_way_is_shown() -> None:
    done = subprocess.run([sys.executable, "-c", WAIT], capture_output=True, text=True, check=True)
    first, second = done.stderr.splitlines()[:2]
    assert first == "fetching 1 file"
    assert second.startswith("  1.2 MB at ")
    assert second.endswith("B/s, waiting for scipy (1.2 MB of 3.0 MB)")
    seen = on_terminal(WAIT, {"TERM": "xterm-256color"})
    assert "building it: 1.2 MB at " in seen
    assert "waiting for scipy (1.2" in seen


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    assert handbook() == (ROOT / "docs" / "commands.md").read_text(encoding="utf-8"), (
        "make it anew: doit commands"
    )


def test_the_page_is_written_only_where_it_differs(tmp_path: Path) -> None:
    assert write_handbook(tmp_path)
    assert not write_handbook(tmp_path)
    (tmp_path / "docs" / "commands.md").write_text("old")
    assert write_handbook(tmp_path)
    text = (tmp_path / "docs" / "commands.md").read_text()
    assert (
        "\n    plinth build [--base NAME] [--accelerator NAME] [--jobs N] "
        "[--download {minimal,toplevel,all}] [ID ...]\n"
    ) in text
    assert "## plinth trust init\n" in text


def completed(line: str, folder: Path, tmp_path: Path) -> list[str]:
    """What bash offers for the last word of `line` in `folder`."""
    (tmp_path / "completion.bash").write_text(script(command_line(), "bash"))
    words = line.split(" ")
    code = (
        f'source "{tmp_path}/completion.bash"\n'
        f"COMP_WORDS=({' '.join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}\n"
        '_shtab_plinth plinth\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    return sorted(filter(None, done.stdout.splitlines()))


def test_bash_completes_commands_options_and_ids(tmp_path: Path) -> None:
    (tmp_path / "deep" / "down").mkdir(parents=True)
    for name in ("images", "base"):
        shutil.copytree(ROOT / name, tmp_path / name)
    down = tmp_path / "deep" / "down"
    assert completed("plinth expl", down, tmp_path) == ["explain"]
    assert completed("plinth du --j", down, tmp_path) == ["--json"]
    assert completed("plinth build tensorflow-2", down, tmp_path) == [
        "tensorflow-2.4",
        "tensorflow-2.4-cuda11.0.3",
    ]
    assert completed("plinth completion z", down, tmp_path) == ["zsh"]


@needs.without("zsh")
def test_zsh_takes_its_script(tmp_path: Path) -> None:
    (tmp_path / "_plinth").write_text(script(command_line(), "zsh"))
    subprocess.run(["zsh", "-n", str(tmp_path / "_plinth")], check=True)


def test_neither_script_names_this_machine() -> None:
    for shell in ("bash", "zsh"):
        text = script(command_line(), shell)
        assert "_plinth_ids" in text
        assert str(ROOT) not in text
