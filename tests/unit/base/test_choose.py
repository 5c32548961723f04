"""Which base is built on: the one asked for, its fallback with the reason, or another by will."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w

from debs import Handler, Server, serving
from plinth.base.build import choose_base
from plinth.config import Config
from plinth.digest import Digest
from plinth.errors import SpecError
from plinth.workspace import Workspace

ROOT = Path(__file__).resolve().parents[3]
WANTED, FALLBACK = "canonical", "embedded"
ARCHIVE, LAYER = b"an archive", b"a layer"


def pin(data: bytes) -> dict[str, object]:
    return {"digest": Digest.of(data).oci, "size": len(data)}


MANIFEST = pin(b"manifest")
CANONICAL: dict[str, object] = {
    "summary": "",
    "architecture": "amd64",
    "glibc": "2.27",
    "fallback": FALLBACK,
    "rootfs": {
        "kind": "image",
        "registry": "default",
        "repository": "library/test",
        "index": pin(b"index")["digest"],
        "manifest": MANIFEST,
        "config": pin(b"config"),
        "layer": pin(LAYER),
        "diff-id": pin(b"tar")["digest"],
    },
    "python": {
        "version": "3.7",
        "kind": "standalone",
        "release": "builds",
        "tag": "1",
        "asset": "cpython.tar.zst",
        **pin(ARCHIVE),
        "requirements": [],
    },
}


class Answers(Handler):
    """A registry that has the manifest and nothing else."""

    def answer(self) -> None:
        """Answer for the manifest."""
        self.reply(200 if self.path.endswith(f"/manifests/{MANIFEST['digest']}") else 404)


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / f"{WANTED}.toml").write_text(tomli_w.dumps(CANONICAL))
    embedded = tmp_path / "base" / f"{FALLBACK}.toml"
    shutil.copyfile(ROOT / "base" / "debian12-py37.toml", embedded)
    return Workspace(tmp_path, tmp_path / "build")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path, Answers) as running:
        yield running


def configured(server: Server) -> Config:
    return Config(registries={"default": server.url}, files={"builds": "/srv/mirror"})


def fallen_back(ws: Workspace, config: Config) -> str:
    """The reason for the fallback."""
    name, reason = choose_base(ws, WANTED, config=config)
    assert name == FALLBACK
    assert reason.startswith(f"note: the base {WANTED} cannot be had here: ")
    assert f"building on {FALLBACK}, which is part of the image's name" in reason
    assert f"base={WANTED} insists" in reason
    return reason


def test_what_is_reachable_is_taken_without_a_word(ws: Workspace, server: Server) -> None:
    assert choose_base(ws, WANTED, config=configured(server)) == (WANTED, "")


def test_what_is_held_is_taken_without_any_place(ws: Workspace) -> None:
    ws.cache.put(ARCHIVE)
    ws.layout.put(LAYER)
    assert choose_base(ws, WANTED, config=Config()) == (WANTED, "")


def test_a_base_without_fallback_is_taken_whatever_can_be_had(ws: Workspace) -> None:
    assert choose_base(ws, FALLBACK, config=Config()) == (FALLBACK, "")


def test_an_interpreter_with_no_place_is_the_reason(ws: Workspace, server: Server) -> None:
    reason = fallen_back(ws, Config(registries={"default": server.url}))
    assert "cpython.tar.zst is not in the store, and no place is configured for it" in reason
    assert '(settings: files."builds")' in reason
    assert server.asked == []


def test_a_rootfs_with_no_registry_is_the_reason(ws: Workspace) -> None:
    reason = fallen_back(ws, Config(files={"builds": "/srv/mirror"}))
    assert "library/test is not in the store, and no registry is configured" in reason
    assert "(settings: registries.default)" in reason


def test_a_registry_that_does_not_answer_is_the_reason(ws: Workspace, tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        pass
    reason = fallen_back(ws, configured(server))
    assert "the configured registry does not answer for library/test" in reason


def test_a_registry_is_asked_once_and_its_answer_is_remembered(
    ws: Workspace, server: Server
) -> None:
    for _ in range(3):
        assert choose_base(ws, WANTED, config=configured(server)) == (WANTED, "")
    assert len(server.asked) == 1
    # Another process remembers as well.
    again = Workspace(ws.root, ws.build)
    assert choose_base(again, WANTED, config=configured(server)) == (WANTED, "")
    assert len(server.asked) == 1


def test_a_no_is_remembered_too(ws: Workspace, tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        for _ in range(3):
            fallen_back(ws, configured(server))
    assert len(server.asked) == 1


def test_answers_of_several_registries_are_remembered_side_by_side(
    ws: Workspace, tmp_path: Path
) -> None:
    with serving(tmp_path, Answers) as one, serving(tmp_path) as other:
        for _ in range(2):
            assert choose_base(ws, WANTED, config=configured(one))[0] == WANTED
            assert choose_base(ws, WANTED, config=configured(other))[0] == FALLBACK
    assert len(one.asked) == len(other.asked) == 1


@pytest.mark.parametrize("damage", ["", "{", "[]", "3", '{"x": 1}', "null", '"text"'])
def test_a_damaged_memory_is_asked_anew(ws: Workspace, server: Server, damage: str) -> None:
    path = ws.build / "cache" / "probe.json"
    path.parent.mkdir(parents=True)
    path.write_text(damage)
    assert choose_base(ws, WANTED, config=configured(server)) == (WANTED, "")
    assert True in json.loads(path.read_text()).values()


@pytest.mark.parametrize("insist", [WANTED, FALLBACK])
def test_insisting_asks_nobody(ws: Workspace, insist: str) -> None:
    assert choose_base(ws, WANTED, config=Config(), insist=insist) == (insist, "")


def test_a_base_the_lock_does_not_serve_cannot_be_insisted_on(ws: Workspace) -> None:
    with pytest.raises(SpecError) as raised:
        choose_base(ws, WANTED, config=Config(), insist="other")
    assert str(raised.value) == (
        "base/other.toml: 1 problem\n"
        f"  base/other.toml: the lock serves {WANTED} or {FALLBACK}, not 'other'"
    )
    with pytest.raises(SpecError, match=f"the lock serves {FALLBACK}, not 'other'"):
        choose_base(ws, FALLBACK, config=Config(), insist="other")


def test_an_unknown_base_is_refused_with_those_there_are(ws: Workspace) -> None:
    with pytest.raises(SpecError) as raised:
        choose_base(ws, "other", config=Config())
    assert "base/other.toml: there is no such specification" in str(raised.value)
    assert raised.value.remedy == f"known here: {WANTED}, {FALLBACK}"
