"""`explain`: what changed since the last build, and which layers the next one will make."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from plinth.accelerator.lock import choose
from plinth.base.build import choose_base, planned_base
from plinth.base.lock import LockedDeb
from plinth.base.model import Base
from plinth.build import layer_order
from plinth.config import Config
from plinth.debian.layers import lacking
from plinth.lazy import cached_lazy
from plinth.lock import stale
from plinth.lock.packages import read_packages
from plinth.lock.pylock import LockedPackage
from plinth.oci.model import Layer
from plinth.record import Record, inputs_of, read_record
from plinth.report import human_size
from plinth.spec.base import load_base
from plinth.spec.image import ESTARGZ, load_image
from plinth.wheel.layer import WheelFile, cached_layer
from plinth.wheel.sdist import cached_wheel
from plinth.workspace import Workspace


def explain_image(
    ws: Workspace, image_id: str, *, config: Config, base: str = "", accelerator: str = ""
) -> str:
    """A text for people: inputs changed, packages changed, layers to build, bytes that a push to
    where plinth pushed before would send. Builds nothing and asks nobody.

    Raises:
        PlinthError: as a build would: the lock is stale, a specification is invalid.
    """
    spec = load_image(ws.images, image_id)
    lock = stale.check(ws, image_id)
    base_name, reason = choose_base(ws, spec.base, config=config, insist=base)
    extra, extra_lock, missing_set = choose(ws, spec.accelerator, insist=accelerator)
    record = read_record(ws, image_id)
    lines = [f"{image_id} on {base_name}", *filter(None, (reason, missing_set))]
    packages = {package.name: package.version for package in lock.packages}
    if record is None:
        lines.append("never built here")
    else:
        before = {**record.inputs, "base": record.base}
        after = {
            **inputs_of(ws, image_id, base_name, extra.name if extra else ""),
            "base": base_name,
        }
        changed = [
            name for name in sorted({*before, *after}) if before.get(name) != after.get(name)
        ]
        lines.append("inputs changed: " + (", ".join(changed) if changed else "none"))
        lines += [f"  {line}" for line in _package_changes(record.packages, packages)]
    held, missing = [], []
    known_base = planned_base(ws, base_name)
    if known_base is None:
        lines.append(f"the base {base_name} is to be built, and with it all layers")
        return "\n".join(lines)
    sdists = load_base(ws.bases, base_name).sdists
    wheels = extra_lock.wheels if extra_lock else ()
    for package in [*layer_order(ws, spec, lock), *wheels]:
        wheel: WheelFile | None
        if package.is_sdist:
            settings = sdists.get(package.name)
            wheel = cached_wheel(ws, package, known_base, settings.environment if settings else {})
        else:
            wheel = WheelFile(package.name, package.version, package.file.name, package.file.digest)
        layer = cached_layer(ws, wheel, known_base) if wheel else None
        if layer is None:
            missing.append(package)
        else:
            held.append(layer)
    size = human_size(sum(layer.digest.size for layer in held))
    lines.append(f"layers held: {len(held)} of {len(lock.packages) + len(wheels)} packages, {size}")
    if missing:
        lines.append(f"layers to build: {len(missing)}, from {_inputs(ws, missing)}")
        lines += [
            f"  {package.name} {package.version}  "
            f"({human_size(package.file.digest.size)} {'sdist' if package.is_sdist else 'wheel'}"
            f"{'' if ws.cache.has(package.file.digest) else ', to be fetched'})"
            for package in missing
        ]
    else:
        lines.append("layers to build: none")
    lines += _os_packages(ws, "OS packages", read_packages(ws, spec, base_name))
    lines += _os_packages(ws, "accelerator packages", extra_lock.packages if extra_lock else ())
    if spec.layer_format == ESTARGZ:
        held = [cached_lazy(ws, layer) or layer for layer in held]
        below = tuple(cached_lazy(ws, layer) or layer for layer in known_base.layers)
        known_base = replace(known_base, layers=below)
    lines += push_lines(ws, held, known_base, record, to_build=bool(missing))
    return "\n".join(lines)


def _inputs(ws: Workspace, packages: Sequence[LockedPackage]) -> str:
    """How much there is to build from, and how much of it to fetch."""
    files = {package.file.digest for package in packages}
    absent = sum(digest.size for digest in ws.cache.missing(files))
    total = human_size(sum(digest.size for digest in files))
    return f"{total} of inputs" + (f", {human_size(absent)} to be fetched" if absent else "")


def push_lines(
    ws: Workspace, held: Sequence[Layer], base: Base, record: Record | None, *, to_build: bool
) -> Iterator[str]:
    """What a push would send to each registry that was pushed to, as this build folder notes it
    (`plinth.publish.known`)."""
    sizes = {layer.digest.hex: layer.digest.size for layer in (*held, *base.layers)}
    if record is not None:
        # Layers that are no package's: small, and seldom other ones.
        wheels = {f"{name} {version}" for name, version in record.packages.items()}
        for digest, name in record.layers.items():
            path = ws.layout.blobs / digest
            if name not in wheels and digest not in sizes and path.exists():
                sizes[digest] = path.stat().st_size
    for path in sorted((ws.build / "publish").glob("*.json")):
        try:
            known = {str(one) for blobs in json.loads(path.read_bytes()).values() for one in blobs}
        except (OSError, ValueError, AttributeError, TypeError):
            continue
        new = [size for digest, size in sizes.items() if digest not in known]
        more = ", and what is to be built" if to_build else ""
        yield f"a push to {path.stem} sends {len(new)} layers, {human_size(sum(new))}{more}"


def _os_packages(ws: Workspace, what: str, packages: Sequence[LockedDeb]) -> Iterator[str]:
    if packages:
        to_build = lacking(ws, packages)
        total = human_size(sum(package.digest.size for package in to_build))
        yield f"{what} to build: {len(to_build)} of {len(packages)}, {total}"


def _package_changes(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if before is None:
            yield f"{name} {after} added"
        elif after is None:
            yield f"{name} {before} removed"
        else:
            yield f"{name} {before} became {after}"
