"""Is a lock still the lock of what is in the tree?"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from plinth.core.digest import Digest, Json
from plinth.core.errors import LockError, Problem, StaleLockError
from plinth.core.regular import read_regular
from plinth.graph.workspace import Workspace
from plinth.recipe.asked.asked import with_inputs
from plinth.recipe.gpu import check_gpu_libraries
from plinth.recipe.image import ImageSpec, Target, load_image, load_target
from plinth.recipe.locks.document import check_inputs
from plinth.recipe.locks.inputs import changes, inputs_of
from plinth.recipe.locks.pins import read_pins
from plinth.recipe.locks.pylock import ImageLock, LockedPackage, PylockError, every_file, load
from plinth.recipe.target import fits


@dataclass(frozen=True)
class LockedImage:
    """An image's specification, what its wheels must run on, and the lock made from both; `parent`
    is the image it extends, None where it extends no other."""

    spec: ImageSpec
    target: Target
    lock: ImageLock
    parent: LockedImage | None


def check(ws: Workspace, image_id: str) -> ImageLock:
    """The lock of `image_id`; raises as `read_image` does."""
    return read_image(ws, image_id).lock


def read_image(ws: Workspace, image_id: str) -> LockedImage:
    """The specification of `image_id` and its lock, which was made from what the tree holds now.

    Raises:
        LockError: there is no lock, or it was edited by hand.
        PylockError: it is malformed, or names a wheel the target cannot load.
        StaleLockError: its inputs changed since; says which and how. Or those of the image it
            extends did.
    """
    spec = load_image(ws.images, image_id)
    target = load_target(ws.bases, spec.base)
    folder = ws.locks / image_id
    shown = f"locks/{image_id}/pylock.toml"
    if not (folder / "pylock.toml").exists():
        raise LockError(
            f"there is no lock for {image_id}", where=shown, remedy=f"make it: doit lock:{image_id}"
        )
    lock = load(folder / "pylock.toml", shown)
    again = f"lock again: doit lock:{image_id}"
    check_inputs(lock.inputs, lock.inputs_digest, shown, remedy=again)
    spec = with_inputs(ws.root, spec, target, lock.inputs)
    parent = read_image(ws, spec.extends) if spec.extends else None
    extended = parent.lock.requirements_digest if parent else ""
    found = changes(lock.inputs, inputs_of(spec, target, extended))
    if found:
        raise StaleLockError(
            f"the lock of {image_id} was made from other inputs",
            where=shown,
            found="\n".join(found),
            remedy=again,
        )
    text = folder / "requirements.txt"
    try:
        data = read_regular(text, f"locks/{image_id}/requirements.txt", ws.locks.parent)
    except FileNotFoundError:
        data = None
    if data is None or Digest.of(data).hex != lock.requirements_digest:
        raise StaleLockError(
            "requirements.txt and pylock.toml do not belong together",
            where=f"locks/{image_id}/requirements.txt",
            expected=f"sha256:{lock.requirements_digest}",
            found="no file" if data is None else f"sha256:{Digest.of(data).hex}",
            remedy=again,
        )
    _fits(lock, target, image_id, shown)
    held = parent.lock.packages if parent else ()
    _bound(lock, spec, {package.name for package in held}, shown)
    if parent:
        _holds(lock, parent, shown, remedy=again)
    _agrees(lock, data, image_id, shown)
    _as_pinned(lock, spec, shown)
    check_gpu_libraries(spec, lock.packages)
    return LockedImage(spec, target, lock, parent)


def _bound(lock: ImageLock, spec: ImageSpec, held: Collection[str], shown: str) -> None:
    """Refuse a file that is from another index than the one that the specification binds its
    project to. Packages that are `held` are from where the extended image has them from, with what
    they are built with."""
    problems = []
    for package in every_file(one for one in lock.packages if one.name not in held):
        wanted = spec.indexes.get(package.name, "")
        allowed = {wanted, ""} if package.name in spec.fallbacks else {wanted}
        if package.index not in allowed:
            is_from = f"from the index {package.index}" if package.index else "from no named index"
            bound = f"binds it to {wanted}" if wanted else "binds it to none"
            problems.append(
                Problem(package.name, f"it is {is_from}, images/{spec.id}.toml {bound}")
            )
    if problems:
        raise PylockError(shown, problems, remedy=f"lock again: doit lock:{spec.id}")


def _holds(lock: ImageLock, parent: LockedImage, shown: str, *, remedy: str) -> None:
    """Refuse a lock that has another file of a package, or has its sdist built with others, than
    the image that it extends."""
    mine = {package.name: package for package in lock.packages}
    found = []
    for package in parent.lock.packages:
        one = mine.get(package.name)
        if one is None or _files(one) != _files(package):
            was = f"{package.file.name} ({package.file.digest.oci})"
            now = f"{one.file.name} ({one.file.digest.oci})" if one else "nothing"
            if one and one.file.digest == package.file.digest:
                now = "has it from another index, or builds it with other files"
            found.append(f"{package.name}: {parent.spec.id} holds {was}, the lock {now}")
    if found:
        raise StaleLockError(
            f"the lock does not hold the files of {parent.spec.id}, which it extends",
            where=shown,
            found="\n".join(found),
            remedy=remedy,
        )


def _files(package: LockedPackage) -> list[tuple[str, str, str]]:
    """The file of a package and those that it is built with: names, digests, indexes."""
    every = (package, *package.build_requires)
    return [(one.file.name, one.file.digest.hex, one.index) for one in every]


def _agrees(lock: ImageLock, requirements: bytes, image_id: str, shown: str) -> None:
    """Refuse a lock whose two files do not say the same: each file named is one of those that
    pip-tools found."""
    again = f"lock again: doit lock:{image_id}"
    where = f"locks/{image_id}/requirements.txt"
    found = {pin.name: pin for pin in read_pins(requirements, where, remedy=again)}
    problems = []
    for number, package in enumerate(lock.packages):
        pin = found.get(package.name)
        if pin is None or package.version != pin.version:
            pinned = pin.version if pin else "nothing"
            problems.append(
                Problem(
                    f"packages[{number}].version",
                    f"{package.name} {package.version}, where requirements.txt pins {pinned}",
                )
            )
        elif package.file.digest.hex not in pin.hashes:
            problems.append(
                Problem(
                    f"packages[{number}]",
                    f"requirements.txt has no such hash for {package.name}: "
                    f"{package.file.digest.oci}",
                )
            )
    missing = sorted(set(found) - {package.name for package in lock.packages})
    if missing:
        problems.append(Problem("packages", f"requirements.txt pins {', '.join(missing)} too"))
    if problems:
        raise PylockError(shown, problems, remedy=again)


def recorded(ws: Workspace, image_id: str) -> Mapping[str, Json]:
    """What the lock of `image_id` has recorded of packages of one's own; nothing where there is
    no valid lock."""
    try:
        shown = f"locks/{image_id}/pylock.toml"
        found = load(ws.locks / image_id / "pylock.toml", shown).inputs.get("local")
    except PylockError:
        return {}
    return found if isinstance(found, dict) else {}


def _as_pinned(lock: ImageLock, spec: ImageSpec, shown: str) -> None:
    """Refuse files that the inputs of the specification do not allow."""
    problems = [
        Problem(
            f"packages[{number}]",
            f"{package.file.name} ({package.file.digest.oci}) is none of the files that "
            f"{pin.where} has for {package.name}",
        )
        for number, package in enumerate(lock.packages)
        if (pin := spec.pins.get(package.name))
        and not pin.allows(package.version, package.file.digest.hex)
    ]
    if problems:
        raise PylockError(shown, problems, remedy=f"lock again: doit lock:{spec.id}")


def _fits(lock: ImageLock, target: Target, image_id: str, shown: str) -> None:
    """Refuse wheels that the image's Python or libc cannot load, whoever wrote the lock."""
    problems = [
        Problem(
            f"packages[{number}].wheels[0].name",
            f"{package.file.name} does not fit the image {image_id}: it wants CPython "
            f"{target.python} and glibc up to {target.glibc[0]}.{target.glibc[1]}",
        )
        for number, package in enumerate(lock.packages)
        if not package.is_sdist and not fits(package.file.name, target)
    ]
    if problems:
        raise PylockError(shown, problems, remedy=f"lock again: doit lock:{image_id}")
