"""Hostile specifications, requirement files and locks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hostile.harness import Case
from plinth.build.extend import read_requirements
from plinth.core.settings import load as load_config
from plinth.graph.workspace import Workspace
from plinth.lock.requested import read_before
from plinth.recipe.base import load_base
from plinth.recipe.image import load_image, load_target
from plinth.recipe.locks.pylock import load

HEAD = """\
lock-version = "1.0"
requires-python = "==3.7.*"
environments = ["python_version == '3.7'"]
created-by = "plinth"
"""
PACKAGE = """
[[packages]]
name = "{name}"
version = "{version}"

[[packages.wheels]]
name = "{file}"
upload-time = 2024-02-29 21:06:11+00:00
path = "{path}"
size = {size}

[packages.wheels.hashes]
{algorithm} = "{digest}"
"""
TAIL = """
[tool.plinth]
inputs-sha256 = "{digest}"
requirements-sha256 = "{digest}"

[tool.plinth.inputs]
"""
SPEC = """\
framework = "demo"
accelerator = "cpu"
base = "{base}"
summary = "{summary}"
{more}
[python]
requirements = [{requirements}]
"""


def pylock(times: int = 1, **changes: object) -> Callable[[Path], None]:
    """Read a lock that is sound but for these."""
    digest = str(changes.get("digest", "0" * 64))
    fields = {
        "name": "demo",
        "version": "1.0",
        "file": "demo-1.0-py3-none-any.whl",
        "path": f"../../build/cache/blobs/sha256/{digest}",
        "size": 1,
        "algorithm": "sha256",
        "digest": digest,
        **changes,
    }
    return lock(HEAD + times * PACKAGE.format(**fields) + TAIL.format(digest=digest))


def lock(text: str) -> Callable[[Path], None]:
    def run(work: Path) -> None:
        path = work / "pylock.toml"
        path.write_text(text)
        load(path, "pylock.toml")

    return run


def spec(
    base: str = "small", summary: str = "x", more: str = "", requirements: str = ""
) -> Callable[[Path], None]:
    """Read the specification of an image."""
    text = SPEC.format(base=base, summary=summary, more=more, requirements=requirements)

    def run(work: Path) -> None:
        (work / "demo.toml").write_text(text)
        load_image(work, "demo")

    return run


def targeted(base: str) -> Callable[[Path], None]:
    """Read the specification of an image, and those of what it is for."""

    def run(work: Path) -> None:
        spec(base)(work)
        load_target(work, load_image(work, "demo").base)

    return run


def asked(text: str) -> Callable[[Path], None]:
    """Extend an image by a requirements file."""

    def run(work: Path) -> None:
        path = work / "requirements.txt"
        path.write_text(text)
        read_requirements(path)

    return run


def pinned(content: bytes) -> Callable[[Path], object]:
    """Read the pins of a lock, which are handed to the resolver."""

    def run(work: Path) -> object:
        ws = Workspace(work, work / "build")
        (ws.locks / "demo").mkdir(parents=True)
        (ws.locks / "demo" / "requirements.txt").write_bytes(content)
        return read_before(ws, "demo")

    return run


def settings(text: str) -> Callable[[Path], object]:
    def run(work: Path) -> object:
        path = work / "config.toml"
        path.write_text(text)
        return load_config({"PLINTH_CONFIG": str(path)})

    return run


CASES = [
    Case("traversal", "lock: path", pylock(path="../../../../etc/passwd"), "path"),
    Case("traversal", "lock: file name", pylock(file="../demo-1.0-py3-none-any.whl"), "name|file"),
    Case(
        "traversal",
        "specification of that name",
        lambda work: load_image(work, "../victim"),
        "no such specification|cannot be an image id",
    ),
    Case(
        "traversal",
        "base of that name",
        lambda work: load_base(work, "../../victim"),
        "no such specification|cannot",
    ),
    Case(
        "duplicates",
        "lock: key twice",
        lock('lock-version = "1.0"\nlock-version = "1.0"\n'),
        "not TOML",
    ),
    Case(
        "duplicates",
        "lock: package twice",
        pylock(times=2),
        "locked twice",
    ),
    Case(
        "duplicates", "requirement twice", spec(requirements='"a==1", "A==2"'), "already required"
    ),
    Case("size lies", "lock: negative", pylock(size=-1), "size"),
    Case("size lies", "lock: a truth value", pylock(size="true"), "size"),
    Case("bombs", "lock: nested", lock("a = " + "[" * 100_000), "not TOML"),
    Case("bombs", "specification: huge number", spec(more="x = " + "9" * 100_000), "not TOML"),
    Case("names", "lock: control characters", pylock(name="de\\u001b[2Jmo"), "name"),
    Case(
        "names",
        "lock: another package's file",
        pylock(file="evil-1.0-py3-none-any.whl"),
        "evil|file",
    ),
    Case(
        "names", "specification: turned around", targeted("\\u202esmall"), "no such specification"
    ),
    Case(
        "names",
        "requirement: control characters",
        spec(requirements='"a\\u001b[2J==1"'),
        "not a PEP 508 requirement",
    ),
    Case("digests", "lock: not a digest", pylock(digest="../x"), "sha256|digest"),
    Case("downgrades", "lock: MD5 alone", pylock(algorithm="md5"), "sha256"),
    Case("redirects", "lock: another host", pylock(path="https://elsewhere.test/demo.whl"), "path"),
    Case(
        "redirects",
        "requirement: another host",
        spec(requirements='"a @ https://elsewhere.test/a.whl"'),
        "a URL has no place",
    ),
    Case(
        "redirects",
        "requirement: another index",
        asked("--index-url https://elsewhere.test\na==1\n"),
        "only names and versions",
    ),
    Case("execution", "requirement: a folder", asked("-e .\n"), "only names and versions"),
    Case(
        "execution",
        "requirement: an option",
        spec(requirements='"a==1 --config-settings=x=y"'),
        "not a PEP 508 requirement",
    ),
    Case(
        "credentials",
        "settings: not a URL",
        settings('index-url = "https://user:secret@[x/simple"'),
        "not a URL",
    ),
    Case(
        "nonsense",
        "lock: not UTF-8",
        lambda work: ((work / "l.toml").write_bytes(b"\xff\xfe"), load(work / "l.toml"))[1],
        "not TOML",
    ),
    Case("traversal", "pins: a file", pinned(b"-r /etc/passwd\n"), "line 1: neither a pin"),
    Case(
        "redirects",
        "pins: another index",
        pinned(b"# a comment\n--extra-index-url https://elsewhere.test\na==1\n"),
        "line 2: neither a pin",
    ),
    Case("execution", "pins: a folder", pinned(b"a==1\n-e .\n"), "line 2: neither a pin"),
    Case("credentials", "pins: a variable", pinned(b"${TOKEN}==1\n"), "line 1: neither a pin"),
    Case(
        "credentials",
        "requirement: a variable",
        spec(requirements='"a===${TOKEN}"'),
        "a variable of the environment cannot decide a lock",
    ),
    Case("duplicates", "pins: twice", pinned(b"a==1\nA==2\n"), "a is pinned by line 1 already"),
    Case("names", "pins: control characters", pinned(b"a==1\n\x1b[2J\xe2\x80\xae\n"), "line 2: "),
    Case(
        "bombs",
        "pins: a long line",
        pinned(b"a==1 ; " + b"x \\" * 500_000 + b" [" + b"a," * 500_000),
        "line 1: neither a pin",
    ),
    Case("nonsense", "pins: a conflict", pinned(b"<<<<<<< HEAD\na==1\n"), "line 1: neither a pin"),
    Case("nonsense", "pins: not UTF-8", pinned(b"a==1\n\xff\n"), "not UTF-8"),
    Case("nonsense", "specification: unknown field", spec(more='run = "evil"'), "unknown field"),
    Case("nonsense", "settings: unknown", settings('run = "evil"'), "unknown setting"),
]
