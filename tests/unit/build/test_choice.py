"""Which base is built on: the one asked for, its fallback, either with this machine's interpreter,
or another by will; and what is said where none can be."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tomli_w

from plinth.build.choice import Choice, choose_base, on_the_other_base
from plinth.core.digest import Digest
from plinth.core.errors import InterpreterError, LockError, SpecError
from plinth.core.settings import Config
from plinth.fetch.interpreter import find_tree
from plinth.formats.python.stored import keep_tree
from plinth.formats.python.tree import read_tree
from plinth.graph.workspace import Workspace
from plinth.recipe.base import BaseSpec, load_base
from plinth.recipe.locks.base import Local, read_lock, write_local
from support.http_server import Handler, Server, serving
from support.patience import at_most

ROOT = Path(__file__).resolve().parents[3]
WANTED, FALLBACK = "canonical", "debian12-py37"
LOCAL = f"{FALLBACK}-local"
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
    """A registry that has the manifest, and a release host that has the archive."""

    def answer(self) -> None:
        """Answer for both."""
        has = self.path.endswith((f"/manifests/{MANIFEST['digest']}", "/1/cpython.tar.zst"))
        self.reply(200 if has else 404)


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A checkout on a machine without any CPython 3.7."""
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for folder, name in (("base", FALLBACK), ("locks/base", FALLBACK)):
        (tmp_path / folder).mkdir(parents=True)
        shutil.copyfile(ROOT / folder / f"{name}.toml", tmp_path / folder / f"{name}.toml")
    (tmp_path / "base" / f"{WANTED}.toml").write_text(tomli_w.dumps(CANONICAL))
    return Workspace(tmp_path, tmp_path / "build")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path, Answers) as running:
        yield running


def reachable(server: Server) -> Config:
    return Config(registries={"default": server.url}, files={"builds": server.url})


def installed(ws: Workspace, build: str = "one") -> Path:
    """A `build` of CPython 3.7 on the machine, as far as can be seen from outside."""
    path = ws.root / f"a-python-of-this-machine-{build}" / "bin" / "python3.7"
    for folder in (path.parent, path.parents[1] / "include" / "python3.7m"):
        folder.mkdir(parents=True)
    (path.parents[1] / "include" / "python3.7m" / "pyconfig.h").write_text(build)
    path.write_text(f"#!/bin/sh\nprintf '%s\\n' {path} 3.7 CPython {path.parents[1]}\n")
    path.chmod(0o755)
    return path


def lock_to(ws: Workspace, tree: Digest) -> None:
    """Lock the fallback to the interpreter `tree`."""
    path = ws.locks / "base" / f"{FALLBACK}.toml"
    old = read_lock(ws, load_base(ws.bases, FALLBACK)).tree
    assert old is not None
    text = path.read_text().replace(old.oci, tree.oci)
    path.write_text(text.replace(f"size = {old.size}\n", f"size = {tree.size}\n", 1))
    assert read_lock(ws, load_base(ws.bases, FALLBACK)).tree == tree


def found_on(python: Path) -> tuple[Config, Digest]:
    """Settings that name an interpreter, and its tree."""
    config = Config(python={"3.7": str(python)})
    return config, find_tree("3.7", config).tree


def test_what_is_reachable_is_taken_without_a_word(ws: Workspace, server: Server) -> None:
    assert choose_base(ws, WANTED, config=reachable(server)) == Choice(WANTED)


def test_what_is_held_is_taken_without_any_place(ws: Workspace) -> None:
    ws.cache.put(ARCHIVE)
    ws.layout.put(LAYER)
    assert choose_base(ws, WANTED, config=Config()) == Choice(WANTED)


def test_the_fallback_is_taken_where_this_machine_has_the_locked_interpreter(
    ws: Workspace,
) -> None:
    config, tree = found_on(installed(ws))
    lock_to(ws, tree)
    chosen = choose_base(ws, WANTED, config=config)
    assert (chosen.name, chosen.local) == (FALLBACK, None)
    assert chosen.note == (
        f"note: the base {WANTED} is not available here: no place is configured for "
        'cpython.tar.zst (settings: files."builds")\n'
        f"      building on {FALLBACK}, which is part of the image's name; base={WANTED} insists"
    )
    assert choose_base(ws, FALLBACK, config=config) == Choice(FALLBACK)


def test_the_fallback_is_taken_where_the_locked_interpreter_came_with_an_import(
    ws: Workspace,
) -> None:
    python = installed(ws)
    lock_to(ws, keep_tree(ws.cache, read_tree(python, "3.7")))
    shutil.rmtree(python.parents[1])
    # Another one of this machine does not come before it.
    other = installed(ws, "another")
    for config in (Config(), Config(python={"3.7": str(other)})):
        assert choose_base(ws, FALLBACK, config=config) == Choice(FALLBACK)


def test_another_build_of_the_interpreter_makes_a_local_base(ws: Workspace) -> None:
    python = installed(ws)
    config, tree = found_on(python)
    chosen = choose_base(ws, WANTED, config=config)
    assert (chosen.name, chosen.local) == (LOCAL, Local(tree))
    first, second, third = chosen.note.splitlines()
    assert first.startswith(f"note: the base {WANTED} is not available here: ")
    assert second == (
        f"note: the CPython 3.7 of this machine ({python}) is another build than the one the base "
        f"{FALLBACK} is locked to"
    )
    assert third == (
        f"      building on {LOCAL}, which is part of the image's name; "
        f"base={WANTED} or base={FALLBACK} insists"
    )


def test_insisting_on_the_locked_interpreter_refuses_another_build_in_one_sentence(
    ws: Workspace,
) -> None:
    config, tree = found_on(installed(ws))
    with pytest.raises(InterpreterError) as raised:
        choose_base(ws, WANTED, config=config, insist=FALLBACK)
    assert raised.value.what.endswith(
        f"is another build than the one the base {FALLBACK} is locked to"
    )
    assert raised.value.found == tree.oci
    assert raised.value.remedy.startswith(f"leave out base=, which builds on {LOCAL}; ")


def test_a_local_base_can_be_insisted_on_where_it_is_another(ws: Workspace) -> None:
    config, tree = found_on(installed(ws))
    assert choose_base(ws, WANTED, config=config, insist=LOCAL) == Choice(LOCAL, local=Local(tree))
    lock_to(ws, tree)
    with pytest.raises(InterpreterError) as raised:
        choose_base(ws, WANTED, config=config, insist=LOCAL)
    assert raised.value.remedy == f"build on that base: base={FALLBACK}"


def test_a_local_base_of_a_provenance_has_the_interpreter_it_names_or_none(ws: Workspace) -> None:
    python = installed(ws)
    config, tree = found_on(python)
    write_local(ws, LOCAL, Local(tree))
    noted = ws.build / "cache" / "local" / f"{LOCAL}.toml"
    # As `plinth.recipe.files` lays it out.
    noted.rename(ws.locks / "base" / noted.name)
    assert choose_base(ws, WANTED, config=config, insist=LOCAL).local == Local(tree)
    other, _ = found_on(installed(ws, "another"))
    with pytest.raises(InterpreterError) as raised:
        choose_base(ws, WANTED, config=other, insist=LOCAL)
    assert raised.value.expected == tree.oci
    # What travels with an export of it does.
    keep_tree(ws.cache, read_tree(python, "3.7"))
    assert choose_base(ws, WANTED, config=other, insist=LOCAL).local == Local(tree)


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(
            registries={"default": "http://127.0.0.1:9"}, files={"builds": "http://127.0.0.1:9"}
        ),
    ],
)
def test_where_no_base_is_possible_the_remedies_are_said_the_easiest_first(
    ws: Workspace, config: Config
) -> None:
    began = time.monotonic()
    with pytest.raises(InterpreterError) as raised:
        choose_base(ws, WANTED, config=config)
    assert time.monotonic() - began < at_most(3)
    error = raised.value
    assert error.what == f"neither {WANTED} nor {FALLBACK} can be built on this machine"
    first, second = error.found.splitlines()
    if config.files:
        assert first == f"{WANTED}: http://127.0.0.1:9: cannot be reached (Connection refused)"
    else:
        assert first.startswith(f"{WANTED}: no place is configured for cpython.tar.zst")
    assert second.startswith(f"{FALLBACK}: there is no CPython 3.7 on this machine")
    one, two, three = error.remedy.splitlines()
    assert one.startswith("1. connect" if config.files else "1. name places in the settings")
    assert 'registries.default and files."builds"' in one
    assert two.index("uv python install 3.7") < two.index("pyenv install 3.7")
    assert "plinth import" in three


def test_what_leads_to_the_other_base_is_what_this_machine_can_do(ws: Workspace) -> None:
    spec = load_base(ws.bases, WANTED)
    none = on_the_other_base(ws, spec, Config())
    assert none.startswith(f"build on {FALLBACK}: install a CPython 3.7 (uv python install ")
    config, tree = found_on(installed(ws))
    assert on_the_other_base(ws, spec, config) == f"build on the other base: base={LOCAL}"
    lock_to(ws, tree)
    assert on_the_other_base(ws, spec, config) == f"build on the other base: base={FALLBACK}"


def test_a_base_that_is_not_locked_is_refused(ws: Workspace) -> None:
    (ws.locks / "base" / f"{FALLBACK}.toml").unlink()
    with pytest.raises(LockError, match=f"there is no lock for the base {FALLBACK}"):
        choose_base(ws, WANTED, config=Config())


def test_insisting_on_the_canonical_base_asks_nobody(ws: Workspace) -> None:
    assert choose_base(ws, WANTED, config=Config(), insist=WANTED) == Choice(WANTED)


@pytest.mark.parametrize("insist", ["other", f"{WANTED}-local"])
def test_a_base_the_lock_does_not_serve_cannot_be_insisted_on(ws: Workspace, insist: str) -> None:
    with pytest.raises(SpecError) as raised:
        choose_base(ws, WANTED, config=Config(), insist=insist)
    why = {
        "other": f"base/other.toml: the lock serves {WANTED} or {FALLBACK}, not 'other'",
        f"{WANTED}-local": "python.kind: all of it is pinned, so there is no base canonical-local",
    }
    assert why[insist] in str(raised.value)


def test_no_specification_may_be_called_as_a_local_base_is(ws: Workspace) -> None:
    shutil.copyfile(ws.bases / f"{FALLBACK}.toml", ws.bases / f"{LOCAL}.toml")
    with pytest.raises(SpecError, match="names that end in -local"):
        load_base(ws.bases, LOCAL)


def test_an_unknown_base_is_refused_with_those_there_are(ws: Workspace) -> None:
    with pytest.raises(SpecError) as raised:
        choose_base(ws, "other", config=Config())
    assert "base/other.toml: there is no such specification" in str(raised.value)
    assert raised.value.remedy == f"known here: {WANTED}, {FALLBACK}"


def test_what_was_looked_at_while_places_were_silent_is_not_looked_at_again(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def nothing(_: Workspace, spec: BaseSpec, __: Config) -> Choice:
        looked.append(spec.name)
        raise InterpreterError("there is none")

    def silent(_: Workspace, __: BaseSpec, ___: Config, meanwhile: Callable[[], None]) -> str:
        meanwhile()
        return "no answer"

    monkeypatch.setattr("plinth.build.choice.as_here", nothing)
    monkeypatch.setattr("plinth.build.choice.unavailable", silent)
    with pytest.raises(InterpreterError, match="neither"):
        choose_base(ws, WANTED, config=Config())
    assert looked == [FALLBACK]
