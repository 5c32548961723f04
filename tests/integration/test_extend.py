"""`plinth extend`: an image of one's own on top of another, locked, built, anywhere alike."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest
import tomli
import tomli_w

from integration.conftest import Checkout, engines
from plinth.core.digest import Digest
from plinth.core.errors import StaleLockError
from plinth.formats.oci.layout import references
from plinth.formats.oci.manifest import read_manifest
from plinth.formats.oci.validate import validate
from plinth.publish.engine.load import load
from plinth.recipe.locks import stale
from support.containers import LIMITED, application, ended, serving, started
from support.helpers import make_wheel
from support.index_server import IndexServer

pytestmark = pytest.mark.network

PARENT = "sklearn-0.24.1"
NAME = "my-model"
REQUIREMENTS = "# What my model needs.\n\ntabulate==0.8.10\t# tables\n"
SPECIFICATION = """\
# Made by plinth extend sklearn-0.24.1; yours to edit.
extends = "sklearn-0.24.1"
summary = "sklearn-0.24.1 with tabulate==0.8.10, jq"

[python]
requirements = [
    "tabulate==0.8.10",
]

[os]
packages = [
    "jq",
]
"""
Done = subprocess.CompletedProcess[str]


def plinth(checkout: Checkout, *arguments: str, **environment: str) -> Done:
    """Run the checkout's own `plinth`."""
    clean = {k: v for k, v in os.environ.items() if k != "PLINTH_BUILD"}
    return subprocess.run(
        [str(checkout.python), "-m", "plinth", *arguments],
        cwd=checkout.root,
        env={**clean, "PYTHONPATH": str(checkout.root / "tools"), **environment},
        check=False,
        text=True,
        capture_output=True,
    )


def extend(checkout: Checkout, text: str = REQUIREMENTS) -> Done:
    """Ask for the image that all tests here are about."""
    (checkout.root / "requirements.txt").write_text(text)
    return plinth(
        checkout, "extend", PARENT, "-r", "requirements.txt", "--apt", "jq", "--name", NAME
    )


def refused(checkout: Checkout, *arguments: str, **environment: str) -> str:
    """The one error that `plinth extend` ends with."""
    done = plinth(checkout, "extend", *arguments, **environment)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("plinth: ") == 1
    assert "Traceback" not in done.stderr
    return done.stderr[done.stderr.index("plinth: ") :]


def sources(checkout: Checkout) -> dict[str, bytes]:
    """What decides images, by path: specifications and locks."""
    found = {}
    for folder in ("base", "images", "locks"):
        for path in (checkout.root / folder).rglob("*"):
            content = path.read_bytes() if path.is_file() else b"(a folder)"
            found[path.relative_to(checkout.root).as_posix()] = content
    return found


def layers(checkout: Checkout, image_id: str) -> list[str]:
    manifest = read_manifest(checkout.ws.layout, references(checkout.ws.layout)[image_id].manifest)
    return [layer.digest.oci for layer in manifest.layers]


@dataclass(frozen=True)
class Extended:
    """A checkout with the image, what it held before, and what the command said."""

    checkout: Checkout
    before: dict[str, bytes]
    done: Done


_MADE: list[Extended] = []


@pytest.fixture
def extended(clone: Callable[..., Checkout], tmp_path_factory: pytest.TempPathFactory) -> Extended:
    """Made once for all tests that only look."""
    if not _MADE:
        checkout = clone(tmp_path_factory.mktemp("extend") / "checkout", results=True, tools=True)
        before = sources(checkout)
        _MADE.append(Extended(checkout, before, extend(checkout)))
    assert _MADE[0].done.returncode == 0, _MADE[0].done.stderr
    return _MADE[0]


def test_specification_and_locks_are_made_and_no_other_touched(extended: Extended) -> None:
    after = sources(extended.checkout)
    added = {path: content for path, content in after.items() if path not in extended.before}
    assert sorted(added) == [
        f"images/{NAME}.toml",
        f"locks/{NAME}",
        f"locks/{NAME}/os.toml",
        f"locks/{NAME}/pylock.toml",
        f"locks/{NAME}/requirements.txt",
    ]
    assert {path: content for path, content in after.items() if path not in added} == (
        extended.before
    )
    assert added[f"images/{NAME}.toml"].decode() == SPECIFICATION
    packages = added[f"locks/{NAME}/os.toml"].decode()
    assert '\nname = "jq"\n' in packages
    assert '\nname = "libjq1"\n' in packages
    # What the base holds is not locked again.
    assert '\nname = "libc6"\n' not in packages
    for content in added.values():
        assert b"://" not in content
        assert os.fsencode(extended.checkout.root) not in content


def test_what_the_other_image_pins_stays(extended: Extended) -> None:
    ws = extended.checkout.ws
    below = {package.name: package for package in stale.check(ws, PARENT).packages}
    mine = {package.name: package for package in stale.check(ws, NAME).packages}
    assert {name: (mine[name].version, mine[name].file) for name in below} == {
        name: (package.version, package.file) for name, package in below.items()
    }
    assert set(mine) - set(below) == {"tabulate"}
    assert mine["tabulate"].version == "0.8.10"
    assert mine["tabulate"].direct


def test_the_other_images_layers_are_the_beginning(built: Checkout, extended: Extended) -> None:
    below, mine = layers(built, PARENT), layers(extended.checkout, NAME)
    assert mine[: len(below)] == below
    manifest = read_manifest(
        extended.checkout.ws.layout, references(extended.checkout.ws.layout)[NAME].manifest
    )
    titles = [layer.title for layer in manifest.layers[len(below) :]]
    assert titles[0] == "tabulate 0.8.10"
    assert len(titles) == 2
    assert " OS packages, jq to lib" in titles[1]
    assert f"{NAME}: {len(mine)} layers, {len(titles)} built, " in extended.done.stdout
    assert validate(extended.checkout.ws.layout.root) == []


def test_its_name_is_its_own_and_says_the_base(extended: Extended) -> None:
    reference = references(extended.checkout.ws.layout)[NAME]
    assert reference.image_name.startswith(f"{NAME}-")
    assert reference.image_name.endswith("-py37-cpu-inference:latest")
    assert reference.manifest.oci in extended.done.stdout
    assert list(references(extended.checkout.ws.layout)) == [NAME]


def test_the_same_once_more_changes_and_builds_nothing(extended: Extended) -> None:
    checkout = extended.checkout
    before, digests = sources(checkout), checkout.digests()
    again = extend(checkout)
    assert again.returncode == 0, again.stderr
    assert "locks are fresh: nothing to do" in again.stderr
    assert "building" not in again.stderr.replace("building on ", "")
    assert f"{NAME}: {len(layers(checkout, NAME))} layers, 0 built, " in again.stdout
    assert sources(checkout) == before
    assert checkout.digests() == digests


def test_the_same_elsewhere_gives_the_same_digest(
    tmp_path: Path, clone: Callable[..., Checkout], extended: Extended
) -> None:
    checkout = clone(tmp_path / "at another" / "place", results=True, tools=True)
    done = extend(checkout)
    assert done.returncode == 0, done.stderr
    assert sources(checkout) == sources(extended.checkout)
    assert checkout.digests() == extended.checkout.digests()


@pytest.fixture
def fresh(tmp_path: Path, clone: Callable[..., Checkout]) -> Checkout:
    return clone(tmp_path / "checkout")


def test_options_in_a_requirements_file_are_refused(fresh: Checkout) -> None:
    before = sources(fresh)
    lines = ["tabulate==0.8.10", "-e .", "# fine", "--index-url x", "  -r more.txt", "./x.whl"]
    (fresh.root / "mine.txt").write_text("\n".join([*lines, "/x.whl", "six"]) + "\n")
    error = refused(fresh, PARENT, "-r", "mine.txt", "--name", NAME)
    assert "mine.txt: 5 problems" in error
    assert "mine.txt: line 2: only names and versions, not '-e .'" in error
    assert "mine.txt: line 4: only names and versions, not '--index-url x'" in error
    assert "mine.txt: line 5: only names and versions, not '-r more.txt'" in error
    assert "mine.txt: line 6: only names and versions, not './x.whl'" in error
    assert "mine.txt: line 7: only names and versions, not '/x.whl'" in error
    assert sources(fresh) == before


def test_a_requirements_file_that_is_not_there(fresh: Checkout) -> None:
    before = sources(fresh)
    error = refused(fresh, PARENT, "-r", "nowhere.txt")
    assert "nowhere.txt: cannot be read: " in error
    assert "No such file" in error
    assert sources(fresh) == before


@pytest.mark.parametrize(
    ("line", "name", "where"),
    [
        ("tabulate ==", NAME, "python.requirements[0]"),
        ("tabulate==0.8.10 --hash=sha256:00", NAME, "python.requirements[0]"),
        ("tabulate", "My Model", "'My Model' cannot be an image id"),
        ("tabulate", "my/model", "'my/model' cannot be an image id"),
        ("tabulate", "../my-model", "'../my-model' cannot be an image id"),
    ],
)
def test_a_request_that_gives_no_specification_leaves_nothing(
    fresh: Checkout, line: str, name: str, where: str
) -> None:
    before = sources(fresh)
    (fresh.root / "requirements.txt").write_text(f"{line}\n")
    error = refused(fresh, PARENT, "-r", "requirements.txt", "--name", name)
    assert f"images/{name}.toml: " in error
    assert where in error
    assert sources(fresh) == before
    assert not (fresh.root / "my-model.toml").exists()


def test_an_image_that_is_not_there_cannot_be_extended(fresh: Checkout) -> None:
    before = sources(fresh)
    error = refused(fresh, "sklearn-9", "--apt", "jq", "--name", NAME)
    assert f"images/{NAME}.toml: extends: there is no image 'sklearn-9'" in error
    assert "known here: minimal, onnxruntime-1.6, " in error
    assert f", {PARENT}, " in error
    assert f", {NAME}" not in error
    assert sources(fresh) == before


@pytest.mark.parametrize("name", ["minimal", PARENT])
def test_a_name_that_another_image_has(fresh: Checkout, name: str) -> None:
    before = sources(fresh)
    error = refused(fresh, PARENT, "--apt", "jq", "--name", name)
    what = f"there is an image {name} already, and it is another one"
    assert f"images/{name}.toml: {what}" in error
    assert "choose another name with --name" in error
    assert sources(fresh) == before


def test_an_image_that_extends_another_cannot_be_extended(fresh: Checkout) -> None:
    (fresh.root / "images" / f"{NAME}.toml").write_text(SPECIFICATION)
    before = sources(fresh)
    error = refused(fresh, NAME, "--apt", "jq")
    assert f"images/{NAME}-extended.toml: extends: {NAME} extends another image itself" in error
    assert sources(fresh) == before


def test_what_contradicts_the_other_images_pins_is_one_error(
    tmp_path: Path, clone: Callable[..., Checkout]
) -> None:
    checkout = clone(tmp_path / "checkout", tools=True)
    (checkout.root / "requirements.txt").write_text("numpy==1.19.5\n")
    before = sources(checkout)
    error = refused(checkout, PARENT, "-r", "requirements.txt", "--name", NAME)
    assert f"images/{NAME}.toml: the requirements cannot be met" in error
    assert "numpy==1.19.5" in error
    # It was not asked for, and is what stands in the way.
    assert f"{PARENT} holds numpy 1.21.6" in error
    assert "loosen a requirement" in error
    assert "127.0.0.1" not in error
    # Nothing half-made is left, that would stop a build of all images.
    assert sources(checkout) == before


def test_a_package_no_archive_has_is_one_error(
    tmp_path: Path, clone: Callable[..., Checkout]
) -> None:
    checkout = clone(tmp_path / "checkout", tools=True)
    before = sources(checkout)
    error = refused(checkout, PARENT, "--apt", "there-is-no-such-package", "--name", NAME)
    assert f"images/{NAME}.toml: os.packages: " in error
    assert "there-is-no-such-package" in error
    assert "check the name" in error
    # Not the specification either, nor the lock of its Python packages.
    assert sources(checkout) == before


def test_a_private_package_comes_from_the_index_it_is_bound_to(
    tmp_path: Path, clone: Callable[..., Checkout]
) -> None:
    checkout = clone(tmp_path / "checkout", results=True, tools=True)
    before = sources(checkout)
    (checkout.root / "mine.txt").write_text("our-plinth-models\n")
    wanted = ["minimal", "-r", "mine.txt", "--name", NAME]
    bound = [*wanted, "--bind", "our-plinth-models=company"]
    error = refused(checkout, *wanted)
    assert f"images/{NAME}.toml: python.requirements[0]: there is no project our-plinth" in error
    assert "the configured package index has no such project" in error
    assert "the settings do not know an index" in refused(checkout, *bound)
    assert sources(checkout) == before
    settings = tmp_path / "settings.toml"
    own = Path(os.environ.get("PLINTH_CONFIG", "~/.config/plinth/config.toml")).expanduser()
    known = tomli.loads(own.read_text()) if own.exists() else {}
    (tmp_path / "files").mkdir()
    with IndexServer() as server:
        settings.write_text(tomli_w.dumps({**known, "indexes": {"company": server.url}}))
        error = refused(checkout, *bound, PLINTH_CONFIG=str(settings))
        assert "the index company has no such project" in error
        assert sources(checkout) == before
        server.add(
            make_wheel(tmp_path / "files", {"ours.py": b"x = 1\n"}, name="our_plinth_models")
        )
        done = plinth(checkout, "extend", *bound, PLINTH_CONFIG=str(settings))
        assert done.returncode == 0, done.stderr
        assert "/files/our_plinth_models-1.0-py3-none-any.whl" in server.asked
    ws = checkout.ws
    found = {one.name: (one.version, one.index) for one in stale.check(ws, NAME).packages}
    assert found["our-plinth-models"] == ("1.0", "company")
    assert {index for name, (_, index) in found.items() if name != "our-plinth-models"} == {""}
    manifest = read_manifest(ws.layout, references(ws.layout)[NAME].manifest)
    assert manifest.layers[-1].title == "our-plinth-models 1.0"
    for path, content in sources(checkout).items():
        assert path in before or b"127.0.0.1" not in content, path


def test_another_lock_of_the_other_image_makes_it_stale(
    fresh: Checkout, extended: Extended
) -> None:
    shutil.copytree(extended.checkout.root / "locks" / NAME, fresh.root / "locks" / NAME)
    (fresh.root / "images" / f"{NAME}.toml").write_text(SPECIFICATION)
    assert stale.check(fresh.ws, NAME).packages
    folder = fresh.root / "locks" / PARENT
    old = folder.joinpath("requirements.txt").read_bytes()
    new = old + b"# looked at\n"
    folder.joinpath("requirements.txt").write_bytes(new)
    lock = folder / "pylock.toml"
    text = lock.read_text()
    before, after = Digest.of(old).hex, Digest.of(new).hex
    assert before in text
    lock.write_text(text.replace(before, after))
    assert stale.check(fresh.ws, PARENT).packages
    with pytest.raises(StaleLockError) as raised:
        stale.check(fresh.ws, NAME)
    assert raised.value.what == f"the lock of {NAME} was made from other inputs"
    assert raised.value.where == f"locks/{NAME}/pylock.toml"
    assert raised.value.found == f"extended: {before!r} became {after!r}"
    assert raised.value.remedy == f"lock again: doit lock:{NAME}"
    done = plinth(fresh, "build", NAME)
    assert done.returncode == 1
    assert raised.value.what in done.stderr
    assert references(fresh.ws.layout) == {}


@pytest.mark.parametrize(
    "store_engine", engines(docker=pytest.mark.nightly, podman=pytest.mark.nightly), indirect=True
)
@pytest.mark.engine
def test_what_was_added_works_in_a_container(
    store_engine: docker.DockerClient, extended: Extended, tmp_path: Path
) -> None:
    image = load(extended.checkout.ws, NAME, client=store_engine).id
    try:
        script = (
            "import subprocess, sklearn, tabulate\n"
            "print(sklearn.__version__, tabulate.tabulate([[1, 'one']], tablefmt='pipe'))\n"
            "command = ['jq', '-c', '.a | test(\"^b+$\")']\n"
            'print(subprocess.run(command, input=b\'{"a": "bb"}\', stdout=-1, check=True).stdout)\n'
        )
        with started(store_engine, image, command=["python", "-c", script]) as container:
            code, log = ended(container)
        assert (code, log.splitlines()) == (0, ["0.24.1 |--:|:----|", "| 1 | one |", "b'true\\n'"])
        # Its script is on the path, and the user may add to what it belongs to.
        with started(store_engine, image, command=["tabulate", "--help"]) as container:
            code, log = ended(container)
        assert code == 0
        assert "Pretty-print tabular data" in log
        script = (
            "import tabulate\n\n\ndef init():\n    pass\n\n\n"
            "def run(data):\n    return tabulate.tabulate([[1]], tablefmt='plain')\n"
        )
        app = application(tmp_path / "app", {"score.py": script})
        with serving(store_engine, image, app, **LIMITED) as server:
            assert server.answer({}) == "1"
    finally:
        store_engine.images.remove(image, force=True)
