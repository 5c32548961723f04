"""Policies: read from files, laid over each other, refused where they are malformed."""

from __future__ import annotations

from pathlib import Path

import pytest

from plinth.core.errors import ProblemsError
from plinth.evidence.verify.policy import NamedRebuilder, Policy, load_policy


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
commit = "1111111111111111111111111111111111111111"
ref = "refs/heads/main"
runner = "github-hosted"
trigger = "push"
certified = ["source", "commit"]
require-clean = true
rebuilders = 2
rebuilder-identities = [
    { identity = "c@example.org", issuer = "https://issuer.example.org" },
    { identity = "d@example.org", issuer = "https://d.invalid", trusted-root = "d.json" },
]
"""
    assert load_policy(written(tmp_path, text)) == Policy(
        ("a@example.org", "b@example.org"),
        "https://issuer.example.org",
        str(tmp_path / "root.json"),
        "",
        "https://builder.example.org",
        "git+https://example.org/a.git",
        True,
        "1" * 40,
        "refs/heads/main",
        "github-hosted",
        "push",
        ("source", "commit"),
        2,
        (
            NamedRebuilder("c@example.org", "https://issuer.example.org"),
            NamedRebuilder("d@example.org", "https://d.invalid", str(tmp_path / "d.json")),
        ),
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


TWO = """rebuilder-identities = [{ identity = "a", issuer = "i" }, { identity = "b", issuer = "i" }]
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("identity = 1\n", "identity: expected a text"),
        ("identity = [1]\n", "identity: expected a text"),
        ("identity = []\n", "identity: it is empty"),
        ('identity = ""\n', "identity: it is empty"),
        ("certified = []\n", "certified: it is empty"),
        ("rebuilder-identities = []\n", "rebuilder-identities: it is empty"),
        ("rebuilders = 0\n", "rebuilders: expected a number from 1"),
        ('trusted-root = "a"\ntrust = "public"\n', "trust: there is a trusted-root as well"),
        ("a = " + "[" * 1000, "nested"),
        ("a = " + "1" * 5000, "digits"),
        ('identity = ["a", ""]\n', "identity: it is empty"),
        ('issuer = ""\n', "issuer: it is empty"),
        ('commit = ""\n', "commit: it is empty"),
        ('trusted-root = ""\n', "trusted-root: it is empty"),
        ("issuer = []\n", "issuer: expected a text"),
        ('require-clean = "yes"\n', "require-clean: expected true or false"),
        ('identitty = "a"\n', "identitty: not a key"),
        ("commit = 1\n", "commit: expected a text"),
        ("certified = true\n", "certified: expected an array of builder, source, commit, ref"),
        ('certified = ["clean"]\n', "certified: expected an array of builder"),
        (
            "rebuilders = 1\n",
            "rebuilders: expected a number from 1 up to that of rebuilder-identities, 0",
        ),
        (f"rebuilders = 3\n{TWO}", "rebuilders: expected a number from 1 up to"),
        (f"rebuilders = true\n{TWO}", "rebuilders: expected a number from 1 up to"),
        (f"rebuilders = -1\n{TWO}", "rebuilders: expected a number from 1 up to"),
        (TWO, "rebuilders: missing"),
        ("rebuilder-identities = 1\n", "rebuilder-identities: expected an array of tables"),
        ('rebuilder-identities = ["a"]\n', "rebuilder-identities[0]: expected identity, issuer"),
        ('rebuilder-identities = [{ identity = "a" }]\n', "[0]: expected identity, issuer"),
        (
            'rebuilder-identities = [{ identity = "a", issuer = "i", root = "r" }]\n',
            "[0]: expected identity, issuer and at most trusted-root",
        ),
        (
            TWO.replace('"b"', '"a"').replace('"i" }]', '"j" }]'),
            "rebuilder-identities[1]: a is there already; it counts once",
        ),
        (TWO.replace('"b"', '"A"'), "rebuilder-identities[1]: A is there already"),
        (TWO.replace('"b"', '" a "'), "rebuilder-identities[1]:  a  is there already"),
        (TWO.replace('"b"', r'"\u200ba\u0000"'), "rebuilder-identities[1]: "),
        (TWO.replace('"b"', '"\uff41"'), "rebuilder-identities[1]: \uff41 is there already"),
        (
            TWO.replace('"i"', '"https://oidc.1.plinth-trust.invalid"'),
            "rebuilder-identities[1]: https://oidc.1.plinth-trust.invalid: that embedded trust "
            "domain is there already, and its holder counts once",
        ),
        ("identity\n", "policy.toml"),
        ('\ufeffidentity = "a"\n', "Invalid statement (at line 1, column 1)"),
        ('issuer = "a"\nissuer = "b"\n', "Cannot overwrite a value"),
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
