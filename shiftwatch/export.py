"""Export: a run as one table, for whatever reads tables."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from shiftwatch.optional import need
from shiftwatch.run import Run

if TYPE_CHECKING:
    import pandas


def export(run: Run, path: str | os.PathLike[str], mode: str = "train") -> Path:
    """Write all metrics of a run as tidy rows: step, layer, tensor, metric, value.

    Args:
        run: what to export.
        path: the file to write, whole or not at all; its ending says how: ``.parquet``,
            ``.csv`` or ``.json`` (a list of objects; infinite values become ``null`` there).
        mode: ``"train"`` or ``"eval"``.

    Returns:
        The path.

    Raises:
        ValueError: for another ending.
        MissingDependencyError: where pandas, or for Parquet pyarrow, is not installed.
        OSError: where the file cannot be written.

    Cost: the whole table is held in memory, about 100 bytes per value.

    Example:
        >>> export(Run(), "run.xlsx")
        Traceback (most recent call last):
            ...
        ValueError: path must end in .parquet, .csv or .json; got 'run.xlsx'. Rename it.
    """
    target = Path(path)
    write = _WRITERS.get(target.suffix.lower())
    if write is None:
        known = ", ".join(list(_WRITERS)[:-1]) + f" or {list(_WRITERS)[-1]}"
        raise ValueError(f"path must end in {known}; got {target.name!r}. Rename it.")
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        write(run.to_pandas(mode), temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _parquet(table: pandas.DataFrame, path: Path) -> None:
    need("pyarrow", extra="export", feature="Export to Parquet")
    table.to_parquet(path, engine="pyarrow", index=False)


def _csv(table: pandas.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False)


def _json(table: pandas.DataFrame, path: Path) -> None:
    table.to_json(path, orient="records")


_WRITERS: dict[str, Callable[[pandas.DataFrame, Path], None]] = {
    ".parquet": _parquet, ".csv": _csv, ".json": _json
}  # fmt: skip
