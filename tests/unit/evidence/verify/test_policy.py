"""Policies: read from files, laid over each other, refused where they are malformed."""

from __future__ import annotations

from pathlib import Path

import pytest

from plinth.core.errors import ProblemsError
from plinth.evidence.verify.policy import Policy, load_policy


def written(folder: Path, text: str) -> Path:
    path = folder / "policy.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_everything_a_policy_can_say(tmp_path: Path) -> None:
    text = """\
identity = ["a@example.org", "b@example.org"]
issuer = "https://issuer.example.org"
trusted-root = "root.json"
builder = "https://builder.example.org"
source = "git+https://example.org/a.git"
require-clean = true
"""
    assert load_policy(written(tmp_path, text)) == Policy(
        ("a@example.org", "b@example.org"),
        "https://issuer.example.org",
        str(tmp_path / "root.json"),
        "",
        "https://builder.example.org",
        "git+https://example.org/a.git",
        True,
    )


@pytest.mark.parametrize(
    ("trust", "found"),
    [
        ("public", "public"),
        ("embedded", "embedded"),
        ("trust/config.json", "{}/trust/config.json"),
        ("/etc/config.json", "/etc/config.json"),
    ],
)
def test_a_trust_that_is_a_file_is_beside_the_policy(
    tmp_path: Path, trust: str, found: str
) -> None:
    assert load_policy(written(tmp_path, f'trust = "{trust}"\n')).trust == found.format(tmp_path)


def test_one_identity_may_be_a_text(tmp_path: Path) -> None:
    found = load_policy(written(tmp_path, 'identity = "a@example.org"\n'))
    assert found.identities == ("a@example.org",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("identity = 1\n", "identity: expected a text"),
        ("identity = [1]\n", "identity: expected a text"),
        ("issuer = []\n", "issuer: expected a text"),
        ('require-clean = "yes"\n', "require-clean: expected true or false"),
        ('identitty = "a"\n', "identitty: not a key"),
        ("identity\n", "policy.toml"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ProblemsError, match=r"policy\.toml") as caught:
        load_policy(written(tmp_path, text))
    assert message in str(caught.value)


def test_a_policy_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ProblemsError, match="No such file"):
        load_policy(tmp_path / "policy.toml")


def test_what_is_said_later_counts() -> None:
    file = Policy(("a",), "i", trusted_root="root.json", builder="b", require_clean=True)
    found = Policy(("c",), trust="public").over(file)
    # Of roots there is one: the flag's trust puts out the file's trusted root.
    assert found == Policy(("c",), "i", trust="public", builder="b", require_clean=True)
    assert Policy().over(file) == file
