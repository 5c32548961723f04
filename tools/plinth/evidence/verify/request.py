"""What is asked of a verification, beside whom it believes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from plinth.core.report import Progress, quiet
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.fetch.sources.model import ImageSource
from plinth.formats.oci.manifest import Manifest
from plinth.formats.oci.model import TITLE
from plinth.formats.oci.reference import LINUX_AMD64
from plinth.formats.oci.referrers import BUNDLE
from plinth.inspect.contents.cache import ContentsCache
from plinth.recipe.forms import split, tag_of

if TYPE_CHECKING:
    from plinth.fetch.interpreter import Interpreters


@dataclass(frozen=True)
class RawBundle:
    """A bundle as it was found: `where`, its bytes, the predicate type it is filed under (empty
    where nothing says), and what was wrong with how it is attached."""

    where: str
    data: bytes
    filed: str = ""
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """What to verify beside the image itself.

    expected: the image id or name it must be, empty where a digest was asked for. platform: what
    it must be for. bundles: those given by hand. only: the digests of those attached to look at
    (none: all). checkout: a folder with the verifier's own specifications and locks. cache: what
    is remembered of layers' contents, and of verdicts. interpreters: where bytecode is to be
    compiled again. rebuild: build it again; inputs: locked files at hand for it, or to be compared
    without it.
    """

    expected: str = ""
    platform: str = LINUX_AMD64
    bundles: tuple[RawBundle, ...] = ()
    only: tuple[str, ...] = ()
    checkout: Path | None = None
    cache: ContentsCache | None = None
    interpreters: Interpreters | None = None
    rebuild: bool = False
    inputs: BlobStore | None = None
    config: Config = field(default_factory=Config)
    progress: Progress = quiet


def others_of(source: ImageSource, manifest: Manifest) -> Sequence[str]:
    """What else an engine could take for the image in `source`, by the name that it is published
    under (`ImageSource.others`)."""
    title = manifest.annotations.get(TITLE, "")
    if split(source.asked)[1]:
        # The other form has the name without it.
        title += f":{tag_of(source.asked)}"
    return source.others(title)


def bundles_of(source: ImageSource, request: Request) -> Iterator[RawBundle]:
    """The bundles to look at: those attached to the image in `source`, then those given."""
    for referrer in source.referrers(BUNDLE, request.only):
        yield RawBundle(
            referrer.where, referrer.data, referrer.predicate_type, tuple(referrer.problems)
        )
    yield from request.bundles
