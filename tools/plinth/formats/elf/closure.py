"""The ELF closure: does every shared object of an image find all it needs, inside the image?

How the dynamic linker searches: ld.so(8), "DESCRIPTION"; GNU libc's defaults for x86-64 as Debian
and Ubuntu build it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from plinth.formats.elf.read import ElfFile
from plinth.formats.elf.scan import LayerScan

DEFAULT = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib", "usr/lib")
# More links in one path than the kernel follows (path_resolution(7)).
_LINKS = 41
_GPU = re.compile(
    r"lib(cuda|cudart|cublas|cublasLt|cudnn\w*|cufft|cufftw|curand|cusolver|cusparse|nccl|nvrtc"
    r"|nvToolsExt|nvjpeg)(-[0-9a-f]{8})?\.so"
)
_HASHED = re.compile(r"-[0-9a-f]{8}\.so")


@dataclass(frozen=True)
class Rules:
    """What an image's specification says of its objects.

    `dlopen` are names the framework opens by itself, `host` names that the container runtime
    brings from the host, `gpu` whether libraries of a GPU belong into the image.
    """

    dlopen: tuple[str, ...] = ()
    host: frozenset[str] = frozenset()
    gpu: bool = False


@dataclass(frozen=True)
class Finding:
    """One thing wrong: the layer's name, the file, and what is wrong with it."""

    layer: str
    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path} ({self.layer}): {self.what}" if self.path else self.what


@dataclass
class Tree:
    """The objects of an image, upper layers over lower ones, and how the linker sees them."""

    objects: dict[str, ElfFile] = field(default_factory=dict)
    layer_of: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, scans: Sequence[tuple[str, LayerScan]]) -> Tree:
        """The tree of layers, given bottom first as pairs of name and scan."""
        tree = cls()
        for name, scan in scans:
            for path, found in scan.objects.items():
                tree.links.pop(path, None)
                tree.objects[path] = found
                tree.layer_of[path] = name
            for path, target in scan.links.items():
                tree.objects.pop(path, None)
                tree.links[path] = target
                tree.layer_of[path] = name
            tree.settings.update(scan.settings)
        return tree

    def real(self, path: str) -> str:
        """`path` with every symbolic link followed; empty where they go round in circles."""
        parts = [part for part in path.split("/") if part]
        done: list[str] = []
        followed = 0
        while parts and followed < _LINKS:
            part = parts.pop(0)
            if part == ".":
                continue
            if part == "..":
                done = done[:-1]
                continue
            here = "/".join([*done, part])
            target = self.links.get(here)
            if target is None:
                done.append(part)
            else:
                followed += 1
                if target.startswith("/"):
                    done = []
                parts = [p for p in target.split("/") if p] + parts
        return "" if followed == _LINKS else "/".join(done)

    def folders(self) -> list[str]:
        """Folders searched for every object: those of ld.so.conf, then the built-in ones."""
        found = []
        # Beside them may lie what ld.so.conf does not include, such as x.conf.dpkg-old.
        for path in sorted(path for path in self.settings if path.endswith(".conf")):
            for line in self.settings[path].splitlines():
                folder = line.split("#")[0].strip()
                if folder.startswith("/"):
                    found.append(folder.strip("/"))
        return list(dict.fromkeys([*found, *DEFAULT]))

    def libraries(self) -> Iterator[tuple[str, str]]:
        """Names of libraries in all folders, with the path each stands for."""
        seen = set()
        names = [*self.objects, *self.links]
        inside: dict[str, list[str]] = {}
        for path in sorted(names):
            folder, _, name = path.rpartition("/")
            if ".so" in name:
                inside.setdefault(self.real(folder), []).append(name)
        for folder in self.folders():
            for name in inside.get(self.real(folder), []):
                path = self.real(f"{folder}/{name}")
                if path in self.objects and name not in seen:
                    seen.add(name)
                    yield name, f"{folder}/{name}"

    def cached(self) -> list[tuple[str, str]]:
        """Those of `libraries` that ldconfig would list: by their sonames, or as `*.so`."""
        found = []
        for name, path in self.libraries():
            soname = self.objects[self.real(path)].soname
            if name == soname or not soname or name.endswith(".so"):
                found.append((name, path))
        return found


def check(
    scans: Sequence[tuple[str, LayerScan]], rules: Rules, frameworks: frozenset[str] = frozenset()
) -> tuple[list[Finding], list[str]]:
    """What is wrong with an image's objects, and what is worth a note.

    `scans` are layers, bottom first, by name; `frameworks` names those of packages the image was
    asked to hold, which may bring libraries of a GPU of their own.
    """
    tree = Tree.of(scans)
    checker = _Checker(tree, rules)
    problems = list(checker.problems())
    problems += checker.conflicts()
    gpu: dict[str, list[str]] = {}
    for path in sorted(tree.objects):
        if not rules.gpu and _GPU.match(posixpath.basename(path)):
            gpu.setdefault(tree.layer_of[path], []).append(posixpath.basename(path))
    notes = []
    for layer, names in gpu.items():
        if layer in frameworks:
            notes.append(f"{layer} carries libraries of a GPU: {', '.join(names)}")
        else:
            problems.append(
                Finding(layer, "", f"{layer} holds libraries of a GPU: {', '.join(names)}")
            )
    return problems, notes


class _Checker:
    """Loads every object as the linker would: first those that nothing needs, such as extension
    modules and programs, each with all that it needs in turn."""

    def __init__(self, tree: Tree, rules: Rules) -> None:
        self.tree = tree
        self.rules = rules
        self.cache = dict(tree.cached())
        self.chosen: dict[str, dict[str, str]] = {}
        self.visited: set[tuple[str, tuple[str, ...]]] = set()
        self.found: dict[Finding, None] = {}

    def problems(self) -> Iterator[Finding]:
        wanted = {name for found in self.tree.objects.values() for name in found.needed}
        names = [*self.tree.objects, *self.tree.links]
        asked = {self.tree.real(path) for path in names if posixpath.basename(path) in wanted}
        for path in sorted(set(self.tree.objects) - asked):
            self.load(path)
        loaded = {self.tree.real(path) for path, _ in self.visited}
        # What needs each other in a circle has no first.
        for path in sorted(set(self.tree.objects) - loaded):
            self.load(path)
        yield from self.found
        for name in self.rules.dlopen:
            if not self.find((), name) and name not in self.rules.host:
                yield Finding("", "", f"{name}, which the framework opens, is not in the image")

    def load(self, root: str) -> None:
        waiting: list[tuple[str, tuple[str, ...]]] = [(root, ())]
        while waiting:
            path, inherited = waiting.pop()
            if (path, inherited) in self.visited:
                continue
            self.visited.add((path, inherited))
            real = self.tree.real(path)
            found = self.tree.objects[real]
            own = self.folders(path, found.rpath) if not found.runpath else ()
            # DT_RPATH also serves what is loaded for this object; DT_RUNPATH does not, and
            # an object that has one ignores every DT_RPATH.
            chain = tuple(dict.fromkeys((*own, *inherited)))
            search = self.folders(path, found.runpath) if found.runpath else chain
            for name in found.needed:
                provider = self.find(search, name)
                if provider:
                    self.versions(real, found, name, self.tree.real(provider))
                    waiting.append((provider, chain))
                elif name not in self.rules.host:
                    layer = self.tree.layer_of[real]
                    what = f"needs {name}, which is not in the image"
                    self.found[Finding(layer, real, what)] = None

    def versions(self, path: str, found: ElfFile, name: str, provider: str) -> None:
        self.chosen.setdefault(name, {}).setdefault(provider, path)
        offered = self.tree.objects[provider].provides
        lacking = [v for v in found.requires.get(name, ()) if v not in offered]
        if offered and lacking:
            what = f"needs {', '.join(lacking)}, which /{provider} does not offer"
            self.found[Finding(self.tree.layer_of[path], path, what)] = None

    def find(self, search: Sequence[str], name: str) -> str:
        """Where the object that `name` stands for is found; empty where there is none."""
        if "/" in name:
            return self.existing(name)
        cached = [self.cache[name]] if name in self.cache else []
        own = [f"{folder}/{name}" for folder in DEFAULT]
        for path in (*(f"{folder}/{name}" for folder in search), *cached, *own):
            provider = self.existing(path)
            if provider:
                return provider
        return ""

    def existing(self, path: str) -> str:
        """`path`, if it stands for an object. Its own name may be a link and stays: $ORIGIN is
        where the link is."""
        folder, _, name = path.rpartition("/")
        real = self.tree.real(path)
        return f"{self.tree.real(folder)}/{name}" if real in self.tree.objects else ""

    def folders(self, path: str, written: str) -> tuple[str, ...]:
        """A search path as written in the object found at `path`, as folders relative to /."""
        origin = posixpath.dirname(path)
        found = []
        for folder in written.split(":"):
            for token, value in (("ORIGIN", f"/{origin}"), ("LIB", "lib/x86_64-linux-gnu")):
                folder = folder.replace(f"${token}", value).replace(f"${{{token}}}", value)
            # A relative search path would depend on where the process was started.
            if folder.startswith("/"):
                found.append(folder.strip("/"))
        return tuple(found)

    def conflicts(self) -> Iterator[Finding]:
        """Names for which different objects are found, depending on who asks. auditwheel puts a
        hash of the original into a name, so equal names of that kind are equal libraries."""
        for name, providers in sorted(self.chosen.items()):
            contents = {self.tree.objects[provider].identity for provider in providers}
            if len(contents) > 1 and not _HASHED.search(name):
                places = ", ".join(
                    f"/{provider} for {self.tree.layer_of[asker]}"
                    for provider, asker in sorted(providers.items())
                )
                yield Finding("", "", f"several copies of {name} would be loaded: {places}")
