"""Images that their builder changed and signed again, in agreement with themselves in all that a
signature covers: what the verifier has in its hands says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from plinth.core.digest import Digest
from plinth.evidence.statement import SBOM
from plinth.fetch.interpreter import Interpreters
from plinth.formats.debian.deb import File
from plinth.formats.layer.header import DOCKERUSER, ROOT
from plinth.formats.python.tree import write_tree
from plinth.formats.wheel.record import Row, parse, row_of, write
from plinth.inspect.contents.cache import ContentsCache
from support.forge import Copy, Forger, Json, Judge
from support.layer_files import Files, text
from support.layer_files import wheel as installed
from support.relayer import Image
from support.small_checkout import SmallCheckout, interpreter

# The layer of both wheels.
AT = "layer 3 (demo 1.0 and 1 more)"
SITE = "opt/python/lib/python3.7/site-packages"
Change = Callable[[Image], None]


def test_the_untouched_image_verifies_when_it_is_signed_again(
    judge: Judge, copy: Copy, forger: Forger, checkout: SmallCheckout
) -> None:
    image = Image.of(copy)
    for title in image.titles.copy():
        image.edit(title, lambda files: files)
    image.sign(forger, checkout)
    assert judge.problems(copy) == []


def _edited(title: str, change: Callable[[Files], Files]) -> Change:
    return lambda image: image.edit(title, change)


def _with(*files: File, listed: str = "") -> Callable[[Files], Files]:
    """More files, or others; `listed` is the RECORD that is to list them."""

    def change(held: Files) -> Files:
        held = {**held, **{file.path: file for file in files}}
        if listed:
            rows, _ = parse(held[listed].data)
            names = {file.path: _relative(file.path) for file in files}
            rows = [row for row in rows if row.path not in names.values()]
            rows += [
                Row(names[file.path], "", "")
                if file.path.endswith(".pyc")
                else row_of(names[file.path], file.data)
                for file in files
                if file.kind == "file"
            ]
            held[listed] = replace(held[listed], data=write(rows))
        return held

    return change


def _relative(path: str) -> str:
    inside = path.removeprefix(f"{SITE}/")
    return inside if inside != path else f"../../../{path.removeprefix('opt/python/')}"


def _set(path: str, **fields: object) -> Callable[[Files], Files]:
    return lambda held: {**held, path: replace(held[path], **fields)}  # type: ignore[arg-type]


DEMO = f"{SITE}/demo-1.0.dist-info/RECORD"
OS = "opt/python/lib/python3.7/os.py"
EVIL = b"#!/bin/sh\nevil\n"
ANY = b"Architecture: all\n"


def _mine(path: str, data: bytes = EVIL, mode: int = 0o644) -> File:
    return text(path, data, mode, DOCKERUSER)


IMAGES: list[tuple[str, Change, str]] = [
    (
        "a package that no lock names, in a layer of its own",
        lambda image: image.add(4, "evil 1.0", installed("evil", "1.0")),
        "layers: layer 'evil 1.0': the image has it, no lock gives it",
    ),
    (
        "a package that no lock names, in another's layer",
        _edited("demo ", lambda held: {**held, **installed("evil", "1.0")}),
        f"layers: {AT}: evil: the layer holds this Python package",
    ),
    (
        "another version",
        _edited("demo ", lambda _: installed("demo", "1.1")),
        "layers: demo: 1.0 is locked, a layer holds 1.1",
    ),
    (
        "locked packages missing",
        lambda image: image.remove("demo "),
        "layers: layer 'demo 1.0 and 1 more': the locks give it, the image lacks it",
    ),
    (
        "a locked package missing from its layer",
        _edited("demo ", lambda _: installed("demo", "1.0")),
        "layers: leaf: 2.0 is locked, and no layer holds it",
    ),
    (
        "locked packages missing, their layer empty",
        _edited("demo ", lambda _: {"opt": File("opt", "directory", 0o755, ROOT)}),
        "layers: leaf: 2.0 is locked, and no layer holds it",
    ),
    (
        "a Debian package in a layer of wheels",
        _edited(
            "demo ",
            _with(
                text(
                    "var/lib/dpkg/status.d/evil", b"Package: evil\nVersion: 1\nArchitecture: all\n"
                )
            ),
        ),
        "layers: evil: a layer holds 1, no lock has it",
    ),
    (
        "another interpreter",
        _edited("small python", _set(OS, data=b"import evil\n")),
        "layers: interpreter: its tree is sha256:",
    ),
    (
        "an interpreter's file that is not its own",
        _edited("small python", _with(_mine(f"{SITE}/evil.pth"))),
        "layers: layer 1 (small python): /opt/python/lib/python3.7/site-packages/evil.pth: no",
    ),
    (
        "a second interpreter",
        _edited("demo ", _with(_mine("opt/python/bin/python3.8", mode=0o755), listed=DEMO)),
        "layers: interpreter: expected one in one layer, found 2",
    ),
    (
        "the supervisor of the contract",
        _edited("contract", _set("usr/local/bin/runsvdir", data=EVIL)),
        "layers: layer 2 (contract): /usr/local/bin/runsvdir: its content should be sha256:",
    ),
    (
        "a program more in the contract",
        _edited("contract", _with(text("usr/local/bin/evil", EVIL, 0o755))),
        "layers: layer 2 (contract): /usr/local/bin/evil: plinth puts no such entry",
    ),
    (
        "the contract's program owned by the run-time user",
        _edited("contract", _set("usr/local/bin/runsvdir", owner=DOCKERUSER)),
        "layers: layer 2 (contract): /usr/local/bin/runsvdir: it is missing, or is not file 0755",
    ),
    (
        "a wheel that overwrites os.py",
        _edited("demo ", _with(_mine(OS), listed=DEMO)),
        f"layers: {AT}: /{OS}: it replaces what layer 1 (small python) has there",
    ),
    (
        "a wheel that overwrites a program of the system",
        _edited("demo ", _with(text("usr/bin/hello", EVIL, 0o755))),
        f"layers: {AT}: /usr/bin/hello: it replaces what layer 0 (small system) has",
    ),
    (
        "a wheel that overwrites a program of the contract",
        _edited("demo ", _with(text("usr/local/bin/runsvdir", EVIL, 0o755))),
        f"layers: {AT}: /usr/local/bin/runsvdir: it replaces what layer 2 (contract)",
    ),
    (
        "a wheel that puts a folder where the system has a link",
        _edited("demo ", _with(text("var/run/evil", EVIL))),
        f"layers: {AT}: /var/run: it replaces what layer 0 (small system) has there",
    ),
    (
        "a wheel that gives the system's folder away",
        _edited("demo ", _with(File("usr", "directory", 0o755, DOCKERUSER))),
        f"layers: {AT}: /usr: it replaces what layer 2 (contract) has there",
    ),
    (
        "a setuid program in a wheel's layer",
        _edited("demo ", _with(_mine("opt/python/bin/evil", mode=0o4755), listed=DEMO)),
        f"layers: {AT}: /opt/python/bin/evil: nothing of this layer may be file 4755",
    ),
    (
        "a setgid folder in a wheel's layer",
        _edited("demo ", _set(f"{SITE}/demo", mode=0o2755)),
        f"layers: {AT}: /{SITE}/demo: nothing of this layer may be directory 2755",
    ),
    (
        "a program owned by the run-time user in a wheel's layer",
        _edited("demo ", _with(_mine("usr/bin/evil", mode=0o755))),
        f"layers: {AT}: /usr/bin/evil: ",
    ),
    (
        "a module of a wheel owned by another",
        _edited("demo ", _set(f"{SITE}/demo/m0.py", owner=ROOT)),
        f"layers: {AT}: /{SITE}/demo/m0.py: nothing of this layer may be file",
    ),
    (
        "a module that all can write",
        _edited("demo ", _set(f"{SITE}/demo/m0.py", mode=0o666)),
        f"layers: {AT}: /{SITE}/demo/m0.py: nothing of this layer may be file 0666",
    ),
    (
        "a program of the system that all can write",
        _edited("small system", _set("usr/bin/hello", mode=0o777)),
        "layers: layer 0 (small system): /usr/bin/hello: nothing of this layer may be file 0777",
    ),
    (
        "a program of the system that the run-time user owns",
        _edited("small system", _set("usr/bin/hello", owner=DOCKERUSER)),
        "layers: layer 0 (small system): /usr/bin/hello: nothing of this layer may be file",
    ),
    (
        "a file more in the system",
        _edited("small system", _with(text("etc/cron.d/evil", EVIL))),
        "layers: layer 0 (small system): /etc/cron.d/evil: no package of the layer has it",
    ),
    (
        "a setuid file that plinth makes",
        _edited("small system", _set("etc/hosts", mode=0o4755)),
        "layers: layer 0 (small system): /etc/hosts: nothing of this layer may be file 4755",
    ),
    (
        "layers in another order",
        lambda image: image.swap("demo ", "contract"),
        "layers: layer 2: the locks give 'contract' there, it is 'demo 1.0 and 1 more'",
    ),
    (
        "a layer twice",
        lambda image: image.add(
            4, "demo 1.0 and 1 more", {"opt": File("opt", "directory", 0o755, ROOT)}
        ),
        "layers: layer 'demo 1.0 and 1 more': the image has it more than once",
    ),
]


@pytest.mark.parametrize(("change", "message"), [c[1:] for c in IMAGES], ids=[c[0] for c in IMAGES])
def test_layers_that_the_locks_do_not_give(
    judge: Judge,
    copy: Copy,
    forger: Forger,
    checkout: SmallCheckout,
    change: Change,
    message: str,
) -> None:
    image = Image.of(copy)
    change(image)
    image.sign(forger, checkout)
    said = judge.problems(copy)
    assert any(problem.startswith(message) for problem in said), said
    # Signatures, provenance and blobs have nothing to say against it.
    assert {p.partition(":")[0] for p in said} <= {"layers", "sbom", "contract"}, said


def _component(bom: Json, name: str) -> Json:
    found: Json = next(one for one in bom["components"] if one["name"] == name)
    return found


SBOMS: list[tuple[str, Callable[[Json], object], str]] = [
    (
        "a false hash",
        lambda bom: _component(bom, "demo")["hashes"][0].update(content="a" * 64),
        "sbom: components[pkg:pypi/demo@1.0].hashes[SHA-256].content: the SBOM has",
    ),
    (
        "an invented licence",
        lambda bom: _component(bom, "demo").update(licenses=[{"license": {"id": "MIT"}}]),
        "sbom: components[pkg:pypi/demo@1.0].licenses: the SBOM has",
    ),
    (
        "an invented VEX",
        lambda bom: bom.update(
            vulnerabilities=[{"id": "CVE-2026-1", "analysis": {"state": "not_affected"}}]
        ),
        "sbom: vulnerabilities: the SBOM has",
    ),
    (
        "an invented file name",
        lambda bom: _component(bom, "demo")["properties"][0].update(value="x.whl"),
        "sbom: components[pkg:pypi/demo@1.0].properties[",
    ),
    (
        "a description of its own",
        lambda bom: bom["metadata"]["component"].update(description="safe"),
        "sbom: metadata.component.description: the SBOM has",
    ),
    (
        "another dependency",
        lambda bom: bom["dependencies"].append({"ref": "pkg:pypi/evil@1.0"}),
        "sbom: dependencies[pkg:pypi/evil@1.0]: the SBOM has",
    ),
    (
        "another maker",
        lambda bom: bom["metadata"]["tools"]["components"][0].update(version="0.0.7"),
        "sbom: metadata.tools.components[plinth].version: the SBOM has",
    ),
]


@pytest.mark.parametrize(("change", "message"), [c[1:] for c in SBOMS], ids=[c[0] for c in SBOMS])
def test_an_sbom_that_says_more_than_image_and_locks(
    judge: Judge, copy: Copy, forger: Forger, change: Callable[[Json], object], message: str
) -> None:
    def apply(bom: Json) -> None:
        change(bom)

    forger.restate(copy, SBOM, apply)
    (said,) = judge.problems(copy)
    assert said.startswith(message), said


CACHED = "__pycache__/m0.cpython-37.pyc"
HELLO = "opt/python/lib/python3.7/__pycache__/os.cpython-37.pyc"


def _tail(path: str) -> Callable[[Files], Files]:
    """Another body behind the header, which has the hash of the source."""
    return lambda held: _set(path, data=held[path].data[:-1] + b"?")(held)


def _without(path: str) -> Callable[[Files], Files]:
    """A file less in the wheel and in its RECORD."""

    def change(held: Files) -> Files:
        rows = [row for row in parse(held[DEMO].data)[0] if row.path != path]
        left = {key: file for key, file in held.items() if key != f"{SITE}/{path}"}
        return {**left, DEMO: replace(held[DEMO], data=write(rows))}

    return change


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The verifier's own interpreter, the one of the image."""
    folder = tmp_path_factory.mktemp("python")
    write_tree(interpreter(), folder)
    return folder / "bin" / "python3.7"


BYTECODE: list[tuple[str, Change, str]] = [
    (
        "a wheel's",
        _edited("demo ", _tail(f"{SITE}/demo/{CACHED}")),
        f"bytecode: layer 3: /{SITE}/demo/{CACHED}: it is not what its source compiles to",
    ),
    (
        "the interpreter's",
        _edited("small python", _tail(HELLO)),
        f"bytecode: layer 1: /{HELLO}: it is not what its source compiles to",
    ),
    (
        "missing",
        _edited("demo ", _without(f"demo/{CACHED}")),
        f"bytecode: layer 3: /{SITE}/demo/{CACHED}: the bytecode of its source is missing",
    ),
    (
        "too many",
        _edited(
            "demo ",
            _with(
                _mine(f"{SITE}/demo/tests/x.py"),
                _mine(f"{SITE}/demo/tests/__pycache__/x.cpython-37.pyc"),
                listed=DEMO,
            ),
        ),
        f"bytecode: layer 3: /{SITE}/demo/tests/__pycache__/x.cpython-37.pyc: plinth would have",
    ),
]


@pytest.mark.parametrize(
    ("change", "message"), [c[1:] for c in BYTECODE], ids=[c[0] for c in BYTECODE]
)
def test_bytecode_that_is_not_its_sources(
    judge: Judge,
    copy: Copy,
    forger: Forger,
    checkout: SmallCheckout,
    python: Path,
    change: Change,
    message: str,
) -> None:
    image = Image.of(copy)
    change(image)
    image.sign(forger, checkout)
    said = replace(judge, interpreters=Interpreters(lambda version, tree: python, list)).problems(
        copy
    )
    assert [one[: len(message)] for one in said] == [message]


def test_bytecode_is_compiled_once_for_each_layer(
    judge: Judge, copy: Copy, python: Path, tmp_path: Path
) -> None:
    asked = []

    def own(version: str, tree: Digest) -> Path:
        asked.append(version)
        return python

    judge = replace(
        judge, interpreters=Interpreters(own, list), cache=ContentsCache(tmp_path / "contents")
    )
    for _ in range(2):
        (check,) = [one for one in judge.verdict(copy).checks if one.name == "bytecode"]
        assert check.passed
        assert check.detail == "7 files, what their sources compile to"
    assert asked == ["3.7"]


def test_without_the_images_interpreter_it_says_what_was_not_shown(
    judge: Judge, copy: Copy, tmp_path: Path
) -> None:
    nobody = replace(
        judge,
        interpreters=Interpreters(lambda version, tree: None, list),
        cache=ContentsCache(tmp_path / "contents"),
    )
    (check,) = [one for one in nobody.verdict(copy).checks if one.name == "bytecode"]
    assert check.passed
    assert check.detail.startswith("NOT SHOWN for 7 files: the CPython 3.7 of the image (sha256:")


FORGED: list[tuple[str, Callable[[Files], Files], str]] = [
    (
        "another module",
        _with(_mine(f"{SITE}/demo/m0.py", b"import evil\n"), listed=DEMO),
        f"inputs: demo-1.0-py3-none-any.whl gives /{SITE}/demo/m0.py as file 0644 1000:1000",
    ),
    (
        "another mode",
        _set(f"{SITE}/demo/m0.py", mode=0o755),
        f"inputs: demo-1.0-py3-none-any.whl gives /{SITE}/demo/m0.py as file 0644 1000:1000",
    ),
    (
        "a module less",
        _without("demo/data.bin"),
        f"inputs: demo-1.0-py3-none-any.whl gives /{SITE}/demo/data.bin as file",
    ),
    (
        "a module more",
        _with(_mine(f"{SITE}/evil.py"), listed=DEMO),
        "inputs: demo-1.0-py3-none-any.whl: the layer's RECORD lists files that the wheel does not",
    ),
]


@pytest.mark.parametrize(("change", "message"), [c[1:] for c in FORGED], ids=[c[0] for c in FORGED])
def test_files_that_the_locked_wheel_does_not_give(
    judge: Judge,
    copy: Copy,
    forger: Forger,
    checkout: SmallCheckout,
    change: Callable[[Files], Files],
    message: str,
) -> None:
    """By a RECORD that agrees with them: who has the wheel sees it."""
    image = Image.of(copy)
    image.edit("demo ", change)
    image.sign(forger, checkout)
    assert judge.problems(copy) == []
    said = replace(judge, inputs=checkout.ws.cache).problems(copy)
    assert [one[: len(message)] for one in said] == [message]


def test_what_is_in_hand_is_told(judge: Judge, copy: Copy, checkout: SmallCheckout) -> None:
    verdict = replace(judge, inputs=checkout.ws.cache).verdict(copy)
    (check,) = [one for one in verdict.checks if one.name == "inputs"]
    assert check.passed
    assert check.detail.startswith("2 locked files in hand, of 2 wheels")
