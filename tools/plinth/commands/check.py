"""What a check of this machine found: values that `plinth doctor` shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from plinth.core.errors import PlinthError

OK, WARN, FAIL = "ok", "warn", "fail"
"""All is well; something some commands want is missing; building is not possible."""


@dataclass(frozen=True)
class Finding:
    """One finding: `state` is one of the above, `remedy` what to do unless all is well."""

    subject: str
    state: str
    found: str
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        """The finding for programs."""
        return asdict(self)


Check = Callable[[], Iterator[Finding]]


def run(subject: str, check: Check, worst: str = FAIL) -> list[Finding]:
    """The findings of `check`; whatever it raises is one too, of state `worst`."""
    found: list[Finding] = []
    try:
        found.extend(check())
    except PlinthError as error:
        said = " ".join(filter(None, (f"{error.where}:" if error.where else "", error.what)))
        more = f" ({error.found})" if error.found else ""
        found.append(Finding(subject, worst, said + more, error.remedy))
    except Exception as error:  # a doctor does not fall ill: this is what it is there to show
        found.append(Finding(subject, worst, f"{type(error).__name__}: {error}"))
    return found
