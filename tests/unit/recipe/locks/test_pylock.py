"""pylock.toml: what is written is read again; whatever else is in it is reported, all at once."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plinth.core.digest import Digest
from plinth.recipe.locks.pylock import (
    STORE,
    ImageLock,
    LockedFile,
    LockedPackage,
    PylockError,
    dump,
    every_file,
    load,
)

WHEN = "2021-01-01 00:00:00+00:00"
SHOWN = "locks/demo/pylock.toml"


def locked(name: str, *, sdist: bool = False, version: str = "1.0", **more: Any) -> LockedPackage:
    stem = f"{name.replace('-', '_')}-{version}"
    filename = f"{stem}.tar.gz" if sdist else f"{stem}-py3-none-any.whl"
    file = LockedFile(filename, Digest.of(filename.encode()), WHEN)
    return LockedPackage(name, version, file, sdist, **more)


LOCK = ImageLock(
    (
        locked("demo-lib", dependencies=("six", "wrapt"), direct=True),
        locked("six", from_base=True),
        locked("wrapt", sdist=True, build_requires=(locked("setuptools"), locked("wheel"))),
    ),
    "3.7",
    {"format": 1, "as-of": "", "requirements": ["demo-lib~=1.0"]},
    "1" * 64,
    "2" * 64,
)

PARTS = st.text("abc", min_size=1, max_size=3)
FILES = st.builds(
    locked,
    PARTS,
    version=st.sampled_from(["1.0", "2.0.post1", "1!3", "1.0+local.1", "0.1rc1"]),
    direct=st.booleans(),
    from_base=st.booleans(),
    index=st.sampled_from(["", "pytorch-cpu"]),
    dependencies=st.lists(PARTS, max_size=3).map(tuple),
)
SDISTS = st.builds(
    locked,
    PARTS,
    sdist=st.just(True),
    build_requires=st.lists(FILES, max_size=2, unique_by=lambda p: p.name).map(
        lambda found: tuple(sorted(found, key=lambda package: package.name))
    ),
)
LOCKS = st.builds(
    ImageLock,
    st.lists(FILES | SDISTS, max_size=4, unique_by=lambda p: p.name).map(
        lambda found: tuple(sorted(found, key=lambda package: package.name))
    ),
    st.sampled_from(["3.7", "3.10"]),
    st.dictionaries(PARTS, st.text("a\"'\\\né"), max_size=2),
    st.just("1" * 64),
    st.just("2" * 64),
)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pylock.toml"
    path.write_text(text, encoding="utf-8")
    return path


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LOCKS)
def test_what_is_written_is_read_again(tmp_path: Path, lock: ImageLock) -> None:
    text = dump(lock)
    assert load(written(tmp_path, text)) == lock
    assert dump(load(tmp_path / "pylock.toml")) == text


def test_the_text_of_a_lock() -> None:
    digest = LOCK.packages[1].file.digest
    lines = dump(LOCK).splitlines()
    assert lines[0].startswith("# Made by doit lock; do not edit.")
    assert lines[1:3] == ['lock-version = "1.0"', 'requires-python = "==3.7.*"']
    assert 'created-by = "plinth"' in lines
    at = lines.index('name = "six"')
    assert lines[at : at + 15] == [
        'name = "six"',
        'version = "1.0"',
        "",
        "[[packages.wheels]]",
        'name = "six-1.0-py3-none-any.whl"',
        "upload-time = 2021-01-01 00:00:00+00:00",
        f'path = "../../build/cache/blobs/sha256/{digest.hex}"',
        f"size = {digest.size}",
        "",
        "[packages.wheels.hashes]",
        f'sha256 = "{digest.hex}"',
        "",
        "[packages.tool.plinth]",
        "from-base = true",
        "",
    ]


def test_others_can_read_a_lock() -> None:
    pylock = pytest.importorskip("packaging.pylock")
    other = pylock.Pylock.from_dict(tomli.loads(dump(LOCK)))
    assert [(package.name, str(package.version)) for package in other.packages] == [
        ("demo-lib", "1.0"),
        ("six", "1.0"),
        ("wrapt", "1.0"),
    ]


def test_times_are_written_in_utc_whatever_the_index_gives(tmp_path: Path) -> None:
    moments = {
        "2021-01-01T02:00:00+02:00": "2021-01-01 00:00:00+00:00",
        "2021-01-01T00:00:00.000000Z": "2021-01-01 00:00:00+00:00",
        "2021-01-01T00:00:00.123456Z": "2021-01-01 00:00:00.123456+00:00",
    }
    for given_, kept in moments.items():
        file = LockedFile("six-1.0-py3-none-any.whl", Digest.of(b""), given_)
        lock = ImageLock((LockedPackage("six", "1.0", file, False),), "3.7", {}, "", "")
        assert load(written(tmp_path, dump(lock))).packages[0].file.upload_time == kept


def test_packages_are_sorted_whatever_the_file_says(tmp_path: Path) -> None:
    document = tomli.loads(dump(LOCK))
    document["packages"].reverse()
    assert load(written(tmp_path, tomli_w.dumps(document))) == LOCK


def test_every_file_is_named_once_and_build_requirements_too() -> None:
    again = locked("other", sdist=True, build_requires=(locked("wheel"),))
    found = [package.name for package in every_file([*LOCK.packages, again])]
    assert found == ["demo-lib", "six", "wrapt", "setuptools", "wheel", "other"]


def problems(tmp_path: Path, document: dict[str, Any]) -> list[str]:
    """What is reported of the document; the message names the file each time, and a remedy."""
    with pytest.raises(PylockError) as raised:
        load(written(tmp_path, tomli_w.dumps(document)), SHOWN)
    found = [str(problem) for problem in raised.value.problems]
    message = str(raised.value)
    assert message.startswith(f"{SHOWN}: {len(found)} problem")
    assert all(f"{SHOWN}: {problem}" in message for problem in found)
    assert "doit lock" in message
    return found


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    document = copy.deepcopy(tomli.loads(dump(LOCK)))
    change(document)
    return document


def package(number: int, **fields: Any) -> Callable[[dict[str, Any]], object]:
    """Sets fields of a package; None takes one away."""

    def change(document: dict[str, Any]) -> None:
        entry = document["packages"][number]
        entry.update({key.replace("_", "-"): value for key, value in fields.items()})
        for key in [key for key, value in entry.items() if value is None]:
            del entry[key]

    return change


def wheel(**fields: Any) -> Callable[[dict[str, Any]], object]:
    """Sets fields of the wheel of `six`; None takes one away."""

    def change(document: dict[str, Any]) -> None:
        entry = document["packages"][1]["wheels"][0]
        entry.update({key.replace("_", "-"): value for key, value in fields.items()})
        for key in [key for key, value in entry.items() if value is None]:
            del entry[key]

    return change


OTHER = {"name": "x-1.0-py3-none-any.whl"}
NAIVE = datetime.datetime(2021, 1, 1)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: d.pop("lock-version"), "lock-version: expected '1.0', found None"),
        (lambda d: d.update({"lock-version": 1.0}), "lock-version: expected '1.0', found 1.0"),
        (lambda d: d.update({"lock-version": "2.0"}), "lock-version: expected '1.0', found '2.0'"),
        (lambda d: d.pop("requires-python"), "requires-python: missing; expected a string"),
        (lambda d: d.pop("packages"), "packages: expected an array of tables"),
        (lambda d: d.update(packages={"six": 1}), "packages: expected an array of tables"),
        (lambda d: d["packages"].insert(0, 5), "packages[0]: expected a table"),
        (
            lambda d: d["tool"]["plinth"].pop("inputs-sha256"),
            "tool.plinth.inputs-sha256: missing; expected a SHA-256",
        ),
        (
            lambda d: d["tool"]["plinth"].update({"requirements-sha256": 5}),
            "tool.plinth.requirements-sha256: missing; expected a SHA-256",
        ),
        (
            lambda d: d["packages"].append(d["packages"][1]),
            "packages[3].name: six is locked twice",
        ),
        (package(1, name=None), "packages[1]: expected a name and a version"),
        (package(1, version=1.0), "packages[1]: expected a name and a version"),
        (package(1, wheels=None), "packages[1]: expected exactly one wheel or one sdist"),
        (package(1, wheels=[]), "packages[1]: expected exactly one wheel or one sdist"),
        (package(1, wheels={}), "packages[1]: expected exactly one wheel or one sdist"),
        (package(1, wheels=[OTHER] * 2), "packages[1]: expected exactly one wheel or one sdist"),
        (package(1, sdist={}), "packages[1]: expected exactly one wheel or one sdist"),
        *(
            (change, f"{path}: unknown field: a lock that plinth made has no such one")
            for change, path in (
                (lambda d: d.update(extras=["x"]), "extras"),
                (lambda d: d["tool"].update(other={}), "tool.other"),
                (lambda d: d["tool"]["plinth"].update(x=1), "tool.plinth.x"),
                (package(1, marker="python_version < '3'"), "packages[1].marker"),
                (package(1, index="https://there"), "packages[1].index"),
                (package(1, requires_python=">=4"), "packages[1].requires-python"),
                (package(1, tool={"x": 1}), "packages[1].tool.x"),
                (package(1, tool={"plinth": {"x": 1}}), "packages[1].tool.plinth.x"),
                (wheel(x=1), "packages[1].wheels[0].x"),
                (
                    package(0, dependencies=[{"name": "six", "version": "2"}]),
                    "packages[0].dependencies[0].version",
                ),
            )
        ),
        (
            package(1, tool={"plinth": {"direct": "no"}}),
            "packages[1].tool.plinth.direct: expected a boolean, found 'no'",
        ),
        (
            package(1, tool={"plinth": {"index": 1}}),
            "packages[1].tool.plinth.index: expected a name, found 1",
        ),
        (
            lambda d: d.update(environments=["sys_platform == 'win32'"]),
            "environments: expected those of Python 3.7 on Linux alone",
        ),
        (package(1, vcs={}), "packages[1].vcs: only wheels and sdists can be built from"),
        (package(1, archive={}), "packages[1].archive: only wheels and sdists can be built from"),
        (
            package(1, directory={"path": "/"}),
            "packages[1].directory: only wheels and sdists can be built from",
        ),
        (
            package(0, dependencies=5),
            "packages[0].dependencies: expected an array of tables with names",
        ),
        (
            package(0, dependencies=["six"]),
            "packages[0].dependencies: expected an array of tables with names",
        ),
        (
            wheel(name="six-1.0.tar.gz"),
            "packages[1].wheels[0].name: 'six-1.0.tar.gz' is not a wheel",
        ),
        (
            lambda d: d["packages"][2]["sdist"].update(name="wrapt-1.0-py3-none-any.whl"),
            "packages[2].sdist.name: 'wrapt-1.0-py3-none-any.whl' is not an sdist",
        ),
        (package(2, sdist=5), "packages[2].sdist.name: expected a file name"),
        (
            package(2, tool={"plinth": {"build-requires": 5}}),
            "packages[2].tool.plinth.build-requires: expected an array of tables",
        ),
        (
            package(2, tool={"plinth": {"build-requires": [{"name": "x"}]}}),
            "packages[2].tool.plinth.build-requires[0]: expected a name and a version",
        ),
        (wheel(name=None), "packages[1].wheels[0].name: expected a file name"),
        (wheel(size=None), "packages[1].wheels[0].size: expected a size in bytes, found None"),
        (wheel(size="5"), "packages[1].wheels[0].size: expected a size in bytes, found '5'"),
        (wheel(size=True), "packages[1].wheels[0].size: expected a size in bytes, found True"),
        (wheel(size=-1), "packages[1].wheels[0].size: expected a size in bytes, found -1"),
        (
            wheel(hashes={"md5": "0" * 32}),
            "packages[1].wheels[0].hashes.sha256: expected 64 hex digits, found None",
        ),
        (
            wheel(hashes={"sha256": "../../etc/passwd"}),
            "packages[1].wheels[0].hashes.sha256: expected 64 hex digits, found '../../etc/passwd'",
        ),
        (
            wheel(url="https://host/six-1.0-py3-none-any.whl"),
            "packages[1].wheels[0].url: a lock names no host; files are found by name and digest",
        ),
        (
            wheel(path="/etc/passwd"),
            "packages[1].wheels[0].path: expected the store's path of that digest, "
            "found '/etc/passwd'",
        ),
        (
            wheel(path=f"{STORE}/{'0' * 64}"),
            "packages[1].wheels[0].path: expected the store's path of that digest, "
            f"found '{STORE}/{'0' * 64}'",
        ),
        (
            wheel(upload_time="2021-01-01T00:00:00Z"),
            "packages[1].wheels[0].upload-time: expected a date-time with offset, "
            "found '2021-01-01T00:00:00Z'",
        ),
        (
            wheel(upload_time=NAIVE),
            "packages[1].wheels[0].upload-time: expected a date-time with offset, "
            "found datetime.datetime(2021, 1, 1, 0, 0)",
        ),
        *(
            (wheel(name=name), f"packages[1].wheels[0].name: {name!r} is not a file of six 1.0")
            for name in (
                "evil-1.0-py3-none-any.whl",
                "six-1.1-py3-none-any.whl",
                "six-1.0.whl",
                "../six-1.0-py3-none-any.whl",
                "/six-1.0-py3-none-any.whl",
                ".whl",
            )
        ),
    ],
)
def test_one_thing_wrong(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], expected: str
) -> None:
    assert problems(tmp_path, changed(change)) == [expected]


def test_sdists_are_built_with_wheels_only(tmp_path: Path) -> None:
    inner = locked("setuptools", sdist=True)
    lock = ImageLock((locked("wrapt", sdist=True, build_requires=(inner,)),), "3.7", {}, "", "")
    assert problems(tmp_path, tomli.loads(dump(lock))) == [
        "packages[0].tool.plinth.build-requires: setuptools is an sdist; sdists are built with "
        "wheels"
    ]


def test_everything_wrong_is_reported_at_once(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["lock-version"] = "0.9"
        del document["tool"]
        package(0, name="Demo.Lib", vcs={})(document)
        wheel(url="https://host/x", path="/x", upload_time=5)(document)
        document["packages"][2]["sdist"]["hashes"] = 5
        inner = document["packages"][2]["tool"]["plinth"]["build-requires"]
        inner[0]["wheels"][0]["size"] = -5
        inner[1]["name"] = "Wheel"

    at = "packages[2].tool.plinth.build-requires"
    assert [problem.partition(": ")[0] for problem in problems(tmp_path, changed(change))] == [
        "lock-version",
        "tool.plinth.inputs-sha256",
        "tool.plinth.requirements-sha256",
        "packages[0].name",
        "packages[0].vcs",
        "packages[0].wheels[0].name",
        "packages[1].wheels[0].url",
        "packages[1].wheels[0].path",
        "packages[1].wheels[0].upload-time",
        "packages[2].sdist.hashes.sha256",
        f"{at}[0].wheels[0].size",
        f"{at}[1].name",
        f"{at}[1].wheels[0].name",
    ]


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in a document."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            found += places(inner, (*path, number))
    return found


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_value_anywhere_raises_anything_else(tmp_path: Path, data: st.DataObject) -> None:
    document = tomli.loads(dump(LOCK))
    *way, last = data.draw(st.sampled_from(places(document)))
    place: Any = document
    for step in way:
        place = place[step]
    value = data.draw(VALUES)
    if value is None:
        del place[last]
    else:
        place[last] = without_none(value)
    try:
        load(written(tmp_path, tomli_w.dumps(document)), SHOWN)
    except PylockError as error:
        assert error.problems
        assert SHOWN in str(error)


def without_none(value: Any) -> Any:
    """`value` as TOML can hold it: it has no null."""
    if isinstance(value, dict):
        return {key: without_none(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_none(inner) for inner in value if inner is not None]
    return value


def test_a_lock_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PylockError) as raised:
        load(tmp_path / "pylock.toml", SHOWN)
    assert "there is no lock" in str(raised.value)
    assert SHOWN in str(raised.value)
    assert raised.value.remedy == "make it: doit lock"


@pytest.mark.parametrize("data", [b"x = ", b"\xff\xfe", b"a = 1\na = 2\n", b"a = \0"])
def test_a_lock_that_is_not_toml(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "pylock.toml").write_bytes(data)
    with pytest.raises(PylockError) as raised:
        load(tmp_path / "pylock.toml", SHOWN)
    assert f"{SHOWN}: not TOML" in str(raised.value)
    assert raised.value.remedy == "make it anew: doit lock"


def test_a_problem_names_the_path_where_nothing_else_is_given(tmp_path: Path) -> None:
    with pytest.raises(PylockError) as raised:
        load(tmp_path / "pylock.toml")
    assert raised.value.where == str(tmp_path / "pylock.toml")
