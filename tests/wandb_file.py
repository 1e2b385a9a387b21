"""Reads what a W&B run left on disk, so that tests see what the server would be sent.

An offline run is one ``.wandb`` file: a LevelDB log (a header of 7 bytes; blocks of 32 KiB;
per fragment crc32, length, and whether it is whole, first, middle or last) of protobuf
records. A torn tail, as a killed process leaves it, ends the reading without an error.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEAD = 32768, 7
WHOLE, LAST = 1, 4


def payloads(path: str | Path) -> Iterator[bytes]:
    data = Path(path).read_bytes()
    assert data[:4] == b":W&B", f"{path} is no W&B run: it begins with {data[:8]!r}"
    position, parts = 7, []
    while position + HEAD <= len(data):
        left = BLOCK - position % BLOCK
        if left < HEAD:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + HEAD])
        if kind == 0 and length == 0:  # padding to the end of the block
            position += left
            continue
        part = data[position + HEAD : position + HEAD + length]
        if len(part) < length:
            return
        position += HEAD + length
        parts.append(part)
        if kind in (WHOLE, LAST):
            yield b"".join(parts)
            parts = []


def records(path: str | Path, kind: str) -> list[Any]:
    """All records of a kind: ``"history"``, ``"alert"``, ``"metric"``, ``"artifact"`` …"""
    from wandb.proto.wandb_internal_pb2 import Record

    found = []
    for payload in payloads(path):
        record = Record()
        record.ParseFromString(payload)
        if record.WhichOneof("record_type") == kind:
            found.append(getattr(record, kind))
    return found


def history(path: str | Path) -> list[dict[str, Any]]:
    """The rows, in order; a table or page is the dict that points to its file."""
    rows = []
    for record in records(path, "history"):
        row: dict[str, Any] = {}
        for item in record.item:
            *outer, last = item.nested_key or [item.key]
            place = row
            for key in outer:
                place = place.setdefault(key, {})
            place[last] = json.loads(item.value_json)
        rows.append(row)
    return rows


def finish(run: Any) -> Path:
    """Finish an offline run; its file, once it is complete: finish() itself does not wait."""
    path = Path(run.settings.sync_file)
    run.finish()
    return complete(path)


def complete(path: str | Path, seconds: float = 30.0) -> Path:
    """The file of a run that was finished, once its last record is there."""
    end = time.monotonic() + seconds
    while not records(path, "exit"):
        assert time.monotonic() < end, f"{path} was not completed within {seconds} s"
        time.sleep(0.01)
    return Path(path)


def files(path: str | Path) -> Path:
    """Folder in which the run keeps its media files."""
    return Path(path).parent / "files"


def table(path: str | Path, key: str) -> dict[str, list[Any]]:
    """Columns of the last table logged under a key."""
    rows = [row[key] for row in history(path) if key in row]
    text = (files(path) / rows[-1]["path"]).read_text()
    plain = json.loads(text)
    return {name: [row[i] for row in plain["data"]] for i, name in enumerate(plain["columns"])}


def page(path: str | Path, key: str) -> str:
    """The last HTML page logged under a key."""
    rows = [row[key] for row in history(path) if key in row]
    return (files(path) / rows[-1]["path"]).read_text()
