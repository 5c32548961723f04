"""The verb attest: state that an image was built again here, and gave the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from plinth.commands.reference import bring, locked_files, named, read_bundles
from plinth.core import settings as config
from plinth.core.errors import AttestationError
from plinth.core.report import working
from plinth.core.store import BlobStore, atomic_write


def attest(
    *,
    rebuilt: str,
    policy: str,
    bundle: Sequence[str],
    image: str,
    inputs: str,
    trust: str,
    identity_token: str,
    out: str,
) -> None:
    """Rebuild the image `rebuilt`, sign that it was, and attach the bundle to the image, or write
    it to the file `out`.

    Raises:
        AttestationError: there is no place to attach a bundle to; or as
            `plinth.evidence.attest.attest_rebuilt`.
        PlinthError: the image cannot be read, or the registry refuses.
    """
    from plinth.core.lease import adding_from_outside
    from plinth.evidence.attest import attest_rebuilt
    from plinth.evidence.statement import REBUILT
    from plinth.evidence.verify.gate import open_gate
    from plinth.evidence.verify.policy import Policy, in_force
    from plinth.evidence.verify.request import RawBundle, Request
    from plinth.fetch.sources.source import open_source
    from plinth.formats.oci.model import MANIFEST, Descriptor
    from plinth.formats.oci.reference import ArchiveReference, LayoutReference, parse
    from plinth.formats.oci.referrers import attach_to_layout
    from plinth.inspect.contents.cache import contents_cache
    from plinth.publish.registry.attach import attach

    settings = config.load()
    one = named(rebuilt)
    place = parse(one.reference)
    if isinstance(place, ArchiveReference) and not out:
        raise AttestationError(
            "nothing can be attached to an image in an archive",
            where=rebuilt,
            remedy="write the bundle to a file: --out FILE",
        )
    if one.ws:
        bring(one.ws, [one.id])
    # Those it asks for may be waiting for this very statement.
    wanted = replace(in_force(settings, Policy(), policy), rebuilders=0, rebuilder_identities=())
    shown = working(f"rebuilding {rebuilt}")
    with shown as progress, open_source(one.reference, settings) as source:
        request = Request(
            expected=image or one.id or source.asked,
            bundles=tuple(read_bundles(bundle)),
            cache=contents_cache(),
            inputs=locked_files(inputs, one),
            config=settings,
            progress=progress,
        )
        done = attest_rebuilt(
            source,
            open_gate(wanted),
            request,
            trust=trust,
            token=identity_token,
            config=settings,
            progress=progress,
        )
        if out:
            with atomic_write(Path(out)) as path:
                path.write_bytes(done.bundle)
        elif isinstance(place, LayoutReference):
            with adding_from_outside(place.path.absolute().parent):
                subject = Descriptor(MANIFEST, done.manifest)
                attach_to_layout(BlobStore(place.path), subject, [(REBUILT, done.bundle)])
        else:
            attach(source, one.reference, [RawBundle("the statement", done.bundle)], settings)
    print(
        f"{rebuilt}: rebuilt {done.manifest.oci}, the same bytes; signed, log entry "
        f"{done.log_index}, {'written to' if out else 'attached to'} {out or one.reference}"
    )
