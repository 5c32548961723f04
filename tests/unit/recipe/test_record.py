"""What the last build was made from: kept, read back, forgotten where damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plinth.graph.workspace import Workspace
from plinth.recipe.record import Record, read_record, write_record

RECORD = Record(
    {"images/a.toml": "0" * 64},
    {"numpy": "1.21.6"},
    {"1" * 64: "system"},
    "debian12",
    "2" * 64,
    ("a note",),
)
PLACE = "build/cache/images/a.json"


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path, tmp_path / "build")


def put(ws: Workspace, path: str, content: str = "") -> None:
    (ws.root / path).parent.mkdir(parents=True, exist_ok=True)
    (ws.root / path).write_text(content)


def test_a_record_is_read_as_it_was_written(ws: Workspace) -> None:
    write_record(ws, "a", RECORD)
    assert read_record(ws, "a") == RECORD
    assert read_record(ws, "b") is None


def test_equal_records_are_equal_bytes(ws: Workspace) -> None:
    one = Record({"x": "1", "y": "2"}, {}, {}, "b", "m")
    other = Record({"y": "2", "x": "1"}, {}, {}, "b", "m")
    write_record(ws, "a", one)
    before = (ws.root / PLACE).read_bytes()
    write_record(ws, "a", other)
    assert (ws.root / PLACE).read_bytes() == before
    assert before == (
        b'{"base":"b","inputs":{"x":"1","y":"2"},"layers":{},"manifest":"m","notes":[],'
        b'"packages":{}}'
    )


@pytest.mark.parametrize(
    "damage",
    ["", "{", "null", "[]", "3", "{}", '{"inputs": {}}', "\x00", '"inputs"']
    + [
        json.dumps({**vars(RECORD), field: value})
        for field, value in [
            ("inputs", 3),
            ("inputs", {"x": 1}),
            ("packages", None),
            ("layers", []),
            ("base", 1),
            ("manifest", {}),
            ("notes", 3),
            ("notes", [1]),
        ]
    ],
)
def test_a_damaged_record_is_as_good_as_none(ws: Workspace, damage: str) -> None:
    put(ws, PLACE, damage)
    assert read_record(ws, "a") is None


TEXT = st.text(max_size=3)
VALUES = st.one_of(
    st.none(),
    st.integers(),
    TEXT,
    st.lists(st.integers() | TEXT, max_size=2),
    st.dictionaries(TEXT, TEXT | st.integers(), max_size=2),
)


@settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.fixed_dictionaries(dict.fromkeys(vars(RECORD), VALUES)))
def test_whatever_is_read_has_the_types_it_promises(
    ws: Workspace, document: dict[str, object]
) -> None:
    put(ws, PLACE, json.dumps(document))
    record = read_record(ws, "a")
    if record is not None:
        texts = [*record.inputs.values(), *record.packages.values(), *record.layers.values()]
        texts += [*record.notes, record.base, record.manifest]
        assert all(isinstance(text, str) for text in texts)


@pytest.mark.parametrize("base", ["debian12-py37", "debian12-py37-local"])
def test_the_accelerator_is_the_set_whose_lock_was_read(base: str) -> None:
    names = ["debian12-py37", base]
    inputs = dict.fromkeys([f"locks/base/{name}.toml" for name in names] + ["images/x.toml"], "")
    assert replace(RECORD, inputs=inputs, base=base).accelerator == ""
    inputs["locks/base/cuda1.toml"] = ""
    assert replace(RECORD, inputs=inputs, base=base).accelerator == "cuda1"
