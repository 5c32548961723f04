"""plinth's own dependencies: locked, hashed, and each with a licence that is known."""

from __future__ import annotations

import json
import re
from importlib.metadata import distributions
from pathlib import Path

import pytest
import tomli
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from plinth.core.digest import Digest
from plinth.core.errors import SbomError
from plinth.evidence.sbom import own
from plinth.recipe.locks.pins import pins
from plinth.recipe.target import marker_environment

ROOT = Path(__file__).resolve().parents[4]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def pinned(file: str, python: str) -> dict[str, tuple[str, Requirement]]:
    """What pip would install of `file` with CPython `python`: one version of each package."""
    found: dict[str, tuple[str, Requirement]] = {}
    environment = marker_environment(f"{python}.13")
    for line in (ROOT / file).read_text().splitlines():
        if line[:1].isalnum():
            one = Requirement(line.removesuffix("\\"))
            if one.marker is None or one.marker.evaluate(environment):
                (exact,) = one.specifier
                assert exact.operator == "=="
                assert found.setdefault(canonicalize_name(one.name), (exact.version, one))[1] is one
    return found


@pytest.mark.parametrize("python", PYTHONS)
def test_locks_satisfy_what_pyproject_asks_for(python: str) -> None:
    project = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]
    run, test = pinned(own.RUN, python), pinned(own.TEST, python)
    asked = {own.RUN: [], own.TEST: project["optional-dependencies"]["test"]}
    environment = marker_environment(f"{python}.13")
    for file, more in asked.items():
        for text in [*project["dependencies"], *more]:
            one = Requirement(text)
            if one.marker is None or one.marker.evaluate(environment):
                version, _ = pinned(file, python)[canonicalize_name(one.name)]
                assert one.specifier.contains(version), f"{file}: {text}, {version}"
    assert {name: test[name][0] for name in run} == {name: pin[0] for name, pin in run.items()}


@pytest.mark.parametrize("file", [own.RUN, own.TEST])
def test_locks_are_hashed_and_name_no_place(file: str) -> None:
    text = (ROOT / file).read_text()
    found = list(pins(text))
    assert len(found) > 50
    assert [pin.name for pin in found if not pin.hashes] == []
    # Nothing but pins, SHA-256 and who asked for it: no option, address or path.
    allowed = re.compile(
        r"[a-z0-9.-]+==[a-z0-9.]+( ; [^\\/]+)? \\"
        r"|    --hash=sha256:[0-9a-f]{64}( \\)?"
        r"|    # via( [a-z0-9.-]+)?( \(pyproject\.toml\))?"
        r"|    #   (-c requirements/plinth\.txt|[a-z0-9.-]+( \(pyproject\.toml\))?)"
    )
    assert [line for line in text.splitlines() if not allowed.fullmatch(line)] == []


def test_the_list_of_licences_is_up_to_date_and_knows_all() -> None:
    text = (ROOT / own.LIST).read_text(encoding="utf-8")
    packages = own.locked(ROOT)
    found = own.declared(packages, own.known(text))
    assert own.UNKNOWN not in found.values()
    assert own.listed(packages, found) == text, "run `doit self`"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that is locked to a package installed here, one that is not, and a test's."""
    root = tmp_path / "checkout"
    (root / "requirements").mkdir(parents=True)
    (installed,) = (one for one in distributions() if one.name == "shtab")
    line = "{}=={}{} \\\n    --hash=sha256:{}\n    # via plinth (pyproject.toml)\n"
    run = line.format("shtab", installed.version, "", "1" * 64)
    run += line.format("absent", "1.0", " ; python_full_version < '3.11'", "2" * 64)
    run += line.format("windows", "1.0", " ; sys_platform == 'win32'", "3" * 64)
    (root / own.RUN).write_text(run)
    more = "tested==2.0 \\\n    --hash=sha256:{}\n    # via\n    #   -c x\n    #   shtab\n"
    (root / own.TEST).write_text(run + more.format("4" * 64))
    return root


def test_what_is_not_installed_is_unknown_until_it_was_once(checkout: Path) -> None:
    with pytest.raises(SbomError) as raised:
        own.write_licences(checkout)
    told = [problem.path for problem in raised.value.problems]
    assert told == ["pkg:pypi/absent@1.0", "pkg:pypi/tested@2.0"]
    path = checkout / own.LIST
    text = path.read_text()
    path.write_text(text.replace(own.UNKNOWN, "MIT"))
    assert not own.write_licences(checkout)
    # Another version may have another licence.
    for file in (own.RUN, own.TEST):
        (checkout / file).write_text(
            (checkout / file).read_text().replace("absent==1", "absent==2")
        )
    with pytest.raises(SbomError, match=re.escape("absent@2.0")):
        own.write_licences(checkout)


def test_sbom_of_plinth_is_valid_and_the_same_every_time() -> None:
    packages = own.locked(ROOT)
    found = own.declared(packages, own.known((ROOT / own.LIST).read_text(encoding="utf-8")))
    wheel = Digest.of(b"a wheel")
    data = own.sbom(packages, found, "1.0", wheel)
    assert data == own.sbom(list(reversed(packages)), found, "1.0", wheel)
    assert data != own.sbom(packages, found, "1.0", Digest.of(b"another"))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode()) is None
    document = json.loads(data)
    by_ref = {one["bom-ref"]: one for one in document["components"]}
    assert len(by_ref) == len(packages)
    below = {one["ref"]: one.get("dependsOn", []) for one in document["dependencies"]}
    direct = {by_ref[ref]["name"] for ref in below["self"]}
    assert {"docker", "cryptography", "pytest"} <= direct
    assert "cffi" not in direct
    (cryptography,) = (ref for ref in by_ref if ref.startswith("pkg:pypi/cryptography@"))
    assert any(ref.startswith("pkg:pypi/cffi@") for ref in below[cryptography])
    scopes = {one["name"]: one["scope"] for one in document["components"]}
    assert (scopes["docker"], scopes["pytest"]) == ("required", "excluded")
    hashes = {one["value"] for c in document["components"] for one in c["properties"]}
    assert hashes == {digest for one in packages for digest in one.hashes}
