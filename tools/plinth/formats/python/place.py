"""What a built base is: its layers, its interpreter, and where Python lives in every image."""

from __future__ import annotations

from dataclasses import dataclass

from plinth.core.digest import Digest
from plinth.formats.layer.header import DOCKERUSER, ROOT, Owner
from plinth.formats.layer.model import Layer

PREFIX = "opt/python"
"""Where the interpreter is in every image, whatever its base (relative to /)."""

FILE_MODES = (0o644, 0o755)
"""The modes that files of an interpreter or a wheel have in an image."""


def owner_of(path: str) -> Owner:
    """Who owns `path` in a layer of an interpreter or of wheels: the image's user all of Python,
    root the folders that lead there."""
    return DOCKERUSER if f"{path}/".startswith(f"{PREFIX}/") else ROOT


def site_packages(version: str) -> str:
    """The folder of installed packages for Python `version` ("3.7"), relative to /."""
    return f"{PREFIX}/lib/python{version}/site-packages"


@dataclass(frozen=True)
class Interpreter:
    """The target interpreter: `version` is `3.7`; `tree` identifies its files byte for byte."""

    version: str
    tree: Digest


@dataclass(frozen=True)
class Python:
    """An interpreter in its layer."""

    layer: Layer
    interpreter: Interpreter


@dataclass(frozen=True)
class Base:
    """A built base: layers bottom first, all of them in the workspace's layout."""

    name: str
    layers: tuple[Layer, ...]
    interpreter: Interpreter

    @property
    def python(self) -> Python:
        """The interpreter in its layer, the last."""
        return Python(self.layers[-1], self.interpreter)
