"""A layer of an image, as the build graph passes it on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from plinth.core.digest import Digest, Json
from plinth.core.result import ActionResult
from plinth.core.store import LAYER
from plinth.formats.elf.scan import LayerScan
from plinth.formats.oci.model import LAYER_GZIP, TITLE, Descriptor


@dataclass(frozen=True)
class Layer:
    """A compressed tar layer held in the layout's blobs, of `media_type`.

    `diff_id` is the SHA-256 (hex) of the uncompressed tar (OCI image-spec, config.md),
    `name` what a person calls it, `built` whether this run made it, `uncompressed` the tar's
    length in bytes, `scan` what its writer saw of shared objects, if it just wrote it, and
    `scanned` the blob that keeps it. `requires` is what the Python distributions in it require,
    by normalized name, and `python` the Requires-Python of each, where its step recorded them.
    `files` are their files, if its writer just wrote it: by path, the distributions that have it,
    with what it is there, the one whose file is in the layer last; `listed` is the blob that keeps
    them.
    """

    name: str
    digest: Digest
    diff_id: str
    uncompressed: int
    built: bool = False
    scan: LayerScan | None = field(default=None, compare=False, repr=False)
    scanned: Digest | None = field(default=None, compare=False)
    requires: Mapping[str, Sequence[str]] = field(default_factory=dict, compare=False)
    python: Mapping[str, str] = field(default_factory=dict, compare=False)
    files: Mapping[str, Sequence[tuple[str, str]]] | None = field(
        default=None, compare=False, repr=False
    )
    listed: Digest | None = field(default=None, compare=False)
    media_type: str = LAYER_GZIP

    def result(self, output: str = LAYER) -> ActionResult:
        """The layer as the `output` of an action."""
        info: dict[str, Json] = {"diff_id": self.diff_id, "uncompressed": self.uncompressed}
        if self.requires:
            info["requires"] = {name: list(texts) for name, texts in self.requires.items()}
        if self.python:
            info["python"] = dict(self.python)
        return ActionResult({output: self.digest}, info)

    @classmethod
    def of(cls, name: str, result: ActionResult, *, hit: bool, output: str = LAYER) -> Layer:
        """The layer called `name` that is the `output` of `result`; `hit` says it was not made
        now."""
        return cls(
            name,
            result.outputs[output],
            str(result.info["diff_id"]),
            int(str(result.info["uncompressed"])),
            built=not hit,
            scanned=result.outputs.get("scan"),
            requires=_texts(result.info.get("requires")),
            python=_text(result.info.get("python")),
            listed=result.outputs.get("files"),
        )

    @property
    def descriptor(self) -> Descriptor:
        """The layer's descriptor; its name travels as the title annotation."""
        return Descriptor(self.media_type, self.digest, {TITLE: self.name})


def _texts(value: Json) -> dict[str, list[str]]:
    """Lists of texts by name; empty where `value` is no such thing."""
    found = value.items() if isinstance(value, dict) else ()
    return {name: [str(text) for text in texts] for name, texts in found if isinstance(texts, list)}


def _text(value: Json) -> dict[str, str]:
    """Texts by name; empty where `value` is no such thing."""
    found = value.items() if isinstance(value, dict) else ()
    return {name: text for name, text in found if isinstance(text, str)}
