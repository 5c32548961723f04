"""Is the bytecode of an image what its sources compile to? Asked of the verifier's own interpreter,
where it has the very files of the image's: nothing of an image is run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from plinth.build.plan import PYTHON, WHEELS, planned
from plinth.core.digest import Digest
from plinth.core.errors import Problem
from plinth.evidence.verify.verdict import NOT_SHOWN, Check
from plinth.fetch.interpreter import Interpreters
from plinth.fetch.sources.model import SourceLayer
from plinth.formats.python.bytecode import Compiler
from plinth.formats.python.place import PREFIX, site_packages
from plinth.formats.tar import FILE, members
from plinth.formats.wheel.install import bytecode_path
from plinth.formats.wheel.record import parse
from plinth.formats.wheel.splice import has_bytecode
from plinth.graph.cache import Fact
from plinth.inspect.contents.cache import ContentsCache
from plinth.inspect.contents.inflate import Plain
from plinth.inspect.contents.model import LayerContents
from plinth.recipe.recipe import Recipe

VERSION = 1
"""Raised whenever other bytecode would be accepted."""


def check_bytecode(
    recipe: Recipe,
    layers: Sequence[SourceLayer],
    contents: Sequence[LayerContents],
    interpreters: Interpreters,
    cache: ContentsCache | None,
) -> Check:
    """The check `bytecode` of the image of `recipe`: every file of `layers`, which hold `contents`,
    compiled again. Where no interpreter is at hand it passes, and says what was not shown. A layer
    that passed is remembered in `cache`.

    Raises:
        PlinthError, OSError: a layer cannot be read, or the interpreter does not run.
    """
    version, tree = recipe.base.python.version, recipe.base_lock.tree
    total = sum(
        one.bytecode
        for layer in contents
        for one in (*layer.wheels, layer.interpreter)
        if one is not None
    )
    if tree is None:
        return Check("bytecode", f"{NOT_SHOWN} for {total} files: {_REBUILD}")
    waiting = [
        (number, one.kind, layer)
        for number, (one, layer) in enumerate(zip(planned(recipe), layers, strict=True))
        if one.kind in (PYTHON, WHEELS) and not _is_known(cache, contents[number].digest, tree)
    ]
    python = interpreters.find(version, tree) if waiting else None
    if waiting and python is None:
        what = f"the CPython {version} of the image ({tree.oci[:19]}) is not on this machine"
        return Check("bytecode", f"{NOT_SHOWN} for {total} files: {what}; {_REBUILD}")
    problems: list[str] = []
    # Processes of it start with the first file, so that what is known already starts none.
    jobs = len(os.sched_getaffinity(0))
    with Compiler(lambda: python or Path(), jobs) as compiler:
        for number, kind, layer in waiting:
            found = [*_differences(layer, contents[number].digest, kind, version, compiler)]
            problems += [f"layer {number}: {one}" for one in found]
            if not found and cache is not None:
                cache.store(_action(contents[number].digest, tree), "bytecode", b"{}")
    detail = f"{total} files, what their sources compile to"
    return Check("bytecode", "" if problems else detail, tuple(problems))


_REBUILD = "--rebuild shows that they are their sources'"


def _action(layer: Digest, tree: Digest) -> Fact:
    """What it is remembered under that the bytecode in `layer` is of its sources."""
    return Fact("layer-bytecode", {"layer": layer, "tree": tree}, VERSION)


def _is_known(cache: ContentsCache | None, layer: Digest, tree: Digest) -> bool:
    return cache is not None and cache.lookup(_action(layer, tree), "bytecode") is not None


def _differences(
    layer: SourceLayer, digest: Digest, kind: str, version: str, compiler: Compiler
) -> Iterator[Problem]:
    """Each file of bytecode in a layer that is not what compiling gives, is missing, or too many;
    those that a wheel brought along have a hash in its RECORD."""
    sources, found, listed, read = _read(layer, kind, version)
    if read != digest:
        yield Problem("", "the layer changed while it was read")
    made = compiler.compile([(f"/{path}", data) for path, data in sources])
    wanted = {
        bytecode_path(path, version): Digest.of(data).hex
        for (path, _), data in zip(sources, made, strict=True)
        if data is not None
    }
    for path in sorted(wanted):
        if path not in found:
            yield Problem(f"/{path}", "the bytecode of its source is missing")
        elif found[path] != wanted[path]:
            yield Problem(f"/{path}", "it is not what its source compiles to")
    for path in sorted(found.keys() - wanted.keys() - listed):
        yield Problem(f"/{path}", "plinth would have made no bytecode there")


def _read(
    layer: SourceLayer, kind: str, version: str
) -> tuple[list[tuple[str, bytes]], dict[str, str], set[str], Digest]:
    """The sources in a layer that get bytecode, by path; the SHA-256 of all bytecode there; the
    paths that have a hash in a RECORD; and the digest of what was read."""
    library = site_packages(version)
    inside = f"{library if kind == WHEELS else PREFIX}/"
    sources: list[tuple[str, bytes]] = []
    found: dict[str, str] = {}
    listed: set[str] = set()
    with layer.open() as stream, Plain(stream, threads=True) as plain:
        for member, pieces in members(plain):
            path = member.path
            if member.kind != FILE or not path.startswith(inside):
                continue
            if path.endswith(".pyc"):
                found[path] = Digest.of(b"".join(pieces)).hex
            elif path.endswith(".py") and (kind == PYTHON or has_bytecode(path)):
                sources.append((path, b"".join(pieces)))
            elif path.endswith(".dist-info/RECORD"):
                rows, _ = parse(b"".join(pieces))
                listed |= {f"{library}/{row.path}" for row in rows if row.hash}
        digest, _ = plain.finish()
    return sorted(sources), found, listed, digest
