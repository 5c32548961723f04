"""Accelerator sets: `base/<name>.toml` with `kind = "accelerator"`, such as CUDA and cuDNN."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from plinth.core.document import Table, read
from plinth.core.errors import SpecError
from plinth.recipe.base import NAME
from plinth.recipe.vendor import VendorFile, read_file

KIND = "accelerator"
CPU = "cpu"
"""What an image's specification says where it wants no accelerator."""

_FINGERPRINT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_VERSIONED = re.compile(r"[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+:~-]+)?")


@dataclass(frozen=True)
class Archive:
    """A signed archive and what is taken from it.

    `name` is what the settings call it (`apt.<name>`), `suite` a suite or, ending in `/`, a
    folder of a flat repository; `packages` are `name` or `name=version`. `fingerprint` is that of
    the one key that may sign it, whole, in lower case; empty for any key of `keyring`. `key` is
    where in the archive that key is, for machines without the keyring; its fingerprint decides.
    """

    name: str
    suite: str
    components: tuple[str, ...]
    keyring: str
    fingerprint: str
    packages: tuple[str, ...]
    key: str = ""


@dataclass(frozen=True)
class Accelerator:
    """One set: packages of signed archives, files of vendors by digest, wheels, or all of these.

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
    files: tuple[VendorFile, ...] = ()


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
        files=tuple(read_file(inner) for inner in table.tables("files")),
    )
    names = [file.name for file in spec.files]
    if len(set(names)) != len(names):
        table.problem("files", "two of them have the same name")
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
    fingerprint = table.text("fingerprint", required=False).lower()
    if fingerprint and not _FINGERPRINT.fullmatch(fingerprint):
        table.problem(
            "fingerprint",
            f"expected the whole fingerprint, 40 or 64 hexadecimal digits, found {fingerprint!r}",
        )
    key = table.text("key", required=False)
    if key and not fingerprint:
        table.problem("key", "a key from the archive itself is trusted by its fingerprint alone")
    return Archive(
        table.text("name"),
        table.text("suite"),
        table.texts("components", required=False),
        table.text("keyring"),
        fingerprint,
        packages,
        key,
    )
