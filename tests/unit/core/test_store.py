"""The blob store: verified, atomic, swept."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from plinth.core.digest import Digest, canonical_json, parse_oci
from plinth.core.errors import IntegrityError
from plinth.core.store import BlobStore, atomic_folder, atomic_write

HELLO = Digest("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", 5)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "store")


def test_a_file_swept_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BlobStore(tmp_path)
    made = []
    create = tempfile.mkstemp

    def create_and_sweep(**options: Any) -> tuple[int, str]:
        made.append(create(**options))
        if len(made) == 1:
            BlobStore(tmp_path).sweep()
        return made[-1]

    monkeypatch.setattr(tempfile, "mkstemp", create_and_sweep)
    digest = store.put(b"text")
    assert len(made) == 2
    assert store.get(digest) == b"text"


def test_a_blob_lies_under_its_digest(store: BlobStore) -> None:
    assert store.put(b"hello") == HELLO
    assert (store.root / "blobs" / "sha256" / HELLO.hex).read_bytes() == b"hello"
    assert store.get(HELLO) == b"hello"


def test_blobs_are_readable_by_everyone_whatever_the_umask(store: BlobStore) -> None:
    before = os.umask(0o077)
    try:
        digest = store.put(b"hello")
    finally:
        os.umask(before)
    assert store.path(digest).stat().st_mode & 0o777 == 0o644


def test_wrong_content_leaves_nothing(store: BlobStore) -> None:
    with pytest.raises(IntegrityError, match="does not match"), store.writer() as writer:
        writer.write(b"hellO")
        writer.commit(HELLO)
    assert not store.has(HELLO)
    assert list(store.blobs.iterdir()) == []
    assert list(store.temporary.iterdir()) == []


def test_wrong_size_is_refused(store: BlobStore) -> None:
    with pytest.raises(IntegrityError), store.writer() as writer:
        writer.write(b"hello")
        writer.commit(Digest(HELLO.hex, 6))


def test_damage_on_disk_is_found_and_named(store: BlobStore) -> None:
    store.put(b"hello")
    store.path(HELLO).write_bytes(b"jello")
    with pytest.raises(IntegrityError) as raised:
        store.get(HELLO)
    assert str(store.path(HELLO)) in str(raised.value)


def test_a_truncated_blob_counts_as_missing(store: BlobStore) -> None:
    store.put(b"hello")
    store.path(HELLO).write_bytes(b"hell")
    assert store.missing([HELLO]) == {HELLO}


def test_what_is_no_regular_file_is_no_blob(store: BlobStore) -> None:
    """Nor is it waited for, or read."""
    store.prepare()
    path = store.path(HELLO)
    for make in (os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")):
        make(path)
        assert not store.has(HELLO) and store.held(HELLO.hex) is None
        with pytest.raises(IntegrityError, match="expected a regular file"):
            store.get(HELLO)
        path.rmdir() if path.is_dir() else path.unlink()


def test_a_blob_of_another_size_is_not_read(store: BlobStore) -> None:
    store.put(b"hello")
    os.truncate(store.path(HELLO), 1 << 40)
    with pytest.raises(IntegrityError, match=f"{1 << 40} bytes"):
        store.get(HELLO)


def test_the_same_bytes_again_mend_a_blob(store: BlobStore) -> None:
    store.prepare()
    store.path(HELLO).write_bytes(b"jello")
    assert store.get(store.put(b"hello")) == b"hello"


def test_put_file_checks_what_it_copies(store: BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"hello")
    assert store.put_file(source, HELLO) == HELLO
    source.write_bytes(b"other")
    with pytest.raises(IntegrityError):
        store.put_file(source, HELLO)


def test_sweep_takes_what_a_killed_writer_left_and_nothing_else(store: BlobStore) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from plinth.core.store import BlobStore\n"
        "writer = BlobStore(Path(sys.argv[1])).writer(); writer.write(b'half')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(store.root)], check=False)
    assert killed.returncode == -9
    assert len(list(store.temporary.glob("part-*"))) == 1
    with store.writer() as alive:
        alive.write(b"hel")
        store.sweep()
        assert len(list(store.temporary.glob("part-*"))) == 1
        alive.write(b"lo")
        assert alive.commit(HELLO) == HELLO
    assert store.get(HELLO) == b"hello"


def test_a_kept_file_is_gone_on_with_by_the_next_writer(store: BlobStore) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from plinth.core.store import BlobStore\n"
        "writer = BlobStore(Path(sys.argv[1])).writer(kept=sys.argv[2]); writer.write(b'hel')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(store.root), HELLO.hex], check=False)
    store.sweep()
    with store.writer(kept=HELLO.hex) as writer:
        assert writer.size == 3
        writer.write(b"lo")
        assert writer.commit(HELLO) == HELLO
    assert store.held(HELLO.hex) == HELLO
    assert list(store.temporary.iterdir()) == []


def test_a_kept_file_that_became_another_is_deleted(store: BlobStore) -> None:
    with store.writer(kept=HELLO.hex) as writer:
        writer.write(b"hellO")
        with pytest.raises(IntegrityError):
            writer.commit(HELLO)
    assert list(store.temporary.iterdir()) == []
    assert store.held(HELLO.hex) is None


def test_of_two_writers_of_a_kept_file_one_waits_and_finds_the_blob(store: BlobStore) -> None:
    entered = threading.Event()

    def second() -> Digest | None:
        entered.set()
        with store.writer(kept=HELLO.hex) as writer:
            assert writer.size == 0
            return store.held(HELLO.hex)

    with ThreadPoolExecutor(1) as pool, store.writer(kept=HELLO.hex) as writer:
        found = pool.submit(second)
        entered.wait(10)
        writer.write(b"hello")
        writer.commit(HELLO)
        # It waits for the lock, on the file that is the blob now.
        assert found.result(10) == HELLO
    assert store.get(HELLO) == b"hello"
    assert list(store.temporary.iterdir()) == []


def test_atomic_write_keeps_the_old_file_when_the_block_fails(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(target) as path:
        path.write_text("new")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_canonical_json_is_one_text_for_equal_values() -> None:
    assert (
        canonical_json({"b": [1, None, True], "a": "é"}) == '{"a":"é","b":[1,null,true]}'.encode()
    )


@pytest.mark.parametrize("text", ["", "sha256:", "sha512:" + "0" * 64, "sha256:" + "G" * 64, "x"])
def test_other_digests_are_refused(text: str) -> None:
    with pytest.raises(IntegrityError):
        parse_oci(text)


@pytest.fixture
def full() -> Iterator[int]:
    """A descriptor of a disk that is full."""
    descriptor = os.open("/dev/full", os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


def test_a_full_disk_is_told_with_the_file_that_was_written(tmp_path: Path, full: int) -> None:
    target = tmp_path / "document"
    with pytest.raises(OSError, match="No space left") as raised, atomic_write(target):
        os.write(full, b"x")
    assert raised.value.filename == str(target)
    folder = tmp_path / "folder"
    with pytest.raises(OSError, match="No space left") as raised, atomic_folder(folder):
        os.write(full, b"x")
    assert raised.value.filename == str(folder)
    store = BlobStore(tmp_path / "store")
    with pytest.raises(OSError, match="No space left") as raised, store.writer() as writer:
        os.dup2(full, writer._descriptor)
        writer.write(b"x")
    assert str(raised.value.filename).startswith(str(store.temporary))
    # Other errors are as they were.
    with pytest.raises(ConnectionError) as other, atomic_write(target):
        raise ConnectionError(104, "reset")
    assert other.value.filename is None
