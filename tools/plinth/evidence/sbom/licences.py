"""Licences as packages declare them, as CycloneDX has them: SPDX ids where they are, else names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cyclonedx.model.license import (
    DisjunctiveLicense,
    License,
    LicenseAcknowledgement,
    LicenseExpression,
)
from cyclonedx.spdx import fixup_id, is_expression

_DECLARED = LicenseAcknowledgement.DECLARED
# Names that mean one SPDX licence each: trove classifiers and common ways to write them.
_NAMES = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd-3": "BSD-3-Clause",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "new bsd": "BSD-3-Clause",
    "the unlicense (unlicense)": "Unlicense",
}
# DEP-5 has its own short names (copyright-format 1.0, "Short name").
_DEBIAN = {"apache-2": "Apache-2.0", "artistic": "Artistic-1.0", "expat": "MIT"}
_GNU = re.compile(r"(A?GPL|LGPL|GFDL)-(\d)(\.\d)?(\+?)", re.IGNORECASE)


def licences(declared: Sequence[str], *, debian: bool = False) -> list[License]:
    """The licences that a package declares; `debian` reads them as DEP-5 short names.

    CycloneDX takes one expression, or any number of single licences.
    """
    if len(declared) == 1 and not debian and _id(declared[0], debian=False) is None:
        expression = declared[0]
        if " " in expression and is_expression(expression):
            return [LicenseExpression(expression, acknowledgement=_DECLARED)]
    found: dict[str, License] = {}
    for name in declared:
        known = _id(name, debian=debian)
        found[known or name] = (
            DisjunctiveLicense(id=known, acknowledgement=_DECLARED)
            if known
            else DisjunctiveLicense(name=name, acknowledgement=_DECLARED)
        )
    return list(found.values())


def _id(name: str, *, debian: bool) -> str | None:
    """The SPDX id that `name` means, if it means one."""
    if debian:
        gnu = _GNU.fullmatch(name)
        if gnu:
            later = "or-later" if gnu[4] else "only"
            return fixup_id(f"{gnu[1].upper()}-{gnu[2]}{gnu[3] or '.0'}-{later}")
        name = _DEBIAN.get(name.lower(), name)
    return fixup_id(_NAMES.get(name.lower(), name))
