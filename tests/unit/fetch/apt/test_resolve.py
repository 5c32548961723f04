"""Resolution by Debian's rules: the same result in any order of entries."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plinth.core.digest import Digest
from plinth.core.errors import PackageError
from plinth.fetch.apt.archive import Index
from plinth.fetch.apt.resolve import Universe, resolve
from plinth.fetch.apt.sources import Source
from support.debs import Package, packages_text, replaced

DIGEST = Digest.of(b"")


def index(*packages: Package, suite: str = "stable", text: str = "") -> Index:
    return Index(Source("http://archive", suite), DIGEST, text or packages_text(packages))


def package(name: str, version: str = "1.0", depends: str = "", provides: str = "") -> Package:
    fields = {"Depends": depends, "Provides": provides}
    return Package(name, version, fields={k: v for k, v in fields.items() if v}, compression="")


def resolved(*packages: Package, want: str = "app", omit: str = "") -> list[str]:
    found = resolve([index(*packages)], want.split(), omit.split())
    return [f"{p.name} {p.version}" for p in found]


def refused(*packages: Package, want: str = "app") -> PackageError:
    with pytest.raises(PackageError) as raised:
        resolve([index(*packages)], want.split(), ())
    return raised.value


def test_depends_and_pre_depends_are_followed_and_recommends_are_not() -> None:
    app = Package(
        "app",
        fields={"Pre-Depends": "first", "Depends": "second (>= 1), third", "Recommends": "fourth"},
    )
    others = [package(name) for name in ("first", "second", "third", "fourth")]
    assert resolved(app, *others) == ["app 1.0", "first 1.0", "second 1.0", "third 1.0"]


def test_a_package_carries_what_the_index_says() -> None:
    app = Package("app", "2:1.0-3", "all", {"x": b"1"})
    (found,) = resolve([index(app, suite="stable-security")], ["app"], ())
    assert (found.name, found.version, found.architecture) == ("app", "2:1.0-3", "all")
    assert (found.path, found.suite) == ("pool/main/a/app/app_1.0-3_all.deb", "stable-security")
    assert found.digest == Digest.of(app.deb)


def test_dependencies_in_a_circle_end() -> None:
    found = resolved(
        package("app", depends="bb"), package("bb", depends="cc"), package("cc", depends="app")
    )
    assert found == ["app 1.0", "bb 1.0", "cc 1.0"]


def test_the_first_alternative_that_there_is_is_taken() -> None:
    app = package("app", depends="gone | old (>= 2) | good | better")
    found = resolved(app, package("old"), package("good"), package("better"))
    assert found == ["app 1.0", "good 1.0"]


def test_an_alternative_that_is_wanted_anyway_comes_first() -> None:
    app = package("app", depends="awk | mawk | gawk")
    packages = [app, package("awk"), package("mawk"), package("gawk")]
    assert resolved(*packages, want="app gawk") == ["app 1.0", "gawk 1.0"]


def test_a_virtual_package_is_provided_by_the_first_by_name_or_by_one_that_is_wanted() -> None:
    packages = [
        package("app", depends="awk"),
        package("original-awk", provides="awk"),
        package("mawk", provides="posix, awk"),
    ]
    assert resolved(*packages) == ["app 1.0", "mawk 1.0"]
    assert resolved(*packages, want="app original-awk") == ["app 1.0", "original-awk 1.0"]


def test_a_real_package_comes_before_those_that_provide_its_name() -> None:
    packages = [
        package("app", depends="awk"), package("awk"), package("aaa", provides="awk"),
    ]  # fmt: skip
    assert resolved(*packages) == ["app 1.0", "awk 1.0"]


@pytest.mark.parametrize(
    ("provides", "met"),
    [("virtual (= 2.0)", True), ("virtual (= 1.0)", False), ("virtual", False)],
)
def test_only_a_versioned_provides_meets_a_bound(provides: str, met: bool) -> None:
    # Debian policy 7.5: an unversioned Provides never satisfies a versioned relation.
    packages = package("app", depends="virtual (>= 1.5)"), package("real", provides=provides)
    if met:
        assert resolved(*packages) == ["app 1.0", "real 1.0"]
    else:
        error = refused(*packages)
        assert error.what == ("app 1.0 needs virtual (>= 1.5), which no configured suite has")


def test_omitted_packages_are_pulled_in_by_nothing() -> None:
    app = package("app", depends="debconf | debconf-2.0, dpkg (>= 9), libc6")
    packages = [
        app,
        package("debconf"),
        package("cdebconf", provides="debconf-2.0"),
        package("libc6"),
    ]
    assert resolved(*packages, omit="debconf dpkg") == ["app 1.0", "libc6 1.0"]


def test_the_newest_version_of_all_suites_wins() -> None:
    stable = index(package("app", "1.0", "lib"), package("lib", "1.0-10"))
    security = index(package("lib", "1.0-9"), package("lib", "1.0-10+deb12u1"), suite="security")
    for order in ([stable, security], [security, stable]):
        found = {p.name: (p.version, p.suite) for p in resolve(order, ["app"], ())}
        assert found == {"app": ("1.0", "stable"), "lib": ("1.0-10+deb12u1", "security")}


def test_of_equal_versions_the_first_suite_wins() -> None:
    one, two = index(package("app")), index(package("app"), suite="updates")
    assert resolve([one, two], ["app"], ())[0].suite == "stable"
    assert resolve([two, one], ["app"], ())[0].suite == "updates"


def test_an_older_version_is_taken_where_a_bound_asks_for_it() -> None:
    packages = [
        package("app", depends="lib, tool"),
        package("tool", depends="lib (<< 2)"),
        package("lib", "2.0"),
        package("lib", "1.5"),
    ]
    assert resolved(*packages) == ["app 1.0", "lib 1.5", "tool 1.0"]


def test_dependencies_of_a_version_that_was_given_up_are_not_taken() -> None:
    packages = [
        package("app", depends="lib, tool"),
        package("tool", depends="lib (<< 2)"),
        package("lib", "2.0", depends="extra"),
        package("lib", "1.5"),
        package("extra"),
    ]
    assert resolved(*packages) == ["app 1.0", "lib 1.5", "tool 1.0"]


def test_a_circle_that_a_given_up_version_leaves_behind_does_no_harm() -> None:
    packages = [
        package("app", depends="lib, tool"),
        package("tool", depends="lib (<< 2)"),
        package("lib", "2.0", depends="aa"),
        package("lib", "1.5"),
        package("aa", depends="bb"),
        package("bb", depends="aa"),
    ]
    assert resolved(*packages) == ["app 1.0", "lib 1.5", "tool 1.0"]


def test_what_only_one_version_provides_pins_that_version() -> None:
    packages = [
        package("app", depends="virtual, zz"),
        package("real", "2.0", provides="virtual"),
        package("real", "1.0"),
        package("zz", depends="real (<< 2)"),
    ]
    error = refused(*packages)
    assert error.what == "dependencies cannot be met together"
    assert sorted(error.found.split(", ")) == ["real (<< 2) for zz", "real (= 2.0) for app"]


def test_bounds_that_cannot_be_met_together_are_all_named() -> None:
    error = refused(
        package("app", depends="one, two"),
        package("one", depends="lib (>= 2)"),
        package("two", depends="lib (<< 2)"),
        package("lib", "2.0"),
        package("lib", "1.0"),
    )
    assert error.what == "dependencies cannot be met together"
    assert sorted(error.found.split(", ")) == ["lib (<< 2) for two", "lib (>= 2) for one"]


def test_a_wanted_package_that_is_nowhere_is_named_with_its_field() -> None:
    error = refused(package("app"), want="app gone lost")
    assert error.what == "no configured suite has gone, lost"
    assert error.where == "rootfs.packages"


def test_a_dependency_that_is_nowhere_is_named_with_who_needs_it() -> None:
    error = refused(package("app", depends="gone (>= 1) | lost"))
    assert error.what == "app 1.0 needs gone (>= 1) | lost, which no configured suite has"


APP = Package("app", fields={"Depends": "libc6"})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Version: 1.0\n", "", "Version"),
        ("Version: 1.0\n", "Version: 1_0\n", "1_0"),
        ("Architecture: amd64\n", "", "Architecture"),
        ("Filename: ", "File: ", "Filename"),
        ("Size: ", "Size: -", "not a sha256 digest"),
        ("Size: ", "Size: many", "many"),
        ("SHA256: ", "SHA256: x", "not a sha256 digest"),
        ("SHA256: ", "MD5sum: ", "SHA256"),
        ("Depends: libc6", "Depends: libc6 (", "unreadable relation 'libc6 ('"),
        ("Filename: pool/", "Filename: /pool/", "a pool path escapes the archive"),
        ("Filename: pool/", "Filename: ../pool/", "a pool path escapes the archive"),
        ("Filename: pool/", "Filename: http://evil/", "a pool path escapes the archive"),
    ],
)
def test_a_malformed_entry_is_named_with_its_suite(old: str, new: str, message: str) -> None:
    text = replaced(old.encode(), new.encode())(APP.stanza().encode()).decode()
    with pytest.raises(PackageError) as raised:
        resolve([index(text=text)], ["app"], ())
    assert raised.value.what.startswith("malformed entry: ")
    assert message in raised.value.what
    assert raised.value.where == "Packages of stable: app"


def test_an_unreadable_provides_is_named_with_its_suite() -> None:
    with pytest.raises(PackageError) as raised:
        Universe([index(package("bad", provides="what is this"))])
    assert raised.value.what == "malformed entry: unreadable relation 'what is this'"
    assert raised.value.where == "Packages of stable: bad"


def test_malformed_entries_nobody_asks_for_do_no_harm() -> None:
    text = packages_text([package("app")]) + "\n\nPackage: broken\nVersion: _\n\nnonsense\n"
    assert [p.name for p in resolve([index(text=text)], ["app"], ())] == ["app"]


NAMES = ["aa", "bb", "cc", "dd", "ee"]
RELATIONS = st.builds(
    lambda name, bound: f"{name} {bound}".strip(),
    st.sampled_from([*NAMES, "virtual"]),
    st.sampled_from(["", "", "(>= 1)", "(>= 2)", "(<< 3)", "(= 2)"]),
)
PACKAGES = st.lists(
    st.builds(
        package,
        st.sampled_from(NAMES),
        st.sampled_from(["1", "2", "3"]),
        st.lists(RELATIONS, max_size=2).map(", ".join),
        st.sampled_from(["", "", "virtual", "virtual (= 2)"]),
    ),
    max_size=10,
    unique_by=lambda p: (p.name, p.version),
)


def outcome(packages: list[Package]) -> object:
    try:
        return resolve([index(*packages)], ["aa", "bb"], ["dd"])
    except PackageError as error:
        return error.what


@settings(deadline=None)
@given(PACKAGES, st.randoms(use_true_random=False))
def test_the_order_of_entries_changes_nothing(
    packages: list[Package], order: random.Random
) -> None:
    shuffled = list(packages)
    order.shuffle(shuffled)
    assert outcome(shuffled) == outcome(packages)


@settings(deadline=None)
@given(PACKAGES)
def test_a_result_meets_every_bound(packages: list[Package]) -> None:
    found = outcome(packages)
    if isinstance(found, str):
        return
    assert isinstance(found, list)
    chosen = {p.name: p for p in found}
    assert {"aa", "bb"} <= set(chosen)
    assert len(chosen) == len(found)
    for entry in found:
        for group in entry.depends:
            if any(relation.name == "dd" for relation in group):
                continue
            assert any(
                (r.name in chosen and r.admits(chosen[r.name].version))
                or any(
                    given.name == r.name
                    and (not r.operator or (given.version and r.admits(given.version)))
                    for other in found
                    for given in other.provides
                )
                for r in group
            ), f"{entry.name} needs {group}"
