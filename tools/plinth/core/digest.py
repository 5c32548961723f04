"""Digests: content identity as SHA-256 and size, as OCI and the Remote Execution API have it."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from plinth.core.errors import IntegrityError, plain

_HEX = re.compile(r"[0-9a-f]{64}")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
CHUNK = 1 << 20

Json: TypeAlias = "bool | int | str | Sequence[Json] | Mapping[str, Json] | None"


@dataclass(frozen=True, order=True)
class Digest:
    """The identity of a blob.

    `hex` is the SHA-256 in lower-case hexadecimal, `size` the length in bytes
    (REAPI `Digest`; OCI image-spec, descriptor.md, "Digests").
    """

    hex: str
    size: int

    def __post_init__(self) -> None:
        if not _HEX.fullmatch(self.hex) or self.size < 0:
            raise IntegrityError(
                "not a sha256 digest",
                expected="64 lower-case hexadecimal digits and a size in bytes",
                found=f"{self.hex!r}, {self.size}",
            )

    @property
    def oci(self) -> str:
        """The digest in OCI form, `sha256:<hex>`."""
        return f"sha256:{self.hex}"

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """The digest of `data`."""
        return cls(hashlib.sha256(data).hexdigest(), len(data))

    @classmethod
    def of_file(cls, path: Path) -> Digest:
        """The digest of the file at `path`, read in chunks."""
        state = hashlib.sha256()
        size = 0
        with path.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                state.update(chunk)
                size += len(chunk)
        return cls(state.hexdigest(), size)


def parse_oci(text: str) -> str:
    """The hexadecimal part of an OCI digest string.

    Raises:
        IntegrityError: `text` is not `sha256:` and 64 lower-case hexadecimal digits.
    """
    algorithm, _, value = text.partition(":")
    if algorithm != "sha256" or not _HEX.fullmatch(value):
        raise IntegrityError(
            "not a sha256 digest", expected="sha256:<64 hex digits>", found=plain(text[:200])
        )
    return value


def canonical_json(value: Json) -> bytes:
    """`value` as JSON with sorted keys, no white space and no floats: equal values, equal bytes."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def read_json(
    data: bytes, pairs: Callable[[list[tuple[str, Any]]], dict[str, Any]] | None = None
) -> Any:
    """The value in `data`, JSON of anybody's that `canonical_json` can write again; `pairs` makes
    an object of its keys and values.

    Raises:
        ValueError: it is not JSON in UTF-8 (RFC 8259), has half of a surrogate pair, a number that
            is not finite (`1e999`) or of more digits than are read, or is nested too deeply.
    """
    text = data.decode("utf-8")
    try:
        value = json.loads(
            text, object_pairs_hook=pairs, parse_constant=_not_a_number, parse_float=_finite
        )
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair, which is not Unicode") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _not_a_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:100]} is too large a number")
    return value
