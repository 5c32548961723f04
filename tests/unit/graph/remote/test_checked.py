"""What a server's answer may name: digests that are some, content that is what they name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import RemoteError
from plinth.graph.reapi import messages
from plinth.graph.reapi.messages import ActionResult
from plinth.graph.remote.checked import checked_result

ONE, TWO = Digest.of(b"one"), Digest.of(b"two")


def result(change: Callable[[ActionResult], object]) -> ActionResult:
    made = ActionResult()
    change(made)
    return made


def test_digests_of_files_folders_and_streams() -> None:
    made = ActionResult()
    made.output_files.add(path="a", digest=messages.to_message(ONE))
    made.output_directories.add(path="b", tree_digest=messages.to_message(TWO))
    made.output_directories.add(path="c", root_directory_digest=messages.to_message(ONE))
    made.stderr_digest.CopyFrom(messages.to_message(TWO))
    assert checked_result(made, where="x") == (ONE, TWO, ONE, TWO)


def test_what_is_inlined_need_not_be_fetched() -> None:
    made = ActionResult(stdout_raw=b"one")
    made.output_files.add(path="a", digest=messages.to_message(ONE), contents=b"one")
    made.stdout_digest.CopyFrom(messages.to_message(ONE))
    assert checked_result(made, where="x") == ()


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.output_files.add(path="a", digest=messages.to_message(ONE), contents=b"two"),
        lambda r: r.output_directories.add(path="a").tree_digest.MergeFrom(
            messages.Digest(hash="zz", size_bytes=1)
        ),
        lambda r: r.output_directories.add(path="../a"),
        lambda r: [r.output_files.add(path="a", digest=messages.to_message(ONE)) for _ in "12"],
    ],
    ids=["other content", "no digest", "outside", "twice"],
)
def test_an_answer_that_lies(change: Callable[[ActionResult], object]) -> None:
    with pytest.raises(RemoteError):
        checked_result(result(change), where="x")
