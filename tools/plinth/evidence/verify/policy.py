"""What a verifier insists on: who signed, by which root, and what the provenance must say."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import tomli

from plinth.core.errors import Problem, ProblemsError
from plinth.core.settings import Config
from plinth.evidence.choice import EMBEDDED, PUBLIC

_TEXTS = ("trusted-root", "trust", "issuer", "builder", "source")


@dataclass(frozen=True)
class Policy:
    """What is insisted on; an empty field insists on nothing, but an identity must come from
    somewhere.

    identities: who may have signed, each exactly as certificates have it (an e-mail address or a
        URI); one of them is enough. issuer: who vouched for them.
    trusted_root: path of a trusted_root.json; trust: as in `plinth.evidence.choice`.
    builder: the provenance's builder id. source: the repository's URI in the provenance.
    require_clean: refuse provenance that names no commit, or was made from a changed tree.
    """

    identities: tuple[str, ...] = ()
    issuer: str = ""
    trusted_root: str = ""
    trust: str = ""
    builder: str = ""
    source: str = ""
    require_clean: bool = False

    def over(self, below: Policy) -> Policy:
        """This policy where it says something, else `below`. A root chosen in any form here puts
        out what `below` says of roots."""
        said: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        if self.trusted_root or self.trust:
            below = replace(below, trusted_root="", trust="")
        if self.identities:
            below = replace(below, identities=())
        return replace(below, **{name: value for name, value in said.items() if value})


def in_force(config: Config, options: Policy, path: str = "") -> Policy:
    """The policy of a command: its `options`, then those of the file `path` (else of the settings'
    own policy file), then the settings' trust.

    Raises:
        ProblemsError: as `load_policy`.
    """
    path = path or config.policy
    if path:
        options = options.over(load_policy(Path(path)))
    return options.over(Policy(trust=config.trust))


def load_policy(path: Path) -> Policy:
    """The policy in the TOML file `path`; a relative trusted-root is beside that file, and so is
    a trust that is a file.

    Raises:
        ProblemsError: it cannot be read, or has unknown or mistyped keys.
    """
    try:
        document = tomli.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomli.TOMLDecodeError) as error:
        raise ProblemsError(str(path), [Problem("", str(error))]) from None
    problems = []
    identity = document.pop("identity", [])
    identities = [identity] if isinstance(identity, str) else identity
    if not isinstance(identities, list) or not all(isinstance(one, str) for one in identities):
        problems.append(Problem("identity", "expected a text, or an array of texts"))
        identities = []
    clean = document.pop("require-clean", False)
    if not isinstance(clean, bool):
        problems.append(Problem("require-clean", f"expected true or false, found {clean!r}"))
    for key, value in document.items():
        if key not in _TEXTS:
            known = ", ".join(("identity", *_TEXTS, "require-clean"))
            problems.append(Problem(key, f"not a key of a policy; known are {known}"))
        elif not isinstance(value, str):
            problems.append(Problem(key, f"expected a text, found {value!r}"))
    if problems:
        raise ProblemsError(str(path), problems)
    root, trust = document.get("trusted-root", ""), document.get("trust", "")
    return Policy(
        tuple(identities),
        document.get("issuer", ""),
        str(path.parent / root) if root else "",
        trust if trust in ("", PUBLIC, EMBEDDED) else str(path.parent / trust),
        document.get("builder", ""),
        document.get("source", ""),
        clean,
    )
