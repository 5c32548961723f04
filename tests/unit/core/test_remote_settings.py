"""The `[remote]` table: what it may say, every problem at once, secrets never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from plinth.core.errors import ProblemsError
from plinth.core.remote_settings import RemoteSettings, may_carry_token
from plinth.core.settings import load

WHOLE = """
[remote]
cache = "grpcs://cache.example"
executor = "grpcs://farm.example:8980"
instance = "team/main"
token-file = "/run/token"
ca = "/etc/ca.pem"
cert = "/etc/me.pem"
key = "/etc/me.key"
upload = "none"
download = "minimal"
jobs = 40
timeout = 5.5
headers = { x-team = "ml" }
platform = { OSFamily = "linux" }
"""


def read(tmp_path: Path, text: str) -> RemoteSettings | None:
    path = tmp_path / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return load({"PLINTH_CONFIG": str(path)}).remote


def test_every_setting_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, WHOLE) == RemoteSettings(
        cache="grpcs://cache.example",
        executor="grpcs://farm.example:8980",
        instance="team/main",
        token_file="/run/token",  # noqa: S106 a path
        headers={"x-team": "ml"},
        ca="/etc/ca.pem",
        cert="/etc/me.pem",
        key="/etc/me.key",
        upload="none",
        download="minimal",
        platform={"OSFamily": "linux"},
        jobs=40,
        timeout=5.5,
    )


def test_no_table_means_no_remote(tmp_path: Path) -> None:
    assert read(tmp_path, "") is None


def test_an_executor_is_a_cache_too(tmp_path: Path) -> None:
    found = read(tmp_path, '[remote]\nexecutor = "grpc://127.0.0.1:1"')
    assert found is not None
    assert found.cache == found.executor == "grpc://127.0.0.1:1"


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("", "remote"),
        ('cache = "http://host:1"', "remote.cache"),
        ('cache = "grpc://host"', "remote.cache"),
        ('cache = "grpc://host:99999"', "remote.cache"),
        ('cache = "grpc://host:1/instance"', "remote.cache"),
        ('cache = "grpc://user:word@host:1"', "remote.cache"),
        ("cache = 1", "remote.cache"),
        ('cache = "grpc://h:1"\ninstance = "a/blobs"', "remote.instance"),
        ('cache = "grpc://h:1"\ninstance = "/a"', "remote.instance"),
        ('cache = "grpc://h:1"\nca = "/ca.pem"', "remote.ca"),
        ('cache = "grpcs://h:1"\ncert = "/cert.pem"', "remote.cert"),
        ('cache = "grpc://h:1"\nupload = "some"', "remote.upload"),
        ('cache = "grpc://h:1"\ndownload = "none"', "remote.download"),
        ('cache = "grpc://h:1"\njobs = true', "remote.jobs"),
        ('cache = "grpc://h:1"\njobs = 0', "remote.jobs"),
        ('cache = "grpc://h:1"\ntimeout = "5"', "remote.timeout"),
        ('cache = "grpc://h:1"\nheaders = { X-Team = "a" }', "remote.headers.X-Team"),
        ('cache = "grpc://h:1"\nheaders = { x-team = 1 }', "remote.headers.x-team"),
        ('cache = "grpc://h:1"\nplatform = "linux"', "remote.platform"),
        ('cache = "grpc://h:1"\ntoken = "secret"', "remote.token"),
    ],
)
def test_a_problem_is_named_by_its_path(tmp_path: Path, line: str, path: str) -> None:
    with pytest.raises(ProblemsError) as caught:
        read(tmp_path, f"[remote]\n{line}")
    assert [problem.path for problem in caught.value.problems] == [path]


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    with pytest.raises(ProblemsError) as caught:
        read(tmp_path, 'trust = 1\n[remote]\ncache = "x"\nupload = "some"')
    paths = {problem.path for problem in caught.value.problems}
    assert paths == {"trust", "remote.cache", "remote.upload"}


def test_what_is_in_a_header_is_never_shown(tmp_path: Path) -> None:
    value = "s3cr3t\\u0007"
    with pytest.raises(ProblemsError) as caught:
        read(tmp_path, f'[remote]\ncache = "grpc://h:1"\nheaders = {{ x-key = "{value}" }}')
    assert "s3cr3t" not in str(caught.value)
    found = read(tmp_path, '[remote]\ncache = "grpc://h:1"\nheaders = { x-key = "s3cr3t" }')
    assert found is not None
    assert "s3cr3t" not in repr(found)


@pytest.mark.parametrize(
    ("address", "may"),
    [
        ("grpcs://cache.example", True),
        ("grpc://127.0.0.1:9", True),
        ("grpc://localhost:9", True),
        ("grpc://[::1]:9", True),
        ("grpc://cache.example:9", False),
        ("grpc://127.0.0.1.example:9", False),
    ],
)
def test_tokens_travel_encrypted_or_not_at_all(address: str, may: bool) -> None:
    assert may_carry_token(address) == may
