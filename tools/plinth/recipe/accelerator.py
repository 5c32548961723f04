"""Accelerator sets: `base/<name>.toml` with `kind = "accelerator"`, such as CUDA and cuDNN."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from plinth.core.document import Table, read
from plinth.core.errors import SpecError
from plinth.recipe.base import NAME

KIND = "accelerator"
CPU = "cpu"
"""What an image's specification says where it wants no accelerator."""

_VERSIONED = re.compile(r"[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+:~-]+)?")


@dataclass(frozen=True)
class Archive:
    """A signed archive and what is taken from it.

    `name` is what the settings call it (`apt.<name>`), `suite` a suite or, ending in `/`, a
    folder of a flat repository; `packages` are `name` or `name=version`; the signing key's
    fingerprint ends in `fingerprint`.
    """

    name: str
    suite: str
    components: tuple[str, ...]
    keyring: str
    fingerprint: str
    packages: tuple[str, ...]


@dataclass(frozen=True)
class Accelerator:
    """One set.

    `label` is its part of image names; `omit` names packages every base has, with the reason;
    `folders` are searched by the dynamic linker; `host` names come from the host at run time;
    `environment` is added to images; `wheels` are PyPI requirements installed as they are.
    """

    name: str
    label: str
    summary: str
    architecture: str
    archives: tuple[Archive, ...]
    omit: Mapping[str, str]
    folders: tuple[str, ...]
    host: Mapping[str, str]
    environment: Mapping[str, str]
    wheels: tuple[str, ...]


def load_accelerator(folder: Path, name: str) -> Accelerator:
    """The set `name` in `folder` (the checkout's base/), validated as a whole.

    Raises:
        SpecError: with every problem of the file, each under its field path.
    """
    shown = f"base/{name}.toml"
    table = read(folder / f"{name}.toml", shown)
    table.text("kind", choices=(KIND,))
    spec = Accelerator(
        name=name,
        label=table.text("label"),
        summary=table.text("summary"),
        architecture=table.text("architecture", choices=("amd64",)),
        archives=tuple(_archive(inner) for inner in table.tables("archives")),
        omit=table.mapping("omit"),
        folders=table.texts("folders"),
        host=table.mapping("host"),
        environment=table.mapping("environment"),
        wheels=table.requirements("wheels", required=False),
    )
    for number, path in enumerate(spec.folders):
        if not path.startswith("/") or ".." in path.split("/"):
            table.problem(f"folders[{number}]", f"expected an absolute path, found {path!r}")
    for key, value in (("label", spec.label), ("", name)):
        if value and not NAME.fullmatch(value):
            table.problem(key, f"{value!r} cannot be part of an image name")
    table.finish()
    if table.problems:
        raise SpecError(shown, table.problems)
    return spec


def _archive(table: Table) -> Archive:
    packages = table.texts("packages")
    for number, text in enumerate(packages):
        if not _VERSIONED.fullmatch(text):
            table.problem(f"packages[{number}]", f"expected name or name=version, found {text!r}")
    return Archive(
        table.text("name"),
        table.text("suite"),
        table.texts("components", required=False),
        table.text("keyring"),
        table.text("fingerprint", required=False),
        packages,
    )
