"""Names of images in full, as engines keep them."""

from __future__ import annotations

import pytest

from plinth.oci.names import canonical, share

HEX = "sha256:" + "1" * 64


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a", "docker.io/library/a:latest"),
        ("a:1", "docker.io/library/a:1"),
        ("team/a", "docker.io/team/a:latest"),
        ("team/a/b:1", "docker.io/team/a/b:1"),
        ("docker.io/a", "docker.io/library/a:latest"),
        ("docker.io/team/a:latest", "docker.io/team/a:latest"),
        ("index.docker.io/a:1", "docker.io/library/a:1"),
        ("localhost/a", "localhost/a:latest"),
        ("host:5000/a", "host:5000/a:latest"),
        ("host.example/team/a:1", "host.example/team/a:1"),
        ("Host/a", "Host/a:latest"),
        (f"a@{HEX}", f"docker.io/library/a@{HEX}"),
    ],
)
def test_names_in_full(name: str, expected: str) -> None:
    assert canonical(name) == expected
    assert canonical(expected) == expected


def test_familiar_and_full_names_are_one() -> None:
    assert share(["x", "team/a"], ["docker.io/team/a:latest"])
    assert not share(["team/a:1"], ["team/a:2", "a:1"])
    assert not share([], ["a"])
