"""Files that people bring: requirements, constraints, pyproject.toml, uv.lock, pylock.toml."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from packaging.requirements import Requirement

from plinth.core.errors import PlinthError
from plinth.recipe.accelerator import CPU
from plinth.recipe.asked.asked import with_inputs
from plinth.recipe.asked.model import ForeignLock, Inputs, Project
from plinth.recipe.image import ImageSpec, Target

TARGET = Target("3.7", (2, 27), "amd64", ())
KINDS: dict[str, Callable[[str], Inputs]] = {
    "requirements.txt": lambda name: Inputs(requirements=(name,)),
    "constraints.txt": lambda name: Inputs(constraints=(name,)),
    "pyproject.toml": lambda name: Inputs(projects=(Project(name, True, ("plots",), ("serve",)),)),
    "uv.lock": lambda name: Inputs(locks=(ForeignLock(name, "", ("plots",), ("serve",)),)),
    "pylock.toml": lambda name: Inputs(locks=(ForeignLock(name, "", (), ()),)),
}


def parse(data: bytes, folder: Path) -> None:
    """Read `data` as each of them."""
    failed = None
    with tempfile.TemporaryDirectory(dir=folder) as name:
        root = Path(name)
        for filename, inputs in KINDS.items():
            (root / filename).write_bytes(data)
            spec = ImageSpec(
                "demo", "demo", "", CPU, "base", "", (), (), None, (), "", inputs=inputs(filename)
            )
            try:
                meant = with_inputs(root, spec, TARGET)
                # They are written into the resolver's input, a line each.
                for pin in meant.pins.values():
                    if str(Requirement(f"{pin.name}=={pin.version}")).splitlines()[1:]:
                        raise ValueError(f"{pin.name}=={pin.version!r} is no line")
            except PlinthError as error:
                failed = error
    if failed:
        raise failed
