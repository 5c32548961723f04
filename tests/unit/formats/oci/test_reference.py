"""Names of images: each form, what a bare name is taken for, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from plinth.core.errors import ImageNameError
from plinth.formats.oci.reference import (
    ArchiveReference,
    LayoutReference,
    RegistryReference,
    canonical,
    familiar,
    parse,
    share,
)

HEX = "a0ca65a8cc13197cf77df228179a0dbbc9954f526f15c826ba3e9916c1c9bc8b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("oci:a/b", LayoutReference(Path("a/b"))),
        ("oci:a/b:minimal", LayoutReference(Path("a/b"), "minimal")),
        ("oci:/a:team/x:latest", LayoutReference(Path("/a"), "team/x:latest")),
        (f"oci:a@sha256:{HEX}", LayoutReference(Path("a"), digest=HEX)),
        ("docker-archive:x.tar", ArchiveReference(Path("x.tar"))),
        ("docker-archive:x.tar:a:1", ArchiveReference(Path("x.tar"), "a:1")),
        (f"oci-archive:x.tar@sha256:{HEX}", ArchiveReference(Path("x.tar"), digest=HEX)),
        ("docker://h.example/a/b:1", RegistryReference("h.example", "a/b", "1")),
        ("h.example/a", RegistryReference("h.example", "a", "latest")),
        ("localhost/a__b/c-d.e", RegistryReference("localhost", "a__b/c-d.e")),
        ("127.0.0.1:5000/a:v_1.-x", RegistryReference("127.0.0.1:5000", "a", "v_1.-x")),
        (f"h.example/a@sha256:{HEX}", RegistryReference("h.example", "a", digest=HEX)),
        (f"h.example/a:1@sha256:{HEX}", RegistryReference("h.example", "a", "1", HEX)),
        ("[::1]:5000/a", RegistryReference("[::1]:5000", "a")),
        (f"h.example/{'a' * 255}", RegistryReference("h.example", "a" * 255)),
    ],
)
def test_forms(
    text: str, expected: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse(text) == expected


@pytest.mark.parametrize("host", ["docker.io", "index.docker.io", "registry-1.docker.io"])
def test_docker_hub_is_asked_where_its_registry_is(host: str) -> None:
    for text, repository in (("ubuntu:18.04", "library/ubuntu"), ("team/a:18.04", "team/a")):
        found = parse(f"docker://{host}/{text}")
        assert isinstance(found, RegistryReference)
        assert found == RegistryReference(host, repository, "18.04")
        assert found.url == "https://registry-1.docker.io"


def test_a_path_that_exists_is_taken_for_one(tmp_path: Path) -> None:
    folder, file = tmp_path / "oci", tmp_path / "x.tar"
    folder.mkdir()
    file.touch()
    assert parse(str(folder)) == LayoutReference(folder)
    assert parse(f"{folder}:minimal") == LayoutReference(folder, "minimal")
    assert parse(f"{folder}@sha256:{HEX}") == LayoutReference(folder, digest=HEX)
    assert parse(str(file)) == ArchiveReference(file)
    assert parse(f"{file}:a/b:1") == ArchiveReference(file, "a/b:1")


def test_a_colon_in_a_path_that_exists_is_of_the_path(tmp_path: Path) -> None:
    folder = tmp_path / "a:b"
    folder.mkdir()
    assert parse(f"oci:{folder}") == LayoutReference(folder)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("localhost:5000", "http://localhost:5000"),
        ("127.0.0.1", "http://127.0.0.1"),
        ("127.9.9.9:80", "http://127.9.9.9:80"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("[::1]", "http://[::1]"),
        ("h.example:5000", "https://h.example:5000"),
        ("localhost.example", "https://localhost.example"),
        ("127.0.0.1.example", "https://127.0.0.1.example"),
        ("10.0.0.1:5000", "https://10.0.0.1:5000"),
    ],
)
def test_only_this_machine_is_spoken_to_in_the_clear(host: str, url: str) -> None:
    assert RegistryReference(host, "a").url == url


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "there is no path"),
        ("minimal", "no registry's host"),
        ("team/minimal", "no registry's host"),
        ("oci:", "there is no path"),
        ("oci::name", "there is no path"),
        ("oci:a@sha256:abc", "the digest is not"),
        ("docker:h.example/a", "not a host"),
        ("docker://h.example", "no registry's host"),
        ("docker://", "no registry's host"),
        ("h.example/Upper", "not a repository's name"),
        ("h.example/a/../b", "not a repository's name"),
        ("h.example/a//b", "not a repository's name"),
        ("h.example/a:", "not a tag"),
        ("h.example/a:b?c", "not a tag"),
        ("h.example/a:.b", "not a tag"),
        ("h.example/a@sha512:00", "not a sha256 digest"),
        (f"docker://h.example/a@sha256:{HEX.upper()}", "not a sha256 digest"),
        (f"h.example/a@sha256:{HEX.upper()}", "the digest is not"),
        ("user@h.example:80/a", "not a host"),
        ("h.example:port/a", "not a host"),
        ("a b.c/d", "not a host"),
        (f"h.example/{'a' * 256}", "not a repository's name"),
    ],
)
def test_what_names_nothing_says_why_and_what_does(
    text: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageNameError) as raised:
        parse(text)
    assert why in raised.value.what
    assert "docker-archive:FILE" in raised.value.expected


@pytest.mark.parametrize(
    ("shown", "full"),
    [
        ("azureml/minimal:latest", "docker.io/azureml/minimal:latest"),
        ("mine-py37:1", "docker.io/library/mine-py37:1"),
        ("localhost/a:1", "localhost/a:1"),
        ("registry.example/team/a:1", "registry.example/team/a:1"),
        ("127.0.0.1:5000/a:1", "127.0.0.1:5000/a:1"),
    ],
)
def test_the_name_engines_keep_and_the_one_they_show(shown: str, full: str) -> None:
    assert canonical(shown) == canonical(full) == full
    assert familiar(full) == familiar(shown) == shown


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
        (f"a@sha256:{HEX}", f"docker.io/library/a@sha256:{HEX}"),
    ],
)
def test_names_in_full(name: str, expected: str) -> None:
    assert canonical(name) == expected
    assert canonical(expected) == expected


def test_familiar_and_full_names_are_one() -> None:
    assert share(["x", "team/a"], ["docker.io/team/a:latest"])
    assert not share(["team/a:1"], ["team/a:2", "a:1"])
    assert not share([], ["a"])
