"""Layers held against the plan of their image: which there are, what each may hold, with which
modes and owners, and that none replaces what is below it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from plinth.build.contract_files import ALL_FOLDERS, LINKS, files, folders, source
from plinth.build.plan import (
    ARCHIVE,
    CONTRACT,
    DEBS,
    LINKER,
    PULLED,
    PYTHON,
    SYSTEM,
    WHEELS,
    Planned,
    linker_settings,
    planned,
)
from plinth.core.digest import Digest
from plinth.core.errors import Problem
from plinth.formats.accounts import ACCOUNTS, HOME, with_user
from plinth.formats.debian.rootfs import is_generated
from plinth.formats.elf.ldcache import PATH as LINKER_CACHE
from plinth.formats.layer.header import DOCKERUSER, ROOT, Owner
from plinth.formats.oci.manifest import Manifest
from plinth.formats.python.place import FILE_MODES, owner_of, site_packages
from plinth.inspect.contents.model import DIRECTORY, FILE, SYMLINK, Entry, LayerContents
from plinth.recipe.base import ImageRootfs
from plinth.recipe.order import install_order
from plinth.recipe.recipe import Recipe

_SHOWN = 5
_FOLDER, _LINK = 0o755, 0o777
# Packages on top have them as they are.
_CONTRACT = {(path, mode, f"{owner.uid}:{owner.gid}") for path, mode, owner in ALL_FOLDERS}


def strays(recipe: Recipe, manifest: Manifest, contents: Sequence[LayerContents]) -> list[Problem]:
    """Where the layers, which hold `contents`, are not those of an image of `recipe`. Versions of
    packages, and files by their packages' own lists, are for others to compare."""
    plan = planned(recipe)
    problems = [*_order([one.title for one in plan], [one.title for one in manifest.layers])]
    if problems or len(contents) != len(plan):
        return problems
    for number, (one, layer) in enumerate(zip(plan, contents, strict=True)):
        found = [*_foreign(recipe, manifest, layer)] if one.kind == PULLED else []
        if one.kind != PULLED:
            found += [*_packages(one, layer), *_loose(recipe, one, layer, contents[0])]
            found += [*_attributes(recipe, one, layer), *_parents(layer)]
        at = f"layer {number} ({one.title})"
        problems += [Problem(f"{at}: {p.path}" if p.path else at, p.message) for p in found]
    return [*problems, *_left(recipe, plan, contents), *_replaced(plan, contents)]


def _order(wanted: Sequence[str], found: Sequence[str]) -> Iterator[Problem]:
    for title in dict.fromkeys(wanted):
        if title not in found:
            yield Problem(f"layer {title!r}", "the locks give it, the image lacks it")
    for title in dict.fromkeys(found):
        if title not in wanted:
            yield Problem(f"layer {title!r}", "the image has it, no lock gives it")
        elif found.count(title) > 1:
            yield Problem(f"layer {title!r}", "the image has it more than once")
    for number, (one, other) in enumerate(zip(wanted, found, strict=False)):
        if one != other:
            yield Problem(f"layer {number}", f"the locks give {one!r} there, it is {other!r}")
            return


def _foreign(recipe: Recipe, manifest: Manifest, layer: LayerContents) -> Iterator[Problem]:
    """A pulled base is locked as a whole."""
    rootfs = recipe.base.rootfs
    if isinstance(rootfs, ImageRootfs):
        digest = manifest.layers[0].digest
        if (digest, layer.diff_id) != (rootfs.layer, rootfs.diff_id):
            yield Problem("", f"the base is {rootfs.layer.oci}, the image has {digest.oci}")


def _packages(one: Planned, layer: LayerContents) -> Iterator[Problem]:
    """Packages of the kind that the layer is for, those of the locks, and no others."""
    for called, kinds, packages in (
        ("Python package", (WHEELS,), layer.wheels),
        ("Debian package", (SYSTEM, DEBS), layer.debs),
        ("archive", (ARCHIVE,), layer.archives),
    ):
        held = {package.name for package in packages}
        wanted = set(one.holds) if one.kind in kinds else set()
        for name in sorted(held - wanted):
            yield Problem(name, f"the layer holds this {called}, the locks put it elsewhere")
        for name in sorted(wanted - held):
            yield Problem(name, f"the locks put this {called} here, the layer lacks it")
    if (layer.interpreter is not None) != (one.kind == PYTHON):
        state = "lacks" if one.kind == PYTHON else "holds"
        yield Problem("", f"the layer {state} an interpreter")


def _loose(
    recipe: Recipe, one: Planned, layer: LayerContents, lowest: LayerContents
) -> Iterator[Problem]:
    """Entries that no package accounts for, but those that plinth itself puts there."""
    exact = _exact(recipe, one, lowest)
    if exact is not None:
        held = {entry.path: entry.sha256 or entry.target for entry in layer.unaccounted}
        there = {path for paths in layer.entries.values() for path in paths}
        for path in sorted(there - exact.keys()):
            yield Problem(f"/{path}", "plinth puts no such entry into this layer")
        for path, (attributes, content) in exact.items():
            if path not in layer.entries.get(attributes, ()):
                yield Problem(f"/{path}", f"it is missing, or is not {attributes}")
            elif content and held.get(path) != content:
                what, kind = ("target", "") if _is_link(attributes) else ("content", "sha256:")
                found = f"{kind}{held.get(path, '')}"
                yield Problem(f"/{path}", f"its {what} should be {kind}{content}, it is {found}")
    elif one.kind in (PYTHON, WHEELS, ARCHIVE, SYSTEM):
        own = site_packages(recipe.base.python.version)
        for entry in layer.unaccounted:
            made = one.kind == PYTHON and (entry.path, entry.kind) == (own, DIRECTORY)
            if not made and not (one.kind == SYSTEM and is_generated(entry.path)):
                yield Problem(f"/{entry.path}", "no package of the layer has it")


def _exact(
    recipe: Recipe, one: Planned, lowest: LayerContents
) -> dict[str, tuple[str, str]] | None:
    """Attributes and SHA-256 or target (empty: of a folder, or not known) of every entry of a layer
    that is plinth's own, above the `lowest`; None for others."""
    if one.kind == CONTRACT:
        packages = [package.name for package in recipe.base_lock.packages]
        python = recipe.base.python.version
        kept = {
            path: (_shown(FILE, mode, owner), _sha256(recipe.files, f"base/rootfs/{source(path)}"))
            for path, mode, owner in files(packages, python)
        }
        if isinstance(recipe.base.rootfs, ImageRootfs):
            for path in ACCOUNTS:
                accounts = with_user(path, lowest.accounts.get(path, "").encode("latin-1"))
                kept[path] = _shown(FILE, 0o644, ROOT), Digest.of(accounts).hex
        made = {
            p: (_shown(DIRECTORY, mode, owner), "") for p, mode, owner in folders(packages, python)
        }
        links = {p: (_shown(SYMLINK, _LINK, owner), target) for p, target, owner in LINKS}
        return made | kept | links
    if one.kind == LINKER and recipe.accelerator is not None:
        settings, text = linker_settings(recipe.accelerator)
        file, folder = _shown(FILE, 0o644, ROOT), _shown(DIRECTORY, _FOLDER, ROOT)
        return {
            "etc": (folder, ""),
            settings.rpartition("/")[0]: (folder, ""),
            settings: (file, Digest.of(text.encode()).hex),
            LINKER_CACHE: (file, ""),
        }
    return None


def _is_link(attributes: str) -> bool:
    return attributes.startswith(f"{SYMLINK} ")


def _sha256(files: Mapping[str, bytes], path: str) -> str:
    return Digest.of(files[path]).hex if path in files else "missing"


def _shown(kind: str, mode: int, owner: Owner) -> str:
    return Entry("", kind, mode, *owner).attributes


def _attributes(recipe: Recipe, one: Planned, layer: LayerContents) -> Iterator[Problem]:
    """Modes and owners are those that the layer's writer gives."""
    if one.kind in (CONTRACT, LINKER):
        return
    loose = {entry.path for entry in layer.unaccounted}
    for attributes, paths in layer.entries.items():
        kind, mode, owner = attributes.split(" ")
        bad = [p for p in paths if not _may_be(one.kind, p, kind, int(mode, 8), owner, loose)]
        for path in bad[:_SHOWN]:
            message = f"nothing of this layer may be {attributes} there"
            if mode[0] != "0" or len(mode) > 4:
                message += " (setuid, setgid or sticky)"
            yield Problem(f"/{path}", message)
        if len(bad) > _SHOWN:
            yield Problem("", f"and {len(bad) - _SHOWN} more that are {attributes}")


def _may_be(layer: str, path: str, kind: str, mode: int, owner: str, loose: set[str]) -> bool:
    if layer in (WHEELS, PYTHON):
        wanted = owner_of(path)
        usual = _usual(kind, mode, FILE_MODES) and (kind != SYMLINK or layer == PYTHON)
        return usual and (kind == DIRECTORY or wanted != ROOT) and owner == _numbers(wanted)
    if layer == ARCHIVE:
        return _usual(kind, mode, (0o644,)) and owner == _numbers(ROOT)
    # Which modes Debian's packages give, they alone know; those of files that none of them has,
    # plinth gives.
    if kind == SYMLINK:
        return True
    if mode & 0o002 and not (kind == DIRECTORY and mode & 0o1000):
        return False
    if kind == FILE and mode & 0o7000 and path in loose:
        return False
    if kind == DIRECTORY and (path, mode, owner) in _CONTRACT:
        return True
    return path == HOME or str(DOCKERUSER.uid) != owner.partition(":")[0]


def _usual(kind: str, mode: int, of_files: Sequence[int]) -> bool:
    if kind == FILE:
        return mode in of_files
    return mode == {DIRECTORY: _FOLDER, SYMLINK: _LINK}.get(kind)


def _numbers(owner: Owner) -> str:
    return f"{owner.uid}:{owner.gid}"


def _parents(layer: LayerContents) -> Iterator[Problem]:
    """Each entry's folder is in the layer: engines make up those that are not."""
    folders = {
        path
        for attributes, paths in layer.entries.items()
        if attributes.startswith(f"{DIRECTORY} ")
        for path in paths
    }
    folders.add("")
    for paths in layer.entries.values():
        for path in paths:
            if path.rpartition("/")[0] not in folders:
                yield Problem(f"/{path}", "the folder that it is in is not in the layer")


def _left(
    recipe: Recipe, plan: Sequence[Planned], contents: Sequence[LayerContents]
) -> Iterator[Problem]:
    """Files that a wheel's RECORD lists and that are not there, unless a package that pip installs
    later has its own in their place, in the same layer or in one below."""
    order = {name: number for number, name in enumerate(install_order(recipe.wheels))}
    if not any(wheel.absent for layer in contents for wheel in layer.wheels):
        return
    later: dict[str, int] = {}
    for number, (one, layer) in enumerate(zip(plan, contents, strict=True)):
        if one.kind != WHEELS:
            continue
        last = max((order[wheel.name] for wheel in layer.wheels if wheel.name in order), default=0)
        for attributes, paths in layer.entries.items():
            if attributes.startswith(f"{FILE} "):
                later.update((path, max(last, later.get(path, 0))) for path in paths)
        for wheel in layer.wheels:
            for path in wheel.absent:
                if later.get(path, -1) <= order.get(wheel.name, 0):
                    at = f"layer {number} ({one.title}): /{path}"
                    message = (
                        f"{wheel.folder}/RECORD lists it as a file, and it is not in the layer"
                    )
                    yield Problem(at, message)


def _replaced(plan: Sequence[Planned], contents: Sequence[LayerContents]) -> Iterator[Problem]:
    """What a layer puts in the place of something below it, but where plinth does so: the folders
    of the contract, the accounts of a pulled base, the linker's cache, and, as pip would, a file of
    one wheel by another's."""
    below: dict[str, tuple[int, str]] = {}
    for number, (one, layer) in enumerate(zip(plan, contents, strict=True)):
        for attributes, paths in layer.entries.items():
            folder = attributes.startswith(f"{DIRECTORY} ")
            for path in paths:
                there = below.get(path)
                below[path] = number, attributes
                if there is None or (there[1] == attributes and folder):
                    continue
                other = plan[there[0]]
                both = folder and there[1].startswith(f"{DIRECTORY} ")
                files = not folder and there[1].startswith(f"{FILE} ")
                if (both and one.kind == CONTRACT) or (
                    files
                    and (
                        (one.kind, other.kind) == (WHEELS, WHEELS)
                        or (one.kind == LINKER and path == LINKER_CACHE)
                        or ((one.kind, other.kind) == (CONTRACT, PULLED) and path in ACCOUNTS)
                    )
                ):
                    continue
                yield Problem(
                    f"layer {number} ({one.title}): /{path}",
                    f"it replaces what layer {there[0]} ({other.title}) has there ({there[1]})",
                )
