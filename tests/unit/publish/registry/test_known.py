"""What was pushed before is a hint: kept per registry, and never in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from plinth.core.digest import Digest
from plinth.publish.registry.known import Known

ONE, TWO = Digest.of(b"1"), Digest.of(b"2")


def test_it_is_known_where_blobs_are(tmp_path: Path) -> None:
    known = Known(tmp_path, "localhost:5000")
    known.add("team/a", [ONE, TWO])
    known.add("team/b", [ONE])
    for one in (known, Known(tmp_path, "localhost:5000")):
        assert one.repositories() == ["team/a", "team/b"]
        assert one.holding(ONE) == ["team/a", "team/b"]
        assert one.holding(ONE, but="team/a") == ["team/b"]
        assert one.holding(TWO, but="team/a") == []
    assert Known(tmp_path, "localhost:5001").repositories() == []


def test_two_at_once_lose_nothing(tmp_path: Path) -> None:
    first, second = Known(tmp_path, "host"), Known(tmp_path, "host")
    first.add("team/a", [ONE])
    second.add("team/b", [TWO])
    assert Known(tmp_path, "host").repositories() == ["team/a", "team/b"]


@pytest.mark.parametrize("text", ["", "[1]", '{"a": 1}', "\ud800"])
def test_a_damaged_file_is_no_hint(tmp_path: Path, text: str) -> None:
    (tmp_path / "host.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    known = Known(tmp_path, "host")
    assert known.repositories() == []
    known.add("team/a", [ONE])
    assert Known(tmp_path, "host").holding(ONE) == ["team/a"]


def test_a_host_is_no_path(tmp_path: Path) -> None:
    Known(tmp_path / "known", "../../[::1]:5000").add("team/a", [ONE])
    assert [path.parent.name for path in tmp_path.rglob("*.json")] == ["known"]
