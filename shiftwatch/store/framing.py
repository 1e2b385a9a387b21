"""Frames: named arrays in bytes that tell whether they are whole."""

from __future__ import annotations

import json
import os
import struct
import weakref
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

MAGIC = b"\xf5SWF"  # no UTF-8 text holds its first byte
HEAD = struct.Struct("<4sIQI")  # magic, length of the header, of the body, checksum
_TYPES = {"|u1", "|b1", "<u2", "<u4", "<i8", "<f4", "<f8"}


class Bytes(Protocol):
    """Bytes that lie somewhere: in memory, or in a file."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes | memoryview: ...


class FileBytes:
    """Bytes of an open file, read where they are asked for.

    Whoever removes or replaces the file does not change them. POSIX only.

    Args:
        file: its descriptor, which is closed with this object.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     _ = file.write(b"abcdef")
        ...     file.flush()
        ...     FileBytes(os.dup(file.fileno()))[1:3]
        b'bc'
    """

    #: How many there are: a process has few descriptors.
    number = 0

    def __init__(self, file: int) -> None:
        self._file = file
        self._length = os.fstat(file).st_size
        FileBytes.number += 1
        weakref.finalize(self, _close, file)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(self._length)
        return os.pread(self._file, max(stop - start, 0), start)


def _close(file: int) -> None:
    FileBytes.number -= 1
    os.close(file)


def encode(
    header: Mapping[str, Any],
    plain: Mapping[str, np.ndarray],
    packed: Mapping[str, np.ndarray] | None = None,
) -> bytes:
    """One frame.

    Args:
        header: anything JSON can hold.
        plain: arrays to keep as they are, of bool, uint8, uint16, uint32, int64, float32 or float64.
        packed: arrays to compress, as of :func:`squeeze`.
    """
    table, body = [], []
    for arrays, pack in ((plain, False), (packed or {}, True)):
        for name, array in arrays.items():
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            raw = squeeze(little) if pack else little.tobytes()
            table.append([name, little.dtype.str, array.shape, pack, len(raw), crc(raw)])
            body.append(raw)
    text = json.dumps({**header, "arrays": table}).encode()
    lengths = len(text), sum(map(len, body))
    check = crc(packed_lengths(*lengths) + text)
    return b"".join([HEAD.pack(MAGIC, *lengths, check), text, *body])


@dataclass(frozen=True)
class Frame:
    """A frame whose header is whole.

    Args:
        header: as given to :func:`encode`.
        data: the bytes it was found in.
        arrays: name to type, shape, whether packed, first byte in ``data``, number of bytes.
        broken: names of arrays whose checksum does not hold.
    """

    header: Mapping[str, Any]
    data: Bytes
    arrays: Mapping[str, tuple[str, tuple[int, ...], bool, int, int]]
    broken: frozenset[str]

    def __getitem__(self, name: str) -> np.ndarray:
        """An array again, exactly, in this machine's byte order. Read-only."""
        kind, shape, pack, start, length = self.arrays[name]
        raw = self.data[start : start + length]
        if pack:
            return unsqueeze(raw, kind, shape)
        array = np.frombuffer(raw, kind).reshape(shape)
        return array.astype(array.dtype.newbyteorder("="), copy=False)

    def part(self, name: str, first: int, end: int) -> bytes | memoryview:
        """Some bytes of an array that is kept as it is."""
        start = self.arrays[name][3]
        return self.data[start + first : start + end]


def decode(data: Bytes, start: int = 0) -> tuple[Frame, int]:
    """The frame that begins at a byte, and where it ends.

    Raises:
        EOFError: where the data end before the frame does.
        ValueError: where no frame begins here, or its header is damaged.
    """
    if len(data) - start < HEAD.size:
        raise EOFError("the head of a frame is cut short")
    magic, text_length, body_length, check = HEAD.unpack(data[start : start + HEAD.size])
    if magic != MAGIC:
        raise ValueError("no frame begins here")
    text_at = start + HEAD.size
    body_at = text_at + text_length
    end = body_at + body_length
    text = bytes(data[text_at:body_at])
    if len(text) < text_length:
        raise EOFError("the header of a frame is cut short")
    if crc(packed_lengths(text_length, body_length) + text) != check:
        raise ValueError("the header of a frame is damaged")
    if end > len(data):
        raise EOFError("a frame is cut short")
    header = json.loads(text)
    arrays, broken, at = {}, set(), body_at
    for name, kind, shape, pack, length, check in header["arrays"]:
        arrays[name] = (str(kind), tuple(shape), bool(pack), at, int(length))
        if kind not in _TYPES or crc(data[at : at + length]) != check:
            broken.add(name)
        at += length
    return Frame(header, data, arrays, frozenset(broken)), end


def scan(data: bytes) -> Iterator[tuple[int, int, Frame | None]]:
    """All frames in a row, and what lies between them.

    Yields:
        First byte, the byte after the last, and the frame; ``None`` for a stretch in which
        there is no whole frame.
    """
    view = memoryview(data)
    start = at = 0
    while at < len(data):
        try:
            frame, end = decode(view, at)
        except (EOFError, ValueError):
            following = data.find(MAGIC, at + 1)
            at = following if following >= 0 else len(data)
            continue
        if start < at:
            yield start, at, None
        yield at, end, None if frame.broken else frame
        start = at = end
    if start < len(data):
        yield start, len(data), None


def squeeze(array: np.ndarray) -> bytes:
    """Array compressed: the bytes sorted by significance, then zlib at its fastest."""
    flat = np.ascontiguousarray(array).reshape(-1)
    planes = flat.view(np.uint8).reshape(-1, array.dtype.itemsize).T
    return zlib.compress(planes.tobytes(), 1)


def unsqueeze(raw: bytes | memoryview, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Inverse of :func:`squeeze`."""
    if kind == "|u1":
        return np.frombuffer(zlib.decompress(raw), np.uint8).reshape(shape)
    planes = np.frombuffer(zlib.decompress(raw), np.uint8).reshape(np.dtype(kind).itemsize, -1)
    together = np.empty(planes.shape[::-1], np.uint8)
    for byte, plane in enumerate(planes):  # faster than all at once
        together[:, byte] = plane
    array = together.reshape(-1).view(kind).reshape(shape)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def packed_lengths(text_length: int, body_length: int) -> bytes:
    """What a frame's checksum covers before the text of its header."""
    return struct.pack("<IQ", text_length, body_length)


def crc(data: bytes | memoryview) -> int:
    """Checksum: CRC-32."""
    return zlib.crc32(data)
