"""Layers of every kind against the plan of their image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from plinth.build.contract_files import LINKS, files, folders, source
from plinth.build.plan import planned
from plinth.core.digest import Digest
from plinth.evidence.sbom.inputs import SbomInputs
from plinth.formats.accounts import ACCOUNTS, with_user
from plinth.formats.debian.deb import File
from plinth.formats.layer.header import ROOT, SHARED
from plinth.inspect.conform import strays
from plinth.recipe.accelerator import Accelerator
from plinth.recipe.base import ImageRootfs
from plinth.recipe.locks.accelerator import AcceleratorLock, LockedVendorFile
from plinth.recipe.recipe import Recipe
from support.layer_files import (
    DPKG,
    LAYERS,
    Files,
    archive,
    changed,
    inputs,
    more,
    small_image,
    text,
    with_locks,
    write_image,
)

ROOTFS = Path(__file__).resolve().parents[3] / "base" / "rootfs"
ROOTS = b"root:x:0:0:root:/root:/bin/bash\n"
Change = Callable[[dict[str, Files]], object]


def _contract() -> Files:
    found = {path: File(path, "directory", mode, owner) for path, mode, owner in folders((), "3.7")}
    for path, mode, owner in files((), "3.7"):
        found[path] = File(path, "file", mode, owner, (ROOTFS / source(path)).read_bytes())
    for path, target, owner in LINKS:
        found[path] = File(path, "symlink", 0o777, owner, target=target)
    return found


def _recipe(recipe: Recipe) -> Recipe:
    """With the contract's files, and a set of an archive and settings for the linker."""
    kept = {
        f"base/rootfs/{source(path)}": (ROOTFS / source(path)).read_bytes()
        for path, _, _ in files((), "3.7")
    }
    file = LockedVendorFile("cuda", "11.0.3", "vendor", "11.0.3/cuda.run", "a" * 64, 10)
    extra = Accelerator("set", "gpu", "", "amd64", (), {}, ("/usr/local/lib",), {}, {}, ())
    lock = AcceleratorLock((), (), {}, {}, (file,))
    return replace(recipe, files=kept, accelerator=extra, accelerator_lock=lock)


def _layers() -> dict[str, Files]:
    """The layers by title, as plinth would make them."""
    system, python, _, demo, other, gl = small_image().values()
    listed = system[f"{DPKG}/info/hello.list"].data + b"/usr/lib/os-release\n"
    return {
        "test-base system": changed(system, f"{DPKG}/info/hello.list", data=listed),
        "test-base python": python,
        "contract": _contract(),
        # What others need is below.
        LAYERS[4]: other,
        LAYERS[3]: demo,
        LAYERS[5]: {**gl, "var": File("var", "directory", 0o1775, SHARED)},
        "cuda 11.0.3": archive(),
        "gpu linker configuration": {
            one.path: one
            for one in (
                text("etc/ld.so.cache", b"a cache"),
                text("etc/ld.so.conf.d/set.conf", b"/usr/local/lib\n"),
            )
        },
    }


def _given(folder: Path, layers: dict[str, Files]) -> SbomInputs:
    given = inputs(write_image(folder, layers))
    return replace(given, recipe=_recipe(given.recipe))


def said(given: SbomInputs) -> list[str]:
    return [str(one) for one in strays(given.recipe, given.manifest, given.contents)]


def test_layers_as_plinth_makes_them(tmp_path: Path) -> None:
    layers = _layers()
    given = _given(tmp_path, layers)
    assert [one.title for one in planned(given.recipe)] == list(layers)
    assert said(given) == []


def _put(title: str, *files: File) -> Change:
    return lambda layers: layers.update({title: more(layers[title], *files)})


LINKER = "gpu linker configuration"
CASES: list[tuple[str, Change, str]] = [
    (
        "another configuration of the linker",
        _put(LINKER, text("etc/ld.so.conf.d/set.conf", b"/tmp\n")),
        f"layer 7 ({LINKER}): /etc/ld.so.conf.d/set.conf: its content should be sha256:",
    ),
    (
        "another file in the linker's layer",
        _put(LINKER, text("etc/ld.so.preload", b"/tmp/x.so\n")),
        f"layer 7 ({LINKER}): /etc/ld.so.preload: plinth puts no such entry into this layer",
    ),
    (
        "a file that an archive's record does not have",
        _put("cuda 11.0.3", text("usr/local/lib/evil.so", b"x")),
        "layer 6 (cuda 11.0.3): /usr/local/lib/evil.so: no package of the layer has it",
    ),
    (
        "a program of an archive",
        _put("cuda 11.0.3", text("usr/local/lib/libx.so.1.5", b"\x7fELF a library", 0o755)),
        "layer 6 (cuda 11.0.3): /usr/local/lib/libx.so.1.5: nothing of this layer may be file 0755",
    ),
    (
        "a Debian package that replaces a file of the base",
        _put(LAYERS[5], text("usr/bin/hello", b"x", 0o755)),
        f"layer 5 ({LAYERS[5]}): /usr/bin/hello: it replaces what layer 0 (test-base system) has",
    ),
    (
        "a Debian package that takes a folder of the contract back",
        _put(LAYERS[5], File("var/log", "directory", 0o755, ROOT)),
        f"layer 5 ({LAYERS[5]}): /var/log: it replaces what layer 2 (contract) has there",
    ),
    (
        "a setuid file that no list has",
        _put(LAYERS[5], text("usr/bin/evil", b"x", 0o4755)),
        f"layer 5 ({LAYERS[5]}): /usr/bin/evil: nothing of this layer may be file 4755",
    ),
]


@pytest.mark.parametrize(("change", "message"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_what_is_not_of_the_plan(tmp_path: Path, change: Change, message: str) -> None:
    layers = _layers()
    change(layers)
    found = said(_given(tmp_path, layers))
    assert any(one.startswith(message) for one in found), found


def _accounts(system: Files) -> dict[str, bytes]:
    """Those of a base, with the image's user."""
    return {p: with_user(p, system[p].data if p in system else b"") for p in ACCOUNTS}


def test_a_pulled_base_is_its_layer_and_nothing_else_is_asked_of_it(tmp_path: Path) -> None:
    layers = _layers()
    system = more(layers.pop("test-base system"), text("usr/bin/any", b"x", 0o4777))
    layers = {"library/ubuntu (unmodified)": system, **layers}
    accounts = _accounts(system)
    layers["contract"] = more(layers["contract"], *(text(*one) for one in accounts.items()))
    given = _given(tmp_path, layers)
    own = given.manifest.layers[0].digest
    rootfs = ImageRootfs("r", "library/ubuntu", "", own, own, own, given.contents[0].diff_id)
    base = replace(given.recipe.base, rootfs=rootfs)
    assert said(with_locks(given, base=base)) == []
    other = replace(rootfs, layer=Digest.of(b"another"))
    (problem,) = said(with_locks(given, base=replace(base, rootfs=other)))
    assert problem.startswith("layer 0 (library/ubuntu (unmodified)): the base is sha256:")


@pytest.mark.parametrize(
    ("path", "below", "above", "problem"),
    [
        ("etc/passwd", ROOTS, with_user("etc/passwd", ROOTS), ""),
        ("etc/group", b"", with_user("etc/group", b""), ""),
        ("etc/passwd", ROOTS, ROOTS + b"x::0:0::/:/bin/sh\n", "/etc/passwd: its content should be"),
        ("etc/passwd", ROOTS, None, "/etc/passwd: it is missing"),
        ("etc/shadow", b"", b"root::1::::::\n", "/etc/shadow: plinth puts no such entry"),
    ],
)
def test_the_accounts_over_a_pulled_base_are_its_own_and_the_users(
    tmp_path: Path, path: str, below: bytes, above: bytes | None, problem: str
) -> None:
    layers = _layers()
    system = more(layers.pop("test-base system"), text(path, below))
    layers = {"library/ubuntu (unmodified)": system, **layers}
    accounts: dict[str, bytes | None] = {**_accounts(system), path: above}
    files = [text(one, data) for one, data in accounts.items() if data is not None]
    layers["contract"] = more(layers["contract"], *files)
    given = _given(tmp_path, layers)
    own = given.manifest.layers[0].digest
    rootfs = ImageRootfs("r", "library/ubuntu", "", own, own, own, given.contents[0].diff_id)
    found = said(with_locks(given, base=replace(given.recipe.base, rootfs=rootfs)))
    assert any(problem in one for one in found) if problem else found == []
