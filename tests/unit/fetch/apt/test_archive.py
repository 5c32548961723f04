"""A signed archive over HTTP: what is signed by the right key is read, all else is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import FetchError, IntegrityError, PlinthError
from plinth.core.session import new_session
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.fetch.apt.archive import Index, Keyring, download, has, keyring_of, listed, read_index
from plinth.fetch.apt.resolve import resolve
from plinth.fetch.apt.sources import Source
from support import needs
from support.clocks import beginning
from support.debs import (
    Archive,
    Change,
    Key,
    Package,
    change,
    flipped,
    packages_text,
    packed,
    replaced,
)
from support.http_server import Handler, Server, serving

KEYRING = "test-archive-keyring"
PACKAGES = "main/binary-amd64/Packages.xz"
APP = Package("app", fields={"Depends": "lib"})
LIB = Package("lib", "2:1.0-1", "all", {"usr/lib/x": b"1"})


@pytest.fixture
def keyrings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "keyrings"
    folder.mkdir()
    monkeypatch.setattr("plinth.fetch.apt.archive.KEYRINGS", folder)
    return folder


@pytest.fixture
def archive(tmp_path: Path, keyrings: Path) -> Archive:
    made = Archive(tmp_path / "archive", architectures=("amd64", "arm64"))
    made.key.write_keyring(keyrings / f"{KEYRING}.gpg")
    made.add("stable", APP, LIB, Package("app", architecture="arm64"))
    made.add("stable", Package("extra"), component="contrib")
    made.add("security", Package("lib", "2:1.0-2"))
    made.publish()
    return made


@pytest.fixture
def server(archive: Archive) -> Iterator[Server]:
    with serving(archive.root) as running:
        yield running


def read(
    server: Server, suite: str = "stable", components: str = "main", key: Keyring | None = None
) -> Index:
    source = Source(server.url, suite)
    return read_index(source, tuple(components.split()), "amd64", key or Keyring(KEYRING))


def refused(
    kind: type[PlinthError], server: Server, what: str, where: str, components: str = "main"
) -> PlinthError:
    with pytest.raises(kind) as raised:
        read(server, components=components)
    assert what in raised.value.what
    assert raised.value.where == where
    return raised.value


def test_a_signed_index_is_read(archive: Archive, server: Server) -> None:
    index = read(server)
    assert index.source == Source(server.url, "stable")
    assert index.packages == packages_text([APP, LIB])
    assert server.asked == ["GET /dists/stable/InRelease", f"GET /dists/stable/{PACKAGES}"]


def test_several_components_and_suites_are_read_as_one_universe(server: Server) -> None:
    indexes = [read(server, components="main contrib"), read(server, "security")]
    found = resolve(indexes, ["app", "extra"], ())
    assert [(p.name, p.version, p.suite) for p in found] == [
        ("app", "1.0", "stable"),
        ("extra", "1.0", "stable"),
        ("lib", "2:1.0-2", "security"),
    ]
    assert found[1].path == "pool/contrib/e/extra/extra_1.0_amd64.deb"


def test_another_architecture_has_its_own_packages(server: Server) -> None:
    index = read_index(Source(server.url, "stable"), ("main",), "arm64", Keyring(KEYRING))
    assert "Architecture: arm64" in index.packages
    assert "Architecture: amd64" not in index.packages


def test_an_index_is_asked_for_by_hash_where_the_archive_offers_it(
    archive: Archive, server: Server
) -> None:
    archive.publish("stable", by_hash=True)
    digest = Digest.of(packed(packages_text([APP, LIB]).encode(), "xz"))
    assert read(server).packages == packages_text([APP, LIB])
    assert server.asked[1] == (f"GET /dists/stable/main/binary-amd64/by-hash/SHA256/{digest.hex}")


@pytest.mark.parametrize(
    ("compressions", "taken"),
    [(("", "gz", "xz"), "Packages.xz"), (("", "gz"), "Packages.gz"), (("",), "Packages")],
)
def test_the_smallest_index_there_is_is_read(
    archive: Archive, server: Server, compressions: tuple[str, ...], taken: str
) -> None:
    archive.publish("stable", compressions=compressions)
    assert read(server).packages == packages_text([APP, LIB])
    assert server.asked[1] == f"GET /dists/stable/main/binary-amd64/{taken}"


@pytest.mark.parametrize("suite", ["/", "cuda/"])
def test_a_flat_repository_is_read(archive: Archive, server: Server, suite: str) -> None:
    archive.add(suite, APP, LIB)
    archive.publish(suite, compressions=["gz"])
    source = Source(server.url, suite, "vendor")
    index = read_index(source, (), "amd64", Keyring(KEYRING))
    assert server.asked == [
        f"GET /{suite.lstrip('/')}InRelease",
        f"GET /{suite.lstrip('/')}Packages.gz",
    ]
    lib = resolve([index], ["lib"], ())[0]
    assert (lib.path, lib.suite) == (f"{suite.lstrip('/')}lib_1.0-1_all.deb", "vendor")
    assert (archive.root / lib.path).read_bytes() == LIB.deb
    change(archive.path(suite), replaced(b"Origin: Test", b"Origin: Evil"))
    with pytest.raises(PlinthError) as raised:
        read_index(source, (), "amd64", Keyring(KEYRING))
    assert raised.value.where == "InRelease of vendor"


def test_the_digest_kept_is_of_the_signed_text_alone(archive: Archive, server: Server) -> None:
    first = read(server).in_release
    # Signed again, by whatever key and time, the text is the same.
    archive.publish("stable")
    assert read(server).in_release == first
    archive.publish("stable", edit=replaced(b"Origin: Test", b"Origin: Rest"))
    assert read(server).in_release != first


def test_text_outside_the_signed_part_is_ignored(archive: Archive, server: Server) -> None:
    before = read(server)
    fake = b"Origin: Evil\nSHA256:\n %s 1 %s\n\n" % (b"0" * 64, PACKAGES.encode())
    change(archive.path("stable"), lambda signed: fake + signed + fake)
    assert read(server) == before


def test_a_signature_later_than_the_clock_is_refused_with_what_the_clock_shows(
    archive: Archive, keyrings: Path
) -> None:
    needs.program("faketime")
    code = (
        "import sys\nfrom pathlib import Path\nfrom plinth.core.errors import PlinthError\n"
        "from plinth.fetch.apt.archive import Keyring, verified\n"
        "try: verified(Path(sys.argv[1]).read_bytes(), Keyring('', Path(sys.argv[2])), 'InRelease')"
        "\nexcept PlinthError as error: print(error.remedy)\nelse: print('valid')"
    )
    signed = archive.path("stable")
    assert b"\nDate: " in signed.read_bytes()
    keyring = keyrings / f"{KEYRING}.gpg"
    found = {}
    for moment in ("2012-01-01 00:00:00", ""):
        faked = beginning(moment) if moment else {}
        found[moment] = subprocess.run(
            [sys.executable, "-c", code, str(signed), str(keyring)],
            env={**os.environ, **faked},
            check=True,
            text=True,
            capture_output=True,
        ).stdout
    behind = "set this machine's clock, which shows 2012-01-01 00:00 UTC: the file is of "
    assert found.pop("2012-01-01 00:00:00").startswith(behind)
    assert found.pop("") == "valid\n"


def test_a_signature_by_another_key_is_refused(archive: Archive, server: Server) -> None:
    archive.publish("stable", key=Key())
    error = refused(PlinthError, server, "no valid signature", "InRelease of stable")
    assert error.expected == f"a signature by a key of {KEYRING}.gpg"


def unsigned(data: bytes) -> bytes:
    text = data.partition(b"\n\n")[2]
    return text.partition(b"-----BEGIN PGP SIGNATURE-----")[0]


def garbled(data: bytes) -> bytes:
    """The signature's own bytes with some changed."""
    head, _, tail = data.partition(b"-----BEGIN PGP SIGNATURE-----\n\n")
    return head + b"-----BEGIN PGP SIGNATURE-----\n\n" + tail[:4] + b"AAAAAAAA" + tail[12:]


@pytest.mark.parametrize(
    "damage",
    [
        unsigned,
        garbled,
        replaced(b"Origin: Test", b"Origin: Evil"),
        replaced(b"Packages.xz", b"Packages.gz"),
        lambda data: data[: len(data) // 2],
        lambda _: b"",
        lambda _: b"<html>please log in</html>",
    ],
    ids=["unsigned", "garbled", "tampered", "renamed", "cut", "empty", "portal"],
)
def test_a_damaged_release_is_refused(archive: Archive, server: Server, damage: Change) -> None:
    change(archive.path("stable"), damage)
    refused(PlinthError, server, "no valid signature", "InRelease of stable")


@pytest.mark.parametrize(
    "damage", [flipped, lambda data: data[:-1], lambda data: data + b"x", lambda _: b""]
)
@pytest.mark.parametrize("by_hash", [False, True])
def test_packages_that_do_not_match_the_signed_hash_are_refused(
    archive: Archive, server: Server, damage: Change, by_hash: bool
) -> None:
    archive.publish("stable", by_hash=by_hash)
    folder = archive.path("stable", PACKAGES).parent
    (path,) = (path for path in folder.rglob("*") if path.is_file())
    expected = Digest.of_file(path)
    change(path, damage)
    error = refused(
        IntegrityError, server, "does not match the signed hash", f"{PACKAGES} of stable"
    )
    assert error.expected == expected.oci
    assert error.found == Digest.of_file(path).oci


def test_packages_of_another_suite_are_refused(archive: Archive, server: Server) -> None:
    # A mirror that mixes suites up, or one who would like to downgrade somebody.
    other = archive.path("security", PACKAGES).read_bytes()
    archive.path("stable", PACKAGES).write_bytes(other)
    refused(IntegrityError, server, "does not match", f"{PACKAGES} of stable")


@pytest.mark.parametrize(
    "edit",
    [
        replaced(b"SHA256:", b"MD5Sum:"),
        replaced(b"main/binary-amd64", b"main/binary-mips64el"),
    ],
)
def test_a_suite_without_the_packages_asked_for_is_refused(
    archive: Archive, server: Server, edit: Change
) -> None:
    archive.publish("stable", edit=edit)
    refused(
        PlinthError, server, "the suite has no main/binary-amd64/Packages", "InRelease of stable"
    )


def test_a_component_that_is_not_there_is_refused(server: Server) -> None:
    refused(
        PlinthError,
        server,
        "the suite has no non-free/binary-amd64/Packages",
        "InRelease of stable",
        "main non-free",
    )


@pytest.mark.parametrize("size", [b"many", b"-1"])
def test_a_signed_release_with_nonsense_in_it_is_refused(
    archive: Archive, server: Server, size: bytes
) -> None:
    name = PACKAGES.encode()
    digest = Digest.of_file(archive.path("stable", PACKAGES))
    line = b"%s %d %s" % (digest.hex.encode(), digest.size, name)
    nonsense = b"%s %s %s" % (digest.hex.encode(), size, name)
    archive.publish("stable", edit=replaced(line, nonsense))
    refused(PlinthError, server, f"malformed entry of {PACKAGES}", "InRelease of stable")


@pytest.mark.parametrize("compression", ["xz", "gz"])
def test_signed_packages_that_cannot_be_unpacked_are_refused(
    archive: Archive, server: Server, compression: str
) -> None:
    archive.publish("stable", compressions=[compression])
    name = f"main/binary-amd64/Packages.{compression}"
    path = archive.path("stable", name)
    before = Digest.of_file(path)

    def edit(text: bytes) -> bytes:
        path.write_bytes(b"neither xz nor gz")
        after = Digest.of_file(path)
        old = b"%s %d" % (before.hex.encode(), before.size)
        return replaced(old, b"%s %d" % (after.hex.encode(), after.size))(text)

    archive.publish("stable", compressions=[compression], edit=edit)
    refused(PlinthError, server, "damaged index", f"{name} of stable")


def test_a_keyring_that_is_not_there_is_named_with_its_package(
    server: Server, keyrings: Path
) -> None:
    with pytest.raises(PlinthError) as raised:
        read(server, key=keyring_of("other-keyring", Config()))
    assert raised.value.what == "there is no keyring other-keyring"
    assert raised.value.where == str(keyrings)
    assert raised.value.remedy == (
        "install it (apt-get install other-keyring), or set keyrings.other-keyring in the "
        "settings to a file with the archive's public key"
    )
    gone = keyrings / "gone.gpg"
    with pytest.raises(PlinthError) as raised:
        read(server, key=keyring_of("mine", Config(keyrings={"mine": str(gone)})))
    assert raised.value.where == str(gone)


def test_the_settings_may_name_a_keyring(archive: Archive, server: Server, tmp_path: Path) -> None:
    path = archive.key.write_keyring(tmp_path / "own" / "any.name")
    key = keyring_of("vendor", Config(keyrings={"vendor": str(path)}))
    assert read(server, key=key).packages == packages_text([APP, LIB])


def test_a_key_may_be_pinned_by_its_fingerprint(
    archive: Archive, server: Server, keyrings: Path
) -> None:
    other, wanted = Key(), archive.key.fingerprint
    (keyrings / "both.gpg").write_bytes(archive.key.certificate + other.certificate)
    for pinned in (wanted, wanted.upper()):
        assert read(server, key=keyring_of("both", Config(), pinned))
    with pytest.raises(PlinthError, match="no valid signature") as raised:
        read(server, key=keyring_of("both", Config(), other.fingerprint))
    assert raised.value.expected.endswith(f"with the fingerprint {other.fingerprint}")


@pytest.mark.parametrize(
    "content", [b"", b"not a keyring", Key().certificate[:100]], ids=["empty", "other", "cut"]
)
def test_a_keyring_that_cannot_be_read_is_named(
    server: Server, keyrings: Path, content: bytes
) -> None:
    (keyrings / f"{KEYRING}.gpg").write_bytes(content)
    refused(PlinthError, server, "no valid signature", "InRelease of stable")


def test_a_keyring_may_hold_several_keys(archive: Archive, server: Server, keyrings: Path) -> None:
    several = Key().certificate + archive.key.certificate + Key().certificate
    (keyrings / f"{KEYRING}.gpg").write_bytes(several)
    assert read(server).packages == packages_text([APP, LIB])


@pytest.mark.parametrize("name", ["InRelease", PACKAGES])
def test_a_file_the_archive_lacks_is_named(archive: Archive, server: Server, name: str) -> None:
    archive.path("stable", name).unlink()
    refused(FetchError, server, "the archive has no such file", f"{name} of stable")


def test_a_package_is_brought_into_the_store(
    archive: Archive, server: Server, tmp_path: Path
) -> None:
    store = BlobStore(tmp_path / "store")
    digest = Digest.of(LIB.deb)
    download(f"{server.url}/{LIB.path()}", digest, store, "lib 2:1.0-1")
    assert store.get(digest) == LIB.deb


@pytest.mark.parametrize("damage", [flipped, lambda data: data + b"x"])
def test_a_package_that_is_another_one_does_not_enter_the_store(
    archive: Archive, server: Server, tmp_path: Path, damage: Change
) -> None:
    store = BlobStore(tmp_path / "store")
    change(archive.root / LIB.path(), damage)
    with pytest.raises(IntegrityError, match="does not match its digest"):
        download(f"{server.url}/{LIB.path()}", Digest.of(LIB.deb), store, "lib 2:1.0-1")
    assert list(store.blobs.iterdir()) == list(store.temporary.iterdir()) == []


def test_a_package_the_archive_dropped_is_named(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FetchError) as raised:
        download(f"{server.url}/pool/gone.deb", Digest.of(b""), BlobStore(tmp_path), "gone 1.0")
    assert raised.value.what == "the archive has no such file any more"
    assert raised.value.where == "gone 1.0"


class Flaky(Handler):
    """Fails each path twice, in two ways, before it serves it."""

    def answer(self) -> None:
        attempt = self.asked.count(f"GET {self.path}")
        if attempt == 1:
            self.reply(503)
        elif attempt == 2:
            # Promises more than it sends.
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"half")
        else:
            super().answer()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between tries, noted and not made."""
    made: list[float] = []
    monkeypatch.setattr("plinth.core.stopping.pause", made.append)
    return made


def test_failures_of_the_network_are_tried_again(
    archive: Archive, tmp_path: Path, pauses: list[float]
) -> None:
    store = BlobStore(tmp_path / "store")
    with serving(archive.root, Flaky) as server:
        assert read(server).packages == packages_text([APP, LIB])
        assert pauses == [0.5, 1.0] * 2
        download(f"{server.url}/{LIB.path()}", Digest.of(LIB.deb), store, "lib")
    assert store.get(Digest.of(LIB.deb)) == LIB.deb
    assert list(store.temporary.iterdir()) == []


@pytest.mark.parametrize(
    "ask", [read, lambda s: download(f"{s.url}/x", Digest.of(b""), BlobStore(Path()), "x")]
)
def test_an_archive_that_cannot_be_reached_is_named_with_what_to_do(
    keyrings: Path, tmp_path: Path, pauses: list[float], ask: Callable[[Server], object]
) -> None:
    with serving(tmp_path) as server:
        pass
    with pytest.raises(FetchError) as raised:
        ask(server)
    assert raised.value.what == "the Debian archive cannot be reached"
    assert raised.value.found.endswith(": Connection refused")
    assert "set apt.<suite> in the settings" in raised.value.remedy
    assert pauses == [0.5, 1.0, 2.0]


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("Date: Sat, 11 Jul 2026 10:16:37 UTC", "2026-07-11T10:16:37Z"),
        ("Date: Sat, 11 Jul 2026 12:16:37 +0200", "2026-07-11T10:16:37Z"),
        ("Date: Sat, 11 Jul 2026 10:16:37 -0000", ""),
        ("Date: yesterday", ""),
        ("Date:", ""),
        ("Origin: nobody", ""),
    ],
)
def test_a_releases_date_is_read_or_not_known(text: str, date: str) -> None:
    assert listed(f"{text}\nSHA256:\n".encode(), "InRelease").date == date


class _Lasting(Handler):
    """Keeps connections, and notes each; answers for every file but one called gone."""

    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        """Note the connection."""
        self.asked.append("connection")
        super().setup()

    def answer(self) -> None:
        """Answer with the one byte that is asked for."""
        if self.path.endswith("gone"):
            self.reply(404)
        else:
            self.reply(206, b"!", {"Content-Range": "bytes 0-0/9"})


def test_questions_after_files_share_one_connection(tmp_path: Path) -> None:
    with serving(tmp_path, _Lasting) as server, new_session() as session:
        found = [has(session, f"{server.url}/{name}") for name in ("one", "two", "gone", "three")]
        assert found == [True, True, False, True]
        assert server.asked.count("connection") == 1
