"""The configured index, asked over HTTP: what it lists, lacks, gets wrong, and what is kept."""

from __future__ import annotations

import datetime
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import FetchError, IntegrityError, LockError, WheelError
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.fetch.pypi.index import Index
from plinth.fetch.pypi.page import IndexFile
from support.helpers import make_wheel
from support.index_server import AS_OF, JSON, Answer, IndexServer

WHEEL = "demo-1.0-py3-none-any.whl"
PAGE = "/simple/demo/"
FILE = f"/files/{WHEEL}"
DAY = datetime.timedelta(days=1)


@pytest.fixture
def server() -> Iterator[IndexServer]:
    with IndexServer() as running:
        yield running


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return make_wheel(tmp_path)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between tries, noted and not made."""
    made: list[float] = []
    monkeypatch.setattr("plinth.core.stopping.pause", made.append)
    return made


def index_of(server: IndexServer, tmp_path: Path) -> Index:
    """A new index object: what it knows before it asks is on disk."""
    index = Index(Config(index_url=server.url), tmp_path / "index", BlobStore(tmp_path / "s"))
    # Asking pip takes a process each time; the last test does it.
    vars(index)["_settings"] = (server.url, None)
    return index


def names(files: list[IndexFile]) -> list[str]:
    return [file.name for file in files]


def refused(server: IndexServer, tmp_path: Path, message: str) -> LockError:
    with pytest.raises(LockError) as raised:
        index_of(server, tmp_path).files("demo", AS_OF)
    assert message in str(raised.value)
    assert not [*(tmp_path / "index").rglob("demo.json")]
    return raised.value


def kept_page(tmp_path: Path) -> Path:
    """The one page of `demo` that is kept."""
    (found,) = (tmp_path / "index").rglob("demo.json")
    return found


def test_what_a_page_lists(server: IndexServer, tmp_path: Path, wheel: Path) -> None:
    entry = server.add(wheel, yanked="it was bad", requires_python=">=3.6")
    assert index_of(server, tmp_path).files("Demo", None) == [
        IndexFile(
            WHEEL,
            f"{server.origin}{FILE}",
            Digest.of(wheel.read_bytes()),
            "2021-01-01T00:00:00.000000Z",
            ">=3.6",
            True,
            entry["core-metadata"]["sha256"],
            "it was bad",
        )
    ]
    assert server.asked == [PAGE]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2021-01-01T00:00:00Z", "2021-01-01T00:00:00Z"),
        ("2021-01-01T00:00:00.5Z", "2021-01-01T00:00:00.500000Z"),
        ("2021-01-01T00:00:00.123456789Z", "2021-01-01T00:00:00.123457Z"),
    ],
)
def test_upload_times_are_read_in_microseconds(
    server: IndexServer, tmp_path: Path, wheel: Path, written: str, read: str
) -> None:
    server.add(wheel, upload_time=written)
    (file,) = index_of(server, tmp_path).files("demo", None)
    assert file.uploaded == read
    # As the lock reads it.
    datetime.datetime.fromisoformat(read.replace("Z", "+00:00"))


def test_names_are_asked_for_as_pep_503_writes_them(server: IndexServer, tmp_path: Path) -> None:
    assert index_of(server, tmp_path).files("Azure_ML..Core", None) == []
    assert server.asked == ["/simple/azure-ml-core/"]


def test_links_may_be_relative_to_the_page(
    server: IndexServer, tmp_path: Path, wheel: Path
) -> None:
    server.add(wheel, url=f"../../files/{WHEEL}")
    index = index_of(server, tmp_path)
    (file,) = index.files("demo", None)
    assert file.url == f"{server.origin}{FILE}"
    assert index.download(file).read_bytes() == wheel.read_bytes()


def test_files_without_sha256_are_passed_over(
    server: IndexServer, tmp_path: Path, wheel: Path
) -> None:
    server.add(wheel, name="demo-1.2-py3-none-any.whl", hashes={"md5": "0" * 32})
    server.add(wheel, name="demo-1.3-py3-none-any.whl", filename="../x.whl")
    server.add(wheel)
    assert names(index_of(server, tmp_path).files("demo", None)) == [WHEEL]


def test_an_index_without_any_sha256_is_named(
    server: IndexServer, tmp_path: Path, wheel: Path
) -> None:
    server.add(wheel, hashes={"md5": "0" * 32})
    error = refused(server, tmp_path, "demo: the package index gives no SHA-256 of any file")
    assert "PEP 691" in error.expected


def test_a_hash_may_be_in_capitals(server: IndexServer, tmp_path: Path, wheel: Path) -> None:
    digest = Digest.of_file(wheel)
    server.add(wheel, hashes={"sha256": digest.hex.upper()})
    (file,) = index_of(server, tmp_path).files("demo", None)
    assert file.digest == digest


def test_a_size_that_the_page_lacks_is_asked_for(
    server: IndexServer, tmp_path: Path, wheel: Path
) -> None:
    server.add(wheel, size=None)
    index = index_of(server, tmp_path)
    (file,) = index.files("demo", None)
    assert not file.sized
    assert server.count(FILE) == 0
    found = index.described(file)
    assert (found.sized, found.digest) == (True, Digest.of_file(wheel))
    assert index.described(file) == found == index.described(found)
    assert server.count(FILE) == 1
    assert index.download(file).read_bytes() == wheel.read_bytes()


@pytest.mark.parametrize(
    ("uploaded", "seen"),
    [
        ("2021-05-31T23:59:59.999999Z", True),
        ("2021-06-01T00:00:00Z", True),
        ("2021-06-01T00:00:00.000000Z", True),
        ("2021-06-01T00:00:00.0000001Z", False),
        ("2021-06-01T00:00:00.900000Z", False),
        ("2021-06-01T00:00:01Z", False),
        ("2022-01-01T00:00:00.000000Z", False),
    ],
)
def test_as_of_hides_later_uploads(
    server: IndexServer, tmp_path: Path, wheel: Path, uploaded: str, seen: bool
) -> None:
    server.add(wheel, uploaded=uploaded)
    index = index_of(server, tmp_path)
    assert names(index.files("demo", AS_OF)) == ([WHEEL] if seen else [])
    # The same page serves whoever asks without a moment.
    assert names(index.files("demo", None)) == [WHEEL]
    assert server.asked == [PAGE]


@pytest.mark.parametrize(
    ("uploaded", "seen"),
    [
        ("2021-06-01T00:00:00Z", True),
        ("2021-06-01T00:00:00.12Z", True),
        ("2021-06-01T00:00:00.120000Z", True),
        ("2021-06-01T00:00:00.1200001Z", False),
        ("2021-06-01T00:00:00.2Z", False),
        ("2021-05-31T23:59:59.999999Z", True),
    ],
)
def test_a_moment_below_seconds_is_compared_to_its_last_digit(
    server: IndexServer, tmp_path: Path, wheel: Path, uploaded: str, seen: bool
) -> None:
    server.add(wheel, uploaded=uploaded)
    moment = AS_OF.replace(microsecond=120_000)
    assert names(index_of(server, tmp_path).files("demo", moment)) == ([WHEEL] if seen else [])


def test_a_file_without_upload_time_is_listed_for_any_moment(
    server: IndexServer, tmp_path: Path, wheel: Path
) -> None:
    server.add(wheel, uploaded="")
    index = index_of(server, tmp_path)
    for moment in (AS_OF, None):
        (file,) = index.files("demo", moment)
        assert (file.name, file.uploaded) == (WHEEL, "")
    # Nor does its server say.
    assert index.described(file).uploaded == ""


def test_an_unknown_project_has_no_files(server: IndexServer, tmp_path: Path) -> None:
    index = index_of(server, tmp_path)
    assert index.files("nobody", AS_OF) == []
    assert index.files("nobody", AS_OF) == []
    assert server.asked == ["/simple/nobody/"]


@pytest.mark.parametrize("status", [401, 403])
def test_another_status_is_named(server: IndexServer, tmp_path: Path, status: int) -> None:
    server.instead(PAGE, Answer(status))
    with pytest.raises(FetchError, match="the package index answered") as raised:
        index_of(server, tmp_path).files("demo", None)
    assert raised.value.what == f"the package index answered {status}"
    assert raised.value.where == "demo"
    assert "index-url" in raised.value.remedy
    assert server.asked == [PAGE]


def test_an_index_with_too_many_requests_is_asked_again(
    server: IndexServer, tmp_path: Path, wheel: Path, pauses: list[float]
) -> None:
    server.add(wheel)
    server.instead(PAGE, Answer(429), times=2)
    assert names(index_of(server, tmp_path).files("demo", None)) == [WHEEL]
    assert server.asked == [PAGE] * 3
    assert pauses == [0.5, 1.0]


def test_a_failing_index_is_asked_again(
    server: IndexServer, tmp_path: Path, wheel: Path, pauses: list[float]
) -> None:
    server.add(wheel)
    server.instead(PAGE, Answer(503), times=3)
    assert names(index_of(server, tmp_path).files("demo", None)) == [WHEEL]
    assert server.asked == [PAGE] * 4
    assert pauses == [0.5, 1.0, 2.0]


def test_an_index_that_keeps_failing(
    server: IndexServer, tmp_path: Path, pauses: list[float]
) -> None:
    server.instead("*", Answer(500))
    with pytest.raises(FetchError) as raised:
        index_of(server, tmp_path).files("demo", None)
    message = str(raised.value)
    assert message.startswith("demo: the package index answered ")
    assert "index-url" in message
    assert server.origin not in message
    assert len(server.asked) == 4


def test_an_index_that_is_not_there(tmp_path: Path, pauses: list[float]) -> None:
    with IndexServer() as stopped:
        pass
    with pytest.raises(FetchError, match="demo: the package index cannot be reached") as raised:
        index_of(stopped, tmp_path).files("demo", None)
    assert raised.value.found.endswith(": Connection refused")
    assert len(pauses) == 3


def test_an_index_that_speaks_neither_json_nor_html(server: IndexServer, tmp_path: Path) -> None:
    server.instead(PAGE, Answer(200, b"%PDF", "application/pdf"))
    error = refused(server, tmp_path, "the package index has no simple API")
    assert error.expected == f"{JSON}, or text/html"
    assert error.found == "application/pdf"
    assert "PEP 691 or PEP 503" in error.remedy


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "demo: the index's answer is not JSON"),
        (b'{"files": [', "demo: the index's answer is not JSON"),
        (b'{"files": [], "a": 1e999}', "demo: the index's answer is not JSON: 1e999 is too large"),
        (b"\xff\xfe{", "demo: the index's answer is not JSON"),
        (b"[]", "demo: the index's answer is not a JSON object"),
        (b"null", "demo: the index's answer is not a JSON object"),
        (b"{}", "demo: the index's page is malformed: KeyError('files')"),
        (b'{"files": 5}', "demo: the index's page is malformed"),
        (b'{"files": [5]}', "demo: the index's page is malformed"),
        (b'{"files": [{"filename": "x"}]}', "demo: the index's page is malformed"),
    ],
)
def test_a_malformed_answer(server: IndexServer, tmp_path: Path, body: bytes, message: str) -> None:
    server.instead(PAGE, Answer(200, body, JSON))
    refused(server, tmp_path, message)


OTHER_API = "the index speaks a version of the simple API that plinth does not read"


@pytest.mark.parametrize(
    ("changes", "message", "found"),
    [
        ({"meta": {"api-version": "2.0"}}, OTHER_API, "'2.0'"),
        ({"meta": {"api-version": "0.9"}}, OTHER_API, "'0.9'"),
        ({"meta": {"api-version": "10.0"}}, OTHER_API, "'10.0'"),
        ({"meta": {"api-version": 1.1}}, OTHER_API, "1.1"),
        ({"meta": []}, OTHER_API, "[]"),
        ({"name": "other"}, "the index's page is of another project", "name: 'other'"),
        ({"name": 5}, "the index's page is of another project", "name: 5"),
    ],
)
def test_a_page_of_another_api_or_project(
    server: IndexServer,
    tmp_path: Path,
    wheel: Path,
    changes: dict[str, object],
    message: str,
    found: str,
) -> None:
    server.add(wheel)
    page = json.loads(server.page("demo") or b"")
    server.instead(PAGE, Answer(200, json.dumps({**page, **changes}).encode(), JSON))
    assert refused(server, tmp_path, f"demo: {message}").found == found
    # A later one of the first, and a name that is written otherwise, or not at all.
    sounds: list[dict[str, object]] = [
        {"meta": {"api-version": "1.99"}, "name": "DEMO"},
        {"meta": {}},
    ]
    for sound in sounds:
        del page["name"]
        server.instead(PAGE, Answer(200, json.dumps({**page, **sound}).encode(), JSON))
        assert names(index_of(server, tmp_path).files("demo", None)) == [WHEEL]
        page["name"] = "demo"


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("hashes", "none", "AttributeError"),
        ("hashes", {"sha256": "../../etc/passwd"}, "not a sha256 digest"),
        ("hashes", {"sha256": 5}, "TypeError"),
        ("size", -1, "no file has a size of -1 bytes"),
        ("size", 10**30, "no file has a size of 1000000000000000000000000000000 bytes"),
        ("size", 1 << 50, "no file has a size of 1125899906842624 bytes"),
        ("size", 10**400, "no file has a size of 1000"),
        ("size", "5000", "'5000' is not a number"),
        ("filename", 5, "5 is not a string"),
        ("url", None, "None is not a string"),
        ("requires_python", [">=3"], "is not a string"),
        ("upload_time", "yesterday", "upload-time 'yesterday' is not of PEP 700"),
        ("upload_time", "2021-01-01T00:00:00+02:00", "is not of PEP 700"),
        ("upload_time", "2021-01-01T00:00:00", "is not of PEP 700"),
        ("upload_time", "2021-02-31T25:61:61Z", "is not of PEP 700"),
        ("upload_time", "0000-01-01T00:00:00Z", "is not of PEP 700"),
        ("upload_time", "٢021-01-01T00:00:00Z", "is not of PEP 700"),
        ("upload_time", 1609459200, "TypeError"),
        ("core_metadata", {"sha256": "../../../x"}, "not a sha256 digest"),
    ],
)
def test_a_malformed_entry(
    server: IndexServer, tmp_path: Path, wheel: Path, field: str, value: Any, found: str
) -> None:
    server.add(wheel, **{field: value})
    error = refused(server, tmp_path, "demo: the index's page is malformed")
    assert found in str(error)


def test_a_page_fetched_after_the_moment_is_not_asked_for_again(
    server: IndexServer, tmp_path: Path, wheel: Path
) -> None:
    server.add(wheel)
    index_of(server, tmp_path).files("demo", AS_OF)
    assert names(index_of(server, tmp_path).files("demo", AS_OF)) == [WHEEL]
    assert server.asked == [PAGE]


def test_a_page_fetched_before_the_moment_is_asked_for_again(
    server: IndexServer, tmp_path: Path, wheel: Path
) -> None:
    server.add(wheel)
    index_of(server, tmp_path).files("demo", AS_OF)
    # A clock may be a day off, so a page counts as complete a day later only.
    for moment, asked in ((AS_OF + DAY, 2), (AS_OF - DAY, 3)):
        os.utime(kept_page(tmp_path), (moment.timestamp(), moment.timestamp()))
        assert names(index_of(server, tmp_path).files("demo", AS_OF)) == [WHEEL]
        assert len(server.asked) == asked
        assert len(server.unchanged) == asked - 1
        # The answer, that nothing changed, makes the page as new as one just fetched.
        assert names(index_of(server, tmp_path).files("demo", AS_OF)) == [WHEEL]
        assert len(server.asked) == asked


def test_a_kept_page_serves_the_moments_before_it_and_no_other(
    server: IndexServer, tmp_path: Path, wheel: Path
) -> None:
    server.add(wheel)
    index_of(server, tmp_path).files("demo", None)
    moment = (AS_OF + 3 * DAY).timestamp()
    os.utime(kept_page(tmp_path), (moment, moment))
    newer = "demo-1.1-py3-none-any.whl"
    server.add(wheel, name=newer)
    for order in ((AS_OF, None), (None, AS_OF)):
        os.utime(kept_page(tmp_path), (moment, moment))
        kept = kept_page(tmp_path).read_bytes()
        index = index_of(server, tmp_path)
        found = {as_of: names(index.files("demo", as_of)) for as_of in order}
        # Although the newer one claims to be as old.
        assert found == {AS_OF: [WHEEL], None: [WHEEL, newer]}
        kept_page(tmp_path).write_bytes(kept)


def test_a_page_that_a_wrong_clock_dated_into_the_future_is_asked_for_again(
    server: IndexServer, tmp_path: Path, wheel: Path
) -> None:
    server.add(wheel)
    index_of(server, tmp_path).files("demo", AS_OF)
    later = time.time() + 3 * 86_400
    os.utime(kept_page(tmp_path), (later, later))
    assert names(index_of(server, tmp_path).files("demo", AS_OF)) == [WHEEL]
    assert server.asked == [PAGE, PAGE]


def test_an_unchanged_page_is_not_sent_again(
    server: IndexServer, tmp_path: Path, wheel: Path
) -> None:
    server.add(wheel)
    first = index_of(server, tmp_path).files("demo", None)
    assert server.unchanged == []
    assert index_of(server, tmp_path).files("demo", None) == first
    assert (server.asked, server.unchanged) == ([PAGE, PAGE], [PAGE])
    server.add(wheel, name="demo-1.1-py3-none-any.whl")
    assert len(index_of(server, tmp_path).files("demo", None)) == 2
    assert server.unchanged == [PAGE]


@pytest.mark.parametrize("kept", [b"", b"{", b"\xff"])
def test_a_damaged_page_on_disk_is_fetched_anew(
    server: IndexServer, tmp_path: Path, wheel: Path, kept: bytes
) -> None:
    server.add(wheel)
    index_of(server, tmp_path).files("demo", AS_OF)
    kept_page(tmp_path).write_bytes(kept)
    assert names(index_of(server, tmp_path).files("demo", AS_OF)) == [WHEEL]
    assert json.loads(kept_page(tmp_path).read_bytes())["page"]["name"] == "demo"


def test_metadata_is_fetched_once(server: IndexServer, tmp_path: Path, wheel: Path) -> None:
    server.add(wheel)
    for _ in range(2):
        index = index_of(server, tmp_path)
        (file,) = index.files("demo", AS_OF)
        assert index.metadata(file) == b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"
    assert server.count(f"{FILE}.metadata") == 1
    assert server.count(FILE) == 1


def test_metadata_by_its_older_name(server: IndexServer, tmp_path: Path, wheel: Path) -> None:
    entry = server.add(wheel)
    server.add(wheel, core_metadata=None, data_dist_info_metadata=entry["core-metadata"])
    (file,) = index_of(server, tmp_path).files("demo", None)
    assert file.metadata == entry["core-metadata"]["sha256"]


@pytest.mark.parametrize("value", [True, {}, None])
def test_metadata_without_a_hash_counts_as_none(
    server: IndexServer, tmp_path: Path, wheel: Path, value: object
) -> None:
    server.add(wheel, core_metadata=value)
    (file,) = index_of(server, tmp_path).files("demo", None)
    assert file.metadata == ""


def test_wrong_metadata_is_refused(server: IndexServer, tmp_path: Path, wheel: Path) -> None:
    server.add(wheel)
    server.instead(f"{FILE}.metadata", Answer(200, b"Name: evil\n"))
    index = index_of(server, tmp_path)
    (file,) = index.files("demo", None)
    with pytest.raises(IntegrityError) as raised:
        index.metadata(file)
    assert str(raised.value).startswith(f"{WHEEL}.metadata: the index's metadata does not match")
    assert raised.value.expected == file.metadata
    assert raised.value.found == Digest.of(b"Name: evil\n").hex
    assert not (tmp_path / "index" / "metadata").exists()


def test_damaged_metadata_on_disk_is_fetched_anew(
    server: IndexServer, tmp_path: Path, wheel: Path
) -> None:
    server.add(wheel)
    index = index_of(server, tmp_path)
    (file,) = index.files("demo", None)
    whole = index.metadata(file)
    (tmp_path / "index" / "metadata" / file.metadata).write_bytes(whole[:-1])
    assert index.metadata(file) == whole
    assert server.count(f"{FILE}.metadata") == 2


def one(server: IndexServer, tmp_path: Path) -> tuple[Index, IndexFile, BlobStore]:
    index = index_of(server, tmp_path)
    (file,) = index.files("demo", None)
    return index, file, BlobStore(tmp_path / "s")


def nothing_in(store: BlobStore) -> bool:
    return not [path for path in store.root.rglob("*") if path.is_file()]


def test_a_download_lies_in_the_store(server: IndexServer, tmp_path: Path, wheel: Path) -> None:
    server.add(wheel)
    index, file, store = one(server, tmp_path)
    seen: list[bytes] = []
    path = index.download(file, lambda path: seen.append(path.read_bytes()))
    assert path == store.path(file.digest)
    assert path.read_bytes() == wheel.read_bytes()
    assert seen == [wheel.read_bytes()]
    assert index.download(file) == path
    assert server.count(FILE) == 1


@pytest.mark.parametrize("change", ["other", "longer", "much longer"])
def test_a_wrong_download_leaves_nothing(
    server: IndexServer, tmp_path: Path, wheel: Path, pauses: list[float], change: str
) -> None:
    server.add(wheel)
    data = wheel.read_bytes()
    wrong = {
        "other": bytes(len(data)),
        "longer": data + b"\0",
        "much longer": data + bytes(3 << 20),
    }[change]
    server.instead(FILE, Answer(200, wrong))
    index, file, store = one(server, tmp_path)
    admitted: list[Path] = []
    with pytest.raises(IntegrityError) as raised:
        index.download(file, admitted.append)
    message = str(raised.value)
    assert message.startswith(f"{WHEEL}: content does not match its digest")
    assert f"{file.digest.oci}, {len(data)} bytes" in message
    assert nothing_in(store)
    assert admitted == []
    # Another try would bring the same bytes.
    assert pauses == []


@pytest.mark.parametrize("wrong", [-1, 1])
def test_a_size_that_the_file_does_not_have_is_told_as_the_claim_of_the_index(
    server: IndexServer, tmp_path: Path, wheel: Path, pauses: list[float], wrong: int
) -> None:
    true = wheel.stat().st_size
    server.add(wheel, size=true + wrong)
    index, file, store = one(server, tmp_path)
    with pytest.raises((FetchError, IntegrityError)) as raised:
        index.download(file)
    assert raised.value.found.endswith(
        f"\nthe index, or the lock made with it, says {true + wrong} bytes; "
        f"the file's server says {true} bytes"
    )
    assert nothing_in(store)


def test_a_size_of_nothing_is_asked_of_the_file_s_server(
    server: IndexServer, tmp_path: Path, wheel: Path
) -> None:
    server.add(wheel, size=0)
    index, file, _ = one(server, tmp_path)
    assert not file.sized
    assert index.described(file).digest == Digest.of_file(wheel)


@pytest.mark.parametrize("honest", [True, False])
def test_a_download_that_ends_early_is_tried_again(
    server: IndexServer, tmp_path: Path, wheel: Path, pauses: list[float], honest: bool
) -> None:
    server.add(wheel)
    data = wheel.read_bytes()
    short = Answer(200, data[:-10], claimed=None if honest else len(data))
    server.instead(FILE, short, times=1)
    index, file, _ = one(server, tmp_path)
    assert index.download(file).read_bytes() == data
    assert server.count(FILE) == 2
    assert pauses == [0.5]


def test_a_download_that_always_ends_early_leaves_nothing(
    server: IndexServer, tmp_path: Path, wheel: Path, pauses: list[float]
) -> None:
    server.add(wheel)
    server.instead(FILE, Answer(200, wheel.read_bytes()[:-10]))
    index, file, store = one(server, tmp_path)
    with pytest.raises(FetchError, match="cannot be reached") as raised:
        index.download(file)
    assert raised.value.where == WHEEL
    assert nothing_in(store)


@pytest.mark.parametrize(
    ("status", "what", "tries"),
    [
        (404, "the package index answered 404", 1),
        (403, "the package index answered 403", 1),
        (500, "the package index answered 500", 4),
    ],
)
def test_a_download_that_is_not_there_leaves_nothing(
    server: IndexServer,
    tmp_path: Path,
    wheel: Path,
    pauses: list[float],
    status: int,
    what: str,
    tries: int,
) -> None:
    server.add(wheel)
    server.instead(FILE, Answer(status, b"an error page"))
    index, file, store = one(server, tmp_path)
    with pytest.raises(FetchError) as raised:
        index.download(file)
    assert raised.value.where == WHEEL
    assert raised.value.what == what
    assert len(pauses) == tries - 1
    assert nothing_in(store)


def test_what_admission_refuses_stays_out(server: IndexServer, tmp_path: Path, wheel: Path) -> None:
    server.add(wheel)
    index, file, store = one(server, tmp_path)

    def admit(path: Path) -> None:
        raise WheelError("a bad one", where=WHEEL)

    with pytest.raises(WheelError, match="a bad one"):
        index.download(file, admit)
    assert nothing_in(store)


def test_the_settings_go_before_pips_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/of-pip/")
    monkeypatch.setenv("PIP_CERT", "/a/bundle.pem")
    store = BlobStore(tmp_path)
    ours = Index(Config(index_url="http://127.0.0.1:9/ours/"), tmp_path, store)
    assert ours.pip_options() == ["--index-url=http://127.0.0.1:9/ours", "--cert=/a/bundle.pem"]
    pips = Index(Config(), tmp_path, store)
    assert pips.pip_options() == ["--index-url=http://127.0.0.1:9/of-pip", "--cert=/a/bundle.pem"]


def test_without_pip_and_settings_it_is_said_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pip._internal.configuration", None)
    # What was read before under other settings does not count.
    monkeypatch.setenv("PIP_NOT_THERE", "1")
    index = Index(Config(), tmp_path / "index", BlobStore(tmp_path))
    with pytest.raises(FetchError, match="no package index is configured") as raised:
        index.pip_options()
    assert "set index-url in the settings" in raised.value.remedy
