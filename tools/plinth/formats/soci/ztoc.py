"""The zTOC of a layer in gzip: what is in it, and where it can be read from the middle.

The flatbuffer of ztoc/fbs/ztoc.fbs in AWS's soci-snapshotter 0.16, byte for byte as its `soci`
writes it (ztoc/ztoc_marshaler.go): equal layers have equal ones, whoever makes them and where.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flatbuffers import Builder

from plinth.core.errors import LayoutError
from plinth.formats import tar
from plinth.formats.gunzip import most
from plinth.formats.layer.header import END, padding
from plinth.formats.soci.entries import Entry, entry
from plinth.formats.soci.spans import Span, checkpoints, digests, plain

VERSION = "0.9"
TOOL = "plinth"
"""What a zTOC and an index name as the tool that made them."""

_GZIP = 1


def ztoc(blob: Path, tool: str = TOOL) -> bytes:
    """The zTOC of the layer in the gzip file `blob`, made by `tool`.

    Raises:
        LayoutError: it is damaged, or unpacks to too much.
        PlinthError: this machine has no zlib.
        OSError: it cannot be read.
    """
    size = blob.stat().st_size
    spans: list[Span] = []
    entries: list[Entry] = []
    end = before = 0
    with blob.open("rb") as stream:
        source = tar.Source(plain(stream, spans), most(size))
        for member, _ in tar.members(source):
            entries.append(entry(member, source.between, before))
            before = member.size
            end = member.at + before + len(padding(before))
        end += len(END)
        # Behind its end a tar may be padded; nobody reads there.
        spans = [span for span in spans if span.out < end]
        if not spans:
            raise LayoutError("the layer is empty", where=str(blob))
        found = digests(stream, spans, size)
    return _encoded(entries, spans, found, (size, end), tool)


def _encoded(
    entries: Sequence[Entry],
    spans: Sequence[Span],
    digests: Sequence[str],
    sizes: tuple[int, int],
    tool: str,
) -> bytes:
    """The flatbuffer. What it refers to is written before, so it is written from its end."""
    out = Builder(1 << 20)
    version, made_by = out.CreateString(VERSION), out.CreateString(tool)
    listed = [_entry(out, one) for one in reversed(entries)][::-1]
    metadata = _vector(out, listed)
    out.StartObject(1)
    out.PrependUOffsetTRelativeSlot(0, metadata, 0)
    toc = out.EndObject()
    points = out.CreateByteVector(checkpoints(spans))
    hashed = _vector(out, [out.CreateString(one) for one in digests])
    out.StartObject(4)
    out.PrependInt32Slot(1, len(spans) - 1, 0)
    out.PrependUOffsetTRelativeSlot(2, hashed, 0)
    out.PrependUOffsetTRelativeSlot(3, points, 0)
    out.PrependInt8Slot(0, _GZIP, _GZIP)
    info = out.EndObject()
    out.StartObject(6)
    out.PrependUOffsetTRelativeSlot(0, version, 0)
    out.PrependUOffsetTRelativeSlot(1, made_by, 0)
    out.PrependUOffsetTRelativeSlot(4, toc, 0)
    for slot, size in zip((2, 3), sizes, strict=True):
        out.PrependInt64Slot(slot, size, 0)
    out.PrependUOffsetTRelativeSlot(5, info, 0)
    out.Finish(out.EndObject())
    return bytes(out.Output())


def _entry(out: Builder, one: Entry) -> int:
    texts = (one.name, one.type, one.target, one.uname, one.gname, one.time)
    name, kind, target, uname, gname, time = (out.CreateString(text) for text in texts)
    records = _vector(out, [_record(out, key, value) for key, value in one.records])
    out.StartObject(14)
    out.PrependUOffsetTRelativeSlot(0, name, 0)
    out.PrependUOffsetTRelativeSlot(1, kind, 0)
    out.PrependInt64Slot(2, one.at, 0)
    out.PrependInt64Slot(3, one.size, 0)
    out.PrependUOffsetTRelativeSlot(4, target, 0)
    out.PrependInt64Slot(5, one.mode, 0)
    out.PrependUint32Slot(6, one.uid, 0)
    out.PrependUint32Slot(7, one.gid, 0)
    out.PrependUOffsetTRelativeSlot(8, uname, 0)
    out.PrependUOffsetTRelativeSlot(9, gname, 0)
    out.PrependUOffsetTRelativeSlot(10, time, 0)
    out.PrependInt64Slot(11, one.major, 0)
    out.PrependInt64Slot(12, one.minor, 0)
    out.PrependUOffsetTRelativeSlot(13, records, 0)
    return int(out.EndObject())


def _record(out: Builder, key: bytes, value: bytes) -> int:
    offsets = out.CreateString(key), out.CreateString(value)
    out.StartObject(2)
    for slot, offset in enumerate(offsets):
        out.PrependUOffsetTRelativeSlot(slot, offset, 0)
    return int(out.EndObject())


def _vector(out: Builder, offsets: Sequence[int]) -> int:
    """A vector of what is at `offsets`."""
    out.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        out.PrependUOffsetTRelative(offset)
    return int(out.EndVector())
