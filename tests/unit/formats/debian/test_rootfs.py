"""The system layer: packages merged as dpkg would on a merged /usr, and what their scripts make."""

from __future__ import annotations

import random
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plinth.core.errors import PackageError
from plinth.core.store import BlobStore
from plinth.formats.debian.deb import Deb, File, read_deb
from plinth.formats.debian.merge import merged
from plinth.formats.debian.rootfs import rootfs_layer
from plinth.formats.layer.header import ROOT
from plinth.formats.layer.model import Layer
from support.debs import Entry, Package, folder, make_deb, symlink

PASSWD = b"root:*:0:0:root:/root:/bin/bash\ndaemon:*:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
GROUP = b"root:*:0:\nshadow:*:42:\n"
BASE = Package(
    "base-passwd",
    files={
        "usr/share/base-passwd/passwd.master": PASSWD,
        "usr/share/base-passwd/group.master": GROUP,
    },
    compression="",
)
Tree = dict[str, tuple[str, int, tuple[int, int], bytes | str]]


def package(name: str, files: Mapping[str, bytes | Entry]) -> Package:
    return Package(name, files=files, compression="")


def debs(tmp_path: Path, *packages: Package) -> dict[str, Deb]:
    found = {}
    for one in (BASE, *packages):
        path = make_deb(tmp_path, one)
        found[one.name] = read_deb(path, path.name)
    return found


def built(tmp_path: Path, *packages: Package) -> tuple[Layer, BlobStore]:
    store = BlobStore(tmp_path / "store")
    return rootfs_layer(store, debs(tmp_path, *packages), "system"), store


def tree(tmp_path: Path, *packages: Package) -> Tree:
    layer, store = built(tmp_path, *packages)
    found: Tree = {}
    with tarfile.open(store.path(layer.digest)) as tar:
        for member in tar:
            assert member.name not in found
            kind = "dir" if member.isdir() else "link" if member.issym() else "file"
            stream = tar.extractfile(member) if member.isreg() else None
            content = stream.read() if stream else member.linkname
            found[member.name] = (kind, member.mode, (member.uid, member.gid), content)
    return found


def refused(tmp_path: Path, *packages: Package) -> PackageError:
    with pytest.raises(PackageError) as raised:
        built(tmp_path, *packages)
    return raised.value


def test_the_bytes_of_the_smallest_system_are_fixed(tmp_path: Path) -> None:
    layer, _ = built(tmp_path)
    assert layer.diff_id == "7bba7fcc7352321d26c3d490a3646dfb782e22ea3a9a0120b5f1fe64f5681ce9"
    assert layer.digest.hex == "ed78d2d49dd8865ad3834c069ed51feb1ba6ed27abe48b44662a76b4232611f5"


def test_files_keep_their_modes_and_owners(tmp_path: Path) -> None:
    files = {
        "var/mail": Entry("var/mail", mode=0o2775, kind=tarfile.DIRTYPE, gid=8),
        "usr/bin/sh": symlink("usr/bin/sh", "dash"),
    }
    found = tree(tmp_path, package("app", files))
    assert found["var/mail"] == ("dir", 0o2775, (0, 8), "")
    assert found["usr/bin/sh"] == ("link", 0o777, (0, 0), "dash")


def test_programs_lose_their_privileges_and_dpkg_keeps_it_so(tmp_path: Path) -> None:
    files: dict[str, bytes | Entry] = {
        "bin/su": Entry("bin/su", b"\x7fELF", 0o4755),
        "usr/bin/chage": Entry("usr/bin/chage", b"\x7fELF", 0o2755, gid=42),
        "usr/bin/id": b"\x7fELF",
    }
    found = tree(tmp_path, package("app", files))
    assert found["usr/bin/su"] == ("file", 0o755, (0, 0), b"\x7fELF")
    assert found["usr/bin/chage"] == ("file", 0o755, (0, 42), b"\x7fELF")
    # By the name that the package has for it.
    lines = b"#0 #0 755 /bin/su\n#0 #42 755 /usr/bin/chage\n"
    assert found["var/lib/dpkg/statoverride"][3] == lines


def test_pam_is_configured_as_its_own_tool_would(tmp_path: Path) -> None:
    unix = (
        b"Name: Unix\nDefault: yes\nPriority: 256\nAuth-Type: Primary\nAuth:\n"
        b"\t[success=end default=ignore]\tpam_unix.so try_first_pass\nAuth-Initial:\n"
        b"\t[success=end default=ignore]\tpam_unix.so\nAccount-Type: Primary\nAccount:\n"
        b"\t[success=end]\tpam_one.so\n\t[success=end]\tpam_two.so\nSession-Type: Additional\n"
        b"Session:\n\trequired\tpam_unix.so\nPassword-Type: Primary\nPassword:\n"
        b"\t[success=end]\tpam_unix.so use_authtok\n"
    )
    files: dict[str, bytes | Entry] = {"usr/share/pam-configs/unix": unix}
    for name in ("account", "auth", "password", "session", "session-noninteractive"):
        variable = name.replace("noninteractive", "nonint").replace("-", "_")
        template = f"$({variable}_primary\nmiddle\n${variable}_additional\nend\n"
        files[f"usr/share/pam/common-{name}"] = template.replace("$(", "$").encode()
    found = tree(tmp_path, package("libpam-runtime", files))
    prefix = "etc/pam.d/common-"
    made = {p.removeprefix(prefix): one[3] for p, one in found.items() if p.startswith(prefix)}
    permit, unix = b"session\t[default=1]\t\t\tpam_permit.so\n", b"session\trequired\tpam_unix.so\n"
    session = permit + b"middle\n" + unix + b"end\n"
    assert made == {
        "account": b"account\t[success=2]\tpam_one.so\naccount\t[success=1]\tpam_two.so\nmiddle\n"
        b"\nend\n",
        "auth": b"auth\t[success=1 default=ignore]\tpam_unix.so\nmiddle\n\nend\n",
        "password": b"password\t[success=1]\tpam_unix.so use_authtok\nmiddle\n\nend\n",
        "session": session,
        "session-noninteractive": session,
    }


def test_every_entry_comes_after_its_folder_and_in_order(tmp_path: Path) -> None:
    paths = list(tree(tmp_path, package("app", {"usr/lib/a/b": b"", "opt/x/y/z": b""})))
    assert paths == sorted(paths)
    for path in paths:
        parent = path.rpartition("/")[0]
        assert not parent or parent in paths


def test_two_packages_that_claim_one_path_are_both_named(tmp_path: Path) -> None:
    error = refused(
        tmp_path, package("one", {"usr/bin/tool": b"1"}), package("two", {"usr/bin/tool": b"2"})
    )
    assert error.what == "two and one both hold a file"
    assert error.where == "usr/bin/tool"
    assert error.remedy == "leave one of the packages out of rootfs.packages"


def test_two_names_of_a_merged_usr_are_one_path(tmp_path: Path) -> None:
    one, two = package("one", {"bin/tool": b"1"}), package("two", {"usr/bin/tool": b"2"})
    assert refused(tmp_path, one, two).where == "usr/bin/tool"
    same = package("two", {"usr/bin/tool": b"1"})
    assert tree(tmp_path, one, same)["usr/bin/tool"][3] == b"1"


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"etc/x": b""}, {"etc/x/y": b""}),
        ({"etc/x": symlink("etc/x", "/tmp")}, {"etc/x/y": b""}),  # noqa: S108
    ],
)
def test_a_file_cannot_be_a_folder(
    tmp_path: Path, one: dict[str, bytes | Entry], two: dict[str, bytes | Entry]
) -> None:
    # Whichever is first: nothing is ever written through a link.
    for names in (("aa", "bb"), ("bb", "aa")):
        error = refused(tmp_path, package(names[0], one), package(names[1], two))
        assert error.where.startswith("etc/x")


def test_a_file_where_another_packages_folder_is_only_implied_is_refused(tmp_path: Path) -> None:
    # Not what dpkg-deb makes: `etc/x` itself is not listed.
    implied = Deb(
        {"control": "Package: aa\nArchitecture: all\n"}, (File("etc/x/y", "file", 0o644, ROOT),)
    )
    other = Deb(
        {"control": "Package: bb\nArchitecture: all\n"}, (File("etc/x", "file", 0o644, ROOT),)
    )
    with pytest.raises(PackageError) as raised:
        rootfs_layer(BlobStore(tmp_path / "store"), {"aa": implied, "bb": other}, "system")
    assert raised.value.what == "bb and aa both hold a file"
    assert raised.value.where == "etc/x"


def test_folders_may_be_shared(tmp_path: Path) -> None:
    found = tree(tmp_path, package("one", {"usr/lib/a": b""}), package("two", {"usr/lib/b": b""}))
    assert found["usr/lib"] == ("dir", 0o755, (0, 0), "")


def test_usr_is_merged(tmp_path: Path) -> None:
    files: dict[str, bytes | Entry] = {
        "bin/dash": b"\x7fELF",
        "sbin/ldconfig": b"\x7fELF",
        "lib/x86_64-linux-gnu/libc.so.6": b"\x7fELF",
        "lib64/ld.so": symlink("lib64/ld.so", "/lib/x86_64-linux-gnu/ld.so"),
    }
    found = tree(tmp_path, package("app", files))
    for name in ("bin", "lib", "lib64", "sbin"):
        assert found[name] == ("link", 0o777, (0, 0), f"usr/{name}")
        assert found[f"usr/{name}"] == ("dir", 0o755, (0, 0), "")
    assert "lib32" not in found
    assert found["usr/bin/dash"][3] == b"\x7fELF"
    assert found["usr/lib/x86_64-linux-gnu/libc.so.6"][3] == b"\x7fELF"
    assert found["usr/lib64/ld.so"][3] == "/lib/x86_64-linux-gnu/ld.so"


def resolved(path: str, target: str) -> str:
    """Where a link at `path` leads, in a system whose /bin, /lib and so on are links to /usr."""
    parts = path.split("/")[:-1]
    for part in target.split("/"):
        if part == "..":
            parts = parts[:-1]
        else:
            parts.append(part)
    return "/".join(parts if parts[0] == "usr" else ["usr", *parts])


@pytest.mark.parametrize(
    ("path", "target", "after"),
    [
        ("bin/sh", "dash", "dash"),
        ("lib/a/libx.so", "libx.so.1", "libx.so.1"),
        ("lib/a/libx.so", "../b/libx.so", "../b/libx.so"),
        ("bin/x", "../usr/share/x", "../../usr/share/x"),
        ("lib/a/b/x", "../../../usr/share/x", "../../../../usr/share/x"),
        ("lib/a/x", "../../lib64/x", "../../../lib64/x"),
        ("bin/x", "/usr/share/x", "/usr/share/x"),
        ("usr/bin/x", "../share/x", "../share/x"),
        ("etc/x", "../lib/x", "../lib/x"),
        ("library/x", "../lib/x", "../lib/x"),
    ],
)
def test_links_lead_where_they_led(path: str, target: str, after: str) -> None:
    file = merged(File(path, "symlink", 0o777, ROOT, target=target))
    assert file.target == after
    if not target.startswith("/") and path.startswith(("bin/", "lib/")):
        assert resolved(file.path, file.target) == resolved(path, target)


def test_users_and_groups_are_made_from_the_master_files(tmp_path: Path) -> None:
    found = tree(tmp_path)
    assert found["etc/passwd"][3] == (
        b"root:x:0:0:root:/root:/bin/bash\n"
        b"daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
        b"dockeruser:x:1000:1000::/home/dockeruser:/bin/bash\n"
        b"_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\n"
    )
    assert found["etc/group"][3] == b"root:x:0:\nshadow:x:42:\ndockeruser:x:1000:\n"
    # No password, never to be changed, root's and group shadow's alone.
    assert found["etc/shadow"] == (
        "file",
        0o640,
        (0, 42),
        b"root:*:1:0:99999:7:::\ndaemon:*:1:0:99999:7:::\ndockeruser:*:1:0:99999:7:::\n"
        b"_apt:*:1:0:99999:7:::\n",
    )
    assert found["home/dockeruser"] == ("dir", 0o755, (1000, 1000), "")


def test_without_master_files_there_is_no_system(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store")
    with pytest.raises(PackageError) as raised:
        rootfs_layer(
            store, {"app": Deb({"control": "Package: app\nArchitecture: all\n"}, ())}, "system"
        )
    assert raised.value.what == "no list of users"
    assert raised.value.where == "usr/share/base-passwd/passwd.master"
    assert raised.value.remedy == "put base-passwd into rootfs.packages"


def test_what_every_system_has(tmp_path: Path) -> None:
    found = tree(tmp_path)
    assert found["tmp"] == ("dir", 0o1777, (0, 0), "")
    assert found["etc/hosts"][3] == b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n"
    assert found["etc/hostname"][3] == b"localhost\n"
    assert found["etc/timezone"][3] == b"Etc/UTC\n"
    assert found["etc/localtime"] == ("link", 0o777, (0, 0), "/usr/share/zoneinfo/Etc/UTC")
    assert "etc/nsswitch.conf" not in found
    assert "etc/ssl" not in found
    assert "usr/bin/awk" not in found


def test_what_scripts_of_the_packages_would_make(tmp_path: Path) -> None:
    files = {"usr/share/libc-bin/nsswitch.conf": b"hosts: files dns\n", "usr/bin/mawk": b""}
    found = tree(tmp_path, package("app", files))
    assert found["etc/nsswitch.conf"][3] == b"hosts: files dns\n"
    assert found["usr/bin/awk"] == ("link", 0o777, (0, 0), "mawk")


def test_the_bundle_holds_every_certificate_in_order(tmp_path: Path) -> None:
    files = {
        "usr/share/ca-certificates/mozilla/B.crt": b"-----B-----\n",
        "usr/share/ca-certificates/mozilla/A.crt": b"-----A-----\n\n",
        "usr/share/ca-certificates/mozilla/C.crt": b"-----C-----",
        "usr/share/ca-certificates/mozilla/README": b"no certificate",
    }
    found = tree(tmp_path, package("ca-certificates", files))
    assert found["etc/ssl/certs/ca-certificates.crt"] == (
        "file",
        0o644,
        (0, 0),
        b"-----A-----\n-----B-----\n-----C-----\n",
    )
    assert found["etc/ca-certificates.conf"][3] == b"mozilla/A.crt\nmozilla/B.crt\nmozilla/C.crt\n"


def test_documentation_is_dropped_and_licences_stay(tmp_path: Path) -> None:
    files: dict[str, bytes | Entry] = {
        "usr/share/doc/app/copyright": b"GPL",
        "usr/share/doc/app/changelog.gz": b"",
        "usr/share/doc/app/examples/x": b"",
        "usr/share/doc/other": symlink("usr/share/doc/other", "app"),
        "usr/share/man/man1/app.1.gz": b"",
        "usr/share/info/app.info": b"",
        "usr/share/locale/de/LC_MESSAGES/app.mo": b"",
        "usr/share/bash-completion/completions/app": b"",
        "usr/share/lintian/overrides/app": b"",
        "usr/share/manual": b"",
    }
    found = tree(tmp_path, package("app", files))
    kept = [p for p, entry in found.items() if p.startswith("usr/share/") and entry[0] != "dir"]
    assert kept == [
        "usr/share/base-passwd/group.master",
        "usr/share/base-passwd/passwd.master",
        "usr/share/doc/app/copyright",
        "usr/share/manual",
    ]
    assert not {"usr/share/man", "usr/share/info", "usr/share/locale"} & set(found)


EXAMPLE = (
    b"# See sources.list(5)\n"
    b"deb http://archive.example/debian stable main non-free\n"
    b"deb http://archive.example/security stable-security main\n"
    b"#deb-src http://archive.example/debian stable main\n"
)


@pytest.mark.parametrize(
    ("keyrings", "option"),
    [
        ([], b""),
        (["debian-archive-keyring.gpg", "debian-archive-removed-keys.gpg"], b"debian"),
    ],
    ids=["no keyring", "the archive's keyring"],
)
def test_apt_sources_are_the_example_of_its_package(
    tmp_path: Path, keyrings: list[str], option: bytes
) -> None:
    apt = package("apt", {"usr/share/doc/apt/examples/sources.list": EXAMPLE})
    keys = package("keys", {f"usr/share/keyrings/{name}": b"" for name in keyrings})
    found = tree(tmp_path, apt, keys)
    signed = b"deb [signed-by=/usr/share/keyrings/%s-archive-keyring.gpg] http" % option
    expected = EXAMPLE.replace(b"deb http", signed) if option else EXAMPLE
    assert found["etc/apt/sources.list"] == ("file", 0o644, (0, 0), expected)


def test_apt_without_an_example_has_no_sources(tmp_path: Path) -> None:
    found = tree(tmp_path, package("apt", {"usr/bin/apt": b""}))
    assert "etc/apt/sources.list" not in found


def test_packages_are_recorded_as_dpkg_does(tmp_path: Path) -> None:
    found = tree(tmp_path, package("app", {"usr/bin/app": b"1"}))
    status = found["var/lib/dpkg/status"][3]
    assert isinstance(status, bytes)
    stanzas = {text.split(b"\n")[0]: text for text in status.split(b"\n\n")}
    app = stanzas[b"Package: app"]
    assert app.startswith(b"Package: app\nStatus: install ok installed\nVersion: 1.0\n")
    assert b"Package: base-passwd" in stanzas
    assert found["var/lib/dpkg/info/app.md5sums"][3] == (
        b"c4ca4238a0b923820dcc509a6f75849b  usr/bin/app\n"
    )
    assert found["var/lib/dpkg/info/app.list"][3] == b"/.\n/usr\n/usr/bin\n/usr/bin/app\n"
    assert found["var/lib/dpkg/triggers/Unincorp"][3] == b""


def test_generated_files_replace_those_of_packages(tmp_path: Path) -> None:
    found = tree(tmp_path, package("app", {"etc/hostname": b"machine", "tmp": folder("tmp")}))
    assert found["etc/hostname"][3] == b"localhost\n"
    assert found["tmp"][1] == 0o1777


NAMES = [f"package-{number}" for number in range(6)]


@settings(
    deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.randoms(use_true_random=False))
def test_the_order_of_packages_changes_no_byte(tmp_path: Path, order: random.Random) -> None:
    shared = folder("usr/lib/shared", 0o700)
    packages = [
        package(name, {f"usr/lib/{name}": name.encode(), "usr/lib/shared": shared})
        for name in NAMES
    ]
    whole = list(debs(tmp_path, *packages).items())
    store = BlobStore(tmp_path / "store")
    first = rootfs_layer(store, dict(whole), "system")
    order.shuffle(whole)
    assert rootfs_layer(store, dict(whole), "system") == first
