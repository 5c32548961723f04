"""What people see: sizes, the table of layers, progress on standard error."""

from __future__ import annotations

import io
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plinth.commands import images
from plinth.commands.images import layer_table, show_layers
from plinth.core.digest import Digest
from plinth.core.report import counted, human_size, quiet, to_stderr, working
from plinth.formats.layer.model import Layer


def test_a_name_in_a_line_of_progress_tells_the_terminal_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    to_stderr("  sent  1.0 MB  \x1b]0;owned\x07\x1b[2Jlayer\u202e")
    with working("pushing") as progress:
        progress("tab\there \x9b31m")
    assert capsys.readouterr().err == (
        "  sent  1.0 MB  \\x1b]0;owned\\x07\\x1b[2Jlayer\\u202e\ntab\there \\x9b31m\n"
    )


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1049, "1.0 kB"),
        (12_345, "12.3 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (25_691_281, "25.7 MB"),
        (999_949_999, "999.9 MB"),
        (999_950_000, "1.0 GB"),
        (4_500_000_000_000, "4500.0 GB"),
    ],
)
def test_sizes_are_in_decimal_units(size: int, text: str) -> None:
    assert human_size(size) == text


def test_one_thing_has_no_plural() -> None:
    said = [counted(number, "layer") for number in (0, 1, 2)]
    assert said == ["0 layers", "1 layer", "2 layers"]


@settings(deadline=None)
@given(st.integers(0, 10**15))
def test_a_size_is_right_to_one_digit_and_never_1000_of_a_unit(size: int) -> None:
    number, unit = human_size(size).split()
    factor = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}[unit]
    assert abs(float(number) * factor - size) <= factor * 0.0501
    assert float(number) < 1000 or unit == "GB"


def layer(name: str, size: int, *, built: bool) -> Layer:
    return Layer(name, Digest("0" * 64, size), "0" * 64, 0, built=built)


def test_the_table_is_one_line_a_layer_bottom_first() -> None:
    layers = [
        layer("debian12 system", 45_678_901, built=False),
        layer("pip", 2_100, built=True),
        layer("contract", 999, built=False),
    ]
    assert layer_table(layers) == (
        "  debian12 system    45.7 MB  hit\n"
        "  pip                 2.1 kB  built\n"
        "  contract             999 B  hit"
    )
    assert layer_table([]) == ""


def test_progress_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    to_stderr("building")
    quiet("nothing")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "building\n")


def test_off_a_terminal_layers_and_progress_are_plain_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    layers = [layer("pip [x]", 2_100, built=True), layer("contract", 999, built=False)]
    with working("building a") as progress:
        progress("fetching")
        show_layers(layers)
    out, err = capsys.readouterr()
    assert (out, err) == (layer_table(layers) + "\n", "fetching\n")


def test_on_a_terminal_what_was_built_stands_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = [layer("pip [x]", 2_100, built=True), layer("contract", 999, built=False)]
    monkeypatch.setattr(images, "on_terminal", lambda stream: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    show_layers(layers)
    built, known = capsys.readouterr().out.splitlines()
    assert built.startswith("\x1b[32m") and known.startswith("\x1b[2m")
    assert "pip [x]" in built


class _Slow(io.StringIO):
    """A stream between whose writes others come to run."""

    def write(self, text: str) -> int:
        time.sleep(0.002)
        return super().write(text)


def test_lines_of_many_threads_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _Slow()
    monkeypatch.setattr(sys, "stderr", stream)
    lines = [f"line {number}" for number in range(50)]
    with ThreadPoolExecutor(8) as pool:
        # Several lines at once, such as of a note, stay together.
        list(pool.map(to_stderr, [f"{line}\n  more of {line}" for line in lines]))
    said = stream.getvalue().splitlines()
    assert len(said) == 100
    assert sorted(said[::2]) == sorted(lines)
    assert said[1::2] == [f"  more of {line}" for line in said[::2]]


def test_a_note_of_many_threads_is_shown_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(to_stderr, ["note: by many threads"] * 50))
    assert capsys.readouterr().err == "note: by many threads\n"
