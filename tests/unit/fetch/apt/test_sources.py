"""Where archives are: the machine's apt sources in both formats, and the settings before them."""

from __future__ import annotations

from pathlib import Path

import pytest

from plinth.core.errors import FetchError
from plinth.core.settings import PUBLIC_SNAPSHOTS, Config
from plinth.fetch.apt.sources import Source, find_sources, snapshots

DEB822 = """\
# The machine's own.
Types: deb deb-src
URIs: http://one.example/debian/
Suites: stable stable-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://security.example/debian-security http://second.example/debian
Suites: stable-security
Components: main
"""


def apt(tmp_path: Path, **files: str) -> Path:
    """An /etc/apt of these files; `a_sources` stands for sources.list.d/a.sources."""
    (tmp_path / "sources.list.d").mkdir()
    for name, text in files.items():
        place = "sources.list" if name == "sources_list" else f"sources.list.d/{name}"
        (tmp_path / place.replace("_s", ".s").replace("_l", ".l")).write_text(text)
    return tmp_path


def found(folder: Path, *suites: str, config: Config | None = None) -> list[str]:
    sources = find_sources("debian", suites, config or Config(), folder)
    assert [source.suite for source in sources] == list(suites)
    return [source.uri for source in sources]


def refused(folder: Path, *suites: str) -> FetchError:
    with pytest.raises(FetchError) as raised:
        find_sources("debian", suites, Config(), folder)
    return raised.value


def test_deb822_sources_are_read(tmp_path: Path) -> None:
    folder = apt(tmp_path, debian_sources=DEB822)
    assert find_sources("debian", ("stable-security", "stable"), Config(), folder) == [
        Source("http://security.example/debian-security", "stable-security"),
        Source("http://one.example/debian", "stable"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "deb http://one.example/debian stable main",
        "deb http://one.example/debian/ stable main contrib # why",
        "  deb   http://one.example/debian\tstable   main",
        "deb [arch=amd64] http://one.example/debian stable main",
        "deb [arch=amd64 signed-by=/k.gpg] http://one.example/debian stable main",
        "deb [ arch=amd64 signed-by=/k.gpg ] http://one.example/debian stable main",
    ],
)
def test_one_line_sources_are_read(tmp_path: Path, line: str) -> None:
    assert found(apt(tmp_path, sources_list=f"# comment\n\n{line}\n"), "stable") == [
        "http://one.example/debian"
    ]


@pytest.mark.parametrize(
    "line",
    [
        "deb-src http://one.example/debian stable main",
        "# deb http://one.example/debian stable main",
        "deb http://one.example/debian",
        "deb [arch=amd64 http://one.example/debian stable main",
        "deb [",
        "deb [arch=amd64]",
        "deb",
    ],
)
def test_other_lines_are_no_binary_sources(tmp_path: Path, line: str) -> None:
    refused(apt(tmp_path, sources_list=f"{line}\n"), "stable")


@pytest.mark.parametrize("value", ["no", "No", "false", "without", "off", "disable", "0"])
def test_disabled_entries_are_passed_over(tmp_path: Path, value: str) -> None:
    disabled = DEB822.replace("Types: deb deb-src", f"Types: deb\nEnabled: {value}")
    folder = apt(tmp_path, debian_sources=disabled)
    assert found(folder, "stable-security") == ["http://security.example/debian-security"]
    assert "stable" in refused(folder, "stable").what


def test_a_malformed_file_is_named(tmp_path: Path) -> None:
    folder = apt(tmp_path, debian_sources=DEB822.replace("Components", "Suites"))
    error = refused(folder, "stable")
    assert error.what == "duplicate field 'suites' in line 5"
    assert error.where == str(folder / "sources.list.d" / "debian.sources")


@pytest.mark.parametrize("value", ["yes", "true", "1"])
def test_enabled_entries_are_taken(tmp_path: Path, value: str) -> None:
    enabled = DEB822.replace("Types: deb deb-src", f"Types: deb\nEnabled: {value}")
    assert found(apt(tmp_path, debian_sources=enabled), "stable") == ["http://one.example/debian"]


def test_sources_of_source_packages_only_are_passed_over(tmp_path: Path) -> None:
    folder = apt(tmp_path, debian_sources=DEB822.replace("deb deb-src", "deb-src"))
    refused(folder, "stable")


def test_the_first_source_of_a_suite_wins(tmp_path: Path) -> None:
    second = "deb http://two.example/debian stable main\n"
    folder = apt(tmp_path, a_sources=DEB822, z_list=second, sources_list=second)
    assert found(folder, "stable") == ["http://one.example/debian"]


def test_the_main_list_comes_before_other_lists(tmp_path: Path) -> None:
    folder = apt(
        tmp_path,
        sources_list="deb http://main.example stable main\n",
        a_list="deb http://other.example stable main\ndeb http://other.example extra main\n",
    )
    assert found(folder, "stable", "extra") == ["http://main.example", "http://other.example"]


def test_settings_come_before_the_machines_own_sources(tmp_path: Path) -> None:
    folder = apt(tmp_path, debian_sources=DEB822)
    config = Config(
        apt={
            "debian": "http://mirror.example/debian/",
            "stable-security": "http://mirror.example/security",
            "other": "http://never.example",
        }
    )
    assert found(folder, "stable", "stable-security", "unheard-of", config=config) == [
        "http://mirror.example/debian",
        "http://mirror.example/security",
        "http://mirror.example/debian",
    ]


def test_settings_of_one_suite_leave_the_others_to_the_machine(tmp_path: Path) -> None:
    folder = apt(tmp_path, debian_sources=DEB822)
    config = Config(apt={"stable": "http://mirror.example/debian"})
    assert found(folder, "stable", "stable-updates", config=config) == [
        "http://mirror.example/debian",
        "http://one.example/debian",
    ]


def test_suites_that_are_nowhere_are_all_named_with_what_to_set(tmp_path: Path) -> None:
    error = refused(apt(tmp_path, debian_sources=DEB822), "stable", "noble", "jammy")
    assert error.what == "no archive is configured for noble, jammy"
    assert error.expected == "the suites stable, noble, jammy in the machine's apt sources"
    assert error.remedy == "set apt.debian (a base URL) in the settings file"


def test_another_release_of_debian_names_the_archive_of_the_suites_that_are_missing(
    tmp_path: Path,
) -> None:
    folder = apt(tmp_path, debian_sources=DEB822.replace("stable", "trixie"))
    suites = ("bookworm", "bookworm-updates", "bookworm-security")
    assert found(folder, *suites) == [
        "http://one.example/debian",
        "http://one.example/debian",
        "http://security.example/debian-security",
    ]


@pytest.mark.parametrize("release", ["noble", "trixie-backports", "trixie-security"])
def test_sources_of_another_distribution_or_purpose_name_no_archive_of_debian(
    tmp_path: Path, release: str
) -> None:
    line = f"deb http://one.example/archive {release} main\n"
    assert "bookworm" in refused(apt(tmp_path, sources_list=line), "bookworm").what


def test_a_machine_without_apt_has_no_sources(tmp_path: Path) -> None:
    assert "stable" in refused(tmp_path / "nowhere", "stable").what


def test_a_snapshot_is_of_the_distribution_or_the_suite_at_the_locks_date() -> None:
    config = Config(
        snapshots={
            "debian": "http://past.example/debian/{date}/",
            "stable-security": "http://past.example/security/{date}",
        }
    )
    suites = ("stable", "stable-security")
    assert snapshots("debian", suites, "2026-11-24T21:25:33Z", config) == {
        "stable": "http://past.example/debian/20261124T212533Z",
        "stable-security": "http://past.example/security/20261124T212533Z",
    }
    assert snapshots("ubuntu", ("jammy",), "2026-11-24T21:25:33Z", config) == {}
    assert snapshots("debian", suites, "", config) == {}


def test_debians_and_ubuntus_own_snapshot_services_are_public_places() -> None:
    suites = ("bookworm", "bookworm-updates", "bookworm-security")
    config = Config(snapshots=PUBLIC_SNAPSHOTS)
    places = snapshots("debian", suites, "2026-11-24T21:25:33Z", config)
    assert [places[suite].split("/")[-2:] for suite in suites] == [
        ["debian", "20261124T212533Z"],
        ["debian", "20261124T212533Z"],
        ["debian-security", "20261124T212533Z"],
    ]
    assert "jammy" in snapshots("ubuntu", ("jammy",), "2026-11-24T21:25:33Z", config)
