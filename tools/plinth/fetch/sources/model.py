"""What every reader of images offers, wherever the image is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from plinth.core.digest import Digest
from plinth.core.errors import LayoutError
from plinth.formats.oci.attached import Referrer


@dataclass(frozen=True)
class SourceLayer:
    """A layer where it is. `digest` is what the manifest names, None where there is no manifest
    (docker archives); there, `name` is its file's."""

    digest: Digest | None
    opener: Callable[[], BinaryIO] = field(repr=False)
    locate: Callable[[], Path | None] = field(repr=False)
    name: str = ""

    def open(self) -> BinaryIO:
        """The layer's bytes, to be closed by the caller; of a layer that is too long, one byte
        more than its descriptor says.

        Raises:
            PlinthError: it is not there, or cannot be read.
        """
        try:
            return self.opener()
        except OSError as error:
            raise LayoutError(
                f"the layer cannot be read: {error.strerror}", where=str(error.filename or "")
            ) from None

    def path(self) -> Path | None:
        """Where it is as a file of its own and of the right length; else None."""
        return self.locate()


class ImageSource(Protocol):
    """An image to be verified.

    name: as the person wrote it. asked: the name that the image must have for it to be the one
    asked for; empty where it was asked for by digest (by_digest), or by the place alone. place:
    HOST/REPOSITORY where it is in a registry, else empty. compressed: whether layers are as the
    manifest names them (in docker archives, engines have unpacked them). called: the names that
    engines give it by its index or archive, without the one that was asked for.
    """

    name: str
    asked: str
    by_digest: bool
    place: str
    compressed: bool
    called: Sequence[str]

    def manifest(self) -> bytes | None:
        """The manifest's bytes; None where the form has none (docker archives).

        Raises:
            PlinthError: it is not there, or not the one that was asked for.
        """

    def others(self, title: str) -> Sequence[str]:
        """Other images of its index or archive, for people, that an engine could run in its place:
        those for other platforms, and those of a name that engines give it, or of `title`, which
        it is published as. Where it was asked for by digest, names decide nothing.
        """

    def config(self) -> bytes:
        """The config's bytes.

        Raises:
            PlinthError: it is not there, or the manifest does not say which it is.
        """

    def layers(self) -> Sequence[SourceLayer]:
        """The layers, bottom first.

        Raises:
            PlinthError: the manifest does not say which they are.
        """

    def referrers(self, artifact_type: str, only: Collection[str] = ()) -> Iterator[Referrer]:
        """What is attached to the image, of one type (distribution-spec, "Listing Referrers"), one
        in memory at a time and in bounds (`plinth.formats.oci.attached`); where digests are given,
        `only` those.

        Raises:
            FetchError: the registry cannot be asked.
        """
