"""Runs in the resolver's own Python 3.7: pip-compile for several jobs in one process.

The argument is the folder with pip-tools and what it needs; without one, they are installed.
Standard input is a JSON list of jobs, `{"arguments": [...], "folder": ..., "command": ...,
"guessed": ...}`;
standard output gets a JSON list, `null` for success, else the error's text.

Nothing foreign runs or is unpacked here: the index has the metadata of every file.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import subprocess
import sys
from typing import Any, NoReturn

sys.path[:0] = sys.argv[1:]
# First: it has the distutils that some distributions leave out of their Python.
importlib.import_module("setuptools")
from pip._internal.operations.prepare import RequirementPreparer  # noqa: E402
from pip._internal.resolution.resolvelib.factory import Factory  # noqa: E402
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


guessed = False
resolution: Any = Resolution
add_to_criteria = resolution._add_to_criteria
resolution._add_to_criteria = without_conflict
factory: Any = Factory
requirements_of = factory._make_requirements_from_install_req
factory._make_requirements_from_install_req = by_name
subprocess.Popen = no_program  # type: ignore[misc,assignment]
preparer: Any = RequirementPreparer
preparer._prepare_linked_requirement = not_unpacked
preparer.prepare_linked_requirements_more = no_more


def run(job: dict[str, Any]) -> str | None:
    global guessed
    guessed = job["guessed"]
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


print(json.dumps([run(job) for job in json.load(sys.stdin)]))
