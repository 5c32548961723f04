"""Where things are: the folders of one checkout and of its build outputs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from plinth.core.errors import PlinthError
from plinth.core.store import BlobStore, Stores

if TYPE_CHECKING:
    from plinth.graph.cache import ActionCache


@dataclass(frozen=True)
class Workspace:
    """A checkout (`root`, with images/, base/, locks/) and where it builds (`build`)."""

    root: Path
    build: Path

    @classmethod
    def find(cls, start: Path | None = None) -> Workspace:
        """The workspace that holds `start` (default: the current directory).

        `PLINTH_BUILD` names another build folder than `build/` beside `dodo.py`.

        Raises:
            PlinthError: no folder from `start` upwards has both images/ and base/.
        """
        here = (start or Path.cwd()).resolve()
        for folder in (here, *here.parents):
            if (folder / "images").is_dir() and (folder / "base").is_dir():
                override = os.environ.get("PLINTH_BUILD")
                return cls(folder, Path(override).resolve() if override else folder / "build")
        raise PlinthError(
            "not inside a plinth checkout",
            where=str(here),
            expected="a folder with images/ and base/, here or above",
            remedy="change into your checkout and run the command again",
        )

    @property
    def images(self) -> Path:
        """Image specifications, one `<id>.toml` each."""
        return self.root / "images"

    @property
    def bases(self) -> Path:
        """Base specifications and `rootfs/`."""
        return self.root / "base"

    @property
    def locks(self) -> Path:
        """Lockfiles."""
        return self.root / "locks"

    @cached_property
    def layout(self) -> BlobStore:
        """Blobs of the OCI image layout: layers, configs, manifests."""
        return BlobStore(self.build / "oci")

    @cached_property
    def cache(self) -> BlobStore:
        """Blobs that never go into a layout: wheels, sdists, .debs, intermediate outputs."""
        return BlobStore(self.build / "cache")

    @cached_property
    def stores(self) -> Stores:
        """Both, for what may be in either."""
        return Stores(self.layout, self.cache)

    @cached_property
    def actions(self) -> ActionCache:
        """Results of build steps."""
        # Later than the rest: commands that build nothing shall not load the protocol's messages.
        from plinth.graph.cache import ActionCache

        return ActionCache(self.build / "cache" / "actions")
