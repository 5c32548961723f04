"""Wheels that have the same file: which one is in the image, and that it verifies so."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from plinth.build.image import build_image
from plinth.core.settings import Config
from plinth.evidence.sign import prepare
from plinth.formats.oci.manifest import read_manifest
from plinth.inspect.contents.cache import ContentsCache
from support import small_checkout
from support.forge import Copy, Forger, Judge
from support.helpers import make_wheel
from support.sessions import session_of
from support.small_checkout import IMAGE, SmallCheckout

SITE = "opt/python/lib/python3.7/site-packages"
SHARED = f"/{SITE}/shared/__init__.py"


@pytest.fixture
def overlapping(tmp_path: Path) -> SmallCheckout:
    """Of `aa`, `mm` and `zz` all have a module, and a script by an entry point; `bb` and `yy` have
    one alike."""
    made = small_checkout.make(tmp_path / "checkout")
    made.seed(debs=True)
    wheels = []
    for name in ("aa", "mm", "zz"):
        entry = f"[console_scripts]\nshared = {name}:main\n".encode()
        files = {
            f"{name}.py": b"def main(): pass\n",
            "shared/__init__.py": f"owner = {name!r}\n".encode(),
            f"{name}-1.0.dist-info/entry_points.txt": entry,
        }
        wheels.append(make_wheel(made.wheels, files, name=name))
    for name in ("bb", "yy"):
        files = {f"{name}.py": b"x = 1\n", "tests/__init__.py": b""}
        wheels.append(make_wheel(made.wheels, files, name=name))
    made.lock(wheels)
    return made


def files_of(checkout: SmallCheckout) -> dict[str, bytes]:
    """The files of the image, its layers on top of each other."""
    found = {}
    layout = checkout.ws.layout
    for layer in read_manifest(layout, Copy(layout.root, IMAGE).digest).layers:
        with tarfile.open(layout.path(layer.digest)) as tar:
            for member in tar:
                stream = tar.extractfile(member) if member.isfile() else None
                if stream is not None:
                    found[member.name] = stream.read()
    return found


@pytest.mark.parametrize(
    ("large", "room"),
    [(0, 120), (9, 120), (0, 7)],
    ids=["a layer each", "one layer", "some in one"],
)
def test_the_file_of_the_package_that_pip_installs_last_is_there(
    overlapping: SmallCheckout,
    forger: Forger,
    judge: Judge,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    large: int,
    room: int,
) -> None:
    monkeypatch.setattr("plinth.build.plan.MAX_LAYERS", room)
    monkeypatch.setattr("plinth.build.plan._LARGE", large << 20)
    config = replace(Config(), files={"wheels": str(overlapping.wheels)})
    told: list[str] = []
    build_image(overlapping.ws, IMAGE, config=config, jobs=1, progress=told.append)
    # pip installs what is alike otherwise from Z to A.
    files = files_of(overlapping)
    assert files[f"{SITE}/shared/__init__.py"] == b"owner = 'aa'\n"
    assert b"from aa import main" in files["opt/python/bin/shared"]
    # Its bytecode is of the same source: compiled by the tests' own Python, from the layer of aa.
    assert b"owner" in files[f"{SITE}/shared/__pycache__/__init__.cpython-37.pyc"]
    notes = [line for line in told if line.startswith("note: ")]
    assert notes == [
        "note: zz, mm and aa install the same path: /opt/python/bin/shared and 1 more files; as "
        "with pip, that of aa stays",
        f"note: yy and bb install the same path: /{SITE}/tests/__init__.py, alike",
    ]
    prepared = prepare(session_of(overlapping.ws), IMAGE, Config())
    copy = Copy(overlapping.ws.layout.root, IMAGE)
    copy.attach({kind: forger.sign(data) for kind, data in prepared.statements})
    own = replace(
        judge,
        cache=ContentsCache(tmp_path / "contents"),
        checkout=None,
        inputs=overlapping.ws.cache,
    )
    assert own.problems(copy) == []
