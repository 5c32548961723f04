"""Images from the files that people have: one digest where the pins are the same, and refusals
where what an index has is not what they pin."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from plinth.build.image import build_image
from plinth.commands.main import main
from plinth.core.errors import LockError, PlinthError, StaleLockError
from plinth.core.report import quiet
from plinth.core.settings import Config, load
from plinth.lock.image import lock_images
from plinth.recipe.locks import pylock, stale
from plinth.recipe.recipe import Recipe
from support.asked_checkout import HEAD, checkout, commanded
from support.asked_project import STANDALONE, WANTED, stock, wheel
from support.index_server import IndexServer
from support.small_checkout import IMAGE, SmallCheckout

pytestmark = pytest.mark.network

KINDS = {
    "requirements.txt": 'requirements-file = "app/requirements.txt"\n',
    "uv.lock": 'lock = { path = "app/uv.lock" }\n',
    "pylock.toml": 'lock = { path = "app/pylock.toml" }\n',
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[IndexServer]:
    with IndexServer() as running:
        stock(running, tmp_path / "served")
        yield running


def config_of(server: IndexServer) -> Config:
    return replace(load(), index_url=server.url, files={})


def test_the_same_pins_are_one_image_from_every_kind_of_file(
    tmp_path: Path, tools: Path, server: IndexServer
) -> None:
    found = {}
    for kind, python in KINDS.items():
        made = checkout(tmp_path / kind, tools, python)
        lock_images(made.ws, [IMAGE], config=config_of(server), progress=quiet)
        made.seed(debs=True)
        settings = replace(load({"PLINTH_CONFIG": str(made.settings)}), index_url=server.url)
        built = build_image(made.ws, IMAGE, config=settings, jobs=1, progress=quiet)
        lock = made.ws.locks / IMAGE / "pylock.toml"
        assert {p.name: p.version for p in pylock.load(lock).packages} == WANTED
        assert f"app/{kind}" in Recipe.load(made.ws, IMAGE).files
        found[kind] = (built.image.manifest.digest.oci, lock.read_text())
    assert len(set(found.values())) == 1, found


def test_a_file_that_is_not_what_the_input_pins_is_refused_before_and_after_locking(
    tmp_path: Path, tools: Path, server: IndexServer
) -> None:
    made = checkout(tmp_path / "checkout", tools, KINDS["uv.lock"])
    lock_images(made.ws, [IMAGE], config=config_of(server), progress=quiet)
    uv = made.root / "app" / "uv.lock"
    good = uv.read_text()
    # A comment is no reason to lock again; another hash is, and no index can meet it.
    uv.write_text(f"# by uv\n{good}")
    assert stale.check(made.ws, IMAGE)
    uv.write_text(good.replace("sha256:29a5", "sha256:0000"))
    with pytest.raises(PlinthError, match="is none of the files that app/uv") as torn:
        stale.check(made.ws, IMAGE)
    assert torn.value.where == f"locks/{IMAGE}/pylock.toml"
    before = (made.ws.locks / IMAGE / "pylock.toml").read_bytes()
    with pytest.raises(LockError, match="the index has other files of demo-app") as raised:
        lock_images(made.ws, [IMAGE], config=config_of(server), progress=quiet)
    assert raised.value.where == "app/uv.lock: package[0]"
    assert "demo_app-2.0-py3-none-any.whl" in raised.value.found
    assert (made.ws.locks / IMAGE / "pylock.toml").read_bytes() == before


def test_a_pinned_version_that_the_index_lacks_is_named_and_not_its_project(
    tmp_path: Path, tools: Path, server: IndexServer
) -> None:
    made = checkout(tmp_path / "checkout", tools, 'requirements-file = "app/r.txt"\n')
    zeros = "0" * 64
    (made.root / "app" / "r.txt").write_text(f"demo-app==3.3 --hash=sha256:{zeros}\n")
    with pytest.raises(LockError) as raised:
        lock_images(made.ws, [IMAGE], config=config_of(server), progress=quiet)
    error = raised.value
    assert error.what == "the index has no demo-app 3.3, which is pinned"
    assert error.where.startswith("app/r.txt")
    assert error.expected == f"sha256:{zeros}"
    assert "demo_app-2.0-py3-none-any.whl" in error.found
    # The hash of a file that the index has, of another version.
    page = json.loads(server.page("demo-app") or b"")
    (sha256,) = (
        one["hashes"]["sha256"]
        for one in page["files"]
        if one["filename"] == "demo_app-2.0-py3-none-any.whl"
    )
    (made.root / "app" / "r.txt").write_text(f"demo-app==1.0 --hash=sha256:{sha256}\n")
    with pytest.raises(LockError, match="is of another version's file") as raised:
        lock_images(made.ws, [IMAGE], config=config_of(server), progress=quiet)
    assert raised.value.found == f"sha256:{sha256}  demo_app-2.0-py3-none-any.whl"


def test_a_lock_made_for_another_python_is_refused(
    tmp_path: Path, tools: Path, server: IndexServer
) -> None:
    made = checkout(tmp_path / "checkout", tools, KINDS["uv.lock"])
    uv = made.root / "app" / "uv.lock"
    # As uv writes it where no Python before 3.8 is asked for.
    back = '    { name = "demo-back", marker = "python_full_version < \'3.8\'" },\n'
    uv.write_text(uv.read_text().replace(back, ""))
    with pytest.raises(LockError, match="does not pin all that its packages need") as raised:
        lock_images(made.ws, [IMAGE], config=config_of(server), progress=quiet)
    assert raised.value.where == "app/uv.lock"
    assert raised.value.found == "demo-back 1.0, needed by demo-app"
    assert not (made.ws.locks / IMAGE).exists()


def test_an_input_that_changed_is_named(tmp_path: Path, tools: Path, server: IndexServer) -> None:
    made = checkout(tmp_path / "checkout", tools, 'requirements-file = "app/plain.txt"\n')
    lock_images(made.ws, [IMAGE], config=config_of(server), progress=quiet)
    path = made.root / "app" / "plain.txt"
    path.write_text(path.read_text().replace("demo-app==2.0", "demo-app==1.1"))
    with pytest.raises(StaleLockError) as raised:
        stale.check(made.ws, IMAGE)
    assert raised.value.found == "requirements: demo-app==2.0 became demo-app==1.1"


def held(made: SmallCheckout) -> dict[str, str]:
    """The packages of the lock."""
    packages = pylock.load(made.ws.locks / IMAGE / "pylock.toml").packages
    return {package.name: package.version for package in packages}


@pytest.mark.parametrize("metadata", [True, pytest.param(False, marks=pytest.mark.nightly)])
def test_libraries_for_gpus_are_refused_before_any_is_fetched(
    tmp_path: Path, tools: Path, server: IndexServer, metadata: bool
) -> None:
    made = checkout(tmp_path / "checkout", tools, 'requirements = ["xgboost"]\n')
    server.add(wheel(tmp_path, "xgboost", "1.0", "Requires-Dist: nvidia-nccl-cu12"))
    server.add(wheel(tmp_path, "nvidia_nccl_cu12", "2.0"), metadata=metadata)
    with pytest.raises(LockError, match="for the CPU") as raised:
        lock_images(made.ws, [IMAGE], config=config_of(server), progress=quiet)
    assert 'gpu-libraries = "allow"' in raised.value.remedy
    assert "nvidia-nccl-cu12" in str(raised.value)
    assert server.count("/files/nvidia_nccl_cu12-2.0-py3-none-any.whl") == metadata  # its metadata
    assert not (made.ws.locks / IMAGE).exists()

    spec = made.ws.images / f"{IMAGE}.toml"
    spec.write_text(f'{HEAD}requirements = ["xgboost"]\ngpu-libraries = "allow"\n')
    lock_images(made.ws, [IMAGE], config=config_of(server), progress=quiet)
    assert stale.check(made.ws, IMAGE)
    # A policy that came later holds for a lock that is there.
    spec.write_text(f'{HEAD}requirements = ["xgboost"]\n')
    with pytest.raises(LockError, match="libraries for GPUs"):
        stale.check(made.ws, IMAGE)


@pytest.mark.parametrize(
    ("kind", "old", "new", "message"),
    [
        *(
            ("uv.lock", 'version = "2.0"', f"version = {wrong}", "uv.lock: package[0].version: ")
            for wrong in (
                '"1.0\\nevil==2"',
                "\"2.0; os_name == 'x'\"",
                '"2.*"',
                '""',
                f'"{"9" * 5000}"',
            )
        ),
        ("uv.lock", '"demo-app"\nv', '"demo-app\\nevil"\nv', "uv.lock: package[0].name: "),
        ("uv.lock", "demo_app-2.0", "demo_app-1.1", "is not a wheel of demo-app 2.0"),
        ("uv.lock", "{ registry", '{ git = "x", registry', "package[0].source: expected one of"),
        ("pylock.toml", 'version = "2.0"', 'version = "1.0\\nevil==2"', "pylock.toml: "),
        ("pylock.toml", "demo_app-2.0", "demo_app-1.1", "pylock.toml: "),
        ("requirements.txt", "==2.0", "===foo", "requirements.txt: line "),
    ],
)
def test_what_an_input_pins_is_held_against_it_by_the_command(
    tmp_path: Path,
    tools: Path,
    server: IndexServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    old: str,
    new: str,
    message: str,
) -> None:
    made = checkout(tmp_path / "checkout", tools, KINDS[kind])
    path = made.root / "app" / kind
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    commanded(made, server, monkeypatch)
    assert main(["lock", IMAGE]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert not (made.ws.locks / IMAGE).exists()
    assert server.count("/simple/evil/") == 0


OWN = """\
[project]
name = "score"
version = "1.0"
requires-python = ">=3.7"
dependencies = ["demo-leaf==1.0", "score[fast]"]
[project.optional-dependencies]
plots = ["demo-plot"]
fast = ["demo-back"]
most = ["score[win]; python_version < '3.6'", "score[plots]"]
win = ["demo-win"]
[dependency-groups]
serve = ["score[most]"]
"""


@pytest.mark.parametrize("kind", ["pyproject", "uv.lock"])
def test_a_project_that_names_itself_is_asked_of_no_index(
    tmp_path: Path, tools: Path, server: IndexServer, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    # A stranger's, of the same name.
    server.add(wheel(tmp_path, "score", "9.0"))
    table = {
        "pyproject": 'pyproject = { path = "app/own.toml", groups = ["serve"] }\n',
        "uv.lock": 'lock = { path = "app/uv.lock", groups = ["serve"] }\n',
    }
    made = checkout(tmp_path / "checkout", tools, table[kind])
    (made.root / "app" / "own.toml").write_text(OWN)
    uv = made.root / "app" / "uv.lock"
    named = 'serve = [\n    { name = "score", extra = ["plots"] },\n'
    assert "serve = [\n" in uv.read_text()
    uv.write_text(uv.read_text().replace("serve = [\n", named))
    commanded(made, server, monkeypatch)
    assert main(["lock", IMAGE]) == 0
    own = {"demo-leaf": "1.0", "demo-back": "1.0", "demo-plot": "1.0"}
    more = {"demo-plot": "1.0", "demo-speed": "1.0", "demo-serve": "1.5"}
    assert held(made) == (own if kind == "pyproject" else {**WANTED, **more})
    assert server.count("/simple/score/") == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("demo-app\ndemo-leaf; python_full_version >= '3.7.5'\n", "line 2: the target does not"),
        ("demo-app; platform_release >= '5'\n", "line 1: the target does not decide it"),
        ("demo-leaf\ndemo-app==2.0 \\ \n", "line 2: a blank follows the backslash"),
    ],
)
def test_a_line_that_only_this_machine_could_read_is_refused_by_the_command(
    tmp_path: Path,
    tools: Path,
    server: IndexServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
    message: str,
) -> None:
    made = checkout(tmp_path / "checkout", tools, 'requirements-file = "app/r.txt"\n')
    (made.root / "app" / "r.txt").write_text(text)
    commanded(made, server, monkeypatch)
    assert main(["lock", IMAGE]) == 1
    assert f"app/r.txt: {message}" in capsys.readouterr().err


def test_an_arbitrary_equality_is_a_pin(
    tmp_path: Path, tools: Path, server: IndexServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = checkout(tmp_path / "checkout", tools, 'requirements = ["demo-app===1.0"]\n')
    commanded(made, server, monkeypatch)
    assert main(["lock", IMAGE]) == 0
    assert held(made) == {"demo-app": "1.0", "demo-back": "1.0", "demo-leaf": "2.0"}
    assert stale.check(made.ws, IMAGE)
    # Its pins are read again.
    spec = made.ws.images / f"{IMAGE}.toml"
    spec.write_text(f'{HEAD}requirements = ["demo-app===1.0", "demo-plot"]\n')
    assert main(["lock", IMAGE]) == 0
    assert held(made)["demo-app"] == "1.0"


def test_a_base_s_release_decides_what_packages_ask_for_and_not_this_machine_s(
    tmp_path: Path,
    tools: Path,
    server: IndexServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever CPython 3.7 runs the resolver: no release is 3.7.77 but that of the base."""
    needs = [
        f"Requires-Dist: demo-{name}; {field} {compared}"
        for name, field, compared in (
            ("back", "python_full_version", "== '3.7.77'"),
            ("speed", "implementation_version", "== '3.7.77'"),
            ("win", "python_full_version", "< '3.7.77'"),
            ("serve", "platform_release", ">= '0'"),
        )
    ]
    server.add(wheel(tmp_path, "demo_new", "1.0", *needs))
    # Of this, the index's page has nothing.
    server.add(wheel(tmp_path, "demo_new", "2.0", "Requires-Python: <3.7.77"))
    server.add(wheel(tmp_path, "demo_new", "3.0", "Requires-Python: >=3.7.78"))
    made = checkout(tmp_path / "checkout", tools, 'pyproject = { path = "app/own.toml" }\n')
    base = made.ws.bases / f"{IMAGE}.toml"
    pinned = STANDALONE.format(release="3.7.77", zeros="0" * 64)
    base.write_text(base.read_text().replace('kind = "found"\n', pinned))
    own = made.root / "app" / "own.toml"
    own.write_text(
        '[project]\nname = "x"\nrequires-python = ">3.7.76"\ndependencies = ["demo-new"]'
    )
    commanded(made, server, monkeypatch)
    assert main(["lock", IMAGE]) == 0, capsys.readouterr().err
    assert held(made) == {"demo-new": "1.0", "demo-back": "1.0", "demo-speed": "1.0"}
    own.write_text(own.read_text().replace(">3.7.76", ">=3.7.78"))
    assert main(["lock", IMAGE]) == 1
    message = "project.requires-python: '>=3.7.78', and the image has Python 3.7.77"
    assert message in capsys.readouterr().err


def test_as_of_hides_what_came_within_its_second(
    tmp_path: Path, tools: Path, server: IndexServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version, fraction in (("1.0", ""), ("2.0", ".5"), ("3.0", ".900000")):
        server.add(wheel(tmp_path, "demo_t", version), uploaded=f"2021-06-01T00:00:00{fraction}Z")
    made = checkout(tmp_path / "checkout", tools, "")
    commanded(made, server, monkeypatch)
    for fraction, version in (("", "1.0"), (".5", "2.0"), (".9", "3.0")):
        (made.ws.images / f"{IMAGE}.toml").write_text(
            f'{HEAD}requirements = ["demo-t"]\nas-of = 2021-06-01T00:00:00{fraction}Z\n'
        )
        # The lock of the moment before is stale, and its pin no reason to stay.
        assert main(["lock", "--upgrade", IMAGE]) == 0
        assert held(made) == {"demo-t": version}
