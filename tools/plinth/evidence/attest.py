"""Stating that an image was built again here, once it was (docs/provenance.md, Rebuilt)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from plinth import __version__
from plinth.core.digest import Digest
from plinth.core.errors import AttestationError, VerificationError
from plinth.core.report import Progress
from plinth.core.settings import Config
from plinth.evidence.choice import believed
from plinth.evidence.provenance import LOCAL_BUILDER
from plinth.evidence.rebuilt import Rebuilt
from plinth.evidence.signing import sign_statements
from plinth.evidence.statement import REBUILT, statement
from plinth.evidence.verify.gate import Gate, failures
from plinth.evidence.verify.request import Request
from plinth.fetch.sources.model import ImageSource
from plinth.formats.oci.manifest import parse_manifest
from plinth.formats.oci.model import TITLE


@dataclass(frozen=True)
class Attested:
    """A signed statement: the manifest it is about, its bundle, and that one's index in the log."""

    manifest: Digest
    bundle: bytes
    log_index: int


def attest_rebuilt(
    source: ImageSource,
    gate: Gate,
    request: Request,
    *,
    trust: str,
    token: str = "",
    config: Config,
    progress: Progress,
) -> Attested:
    """Verify the image in `source` by `gate`, with a rebuild, and sign that it was rebuilt, as in
    `plinth.evidence.signing`.

    Raises:
        VerificationError: it does not verify, or its rebuild has other bytes.
        AttestationError: it has no manifest; the trust, the identity or a service failed.
    """
    manifest = source.manifest()
    if manifest is None:
        raise AttestationError(
            "an archive without its manifest cannot say what was rebuilt", where=source.name
        )
    # A rebuild takes long; without a trust there is no need to begin.
    believed(trust or config.trust)
    verdict = gate.verdict(source, replace(request, rebuild=True))
    if not verdict.passed:
        raise VerificationError(
            f"it does not verify, so nothing was signed\n{failures(verdict)}", where=source.name
        )
    digest, title = Digest.of(manifest), parse_manifest(manifest).annotations.get(TITLE, "")
    builder = config.builder or LOCAL_BUILDER
    said = Rebuilt(verdict.provenance, digest.hex, builder, __version__).to_json()
    named = [(f"{source.name}: rebuilt", statement(title, digest, REBUILT, said))]
    ((bundle, index),) = sign_statements(
        named, trust=trust, token=token, config=config, progress=progress
    )
    return Attested(digest, bundle, index)
