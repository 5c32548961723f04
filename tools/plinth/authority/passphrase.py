"""The passphrase of a trust domain, from the environment."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from plinth.core.errors import TrustError


def passphrase_from_environment(
    folder: Path | None = None, environment: Mapping[str, str] = os.environ
) -> str | None:
    """The passphrase of the domain in `folder` (default: the user's own).

    From `$PLINTH_TRUST_PASSPHRASE`, else the first line of the file named by
    `$PLINTH_TRUST_PASSPHRASE_FILE`, else asked for on a terminal where the domain is encrypted.

    Returns:
        None where none is named and none can be asked for, or none is needed.

    Raises:
        TrustError: the file named cannot be read.
    """
    if (named := _named_passphrase(environment)) is not None:
        return named
    from plinth.authority.domain import default_folder, read_state

    folder = folder or default_folder(environment)
    if not (folder / "domain.json").exists() or not read_state(folder).encrypted:
        return None
    return getpass.getpass(f"Passphrase of {folder}: ") if sys.stdin.isatty() else None


def _named_passphrase(environment: Mapping[str, str]) -> str | None:
    if given := environment.get("PLINTH_TRUST_PASSPHRASE"):
        return given
    if not (named := environment.get("PLINTH_TRUST_PASSPHRASE_FILE")):
        return None
    try:
        lines = Path(named).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrustError(
            "the passphrase file cannot be read",
            where=named,
            found=str(error),
            remedy="correct PLINTH_TRUST_PASSPHRASE_FILE",
        ) from None
    if not lines or not lines[0]:
        raise TrustError(
            "the passphrase file is empty",
            where=named,
            expected="the passphrase in its first line",
        )
    return lines[0]
