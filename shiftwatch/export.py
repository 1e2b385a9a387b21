"""Export: a table of a run as a file, for whatever reads tables."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shiftwatch import columns
from shiftwatch.columns import Columns
from shiftwatch.optional import need
from shiftwatch.run import Run
from shiftwatch.tables import table as table_of


def export(
    run: Run, path: str | os.PathLike[str], table: str = "metrics", *, mode: str = "train"
) -> Path:
    """Write one table of a run.

    Args:
        run: what to export.
        path: the file to write, whole or not at all; its ending says how: ``.parquet``,
            ``.csv`` (lists as JSON) or ``.json`` (a list of objects; infinite values become
            ``null`` there).
        table: a key of :data:`shiftwatch.tables.TABLES`.
        mode: ``"train"`` or ``"eval"``; only the metrics differ.

    Returns:
        The path.

    Raises:
        ValueError: for another ending, table or mode.
        MissingDependencyError: for Parquet, where pyarrow is not installed; CSV and JSON need
            no package.
        OSError: where the folder does not exist or cannot be written.

    Cost: the whole table is held in memory, the metrics at about 50 bytes per value; CSV and
    JSON are written row by row.

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
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"A table needs an existing folder; got {target}. Create {target.parent} first."
        )
    made = table_of(run, table, mode)
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        write(made, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _parquet(table: Columns, path: Path) -> None:
    feature = "Export to Parquet"
    arrow = columns.to_arrow(table, feature)
    writer = need("pyarrow.parquet", extra="export", feature=feature)
    # Without Arrow's own schema, text reads back as text, however it is encoded here.
    writer.write_table(arrow, path, store_schema=False)


def _csv(table: Columns, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(table)
        lines.writerows([_cell(value) for value in row] for row in columns.rows(table))


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    return "" if value != value else value


def _json(table: Columns, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        for number, row in enumerate(columns.rows(table)):
            plain = [_finite(value) for value in row]
            text = json.dumps(dict(zip(table, plain, strict=True)), ensure_ascii=False)
            file.write((",\n" if number else "") + text)
        file.write("]\n")


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


_WRITERS: dict[str, Callable[[Columns, Path], None]] = {
    ".parquet": _parquet, ".csv": _csv, ".json": _json
}  # fmt: skip
