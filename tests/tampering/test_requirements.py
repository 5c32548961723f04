"""A lock in which a package lacks what it requires: whoever built and signed its image, it is
refused when it is signed, and when it is verified."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from plinth.build.image import build_image
from plinth.core.errors import SbomError
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.evidence.sign import prepare
from plinth.inspect.contents.cache import ContentsCache
from support import small_checkout
from support.forge import Copy, Forger, Judge
from support.helpers import make_wheel
from support.sessions import session_of
from support.small_checkout import IMAGE, SmallCheckout

LACKING = (
    "demo 1.0 requires leaf>=2: the lock has leaf 1.0",
    "leaf 1.0 requires gone: not in",
    "leaf 1.0 requires Python >=3.9: the image has 3.7",
)


@pytest.fixture
def cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallCheckout:
    """A checkout whose lock was cut by hand, with an image that a changed plinth built of it."""
    made = small_checkout.make(tmp_path / "checkout")
    made.seed(debs=True)
    demo = 'Requires-Dist: leaf>=2\nRequires-Dist: windows; sys_platform == "win32"\n'
    made.lock(
        [
            make_wheel(made.wheels, {"demo.py": b""}, more=demo),
            make_wheel(
                made.wheels,
                {"leaf.py": b""},
                name="leaf",
                more="Requires-Dist: gone\nRequires-Python: >=3.9\n",
            ),
        ]
    )
    config = replace(Config(), files={"wheels": str(made.wheels)})
    with monkeypatch.context() as patch:
        patch.setattr("plinth.build.image.ensure_met", lambda *_: None)
        build_image(made.ws, IMAGE, config=config, jobs=1, progress=quiet)
    return made


def test_what_a_package_lacks_is_found_by_whoever_signs_or_verifies(
    cut: SmallCheckout,
    forger: Forger,
    judge: Judge,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(SbomError) as raised:
        prepare(session_of(cut.ws), IMAGE, Config())
    assert all(text in str(raised.value) for text in LACKING)
    copy = Copy(cut.ws.layout.root, IMAGE)
    with monkeypatch.context() as patch:
        for name in ("unmet", "unfit"):
            patch.setattr(f"plinth.evidence.sbom.inputs.{name}", lambda *_: [])
        prepared = prepare(session_of(cut.ws), IMAGE, Config())
    copy.attach({kind: forger.sign(data) for kind, data in prepared.statements})
    own = replace(judge, cache=ContentsCache(tmp_path / "contents"), checkout=None)
    found = own.problems(copy)
    assert [text for text in found if text.startswith("layers: ")] == [
        f"layers: {LACKING[0]}",
        f"layers: {LACKING[1]} the lock",
        f"layers: {LACKING[2]}",
    ]
