"""Runs in the resolver's own Python 3.7: pip-compile for several jobs in one process.

Standard input is a JSON list of jobs, `{"arguments": [...], "folder": ..., "command": ...}`;
standard output gets a JSON list, `null` for success, else the error's text.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from typing import Any

from piptools.scripts.compile import cli


def run(job: dict[str, Any]) -> str | None:
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
