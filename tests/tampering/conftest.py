"""Two small images, built and signed for real, and copies of them to tamper with.

Three kinds of attackers: one who changes bytes in a layout or a registry, one who has a trust
domain or other bundles of their own, and a builder who signs what is not true.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from plinth.build.compression import ensure_form
from plinth.build.image import build_image
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.evidence.sign import prepare
from plinth.inspect.contents.cache import ContentsCache
from support import small_checkout
from support.forge import Copy, Forger, Judge, forging, link_tree
from support.sessions import session_of
from support.small_checkout import SmallCheckout, wheel

IMAGE, OTHER = "small", "other"
FORM = f"{IMAGE}+zstd"


@pytest.fixture(scope="session")
def forger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forger]:
    with forging(tmp_path_factory.mktemp("trust") / "domain") as one:
        yield one


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forger]:
    """Somebody else's trust domain, for the same identity."""
    with forging(tmp_path_factory.mktemp("stranger") / "domain") as one:
        yield one


@pytest.fixture(scope="session")
def checkout(forger: Forger, tmp_path_factory: pytest.TempPathFactory) -> SmallCheckout:
    """A checkout with both images built and signed."""
    made = small_checkout.make(tmp_path_factory.mktemp("small") / "checkout", images=(OTHER, IMAGE))
    made.seed(debs=True)
    wheels = [wheel(made.wheels, "demo", "1.0"), wheel(made.wheels, "leaf", "2.0")]
    made.lock(wheels, IMAGE)
    made.lock([*wheels, wheel(made.wheels, "large", "1.0", data=100_000)], OTHER)
    config = replace(Config(), files={"wheels": str(made.wheels)})
    # The other first, so that the log has a tree when the image comes into it.
    for image in (OTHER, IMAGE):
        build_image(made.ws, image, config=config, jobs=1, progress=quiet)
        copy = Copy(made.ws.layout.root, image)
        prepared = prepare(session_of(made.ws), image, Config())
        copy.attach({kind: forger.sign(data) for kind, data in prepared.statements})
    return made


@pytest.fixture(scope="module")
def both(checkout: SmallCheckout, forger: Forger) -> SmallCheckout:
    """The checkout with the image in both forms, each signed."""
    name = ensure_form(checkout.ws, IMAGE, "zstd", config=Config(), jobs=1, progress=quiet)
    assert name == FORM
    prepared = prepare(session_of(checkout.ws), FORM, Config())
    made = Copy(checkout.ws.layout.root, FORM)
    made.attach({kind: forger.sign(data) for kind, data in prepared.statements})
    return checkout


@pytest.fixture
def copy(checkout: SmallCheckout, tmp_path: Path) -> Copy:
    link_tree(checkout.ws.layout.root, tmp_path / "oci")
    return Copy(tmp_path / "oci", IMAGE)


@pytest.fixture(scope="session")
def judge(
    forger: Forger, checkout: SmallCheckout, tmp_path_factory: pytest.TempPathFactory
) -> Judge:
    cache = ContentsCache(tmp_path_factory.mktemp("contents"))
    return Judge(forger.believed, forger.domain.issuer, cache, checkout=checkout.root)
