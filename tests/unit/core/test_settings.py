"""The settings file: where it is looked for, what it may say, every problem at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from plinth.core.errors import ProblemsError
from plinth.core.settings import (
    PUBLIC_APT,
    PUBLIC_FILES,
    PUBLIC_REGISTRIES,
    PUBLIC_SNAPSHOTS,
    Config,
    load,
)

WHOLE = """
index-url = "https://index.example/simple"
python = { "3.7" = "/opt/python3.7" }
apt = { debian = "https://debian.example" }
registries = { default = "https://registry.example" }
files = { python-build-standalone = "/srv/mirror" }
keyrings = { vendor = "/srv/vendor.gpg" }
snapshots = { debian = "https://past.example/{date}" }
"""


def put(tmp_path: Path, text: str | bytes) -> dict[str, str]:
    """An environment that names a settings file of this text."""
    path = tmp_path / "settings.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return {"PLINTH_CONFIG": str(path)}


def problems(tmp_path: Path, text: str | bytes) -> list[str]:
    environment = put(tmp_path, text)
    with pytest.raises(ProblemsError) as raised:
        load(environment)
    assert raised.value.where == environment["PLINTH_CONFIG"]
    return [str(problem) for problem in raised.value.problems]


def test_every_setting_is_read(tmp_path: Path) -> None:
    assert load(put(tmp_path, WHOLE)) == Config(
        index_url="https://index.example/simple",
        python={"3.7": "/opt/python3.7"},
        apt={**PUBLIC_APT, "debian": "https://debian.example"},
        registries={"default": "https://registry.example"},
        files={**PUBLIC_FILES, "python-build-standalone": "/srv/mirror"},
        keyrings={"vendor": "/srv/vendor.gpg"},
        snapshots={**PUBLIC_SNAPSHOTS, "debian": "https://past.example/{date}"},
    )


def test_relative_paths_are_beside_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the current folder anybody's policy could lie."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = load(
        put(
            tmp_path,
            """
            policy = "policy.toml"
            trust = "trust.json"
            python = { "3.7" = "bin/python3.7", "3.8" = "python3.8", "3.9" = "~/python3.9" }
            keyrings = { vendor = "vendor.gpg" }
            tls = { "registry.example" = { ca = "ca.pem", key = "/me.key" } }
            files = { wheels = "wheels", cuda = "https://files.example/cuda" }
            remote = { cache = "grpcs://cache.example", ca = "farm.pem", token-file = "token" }
            """,
        )
    )
    assert (found.policy, found.trust) == (
        str(tmp_path / "policy.toml"),
        str(tmp_path / "trust.json"),
    )
    assert found.python == {
        "3.7": str(tmp_path / "bin" / "python3.7"),
        "3.8": "python3.8",
        "3.9": str(Path("~/python3.9").expanduser()),
    }
    assert found.keyrings == {"vendor": str(tmp_path / "vendor.gpg")}
    assert found.tls == {"registry.example": {"ca": str(tmp_path / "ca.pem"), "key": "/me.key"}}
    assert found.files["wheels"] == str(tmp_path / "wheels")
    assert found.files["cuda"] == "https://files.example/cuda"
    assert found.remote is not None
    assert found.remote.ca == str(tmp_path / "farm.pem")
    assert found.remote.token_file == str(tmp_path / "token")
    assert load(put(tmp_path, 'trust = "embedded"')).trust == "embedded"


DEFAULTS = Config(
    apt=PUBLIC_APT,
    registries=PUBLIC_REGISTRIES,
    files=PUBLIC_FILES,
    snapshots=PUBLIC_SNAPSHOTS,
)


@pytest.mark.parametrize("text", ["", "# nothing\n", "[apt]\n", "public = true\n"])
def test_nothing_said_means_all_defaults(tmp_path: Path, text: str) -> None:
    assert load(put(tmp_path, text)) == DEFAULTS


def test_no_file_means_all_defaults(tmp_path: Path) -> None:
    assert load({"PLINTH_CONFIG": str(tmp_path / "gone.toml")}) == DEFAULTS


def test_public_places_are_docker_hub_python_build_standalone_and_nvidia() -> None:
    assert DEFAULTS.registry_urls("default") == ("https://registry-1.docker.io",)
    assert DEFAULTS.files["python-build-standalone"] == (
        "https://github.com/astral-sh/python-build-standalone/releases/download"
    )
    nvidia = "https://developer.download.nvidia.com/compute"
    assert DEFAULTS.files["nvidia-cuda"] == f"{nvidia}/cuda"
    assert DEFAULTS.files["nvidia-cudnn"] == f"{nvidia}/redist/cudnn"
    assert DEFAULTS.apt["cuda-ubuntu1804"] == f"{nvidia}/cuda/repos/ubuntu1804/x86_64"


def test_a_users_own_key_replaces_one_public_place(tmp_path: Path) -> None:
    text = "[registries]\ndefault = ['https://own.example']\n[files]\nwheels = '/srv'\n"
    found = load(put(tmp_path, text))
    assert found.registry_urls("default") == ("https://own.example",)
    assert found.files == {**PUBLIC_FILES, "wheels": "/srv"}


def test_public_places_are_switched_off_by_the_settings_or_the_environment(tmp_path: Path) -> None:
    own = "[files]\nwheels = '/srv'\n"
    off = Config(files={"wheels": "/srv"})
    assert load(put(tmp_path, f"public = false\n{own}")) == off
    assert load({**put(tmp_path, own), "PLINTH_PUBLIC": "false"}) == off
    # The environment can only switch off: what a test suite sets is not undone by a file.
    assert load({**put(tmp_path, f"public = true\n{own}"), "PLINTH_PUBLIC": "false"}) == off
    assert load({**put(tmp_path, f"public = false\n{own}"), "PLINTH_PUBLIC": "true"}) == off


def test_another_value_of_the_variable_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProblemsError, match="PLINTH_PUBLIC: expected true or false, found 'no'"):
        load({**put(tmp_path, ""), "PLINTH_PUBLIC": "no"})


def test_no_test_asks_a_public_place(tmp_path: Path) -> None:
    """Neither this process nor one whose environment a test made from nothing."""
    assert (load().registries, load().files, load().snapshots) == ({}, {}, {})
    program = (
        "from plinth.core.settings import load; c = load(); "
        "print(dict(c.registries), dict(c.files), dict(c.snapshots))"
    )
    for environment in ({}, put(tmp_path, "public = true")):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={"HOME": str(tmp_path), **environment},
            check=True,
            capture_output=True,
            text=True,
        )
        assert done.stdout == "{} {} {}\n"


@pytest.mark.parametrize("home", [None, "/nowhere/at/all"])
def test_a_user_without_a_home_has_the_defaults(
    home: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.path.expanduser", lambda text: home or text)
    assert load({"PLINTH_PUBLIC": "false"}) == Config()


def test_the_file_is_looked_for_in_three_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    places = [tmp_path / ".config/plinth/config.toml", tmp_path / "xdg/plinth/config.toml"]
    for place in places:
        place.parent.mkdir(parents=True)
        place.write_text(f'index-url = "http://{place.parents[1].name}/{place.name}"')
    xdg = {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    assert load({}).index_url == "http://.config/config.toml"
    none = {"XDG_CONFIG_HOME": "", "PLINTH_CONFIG": ""}
    assert load(none).index_url == "http://.config/config.toml"
    assert load(xdg).index_url == "http://xdg/config.toml"
    assert load({**xdg, **put(tmp_path, 'index-url = "http://named"')}).index_url == "http://named"


def test_every_problem_is_reported_at_once_with_its_field(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        'index-url = 3\napt = "https://debian.example"\nindex = "x"\n'
        "[python]\n'3.7' = 7\n[files]\na = 'b'\nc = ['d']\n",
    )
    assert found == [
        "index-url: expected str, found 3",
        "apt: expected dict, found 'https://debian.example'",
        "index: unknown setting; known are index-url, python, apt, snapshots, registries, files, "
        "keyrings, indexes, trust, builder, policy, publish, tls, remote, public",
        "python.3.7: expected a string, found 7",
        "files.c: expected a string, found ['d']",
    ]


def test_an_address_that_is_no_url_is_reported(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        'index-url = "https://[x/simple"\n[apt]\nubuntu = "http://x:port/"\n'
        "[registries]\na = ['https://ok.example', 'https://x]']\n[indexes]\nb = 'http://ok'\n",
    )
    assert found == [
        "index-url: not a URL: https://[x/simple",
        "apt.ubuntu: not a URL: http://x:port/",
        "registries.a: not a URL: https://x]",
    ]


@pytest.mark.parametrize(
    ("written", "right"),
    [
        ("mirror.example", "https://mirror.example"),
        ("mirror.example:5000/team", "https://mirror.example:5000/team"),
        ("docker://mirror.example", "https://mirror.example"),
        ("//mirror.example/", "https://mirror.example/"),
        ("https:///mirror", "https://mirror"),
        ("u:secret@mirror.example", "https://mirror.example"),
        ("ftp://u:secret@mirror.example", "https://mirror.example"),
    ],
)
def test_an_address_without_a_scheme_is_refused_with_the_right_form(
    tmp_path: Path, written: str, right: str
) -> None:
    (found,) = problems(tmp_path, f'[registries]\ndefault = ["https://ok.example", "{written}"]\n')
    assert found.startswith(f'registries.default: expected a URL such as "{right}", found ')
    assert "secret" not in found


def test_what_is_no_toml_is_refused_with_its_line(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, "[apt]\ndebian = \n")
    assert "line 2" in found
    (found,) = problems(tmp_path, b"\xff\xfe")
    assert "utf-8" in found


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProblemsError) as raised:
        load({"PLINTH_CONFIG": str(tmp_path)})
    assert raised.value.where == str(tmp_path)
    assert "directory" in str(raised.value)
