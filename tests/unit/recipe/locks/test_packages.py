"""Debian packages an image adds to its base: locked once, for one base, on top of what it holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tomli

from plinth.core.digest import Digest
from plinth.core.errors import LockError, PackageError, ProblemsError, StaleLockError
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.graph.workspace import Workspace
from plinth.lock.image import lock_images
from plinth.lock.os_packages import lock_packages
from plinth.recipe.base import load_base
from plinth.recipe.image import ImageSpec, load_image
from plinth.recipe.locks.base import LockedDeb, read_lock
from plinth.recipe.locks.packages import read_packages
from support.debs import Archive, Package
from support.http_server import Server, serving
from support.small_checkout import BASE, DEBS, IMAGE, SmallCheckout, make, wheel

SHOWN = f"locks/{IMAGE}/os.toml"
FALLBACK = "fallback"
EXTRA = Package("extra", fields={"Depends": "base-files, helper"})
HELPER = Package("helper")


@pytest.fixture
def checkout(tmp_path: Path) -> SmallCheckout:
    (tmp_path / "wheels").mkdir()
    return make(tmp_path / "checkout", [wheel(tmp_path / "wheels", "one", "1.0")])


@pytest.fixture
def ws(checkout: SmallCheckout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A checkout of an image whose base has a fallback, both assembled from an archive."""
    made = checkout.ws
    first, second = made.bases / f"{BASE}.toml", made.bases / f"{FALLBACK}.toml"
    second.write_text(first.read_text())
    first.write_text(f'fallback = "{FALLBACK}"\n{first.read_text()}')
    lock = made.locks / "base" / f"{BASE}.toml"
    (lock.parent / f"{FALLBACK}.toml").write_text(lock.read_text())
    monkeypatch.setattr("plinth.fetch.apt.archive.KEYRINGS", tmp_path / "keyrings")
    return made


@pytest.fixture
def archive(ws: Workspace, tmp_path: Path) -> Iterator[Server]:
    made = Archive(tmp_path / "archive")
    # What a base holds is not taken anew, though there is a newer one.
    made.add("bookworm", *DEBS, Package("base-files", "99"), EXTRA, HELPER)
    made.publish()
    made.key.write_keyring(tmp_path / "keyrings" / "none.gpg")
    with serving(made.root) as running:
        yield running


@pytest.fixture
def spec(ws: Workspace) -> ImageSpec:
    return replace(load_image(ws.images, IMAGE), os_packages=("extra", "base-passwd"))


def locked(*packages: Package) -> tuple[LockedDeb, ...]:
    return tuple(
        LockedDeb(p.name, p.version, "amd64", "bookworm", p.path(), Digest.of(p.deb))
        for p in packages
    )


def packages_of(ws: Workspace, spec: ImageSpec, name: str) -> tuple[LockedDeb, ...]:
    base = load_base(ws.bases, name)
    return read_packages(ws, spec, base, read_lock(ws, base))


def test_they_are_locked_for_the_base_itself_and_then_left_alone(
    ws: Workspace, archive: Server, spec: ImageSpec
) -> None:
    config = Config(apt={"debian": archive.url})
    told: list[str] = []
    assert lock_packages(ws, spec, config=config, progress=told.append) is True
    assert told[-1] == f"{SHOWN}: 2 packages on top of {BASE}"
    assert packages_of(ws, spec, BASE) == locked(EXTRA, HELPER)
    text = (ws.root / SHOWN).read_text()
    assert tomli.loads(text)["inputs"]["packages"] == ["extra", "base-passwd"]
    assert archive.url not in text
    asked = len(archive.asked)
    assert lock_packages(ws, spec, config=Config(), progress=told.append) is False
    assert len(archive.asked) == asked
    with pytest.raises(LockError, match="locked for another base") as raised:
        packages_of(ws, spec, FALLBACK)
    assert (raised.value.expected, raised.value.found) == (FALLBACK, BASE)
    assert raised.value.remedy == f"build on that base: base={BASE}"
    # Another request, or another base beneath, and it is made anew.
    other = replace(spec, os_packages=("helper",))
    with pytest.raises(StaleLockError):
        packages_of(ws, other, BASE)
    assert lock_packages(ws, other, config=config, progress=quiet) is True
    assert packages_of(ws, other, BASE) == locked(HELPER)
    (ws.root / SHOWN).write_text("inputs = 1\n")
    assert lock_packages(ws, other, config=config, progress=quiet) is True
    assert packages_of(ws, other, BASE) == locked(HELPER)


def test_an_image_that_asks_for_none_has_none(ws: Workspace) -> None:
    spec = load_image(ws.images, IMAGE)
    assert lock_packages(ws, spec, config=Config(), progress=quiet) is False
    assert packages_of(ws, spec, BASE) == ()
    assert not (ws.root / SHOWN).exists()


def test_a_lock_that_is_not_there_or_damaged(ws: Workspace, spec: ImageSpec) -> None:
    with pytest.raises(LockError, match="the OS packages of small are not locked") as raised:
        packages_of(ws, spec, BASE)
    assert raised.value.where == SHOWN
    assert raised.value.remedy == f"lock again: doit lock:{IMAGE}"
    (ws.root / SHOWN).write_text("packages = []\n[inputs\n")
    with pytest.raises(ProblemsError) as malformed:
        packages_of(ws, spec, BASE)
    assert SHOWN in str(malformed.value)


def test_a_package_the_archive_lacks(ws: Workspace, archive: Server, spec: ImageSpec) -> None:
    config = Config(apt={"debian": archive.url})
    with pytest.raises(PackageError) as raised:
        lock_packages(ws, replace(spec, os_packages=("nothing",)), config=config, progress=quiet)
    assert raised.value.where == f"images/{IMAGE}.toml: os.packages"
    assert "nothing" in str(raised.value)
    assert f"delete locks/base/{BASE}.toml" in raised.value.remedy
    assert not (ws.root / SHOWN).exists()


def test_images_on_top_of_others_get_theirs_when_all_is_locked(
    checkout: SmallCheckout, ws: Workspace, archive: Server, tmp_path: Path
) -> None:
    for name in ("a-top", "z-top"):
        (ws.images / f"{name}.toml").write_text(
            f'extends = "{IMAGE}"\nsummary = "a test"\n[os]\npackages = ["extra"]\n'
        )
        checkout.lock([*(tmp_path / "wheels").iterdir()], name)
    config = Config(apt={"debian": archive.url})
    told: list[str] = []

    def written() -> list[str]:
        ids = ["z-top", IMAGE, "a-top"]
        return lock_images(ws, ids, config=config, progress=told.append)

    assert written() == ["z-top", "a-top"]
    for name in ("a-top", "z-top"):
        assert packages_of(ws, load_image(ws.images, name), BASE) == locked(EXTRA, HELPER)
    assert not told[-1].startswith("locks are fresh")
    assert written() == []
    assert told[-1] == "locks are fresh: nothing to do"
