"""One way to read an image from a layout, an archive or a registry, believing none of them.

What a reader gets is bounded by what descriptors say, but not compared with them: verification
does that and reports each difference. Only what was asked for by digest must have that digest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from plinth.core.settings import Config
from plinth.fetch.sources.model import ImageSource
from plinth.formats.oci.reference import (
    LINUX_AMD64,
    ArchiveReference,
    Reference,
    RegistryReference,
    parse,
)


@contextlib.contextmanager
def open_source(
    reference: str | Reference, config: Config, platform: str = LINUX_AMD64
) -> Iterator[ImageSource]:
    """The image that `reference` names (see `plinth.formats.oci.reference`; as text it is what a
    person wrote, whose paths end at a colon), of an index the one for `platform`, while the block
    runs. Its digest is settled here, once: whatever a tag or a name
    stands for later, it is this manifest that is read.

    Raises:
        ImageNameError: it names none.
        LayoutError: the layout or archive is damaged or has no such image.
        FetchError: the registry cannot be asked, or has no such image.
    """
    parsed = parse(reference) if isinstance(reference, str) else reference
    wanted, reference = replace(parsed, platform=platform), str(reference)
    # Each form's module when it is needed: a registry's loads the libraries of the network.
    if isinstance(wanted, RegistryReference):
        from plinth.fetch.sources.registry import open_remote

        with open_remote(reference, wanted, config) as source:
            yield source
    elif isinstance(wanted, ArchiveReference):
        from plinth.fetch.sources.docker import open_archive

        yield open_archive(reference, wanted)
    else:
        from plinth.fetch.sources.docker import open_layout

        yield open_layout(reference, wanted)
