"""PAM's common files, as pam-auth-update(8) would make them of the profile `unix`.

Without them no program that asks PAM runs, not even `su` for root.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from plinth.formats.debian.control import parse
from plinth.formats.debian.deb import File
from plinth.formats.layer.header import ROOT

_PROFILE = "usr/share/pam-configs/unix"
_TEMPLATES = "usr/share/pam/"
TYPES = ("account", "auth", "password", "session", "session-noninteractive")
"""The files, without `common-`."""


def common_files(files: Mapping[str, File]) -> Iterator[File]:
    """The files etc/pam.d/common-* of a tree of `files`; none without libpam-runtime.

    Raises:
        PackageError: the profile is not made of fields.
    """
    if _PROFILE not in files:
        return
    profile = parse(files[_PROFILE].data.decode(), _PROFILE)
    for name in TYPES:
        kind = name.partition("-")[0]
        field = kind.capitalize()
        lines = [
            f"{kind}\t{line.strip()}"
            for line in profile.get(f"{field}-Initial", profile.get(field)).splitlines()
        ]
        if profile.get(f"{field}-Type") == "Primary":
            primary, additional = lines, []
        else:
            primary, additional = [f"{kind}\t[default=1]\t\t\tpam_permit.so"], lines
        # What succeeds skips the rest of its block and the denial behind it.
        primary = [
            line.replace("success=end", f"success={len(primary) - number}")
            for number, line in enumerate(primary)
        ]
        template = files[f"{_TEMPLATES}common-{name}"].data.decode()
        text = re.sub(r"(?m)^\$\w+_primary$", "\n".join(primary), template)
        text = re.sub(r"(?m)^\$\w+_additional$", "\n".join(additional), text)
        yield File(f"etc/pam.d/common-{name}", "file", 0o644, ROOT, text.encode())
