"""Running the resolver for images, and what it answers, in words for people."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from plinth.core.errors import LockError
from plinth.core.report import Progress
from plinth.lock.request import Request, Work
from plinth.lock.resolver import Resolver

_CAUSE = re.compile(r"(?:(asked for:)|([\w.-]+) \S+ needs) ([\w.-]*\w).*")
"""A line of `_compile_driver.told`: what is asked for, or which package needs it."""
_NO_VERSION = re.compile(r".*that satisfies the requirement ([\w.-]*\w).*\(from versions: (.*)\)")
_BOUNDS = re.compile(r"^    #   -c \S+/constraints\.txt\n", re.MULTILINE)
_ALONE = re.compile(r"^    # via\n    #   (\S.*)\n(?!    #   )", re.MULTILINE)
"""One alone stands on the line of its `via`."""
_NO_MORE_THAN = "ERROR: Cannot install "
"""How pip begins the line that names what conflicts; the causes below it say more."""


def compile_requests(resolver: Resolver, work: Sequence[Work], progress: Progress) -> None:
    """Compile each piece of work in place.

    Raises:
        LockError: requirements conflict, an index has no such project, or the resolver cannot be
            run.
        PlinthError: the index failed, or an sdist does not tell its metadata.
    """
    answers = resolver.compile([one.guess() for one in work], progress)
    _check_index(work)
    again = [number for number, failure in enumerate(answers) if failure is not None]
    if again:
        found = resolver.compile([work[number].job() for number in again], progress)
        for number, failure in zip(again, found, strict=True):
            answers[number] = failure
        _check_index(work)
    for one, failure in zip(work, answers, strict=True):
        if failure is not None:
            raise _absent(one, failure) or _conflict(one, failure)


def without_bounds(text: str) -> str:
    """The requirements.txt `text` of pip-compile without the constraints among those that asked for
    a package: whether it names them depends on what was upgraded before, and not on the answer."""
    text = _BOUNDS.sub("", text)
    return _ALONE.sub(r"    # via \1\n", text)


def _check_index(work: Sequence[Work]) -> None:
    for one in work:
        if one.request.index.failures:
            raise one.request.index.failures[0]


def _wanted(failure: str) -> set[str]:
    """The projects of which no version was found, normalized."""
    return {canonicalize_name(cause[3]) for cause in _CAUSE.finditer(failure)}


def _absent(work: Work, failure: str) -> LockError | None:
    """The error where an index has no project of a name at all; None where the reason is another
    one."""
    request, wanted = work.request, _wanted(failure)
    if not wanted or not wanted <= request.index.absent:
        return None
    shown = f"images/{request.spec.id}.toml"
    names = sorted(wanted)
    lines = []
    for cause in _CAUSE.finditer(failure):
        name = canonicalize_name(cause[3])
        who = cause[0] if cause[2] else f"{cause[3]}, {_asked_by(work, name)}"
        lines.append(f"{who}: {_index_of(request, name)} has no such project")
    single = len(names) == 1
    places = _places(work, names[0]) if single else ()
    unbound = [name for name in names if name not in request.places]
    private = (
        f"; if it is a private package, bind it to the index that has it, under [python.indexes] "
        f'in {shown}: {unbound[0]} = "NAME"'
        + (f" (plinth extend: --bind {unbound[0]}=NAME)" if request.spec.extends else "")
        if unbound
        else ""
    )
    return LockError(
        f"there is no project {names[0]}" if single else f"there are no projects {_listed(names)}",
        where=places[0] if places else shown,
        found="\n".join(lines),
        remedy=f"check the spelling{private}",
    )


def _conflict(work: Work, failure: str) -> LockError:
    request = work.request
    bounds = [*_bounds(request, failure)]
    return LockError(
        "the requirements cannot be met",
        where=f"images/{request.spec.id}.toml",
        expected=f"versions that agree, for Python {request.target.python} and glibc "
        f"{request.target.glibc[0]}.{request.target.glibc[1]}",
        found="\n".join([*_readable(work, failure), *bounds]),
        remedy="loosen a requirement or a constraint"
        if bounds
        else "loosen a requirement, or add [[python.constraints]] with the reason",
    )


def _readable(work: Work, failure: str) -> Iterator[str]:
    """pip-compile's words without this machine's addresses and folders; of what they name, where
    it is asked for, and what the extended image holds, which they leave out."""
    request = work.request
    index, wanted = request.index, _wanted(failure)
    for name, why in sorted(index.hidden.items()):
        if name in _names(failure):
            yield why
    for name in sorted(wanted & index.absent):
        yield f"{_index_of(request, name)} has no project {name}"
    text = failure.replace(index.wheels_url, "the index").replace(index.url, "the index")
    lines = text.replace(f"{request.folder}/", "").strip().splitlines()
    for line in [line for line in lines if line.strip()][-25:]:
        if wanted and line.startswith(_NO_MORE_THAN):
            continue
        if none := _NO_VERSION.fullmatch(line):
            line = f"versions of {none[1]} that the target can use: {none[2]}"
        # A list of all versions there ever were says less than its beginning.
        shown = line if len(line) < 300 else f"{line[:300]} …"
        cause = _CAUSE.fullmatch(line)
        where = _places(work, canonicalize_name(cause[3])) if cause and cause[1] else ()
        yield f"{shown} ({_listed(where)})" if where else shown
    for name in sorted(wanted & request.held.keys()):
        yield f"{request.spec.extends} holds {name} {request.held[name].version}"


def _bounds(request: Request, failure: str) -> Iterator[str]:
    """What bounds the projects that a failure is about, and where it says so."""
    spec = request.spec
    names = _wanted(failure)
    names |= {canonicalize_name(cause[2]) for cause in _CAUSE.finditer(failure) if cause[2]}
    for kind, ones in (("constraint", spec.constraints), ("override", spec.overrides)):
        for one in ones:
            if canonicalize_name(Requirement(one.requirement).name) in names:
                why = f" ({one.reason})" if one.reason != one.where else ""
                yield f"{kind}: {one.requirement}, {one.where}{why}"


def _asked_by(work: Work, name: str) -> str:
    return f"asked for by {_listed(_places(work, name))}"


def _places(work: Work, name: str) -> tuple[str, ...]:
    """Where the project `name` is asked for, as far as that is known."""
    if work.origin:
        return (work.origin,)
    spec, target = work.request.spec, work.request.target
    found = [
        place
        for text, places in spec.asked_at.items()
        if canonicalize_name(Requirement(text).name) == name
        for place in places
    ]
    if any(canonicalize_name(Requirement(text).name) == name for text in target.requirements):
        found.append(f"base/{spec.base}.toml: python.requirements")
    return tuple(found)


def _index_of(request: Request, name: str) -> str:
    """What people call the index that `name` comes from; never by its address."""
    place = request.places.get(name)
    return f"the index {place}" if place else "the configured package index"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names)


def _names(text: str) -> set[str]:
    """Normalized names of all that may be a project in `text`."""
    return {canonicalize_name(word) for word in re.findall(r"[\w.-]*\w", text)}
