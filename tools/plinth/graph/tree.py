"""Directories as Merkle trees of the Remote Execution API: equal files, equal digest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from plinth.core.digest import Digest
from plinth.graph.reapi import messages


@dataclass(frozen=True)
class File:
    """A file of a tree: its content's digest, and whether it may be executed."""

    digest: Digest
    executable: bool = False


@dataclass(frozen=True)
class Tree:
    """A directory: its digest, and the messages of it and of all below it by their digests
    (REAPI v2, `Directory`)."""

    digest: Digest
    directories: Mapping[Digest, bytes] = field(repr=False)


Node = File | Tree


def tree(nodes: Mapping[str, Node]) -> Tree:
    """The tree that holds `nodes` by path, with `/` between names, relative to its root.

    In the canonical form of the specification: children sorted by name, no other field set.

    Raises:
        ValueError: a path is empty, absolute, or holds an empty name, `.` or `..`; or one path
            lies below another that is no folder.
    """
    root: dict[str, object] = {}
    for path, node in nodes.items():
        *folders, name = path.split("/")
        here = root
        for folder in _checked(folders, path):
            below = here.setdefault(folder, {})
            if not isinstance(below, dict):
                raise ValueError(f"a parent of {path!r} is not a directory")
            here = below
        (name,) = _checked([name], path)
        if name in here:
            raise ValueError(f"{path!r} is there twice")
        here[name] = node
    return _built(root)


def _checked(names: list[str], path: str) -> list[str]:
    if any(name in ("", ".", "..") for name in names):
        raise ValueError(f"{path!r} is no path below a root")
    return names


def _built(folder: dict[str, object]) -> Tree:
    message = messages.Directory()
    below: dict[Digest, bytes] = {}
    for name, node in sorted(folder.items()):
        if isinstance(node, File):
            message.files.add(
                name=name, digest=messages.to_message(node.digest), is_executable=node.executable
            )
        else:
            child = node if isinstance(node, Tree) else _built(node)  # type: ignore[arg-type]
            below.update(child.directories)
            message.directories.add(name=name, digest=messages.to_message(child.digest))
    data = messages.encode(message)
    digest = Digest.of(data)
    return Tree(digest, {**below, digest: data})


def files_of(root: Tree) -> Iterator[tuple[str, Digest]]:
    """Path and content digest of every file below `root`."""
    waiting = [("", root.digest)]
    while waiting:
        prefix, digest = waiting.pop()
        message = messages.Directory.FromString(root.directories[digest])
        for file in message.files:
            yield prefix + file.name, messages.from_message(file.digest)
        for child in message.directories:
            waiting.append((f"{prefix}{child.name}/", messages.from_message(child.digest)))
