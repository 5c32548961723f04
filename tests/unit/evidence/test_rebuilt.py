"""The statement that an image was built again: its one form, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from plinth.evidence.rebuilt import Rebuilt, parse

SAID = Rebuilt("1" * 64, "2" * 64, "https://builder.example.org", "0.1.0")


def made() -> dict[str, Any]:
    return {
        "builtFrom": {
            "mediaType": "application/vnd.in-toto+json",
            "digest": {"sha256": "1" * 64},
        },
        "result": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": {"sha256": "2" * 64},
        },
        "rebuilder": {"id": "https://builder.example.org", "version": {"plinth": "0.1.0"}},
    }


def test_what_it_says() -> None:
    assert SAID.to_json() == made()
    assert parse(made()) == SAID


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.clear(),
        lambda d: d.update(finishedOn="2026-01-01T00:00:00Z"),
        lambda d: d.update(result=[]),
        lambda d: d.update(result="2"),
        lambda d: d["result"].update(mediaType="application/json"),
        lambda d: d["result"]["digest"].update(sha512="3"),
        lambda d: d["builtFrom"].pop("digest"),
        lambda d: d["rebuilder"].pop("version"),
    ],
)
def test_any_other_form_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    document = made()
    change(document)
    with pytest.raises(ValueError, match=r"not exactly the form of docs/provenance\.md"):
        parse(document)
