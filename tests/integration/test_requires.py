"""A lock in which a package lacks what it requires is refused before the image has a name."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from plinth.formats.oci.layout import references
from support.helpers import make_wheel
from support.small_checkout import IMAGE, SmallCheckout, make

CHILD = "child"


@pytest.fixture
def wheels(tmp_path: Path) -> dict[str, Path]:
    """An application, what it requires, what it requires for another Python, and something else."""
    app = "Requires-Dist: Demo.Leaf[fast]<2\nRequires-Dist: other; python_version >= '3.8'\n"
    leaf = "Requires-Dist: demo-fast; extra == 'fast'\n"
    return {
        "demo_app": make_wheel(tmp_path, {"demo_app.py": b""}, name="demo_app", more=app),
        "demo_leaf": make_wheel(tmp_path, {"demo_leaf.py": b""}, name="demo_leaf", more=leaf),
        "demo_fast": make_wheel(tmp_path, {"demo_fast.py": b""}, name="demo_fast"),
        "newer": make_wheel(
            tmp_path, {"demo_leaf.py": b""}, name="demo_leaf", version="2.0", more=leaf
        ),
    }


@pytest.fixture
def checkout(tmp_path: Path, wheels: dict[str, Path]) -> SmallCheckout:
    """A checkout with an image that is locked to the application and all it requires."""
    complete = [wheels[name] for name in ("demo_app", "demo_leaf", "demo_fast")]
    checkout = make(tmp_path / "checkout", complete)
    for wheel in wheels.values():
        shutil.copy(wheel, checkout.wheels)
    checkout.seed(debs=True)
    return checkout


def run(checkout: SmallCheckout, command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=checkout.root,
        env={**os.environ, "PLINTH_CONFIG": str(checkout.settings)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def refused(checkout: SmallCheckout, image: str = IMAGE) -> str:
    """What `plinth build` ends with; the image has no name, and doit refuses it alike."""
    done = run(checkout, checkout.command("build", image))
    assert done.returncode == 1
    assert image not in references(checkout.ws.layout)
    message = done.stderr[done.stderr.index("plinth: ") + len("plinth: ") :].strip()
    again = run(checkout, checkout.doit(f"build:{image}"))
    assert again.returncode != 0
    assert message.splitlines()[0] in again.stdout + again.stderr
    assert "Traceback" not in done.stderr + again.stderr
    return message


def build(checkout: SmallCheckout, image: str = IMAGE) -> None:
    """Build an image, which has a name then."""
    done = run(checkout, checkout.command("build", image))
    assert done.returncode == 0, done.stderr
    assert image in references(checkout.ws.layout)


def test_a_hand_cut_lock_is_refused_at_build(
    checkout: SmallCheckout, wheels: dict[str, Path]
) -> None:
    checkout.lock([wheels["demo_app"], wheels["demo_leaf"]])
    assert refused(checkout) == (
        "locks/small/pylock.toml: the lock does not meet every requirement of its packages\n"
        "  expected: every requirement met on Python 3.7\n"
        "  found:    demo-leaf[fast] 1.0 requires demo-fast: not in the lock\n"
        "  next:     delete locks/small/pylock.toml and lock again: doit lock:small"
    )
    # Once more, from the cache of layers, and mended.
    assert "demo-fast" in refused(checkout)
    checkout.lock([wheels[name] for name in ("demo_app", "demo_leaf", "demo_fast")])
    build(checkout)


def test_a_lock_with_another_version_is_refused_at_build(
    checkout: SmallCheckout, wheels: dict[str, Path]
) -> None:
    checkout.lock([wheels["demo_app"], wheels["newer"], wheels["demo_fast"]])
    assert "demo-app 1.0 requires Demo.Leaf[fast]<2: the lock has demo-leaf 2.0\n" in refused(
        checkout
    )


def test_a_package_for_another_python_is_refused_at_build(
    checkout: SmallCheckout, tmp_path: Path
) -> None:
    newer = make_wheel(tmp_path, {"n.py": b""}, name="demo_new", more="Requires-Python: >=3.9\n")
    shutil.copy(newer, checkout.wheels)
    checkout.lock([newer])
    assert "demo-new 1.0 requires Python >=3.9: the image has 3.7\n" in refused(checkout)
    # From the cache of layers.
    assert "constraints" in refused(checkout)
    fits = "Requires-Python: >=3.6,!=3.7.1\n"
    checkout.lock([make_wheel(checkout.wheels, {"n.py": b""}, name="demo_fits", more=fits)])
    build(checkout)


def test_an_extension_is_judged_by_its_own_lock(
    checkout: SmallCheckout, wheels: dict[str, Path]
) -> None:
    (checkout.root / "images" / f"{CHILD}.toml").write_text(
        f'extends = "{IMAGE}"\nsummary = "a test"\n[python]\nrequirements = ["demo-more"]\n'
    )
    more = make_wheel(
        checkout.wheels, {"m.py": b""}, name="demo_more", more="Requires-Dist: demo-fast\n"
    )
    complete = [wheels[name] for name in ("demo_app", "demo_leaf", "demo_fast")]
    # Without what the extended image holds, then without what is asked for, then whole.
    checkout.lock([more, wheels["demo_app"], wheels["demo_leaf"]], CHILD)
    message = refused(checkout, CHILD)
    assert f"the lock does not hold the files of {IMAGE}, which it extends" in message
    assert "demo-fast: small holds demo_fast-1.0-py3-none-any.whl (sha256:" in message
    checkout.lock(complete, CHILD)
    assert "images/child.toml asks for demo-more: not in the lock" in refused(checkout, CHILD)
    checkout.lock([*complete, more], CHILD)
    build(checkout, CHILD)
