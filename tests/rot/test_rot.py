"""Every class of file in store, cache and locks, damaged in every way: found when read, named,
never used, and made or fetched again.

The table is CLASSES by DAMAGES. `made` says that all is built already, otherwise the damaged file
is what the next build begins with. What a build does not read it may not notice; then validating
the layout, or reading the whole store, must.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from plinth.commands.main import main
from plinth.commands.memory import database
from plinth.core.digest import Digest, canonical_json
from plinth.formats.oci.layout import editing, references
from plinth.formats.oci.manifest import read_manifest
from plinth.formats.oci.model import Descriptor
from plinth.formats.oci.referrers import attach_to_layout, refers
from plinth.formats.oci.validate import validate
from plinth.formats.python.tree import tree_digest
from plinth.inspect.rot import damaged
from support.small_checkout import DEBS, IMAGE, SmallCheckout, interpreter, make, wheel


@dataclass
class Store:
    """A built checkout, and a copy of its build folder and locks to begin again from."""

    checkout: SmallCheckout
    saved: Path
    expected: str = ""

    def restore(self) -> None:
        """As it was built."""
        for name in ("build", "locks"):
            shutil.rmtree(self.checkout.root / name, ignore_errors=True)
            shutil.copytree(self.saved / name, self.checkout.root / name)

    def forget(self, keep: Path) -> None:
        """Lose all that was made, but `keep` and what was fetched."""
        ws = self.checkout.ws
        made = [*ws.actions.root.glob("*.json"), *ws.layout.blobs.iterdir()]
        for path in [*made, ws.layout.root / "index.json"]:
            if path != keep:
                path.unlink()
        roots = ws.build / "cache" / "roots"
        if not keep.is_relative_to(roots):
            shutil.rmtree(roots)

    def digest(self) -> str:
        return references(self.checkout.ws.layout)[IMAGE].manifest.hex


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("rot")
    checkout = make(folder / "checkout", [])
    lock = [wheel(checkout.wheels, name, "1.0") for name in ("one", "two")]
    checkout.lock(lock)
    checkout.seed(debs=True)
    store = Store(checkout, folder / "saved")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(checkout.root)
        patch.setenv("PLINTH_CONFIG", str(checkout.settings))
        patch.delenv("PLINTH_BUILD", raising=False)
        assert main(["build", IMAGE]) == 0
        store.expected = store.digest()
        for name in ("build", "locks"):
            shutil.copytree(checkout.root / name, store.saved / name)
        yield store


def middle(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a bit": middle,
    "the first bit": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "cut": lambda data: data[: len(data) // 2],
    "emptied": lambda data: b"",
    # As long as before, so that no size tells.
    "another": lambda data: bytes(len(data)),
}


def layer(store: Store) -> Path:
    ws = store.checkout.ws
    manifest = references(ws.layout)[IMAGE].manifest
    return ws.layout.path(read_manifest(ws.layout, manifest).layers[-1].digest)


def config(store: Store) -> Path:
    ws = store.checkout.ws
    read = read_manifest(ws.layout, references(ws.layout)[IMAGE].manifest)
    return ws.layout.path(read.config.digest)


def result(store: Store, mnemonic: str) -> Path:
    for path in sorted(store.checkout.ws.actions.root.glob("*.json")):
        if json.loads(path.read_bytes())["mnemonic"] == mnemonic:
            return path
    raise AssertionError(mnemonic)


def scanned(store: Store) -> Path:
    return output(store, "wheel-part", "scan")


def output(store: Store, mnemonic: str, name: str) -> Path:
    hex_digest = json.loads(result(store, mnemonic).read_bytes())["outputs"][name][0]
    return store.checkout.ws.cache.blobs / str(hex_digest)


def root(store: Store, name: str) -> Path:
    roots = store.checkout.ws.build / "cache" / "roots"
    (found,) = (path for path in roots.rglob(name) if path.is_file())
    return found


Find = Callable[[Store], Path]
CLASSES: dict[str, Find] = {
    "wheel": lambda s: s.checkout.ws.cache.path(
        Digest.of_file(s.checkout.wheels / "one-1.0-py3-none-any.whl")
    ),
    "deb": lambda s: s.checkout.ws.cache.path(Digest.of(DEBS[0].deb)),
    "interpreter's list": lambda s: s.checkout.ws.cache.path(tree_digest(interpreter())),
    "interpreter's file": lambda s: s.checkout.ws.cache.path(Digest.of(interpreter()[1].data)),
    "scan": scanned,
    "part of a layer": lambda s: output(s, "wheel-part", "part"),
    "layer": layer,
    "config": config,
    "manifest": lambda s: s.checkout.ws.layout.blobs / s.digest(),
    "index.json": lambda s: s.checkout.ws.layout.root / "index.json",
    "oci-layout": lambda s: s.checkout.ws.layout.root / "oci-layout",
    "wheel-part result": lambda s: result(s, "wheel-part"),
    "group-layer result": lambda s: result(s, "group-layer"),
    "debian-rootfs result": lambda s: result(s, "debian-rootfs"),
    "elf-closure result": lambda s: result(s, "elf-closure"),
    "interpreter result": lambda s: result(s, "interpreter"),
    "interpreter's archive": lambda s: output(s, "interpreter", "archive"),
    "record": lambda s: s.checkout.ws.build / "cache" / "images" / f"{IMAGE}.json",
    "unpacked interpreter": lambda s: root(s, "python3.7"),
    "unpacked module": lambda s: root(s, "os.py"),
    "requirements.txt": lambda s: s.checkout.ws.locks / IMAGE / "requirements.txt",
    "pylock.toml": lambda s: s.checkout.ws.locks / IMAGE / "pylock.toml",
    "base lock": lambda s: s.checkout.ws.locks / "base" / "small.toml",
}
FETCHED = {"wheel", "deb"}
BY_DAY = {True: ("a bit", "cut"), False: ("emptied", "another")}
"""By whether all is built already: the damages of the gate."""
ORDERED = [
    pytest.param(name, damage, made, marks=() if damage in BY_DAY[made] else pytest.mark.nightly)
    for name in CLASSES
    for damage in DAMAGES
    for made in (True, False)
]


@pytest.mark.parametrize(("name", "damage", "made"), ORDERED)
def test_damage_is_found_named_and_mended(
    built: Store, name: str, damage: str, made: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    built.restore()
    ws = built.checkout.ws
    path = CLASSES[name](built)
    sound = path.read_bytes()
    if not made:
        built.forget(path)
    path.write_bytes(DAMAGES[damage](sound))
    code = main(["build", IMAGE])
    said = capsys.readouterr().err
    problems = [str(one) for one in damaged(ws, 2)]
    if code == 0:
        # Nothing of it is in the image, whose name says what it is.
        assert built.digest() == built.expected
        if validate(ws.layout.root):
            # Not read by this build, but by whoever looks.
            assert any(path.name in one for one in problems)
    else:
        assert code == 1
        assert "Traceback" not in said
        shown = {path.name, path.parent.name, "one-1.0", "base-passwd", "interpreter", "CPython"}
        assert any(one in said for one in shown), said
    if path.is_relative_to(ws.locks):
        # From the repository again.
        path.write_bytes(sound)
    if name in FETCHED and path.exists() and path.read_bytes() != sound:
        assert any(path.name in one for one in problems)
    assert main(["doctor", "--mend"]) == 0
    if name == "deb":
        ws.cache.put(DEBS[0].deb)
    if name.startswith("interpreter"):
        # As an import brings it.
        built.checkout.seed(debs=False)
    assert main(["build", IMAGE]) == 0
    assert built.digest() == built.expected
    assert validate(ws.layout.root) == []
    assert damaged(ws, 2) == []


def swapped(first: bytes, second: bytes) -> bytes:
    """The first result with the outputs of the second, which are there."""
    one, other = json.loads(first), json.loads(second)
    return canonical_json({**one, "outputs": other["outputs"], "info": other["info"]})


@pytest.mark.parametrize("lie", ["diff_id", "no diff_id", "swapped"])
def test_a_result_that_lies_is_a_miss(built: Store, lie: str) -> None:
    built.restore()
    ws = built.checkout.ws
    path, other = (result(built, name) for name in ("contract-layer", "debian-rootfs"))
    sound = path.read_bytes()
    document = json.loads(sound)
    hex_digest = document["info"]["diff_id"]
    path.write_bytes(
        {
            "diff_id": sound.replace(hex_digest.encode(), hex_digest.translate(FLIPPED).encode()),
            "no diff_id": sound.replace(b"diff_id", b"diff_ie"),
            "swapped": swapped(sound, other.read_bytes()),
        }[lie]
    )
    assert main(["build", IMAGE]) == 0
    assert built.digest() == built.expected
    assert validate(ws.layout.root) == []


FLIPPED = str.maketrans("0123456789abcdef", "1032547698badcfe")


def test_a_layer_that_unpacks_to_something_else_is_found_by_reading_all(built: Store) -> None:
    built.restore()
    path = result(built, "contract-layer")
    hex_digest = json.loads(path.read_bytes())["info"]["diff_id"]
    path.write_bytes(path.read_bytes().replace(hex_digest.encode(), b"0" * 64))
    (found,) = damaged(built.checkout.ws, 2)
    assert found.path == path
    assert "unpacks to something else" in found.problem


def test_no_bit_of_a_wheel_changes_an_image(built: Store) -> None:
    """The central directory above all: checksums of what is packed do not cover it."""
    built.restore()
    path = CLASSES["wheel"](built)
    sound = path.read_bytes()
    start = sound.index(b"PK\x01\x02")
    outcomes = set()
    for at in [*range(0, start, 997), *range(start, len(sound), 37)]:
        built.restore()
        built.forget(path)
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :])
        code = main(["build", IMAGE])
        outcomes.add(built.digest() if code == 0 else "refused")
    assert outcomes <= {built.expected, "refused"}


def test_lost_bundles_take_no_others_with_them(built: Store) -> None:
    built.restore()
    ws = built.checkout.ws
    image = references(ws.layout)[IMAGE].manifest
    subject = Descriptor("application/vnd.oci.image.manifest.v1+json", image)
    bundles = [("https://example.org/one", b"{}"), ("https://example.org/two", b'{"x":1}')]
    attach_to_layout(ws.layout, subject, bundles)
    ws.layout.path(Digest.of(b'{"x":1}')).write_bytes(b'{"x":2}')
    assert main(["doctor", "--store"]) == 1
    assert main(["doctor", "--mend"]) == 0
    assert validate(ws.layout.root) == []
    with editing(ws.layout) as entries:
        assert [refers(entry, image) for entry in entries] == [False, True]
    ws.layout.path(Digest.of(b"{}")).write_bytes(b"[]")
    assert main(["doctor", "--mend"]) == 0
    assert list(references(ws.layout)) == [IMAGE]
    assert validate(ws.layout.root) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_doit_remembers(built: Store, damage: str) -> None:
    built.restore()
    ws = built.checkout.ws
    path = Path(database(ws))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("create table doit (task_id text not null primary key, task_data json)")
        connection.execute("insert into doit values ('build:small', '{\"checker:\": \"MD5\"}')")
        connection.commit()
    sound = path.read_bytes()
    assert Path(database(ws)).read_bytes() == sound
    path.write_bytes(DAMAGES[damage](sound))
    done = subprocess.run(
        built.checkout.doit(f"build:{IMAGE}"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert built.digest() == built.expected


def test_pages_of_indexes_and_records(built: Store) -> None:
    built.restore()
    page = built.checkout.ws.build / "cache" / "index" / "0" / "demo.json"
    page.parent.mkdir(parents=True)
    page.write_text("{")
    record = CLASSES["record"](built)
    record.write_text("{")
    assert {one.path for one in damaged(built.checkout.ws, 2)} == {page, record}
    assert main(["doctor", "--mend"]) == 0
    assert not page.exists()
    assert not record.exists()


def test_all_that_can_be_wrong_with_what_was_unpacked(
    built: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    built.restore()
    ws = built.checkout.ws
    file = root(built, "os.py")
    file.unlink()
    file.mkdir()
    stray = ws.cache.blobs / "note.txt"
    stray.write_text("x")
    (ws.layout.root / "oci-layout").write_text("{}")
    unreadable = result(built, "wheel-part")
    unreadable.write_text('{"mnemonic": "wheel-part", "outputs": 7}')
    found = {one.path: one.problem for one in damaged(ws, 1)}
    assert found[stray] == "its name is no digest"
    assert found[ws.layout.root / "oci-layout"] == "imageLayoutVersion is None, not '1.0.0'"
    assert found[unreadable].startswith("unreadable: ")
    assert any(problem.endswith("/os.py is another") for problem in found.values()), found
    assert main(["doctor", "--store", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert {one["path"] for one in told["damaged"]} == {str(path) for path in found}
    assert told["deleted"] is False
    assert main(["doctor", "--mend"]) == 0
    assert list(damaged(ws, 1)) == []


def test_an_unpacked_layer_whose_blob_is_lost(built: Store) -> None:
    built.restore()
    ws = built.checkout.ws
    manifest = references(ws.layout)[IMAGE].manifest
    for layer in read_manifest(ws.layout, manifest).layers:
        ws.layout.path(layer.digest).unlink()
    (problem,) = {one.problem for one in damaged(ws, 1) if one.path.parent.name == "roots"}
    assert problem == "its layer cannot be read"
