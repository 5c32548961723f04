"""What verification found: one check a line for people, the same as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plinth.core.digest import Json
from plinth.core.errors import plain
from plinth.core.report import counted

VERIFIED, REJECTED, UNREADABLE = 0, 1, 3
"""Exit codes: every check passed; one did not; there was nothing that could be checked."""


NOT_SHOWN = "NOT SHOWN"
"""How the detail of a check begins that passed without what this machine lacks."""


@dataclass(frozen=True)
class Claim:
    """Something that nothing here can show: the signer's word, or, `certified`, that of the
    identity provider in the signer's certificate."""

    name: str
    value: str
    certified: bool = False

    def to_json(self) -> Json:
        """The claim for programs."""
        by = "certificate" if self.certified else "signer"
        return {"name": self.name, "value": self.value, "by": by}


@dataclass(frozen=True)
class Check:
    """One thing that was checked: what it is called, what was seen, what is wrong with it, and
    what was only claimed.

    A check that could not be made has a problem saying so: nothing passes for being skipped.
    """

    name: str
    detail: str
    problems: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


@dataclass(frozen=True)
class Verdict:
    """All checks of one image, of the manifest `digest` alone; `notes` are worth knowing and wrong
    with nothing. `run` is what engines take for this very image and for no other, once it is
    loaded where it is in no registry. `provenance` is the SHA-256 (hexadecimal) of the statement of
    provenance that counted, empty for none."""

    reference: str
    digest: str
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    provenance: str = ""

    @property
    def passed(self) -> bool:
        """Whether every check passed, of which there must be one."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def exit_code(self) -> int:
        """VERIFIED or REJECTED."""
        return VERIFIED if self.passed else REJECTED

    def to_json(self) -> Json:
        """The verdict for programs."""
        return {
            "reference": self.reference,
            "digest": self.digest,
            "run": list(self.run) if self.passed else [],
            "verified": self.passed,
            "checks": [
                {
                    "name": check.name,
                    "passed": check.passed,
                    "detail": check.detail,
                    "problems": list(check.problems),
                    "claims": [claim.to_json() for claim in check.claims],
                }
                for check in self.checks
            ],
            "notes": list(self.notes),
        }


_SHOWN = 12


def table(verdict: Verdict) -> str:
    """The verdict for people."""
    width = max((len(check.name) for check in verdict.checks), default=0)
    lines = [plain(verdict.reference)]
    lines += [f"  {verdict.digest}"] if verdict.digest else []
    for check in verdict.checks:
        mark = "ok  " if check.passed else "FAIL"
        lines.append(f"  {mark}  {check.name:<{width}}  {plain(check.detail)}".rstrip())
        lines += _indented(check.problems)
    lines += [f"  note: {plain(note)}" for note in verdict.notes[:_SHOWN]]
    if len(verdict.notes) > _SHOWN:
        lines.append(f"  and {len(verdict.notes) - _SHOWN} more notes; --json shows all")
    failed = [check.name for check in verdict.checks if not check.passed]
    if verdict.passed:
        lines.append(f"verified: {counted(len(verdict.checks), 'check')}{_run(verdict.run)}")
    else:
        lines.append(f"REJECTED: {', '.join(failed) or 'nothing was checked'}")
    return "\n".join(lines)


def _run(run: Sequence[str]) -> str:
    """By the config, or where the engine keeps manifests (containerd's image store) by that."""
    if not run or not run[0].startswith("sha256:"):
        return "".join(f"; run {one}" for one in run)
    return f"; once loaded, run {run[0]}" + "".join(f", with containerd {one}" for one in run[1:])


def _indented(problems: Sequence[str]) -> list[str]:
    lines = []
    for problem in problems[:_SHOWN]:
        first, *rest = map(plain, problem.split("\n"))
        lines.append(f"        - {first}")
        lines += [f"          {line}" for line in rest]
    if len(problems) > _SHOWN:
        lines.append(f"        and {len(problems) - _SHOWN} more; --json shows all")
    return lines
