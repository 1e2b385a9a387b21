"""The layout of a run folder: names, texts and their versions."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Version of the layout. It grows where older readers could no longer read a run;
#: what they can ignore (new fields, new records) leaves it as it is.
FORMAT = 1

_ATTEMPT = re.compile(r"attempt-\d{3,}")


def attempts(run: Path) -> list[str]:
    """Names of the attempts in a run folder, the latest last."""
    found = [p.name for p in run.iterdir() if _ATTEMPT.fullmatch(p.name) and p.is_dir()]
    return sorted(found, key=number)


def number(name: str) -> int:
    """Number of an attempt, by its name.

    Example:
        >>> number("attempt-007")
        7
    """
    return int(name.removeprefix("attempt-"))


def following(names: list[str]) -> str:
    """Name of the next attempt.

    Example:
        >>> following([]), following(["attempt-001", "attempt-007"])
        ('attempt-001', 'attempt-008')
    """
    latest = number(names[-1]) if names else 0
    return f"attempt-{latest + 1:03d}"


def rank_folder(attempt: Path, rank: int) -> Path:
    """Where a rank of a job writes: the attempt itself for rank 0."""
    return attempt / f"rank-{rank}" if rank else attempt


def numbered(folder: Path, suffix: str) -> list[Path]:
    """Files such as ``000041.tail``, in order of their numbers."""
    return sorted(
        (p for p in folder.iterdir() if p.suffix == suffix and p.stem.isdecimal()),
        key=lambda p: int(p.stem),
    )


def plain(value: Any) -> Any:
    """The value as strict JSON can hold it.

    Numbers that JSON has no word for become ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``,
    which ``float`` reads back; what is no container, number or string becomes its ``str``.

    Example:
        >>> plain({"lr": float("inf"), "layers": ("a", "b"), 3: Path("x")})
        {'lr': 'Infinity', 'layers': ['a', 'b'], '3': 'x'}
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):  # NumPy's numbers and arrays
        return plain(value.tolist())
    return str(value)


def line(record: Mapping[str, Any]) -> bytes:
    """One line of JSON. ASCII: no name of a layer can break it in two."""
    return json.dumps(plain(record), allow_nan=False).encode("ascii") + b"\n"


def replace_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_meta(folder: Path, meta: Mapping[str, Any]) -> None:
    """Write ``meta.json``."""
    text = json.dumps(plain({**meta, "format": FORMAT}), allow_nan=False, indent=2)
    replace_file(folder / "meta.json", text.encode("ascii") + b"\n")


def read_meta(folder: Path) -> dict[str, Any]:
    """Read ``meta.json``.

    Raises:
        FileNotFoundError: where there is none.
        ValueError: where a newer shiftwatch wrote it.
    """
    text = (folder / "meta.json").read_bytes()
    try:
        meta = json.loads(text)
        if not isinstance(meta, dict):
            raise ValueError("no object")
    except ValueError:
        return {"format": FORMAT, "damage": ["meta.json is damaged: the configuration is lost"]}
    version = meta.get("format")
    if not isinstance(version, int) or version > FORMAT:
        by = meta.get("shiftwatch", "unknown")
        raise ValueError(
            f"{folder} has format {version}, written by shiftwatch {by}; this version reads up "
            f"to format {FORMAT}. Update with: pip install -U shiftwatch"
        )
    return meta
