"""What a built base is: its layers, its interpreter, and where Python lives in every image."""

from __future__ import annotations

from dataclasses import dataclass

from plinth.core.digest import Digest
from plinth.formats.layer.model import Layer

PREFIX = "opt/python"
"""Where the interpreter is in every image, whatever its base (relative to /)."""


def site_packages(version: str) -> str:
    """The folder of installed packages for Python `version` ("3.7"), relative to /."""
    return f"{PREFIX}/lib/python{version}/site-packages"


@dataclass(frozen=True)
class Interpreter:
    """The target interpreter: `version` is `3.7`; `tree` identifies its files byte for byte."""

    version: str
    tree: Digest


@dataclass(frozen=True)
class Base:
    """A built base: layers bottom first, all of them in the workspace's layout."""

    name: str
    layers: tuple[Layer, ...]
    interpreter: Interpreter

    @property
    def python_layer(self) -> Layer:
        """The layer that holds the interpreter, the last."""
        return self.layers[-1]
