"""The errors plinth shows to people: what failed, where, expected, found, what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


def plain(text: str, kept: str = "") -> str:
    """`text` with what a terminal would act upon made visible, line ends too unless `kept` has
    them: names come from files that anybody may have made, and could write lines of their own, or
    in the other direction. What cannot be encoded is made visible, too."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in kept else char.encode("unicode_escape").decode()
        for char in text
    )


class PlinthError(Exception):
    """Base of every error a user may see; the command line prints it and exits non-zero.

    Args:
        what: one sentence saying what failed.
        where: the file, field path, image, wheel or layer concerned.
        expected: what a correct input would have held.
        found: what was there instead.
        remedy: what to do next.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        expected: str = "",
        found: str = "",
        remedy: str = "",
    ) -> None:
        self.what = what
        self.where = where
        self.expected = expected
        self.found = found
        self.remedy = remedy
        super().__init__(what)

    # Exceptions cross process boundaries under `doit -n`; the default reduction would
    # replay only `what` and lose the rest.
    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.args, self.__dict__))

    @property
    def brief(self) -> str:
        """Where and what, in one line: for an error that another one leads to."""
        return f"{self.where}: {self.what}" if self.where else self.what

    def __str__(self) -> str:
        what = plain(self.what, "\n\t")
        head = f"{plain(self.where)}: {what}" if self.where else what
        lines = [head]
        for label, text in (
            ("expected", self.expected),
            ("found", self.found),
            ("next", self.remedy),
        ):
            if text:
                indented = plain(text, "\n\t").replace("\n", "\n" + " " * 12)
                lines.append(f"  {label + ':':<9} {indented}")
        return "\n".join(lines)


def _rebuild(
    cls: type[PlinthError], args: tuple[object, ...], state: dict[str, object]
) -> PlinthError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a document: the dotted path of the field and a sentence."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ProblemsError(PlinthError):
    """A document with problems, all of them reported at once."""

    def __init__(self, file: str, problems: Sequence[Problem], *, remedy: str = "") -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        listed = "\n".join(f"  {file}: {problem}" for problem in self.problems)
        super().__init__(
            f"{count} problem{'s' if count != 1 else ''}\n{listed}", where=file, remedy=remedy
        )


class SpecError(ProblemsError):
    """An image or base specification that cannot be used."""


class LockError(PlinthError):
    """A lock that cannot be made, read or trusted."""


class StaleLockError(LockError):
    """A lock made from other inputs than those now in the tree."""


class IntegrityError(PlinthError):
    """Bytes that are not the bytes a digest names."""


class WheelError(PlinthError):
    """A wheel or sdist that is malformed or hostile."""


class PackageError(PlinthError):
    """A Debian package or archive index that is malformed, hostile or unsatisfiable."""


class FetchError(PlinthError):
    """Something that could not be downloaded from any configured place."""


class InterpreterError(PlinthError):
    """No usable target interpreter on this machine."""


class LackingError(PlinthError):
    """Things that a build needs and this machine lacks, found before the first download."""


class SandboxError(PlinthError):
    """A sandboxed build step that could not run or that failed."""


class LayoutError(PlinthError):
    """An OCI layout, manifest, config or layer that breaks the specification."""


class AmbiguityError(LayoutError):
    """An image about which two readers would differ: which it is, or what it holds."""


class ClosureError(PlinthError):
    """An image whose shared objects would not load."""


class EngineError(PlinthError):
    """A Docker Engine that is absent, or a container that did not behave."""


class AttestationError(PlinthError):
    """A statement, signature or trust configuration that cannot be made or used."""


class VerificationError(PlinthError):
    """An image that was verified, and rejected."""


class TrustError(PlinthError):
    """An embedded trust domain that is absent, damaged, locked or misused."""


class ImageNameError(PlinthError):
    """What somebody wrote to name an image, and names none."""


class SbomError(ProblemsError):
    """An image whose layers do not hold what its locks say, so that no SBOM can be made."""


class AirgapError(PlinthError):
    """An archive for an air gap that cannot be made, or that is damaged or hostile."""


class RemoteError(PlinthError):
    """A remote cache or executor that could not do what was asked.

    Args:
        unavailable: it cannot be reached, or is too slow or too busy; otherwise it refused, or
            what it said was wrong.
        code: the name of the gRPC status it gave, if any; `NOT_FOUND` is no fault of it.
    """

    def __init__(
        self,
        what: str,
        *,
        unavailable: bool = False,
        code: str = "",
        where: str = "",
        expected: str = "",
        found: str = "",
        remedy: str = "",
    ) -> None:
        super().__init__(what, where=where, expected=expected, found=found, remedy=remedy)
        self.unavailable = unavailable
        self.code = code

    @property
    def absent(self) -> bool:
        """Whether the server merely does not hold what was asked for."""
        return self.code == "NOT_FOUND"


class StepError(PlinthError):
    """A step that refused its inputs where it ran; `what` is all that it said."""
