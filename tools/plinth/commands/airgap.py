"""Verbs of the air gap: export, import."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from plinth.core import settings as config
from plinth.core.errors import AirgapError, PlinthError
from plinth.core.report import counted, human_size, to_stderr
from plinth.graph.workspace import Workspace

if TYPE_CHECKING:
    from plinth.core.settings import Config
    from plinth.publish.airgap.form import Trust
    from plinth.publish.airgap.take import Taken


def export(
    ws: Workspace,
    *,
    ids: Sequence[str],
    out: str,
    no_inputs: bool,
    no_verify: bool,
    trust: str,
    trusted_root: str,
) -> None:
    """Export images, verified where a policy is set, to the file `out`, and show what must be
    handed over by another way.

    Raises:
        PlinthError: as `plinth.publish.airgap.collect.collect` and
            `plinth.publish.airgap.export.write_archive`.
    """
    from plinth.evidence.verify.gate import required, state
    from plinth.publish.airgap.collect import collect
    from plinth.publish.airgap.export import write_archive

    settings = config.load()
    gate = required(settings, no_verify=no_verify)
    root = _trust(trust, trusted_root, settings)
    cargo = collect(ws, ids, root, inputs=not no_inputs, config=settings, gate=gate)
    digest = write_archive(cargo, Path(out))
    for note in cargo.notes:
        print(f"note: {note}")
    size = human_size(digest.size)
    print(f"wrote {out}: {counted(len(cargo.blobs), 'blob')}, {size}, images {state(gate)}")
    print(f"  archive       {digest.oci}")
    if root is None:
        print("note: no trusted root goes along: --trust embedded, or --trusted-root FILE")
    else:
        print(f"  trusted root  sha256:{root.fingerprint}")
        print(
            "Tell the other side the root's fingerprint, and who signs, by another way than this."
        )


def _trust(trust: str, trusted_root: str, settings: Config) -> Trust | None:
    """The root that goes along; of the public Sigstore none does, for others have it too."""
    from plinth.publish.airgap.form import POLICY_FILE, ROOT_FILE, Trust

    if trusted_root:
        from plinth.evidence.choice import parsed
        from plinth.evidence.trusted_root import read_root

        root = read_root(Path(trusted_root))
        parsed(root)
        return Trust(root.data)
    if (trust or settings.trust) == "embedded":
        from plinth.authority.domain import default_folder, read_state
        from plinth.authority.export import exported

        files = exported(read_state(default_folder()), "")
        return Trust(files[ROOT_FILE], files[POLICY_FILE])
    if trust:
        raise AirgapError(
            "only the embedded trust domain has a root that can go along by its name",
            where=trust,
            remedy="--trust embedded, or --trusted-root FILE",
        )
    return None


def take_in(*, archive: str, into: str, replace: bool, no_verify: bool) -> None:
    """Import what `export` wrote, verified where a policy is set, and show what to do next.

    Raises:
        PlinthError: as `plinth.publish.airgap.take.take`.
    """
    from plinth.core.lease import adding_from_outside
    from plinth.evidence.verify.gate import required, state
    from plinth.publish.airgap.take import take

    build, settings = _build(into), config.load()
    gate = required(settings, no_verify=no_verify)
    with adding_from_outside(build):
        taken = take(
            Path(archive), build, replace=replace, gate=gate, config=settings, progress=to_stderr
        )
    print(
        f"imported {', '.join(taken.images)} into {build}: "
        f"{counted(taken.written, 'blob')} written, {taken.there} were there; images {state(gate)}"
    )
    print("\n".join(next_steps(taken, build)))


def _build(into: str) -> Path:
    if into:
        return Path(into)
    try:
        return Workspace.find().build
    except PlinthError:
        raise AirgapError(
            "this is not a checkout, and no folder was given",
            where=str(Path.cwd()),
            remedy="name a folder: --into DIR",
        ) from None


def next_steps(taken: Taken, build: Path) -> list[str]:
    """What a person should know and do after an import, as lines."""
    from plinth.core.errors import plain

    lines, believing = [], "--trusted-root FILE --identity WHO --issuer URL"
    if taken.trust is not None and taken.trust_folder is not None:
        lines.append(f"a trusted root came along: sha256:{taken.trust.fingerprint}")
        signers = taken.trust.signers
        if signers is not None:
            who = " or ".join(signers.identities)
            lines += [f"  identity  {plain(who)}", f"  issuer    {plain(signers.issuer)}"]
            believing = f"--policy {shlex.quote(str(taken.trust_folder / 'policy.toml'))}"
        else:
            root = shlex.quote(str(taken.trust_folder / "trusted_root.json"))
            believing = f"--trusted-root {root} --identity WHO --issuer URL"
        lines.append(
            "Whoever made the archive chose them. They prove nothing until you have compared "
            "fingerprint, identity and issuer with what their owner told you by another way. Then:"
        )
    else:
        lines.append("No trusted root came along. With the one you believe:")
    rebuild = f" --rebuild --inputs {shlex.quote(str(build / 'cache'))}" if taken.inputs else ""
    for name in taken.images:
        reference = shlex.quote(f"oci:{build / 'oci'}:{name}")
        lines.append(f"  plinth verify {reference} {believing}{rebuild}")
    return lines
