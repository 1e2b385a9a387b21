"""Peek: a few small arrays of large frames, the rest leapt over."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Collection, Iterator
from typing import BinaryIO

from shiftwatch.store.framing import HEAD, MAGIC, Frame, crc, packed_lengths


def peek(stream: BinaryIO, names: Collection[str], start: int = 0) -> Iterator[tuple[int, Frame]]:
    """The frames in a row, as far as they are whole, each with some of its arrays alone.

    Args:
        stream: a file, open for reading.
        names: the arrays to read; a frame that lacks one lacks it here, too.
        start: byte at which a frame begins.

    Yields:
        The byte after the frame, and the frame. It ends at the first that is cut short, which
        is perhaps being written, or damaged.

    Cost: the header and the wanted bytes of each frame, whatever the frame's size.

    Example:
        >>> import numpy as np
        >>> from shiftwatch.store.framing import encode
        >>> data = encode({"step": 3}, {"large": np.zeros(10_000), "small": np.arange(2)})
        >>> [(end, frame)] = peek(io.BytesIO(data + data[:100]), ["small"])
        >>> end == len(data), frame.header["step"], frame["small"].tolist(), list(frame.arrays)
        (True, 3, [0, 1], ['small'])
    """
    size = stream.seek(0, os.SEEK_END)
    at = start
    while at + HEAD.size <= size:
        stream.seek(at)
        magic, text_length, body_length, check = HEAD.unpack(stream.read(HEAD.size))
        body_at = at + HEAD.size + text_length
        end = body_at + body_length
        if magic != MAGIC or end > size:
            return
        text = stream.read(text_length)
        if crc(packed_lengths(text_length, body_length) + text) != check:
            return
        yield end, _part(stream, json.loads(text), body_at, names)
        at = end


def _part(
    stream: BinaryIO, header: dict[str, object], body_at: int, names: Collection[str]
) -> Frame:
    arrays, broken, body = {}, set(), io.BytesIO()
    offset = body_at
    for name, kind, shape, pack, length, check in header["arrays"]:  # type: ignore[attr-defined]
        if name in names:
            stream.seek(offset)
            raw = stream.read(length)
            arrays[name] = (str(kind), tuple(shape), bool(pack), body.tell(), int(length))
            body.write(raw)
            if crc(raw) != check:
                broken.add(name)
        offset += length
    return Frame(header, memoryview(body.getvalue()), arrays, frozenset(broken))
