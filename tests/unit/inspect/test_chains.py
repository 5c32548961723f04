"""How far images begin alike, and why no further."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plinth.commands.main import main
from plinth.core.errors import PlinthError
from plinth.formats.layer.model import Layer
from plinth.graph.workspace import Workspace
from plinth.inspect.chains import chains
from support import layer_files as small
from unit.inspect.test_usage import image, written


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Images on one system, with wheels in some order; the last one has another system."""
    for name in ("images", "base"):
        (tmp_path / name).mkdir()
    found = Workspace(tmp_path, tmp_path / "build")

    def wheel(name: str, version: str) -> Layer:
        return written(found, f"{name} {version}", small.wheel(name, version))

    system, demo = written(found, "the system", small.system()), wheel("demo", "1.0")
    image(found, "plain", system)
    image(found, "old", system, wheel("demo", "0.9"))
    image(found, "more", system, demo, wheel("extra", "1.0"))
    image(found, "next", system, demo, wheel("extra", "2.0"), demo)
    image(found, "other", demo)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PLINTH_BUILD", raising=False)
    return found


def test_each_image_has_the_one_with_which_most_is_in_common(ws: Workspace) -> None:
    found = {chain.image: chain for chain in chains(ws)}
    # A layer in another place is not in common: of `other` nothing is.
    assert sorted(found) == ["more", "next", "old", "plain"]
    assert (found["more"].other, found["next"].other) == ("next", "more")
    assert [layer.name for layer in found["more"].layers] == ["the system", "demo 1.0"]
    assert found["more"].size == sum(layer.size for layer in found["more"].layers)
    assert found["more"].why == "extra 1.0, there 2.0"
    # Whichever goes on.
    assert (found["old"].other, found["old"].why) == ("next", "demo 0.9, there 1.0")
    assert (found["plain"].here, found["plain"].why) == (None, "")


def test_images_that_are_not_asked_for_still_count(ws: Workspace) -> None:
    (found,) = chains(ws, ["more"])
    assert (found.image, found.other) == ("more", "next")
    with pytest.raises(PlinthError, match="there is no such specification"):
        chains(ws, ["absent"])


def test_what_is_alone_is_in_no_chain(ws: Workspace) -> None:
    assert chains(ws, ["other"]) == []


def test_other_packages_are_named_as_layers(ws: Workspace) -> None:
    system = written(ws, "the system", small.system())
    image(ws, "apart", system, written(ws, "extra 1.0", small.wheel("extra", "1.0")))
    (found,) = chains(ws, ["apart"])
    assert found.why == "there demo 1.0"


def test_the_command_shows_a_table_and_gives_json(
    ws: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["du", "--by", "chain", "more", "plain"]) == 0
    head, more, plain = capsys.readouterr().out.splitlines()
    assert head.split() == ["IMAGE", "BEGINS", "LIKE", "ALIKE", "SIZE", "THEN", "FOR"]
    assert more.split()[:3] == ["more", "next", "2"]
    assert more.endswith("extra 1.0  extra 1.0, there 2.0")
    assert plain.endswith("-")
    assert main(["du", "--by", "chain", "--json", "more"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["image"], one["other"], len(one["layers"])) == ("more", "next", 2)
    assert one["here"] != one["there"]
