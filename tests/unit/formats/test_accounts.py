"""The image's user in passwd(5) and group(5): once, and first of its number."""

from __future__ import annotations

import pytest

from plinth.formats.accounts import GROUP, PASSWD, with_user

ROOT, MINE = (
    b"root:x:0:0:root:/root:/bin/bash\n",
    b"dockeruser:*:1000:1000::/home/dockeruser:/bin/bash\n",
)
UBUNTU = b"ubuntu:x:1000:1000:Ubuntu:/home/ubuntu:/bin/bash\n"
NIS = b"+::::::\n"


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        (PASSWD, ROOT, ROOT + MINE),
        (PASSWD, b"", MINE),
        (PASSWD, ROOT.rstrip(), ROOT + MINE),
        (PASSWD, ROOT + MINE, ROOT + MINE),
        (PASSWD, ROOT + b"dockeruser:x:0:0::/:/bin/sh\n", ROOT + MINE),
        (PASSWD, ROOT + UBUNTU + NIS, ROOT + MINE + UBUNTU + NIS),
        (PASSWD, b"a:x:10:1000::/:/bin/sh\n\xff:x\n", b"a:x:10:1000::/:/bin/sh\n\xff:x\n" + MINE),
        (GROUP, b"root:x:0:\n", b"root:x:0:\ndockeruser:*:1000:\n"),
        (GROUP, b"ubuntu:x:1000:\n", b"dockeruser:*:1000:\nubuntu:x:1000:\n"),
    ],
    ids=[
        *("added", "no accounts", "no end of line", "there already", "another of the name"),
        *("another of the number", "a number elsewhere, not UTF-8", "group", "group of the number"),
    ],
)
def test_the_user_is_there_once_and_first_of_its_number(
    path: str, text: bytes, expected: bytes
) -> None:
    assert with_user(path, text) == expected
    assert with_user(path, expected) == expected
