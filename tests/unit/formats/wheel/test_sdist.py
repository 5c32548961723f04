"""What an sdist says it is built with: read without running it, refused where it is hostile."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest

from plinth.core.errors import WheelError
from plinth.formats.wheel.sdist import DEFAULT, build_backend, build_requirements
from support.oci_images import tarred

NAME = "demo-1.0.tar.gz"


def sdist(folder: Path, files: dict[str, bytes], name: str = NAME) -> Path:
    """An sdist of these files; its own top folder is not added."""
    path = folder / name
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            for file, data in files.items():
                archive.writestr(file, data)
        return path
    return tarred(path, files)


def says(folder: Path, text: str) -> Path:
    return sdist(folder, {"demo-1.0/setup.py": b"", "demo-1.0/pyproject.toml": text.encode()})


def refused(path: Path, message: str, name: str = NAME) -> WheelError:
    with pytest.raises(WheelError) as raised:
        build_requirements(path, name)
    assert message in str(raised.value)
    assert raised.value.where.startswith(name)
    return raised.value


@pytest.mark.parametrize("name", [NAME, "demo-1.0.zip"])
@pytest.mark.parametrize("top", ["demo-1.0", "demo"])
def test_what_an_sdist_asks_for(tmp_path: Path, name: str, top: str) -> None:
    text = b'[build-system]\nrequires = ["flit_core >=2,<4", "wheel; python_version < \'4\'"]\n'
    path = sdist(tmp_path, {f"{top}/pyproject.toml": text}, name)
    assert build_requirements(path, name) == ("flit_core >=2,<4", "wheel; python_version < '4'")
    assert build_backend(path, name) == ("setuptools.build_meta:__legacy__", (".",))


def test_a_top_folder_written_with_a_dot(tmp_path: Path) -> None:
    path = sdist(tmp_path, {"./demo-1.0/pyproject.toml": b"[build-system]\nrequires = []\n"})
    assert build_requirements(path, NAME) == ()


@pytest.mark.parametrize("name", [NAME, "demo-1.0.zip"])
@pytest.mark.parametrize(
    "path", ["demo-1.0/./pyproject.toml", "demo-1.0//pyproject.toml", "././demo-1.0/pyproject.toml"]
)
def test_a_path_is_what_unpacking_takes_it_for(tmp_path: Path, path: str, name: str) -> None:
    text = b'[build-system]\nrequires = ["flit_core"]\nbuild-backend = "flit_core.buildapi"\n'
    made = sdist(tmp_path, {path: text}, name)
    assert build_requirements(made, name) == ("flit_core",)
    assert build_backend(made, name) == ("flit_core.buildapi", ())


@pytest.mark.parametrize("name", [NAME, "demo-1.0.zip"])
def test_a_path_that_unpacking_refuses_is_refused(tmp_path: Path, name: str) -> None:
    refused(sdist(tmp_path, {"demo-1.0/x/../pyproject.toml": b""}, name), "path escapes", name)


def test_an_sdist_that_says_nothing_gets_what_pep_518_assumes(tmp_path: Path) -> None:
    for files in ({}, {"demo-1.0/pyproject.toml": b"[tool.black]\n"}):
        path = sdist(tmp_path, {"demo-1.0/setup.py": b"", **files})
        assert build_requirements(path, NAME) == ("setuptools>=40.8.0", "wheel") == DEFAULT
        assert build_backend(path, NAME) == ("setuptools.build_meta:__legacy__", (".",))


def test_only_the_top_folders_own_file_counts(tmp_path: Path) -> None:
    hostile = b'[build-system]\nrequires = ["evil"]\n'
    names = ("pyproject.toml", "demo-1.0/tests/pyproject.toml")
    path = sdist(tmp_path, dict.fromkeys(names, hostile))
    assert build_requirements(path, NAME) == DEFAULT


def linked(folder: Path, *links: tuple[str, bytes, str]) -> Path:
    """An sdist of a pyproject.toml elsewhere, and of links: path, type, target."""
    files = {"demo-1.0/packaging/pyproject.toml": b'[build-system]\nrequires = ["flit_core"]\n'}
    rows = [(f"demo-1.0/{name}", target, kind) for name, kind, target in links]
    return tarred(folder / NAME, files, *rows)


@pytest.mark.parametrize(
    "links",
    [
        [("pyproject.toml", tarfile.SYMTYPE, "packaging/pyproject.toml")],
        [("pyproject.toml", tarfile.LNKTYPE, "demo-1.0/packaging/pyproject.toml")],
        [
            ("pyproject.toml", tarfile.SYMTYPE, "a/b"),
            ("a/b", tarfile.SYMTYPE, ".././packaging/pyproject.toml"),
        ],
        [(".//pyproject.toml", tarfile.LNKTYPE, "./demo-1.0/./packaging/pyproject.toml")],
    ],
)
def test_a_pyproject_that_is_a_link_within_the_sdist_is_followed(
    tmp_path: Path, links: list[tuple[str, bytes, str]]
) -> None:
    assert build_requirements(linked(tmp_path, *links), NAME) == ("flit_core",)


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "../../etc/passwd"),
        (tarfile.SYMTYPE, "none"),
        (tarfile.SYMTYPE, "packaging"),
        (tarfile.SYMTYPE, "pyproject.toml"),
        # Where that is, only a file system could tell: the first part may be a link.
        (tarfile.SYMTYPE, "x/../packaging/pyproject.toml"),
        (tarfile.LNKTYPE, "demo-1.0/none"),
    ],
)
def test_a_pyproject_that_is_a_link_to_anything_else_is_refused(
    tmp_path: Path, kind: bytes, target: str
) -> None:
    path = linked(tmp_path, ("pyproject.toml", kind, target))
    error = refused(path, "a link to no file of the sdist")
    assert (error.where, error.found) == (f"{NAME}: pyproject.toml", target)


def test_a_pyproject_of_more_than_a_mebibyte_is_refused(tmp_path: Path) -> None:
    refused(sdist(tmp_path, {"demo-1.0/pyproject.toml": bytes((1 << 20) + 1)}), "it is too large")


def test_a_backend_and_its_paths(tmp_path: Path) -> None:
    path = says(
        tmp_path,
        '[build-system]\nrequires = []\nbuild-backend = "own:api"\nbackend-path = [".", "tools"]\n',
    )
    assert build_backend(path, NAME) == ("own:api", (".", "tools"))
    path = says(tmp_path, '[build-system]\nrequires = []\nbuild-backend = "flit_core.buildapi"\n')
    assert build_backend(path, NAME) == ("flit_core.buildapi", ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("build-system = 5", "build-system is not a table"),
        ("build-system", "pyproject.toml: not TOML"),
        ("[build-system]", "build-system.requires is not a list of strings"),
        ('[build-system]\nrequires = "wheel"', "build-system.requires is not a list of strings"),
        ('[build-system]\nrequires = ["a", 5]', "build-system.requires is not a list of strings"),
    ],
)
def test_a_malformed_pyproject(tmp_path: Path, text: str, message: str) -> None:
    refused(says(tmp_path, text), message)


@pytest.mark.parametrize(
    "line",
    [
        "-e .",
        "--index-url=http://127.0.0.1:9/",
        "-r /etc/passwd",
        "./local",
        "wheel\n--extra-index-url http://127.0.0.1:9/",
        "wheel --hash=sha256:00",
        "wheel # a comment",
        "",
    ],
)
def test_nothing_but_requirements_reaches_the_resolver(tmp_path: Path, line: str) -> None:
    path = says(tmp_path, f'[build-system]\nrequires = ["setuptools", """{line}"""]\n')
    error = refused(path, "build-system.requires holds no PEP 508 requirement")
    assert error.where == f"{NAME}: pyproject.toml"
    assert error.found == repr(line)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x.whl", "git+ssh://host/x", "file:///etc"])
def test_a_url_among_the_requirements_is_refused(tmp_path: Path, url: str) -> None:
    path = says(tmp_path, f'[build-system]\nrequires = ["wheel @ {url}"]\n')
    assert url in refused(path, "build-system.requires names a URL").found


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    refused(sdist(tmp_path, {"demo-1.0/pyproject.toml": b"\xff"}), "pyproject.toml: not TOML")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("build-backend = 5", "build-backend is not a string"),
        ('build-backend = "x"\nbackend-path = "x"', "backend-path is not a list of strings"),
        ('build-backend = "x"\nbackend-path = ["/etc"]', "backend-path escapes"),
        ('build-backend = "x"\nbackend-path = ["a/../.."]', "backend-path escapes"),
    ],
)
def test_a_hostile_backend(tmp_path: Path, text: str, message: str) -> None:
    path = says(tmp_path, f"[build-system]\nrequires = []\n{text}\n")
    with pytest.raises(WheelError) as raised:
        build_backend(path, NAME)
    assert message in str(raised.value)
    assert raised.value.where == f"{NAME}: pyproject.toml"


@pytest.mark.parametrize("name", [NAME, "demo-1.0.zip"])
@pytest.mark.parametrize("change", ["empty", "text", "half", "damaged"])
def test_an_unreadable_sdist(tmp_path: Path, name: str, change: str) -> None:
    # Not compressible, so that the damage hits content.
    filler = bytes(range(256)) * 300
    files = {"demo-1.0/a": filler, "demo-1.0/pyproject.toml": b"[build-system]\nrequires=[]\n"}
    path = sdist(tmp_path, files, name)
    data = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "text": b"not an archive",
            "half": data[: len(data) // 2],
            "damaged": data[: len(data) // 2] + b"\xff" * 40 + data[len(data) // 2 + 40 :],
        }[change]
    )
    if (name, change) == ("demo-1.0.zip", "damaged"):
        assert build_requirements(path, name) == ()  # the damage is in another entry
    else:
        refused(path, "not a readable sdist", name)


def test_an_encrypted_zip(tmp_path: Path) -> None:
    name = "demo-1.0.zip"
    path = sdist(tmp_path, {"demo-1.0/pyproject.toml": b"x"}, name)
    data = bytearray(path.read_bytes())
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + at] |= 1
    path.write_bytes(data)
    refused(path, "not a readable sdist", name)
