"""Runs in the resolver's own Python 3.7: pip-compile for many jobs, after one start.

The argument is the folder with pip-tools and what it needs; without one, they are installed.
Standard input is a socket of whole messages. Each is a JSON list of jobs, `{"arguments": [...],
"folder": ..., "command": ..., "guessed": ..., "environments": [...], "releases": [...]}`, and comes
with a descriptor that gets a JSON list, `null` for success, else the error's text. A process of its
own answers each message, so that one may come while another waits for its answer.

Nothing foreign runs or is unpacked here: the index has the metadata of every file.
"""

from __future__ import annotations

import array
import contextlib
import functools
import importlib
import io
import json
import os
import socket
import subprocess
import sys
from typing import Any, NoReturn

sys.path[:0] = sys.argv[1:]
try:
    importlib.import_module("distutils.command.build")
except ImportError:
    # It has the distutils that some distributions leave out of their Python.
    importlib.import_module("setuptools")
from pip._internal.operations.prepare import RequirementPreparer  # noqa: E402
from pip._internal.resolution.resolvelib import factory as factories  # noqa: E402
from pip._internal.resolution.resolvelib.requirements import (  # noqa: E402
    RequiresPythonRequirement,
    SpecifierRequirement,
)
from pip._vendor.packaging import requirements as grammars  # noqa: E402
from pip._vendor.packaging.markers import Marker  # noqa: E402
from pip._vendor.resolvelib.resolvers import RequirementsConflicted, Resolution  # noqa: E402
from piptools.scripts.compile import cli  # noqa: E402


def no_program(*arguments: object, **options: object) -> NoReturn:
    # What pip asks of the machine for its own name (uname, lsb_release) may be absent.
    raise OSError("a resolver starts no program")


def not_unpacked(self: object, requirement: Any, parallel_builds: bool) -> NoReturn:
    raise OSError(f"the index has no metadata of {requirement.link.filename}")


def no_more(self: object, requirements: object, parallel_builds: bool = False) -> None:
    """What was chosen is not fetched: metadata is all a lock needs."""


def by_name(self: object, ireq: Any, requested_extras: Any) -> Any:
    if ireq.req is not None and ireq.req.url and ireq.match_markers(requested_extras):
        who = getattr(ireq.comes_from, "req", None) or ireq.comes_from
        raise OSError(f"{who} requires {ireq.req}: a lock holds no requirement by URL")
    return requirements_of(self, ireq, requested_extras)


def without_conflict(self: object, criteria: Any, requirement: Any, parent: Any) -> None:
    try:
        add_to_criteria(self, criteria, requirement, parent)
    except RequirementsConflicted:
        if guessed:
            # More versions could mean no conflict, or another way out of it.
            raise OSError("the guess does not hold") from None
        raise


def is_satisfied_by(self: Any, candidate: Any) -> Any:
    known = self.__dict__.setdefault("_satisfied", {})
    if candidate.version not in known:
        known[candidate.version] = satisfied(self, candidate)
    return known[candidate.version]


def holds(self: Any, environment: Any = None) -> bool:
    """Whether a marker holds on one of the target's releases, whatever Python runs this."""
    if not environments:
        return bool(evaluate(self, environment))
    return any(holds_in(self, {**each, **(environment or {})}) for each in environments)


def holds_in(marker: Any, environment: dict[str, str]) -> bool:
    try:
        return bool(evaluate(marker, environment))
    except ValueError:
        # About the machine that the image will run on, such as its kernel's release.
        return False


def is_allowed(self: Any, candidate: Any) -> bool:
    """Whether a package's Requires-Python allows all of the target's releases."""
    known = releases or [str(candidate.version)]
    return all(self.specifier.contains(one, prereleases=True) for one in known)


def python_for(self: Any) -> Any:
    return (self._candidate, None) if is_allowed(self, self._candidate) else (None, None)


guessed = False
environments: list[dict[str, str]] = []
releases: list[str] = []
marked: Any = Marker
evaluate = marked.evaluate
marked.evaluate = holds
required_python: Any = RequiresPythonRequirement
required_python.is_satisfied_by = is_allowed
required_python.get_candidate_lookup = python_for
resolution: Any = Resolution
add_to_criteria = resolution._add_to_criteria
resolution._add_to_criteria = without_conflict
factory: Any = factories.Factory
requirements_of = factory._make_requirements_from_install_req
factory._make_requirements_from_install_req = by_name
subprocess.Popen = no_program  # type: ignore[misc,assignment]
preparer: Any = RequirementPreparer
preparer._prepare_linked_requirement = not_unpacked
preparer.prepare_linked_requirements_more = no_more
# pip works these out anew for each candidate, line of metadata, and round.
remembered: Any = factories
remembered.get_supported = functools.lru_cache(maxsize=None)(remembered.get_supported)
grammar: Any = getattr(grammars, "REQUIREMENT", None)
if grammar:  # Of a pip of before its faster reader.
    grammar.parseString = functools.lru_cache(maxsize=None)(grammar.parseString)
specified: Any = SpecifierRequirement
satisfied = specified.is_satisfied_by
specified.is_satisfied_by = is_satisfied_by


def run(job: dict[str, Any]) -> str | None:
    global guessed, environments, releases
    guessed, environments, releases = job["guessed"], job["environments"], job["releases"]
    os.chdir(job["folder"])
    os.environ["CUSTOM_COMPILE_COMMAND"] = job["command"]
    log = io.StringIO()
    try:
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            cli.main(args=job["arguments"], prog_name="pip-compile", standalone_mode=False)
    except SystemExit as stop:
        if stop.code:
            return log.getvalue() or f"pip-compile ended with {stop.code}"
    except Exception as error:
        return f"{log.getvalue()}{told(error)}"
    return None


def told(error: Exception) -> str:
    """The error's text; of a conflict, who asks for what: --quiet keeps pip from saying it."""
    causes = getattr(error.__cause__, "causes", ())
    lines = {
        f"{parent.name} {parent.version} needs {wanted.format_for_error()}"
        if parent
        else f"asked for: {wanted.format_for_error()}"
        for wanted, parent in causes
    }
    return "\n".join(sorted(lines)) or f"{type(error).__name__}: {error}"


def serve(asked: socket.socket) -> None:
    while True:
        message, extra, _, _ = asked.recvmsg(1 << 20, socket.CMSG_SPACE(4))
        if not message:
            break
        (descriptor,) = array.array("i", extra[0][2])
        if os.fork() == 0:
            asked.close()
            with os.fdopen(descriptor, "w") as answer:
                json.dump([run(job) for job in json.loads(message)], answer)
            os._exit(0)
        os.close(descriptor)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


serve(socket.socket(fileno=0))
