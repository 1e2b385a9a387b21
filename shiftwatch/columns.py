"""Columns: a table before it belongs to pandas, Polars or Arrow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from shiftwatch.optional import need

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow


@dataclass(frozen=True)
class Column:
    """One column.

    Args:
        kind: of its values, as a record declares its fields: ``"int"``, ``"float"``, ``"bool"``,
            ``"str"``, ``"int | None"``, ``"tuple[str, ...]"`` or ``"tuple[int, ...]"``.
        values: one per row; where there are ``words``, the number of each row's word.
        words: of a column of text that repeats itself: each text once; see :func:`of_words`.
    """

    kind: str
    values: Any
    words: tuple[str, ...] | None = None


#: Name to column, all of one length.
Columns = Mapping[str, Column]


def of_records(kind: type[Any], records: Sequence[Any]) -> dict[str, Column]:
    """Records as a table: a column per field, a row per record.

    Example:
        >>> from shiftwatch.records import Event
        >>> of_records(Event, [Event(3, "resume", "")])["step"].values
        [3]
    """
    return {
        f.name: Column(str(f.type), [getattr(record, f.name) for record in records])
        for f in fields(kind)
    }


def of_words(codes: np.ndarray, words: Sequence[str]) -> Column:
    """Text that repeats itself, as numbers of words; equal words become one.

    Args:
        codes: int64[rows], which word a row has.
        words: that they number, any of them several times.

    Example:
        >>> column = of_words(np.array([0, 1, 2]), ["fc1", "fc1", "fc2"])
        >>> column.words, column.values.tolist()
        (('fc1', 'fc2'), [0, 0, 1])
    """
    texts = [spelled(word) for word in words]
    number = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    return Column("str", np.array([number[t] for t in texts], np.int64)[codes], tuple(number))


def to_arrow(columns: Columns, feature: str) -> pyarrow.Table:
    """Table of Arrow; columns with words are dictionary-encoded.

    Raises:
        MissingDependencyError: where pyarrow is not installed; ``feature`` begins the message.
    """
    pa = need("pyarrow", extra="export", feature=feature)
    kinds = {
        "int": pa.int64(), "int | None": pa.int64(), "float": pa.float64(), "bool": pa.bool_(),
        "str": pa.string(), "tuple[str, ...]": pa.list_(pa.string()),
        "tuple[int, ...]": pa.list_(pa.int64()),
    }  # fmt: skip

    def array(column: Column) -> Any:
        if column.words is None:
            return pa.array(_spelled(column), kinds[column.kind])
        words = pa.array(column.words, pa.string())
        return pa.DictionaryArray.from_arrays(np.asarray(column.values, np.int32), words)

    return pa.table({name: array(column) for name, column in columns.items()})


def to_pandas(columns: Columns, feature: str) -> pandas.DataFrame:
    """Table of pandas; what may be missing is ``Int64``, lists are objects.

    Raises:
        MissingDependencyError: where pandas is not installed; ``feature`` begins the message.
    """
    pd = need("pandas", extra="export", feature=feature)
    kinds = {"int": "int64", "int | None": "Int64", "float": "float64", "bool": "bool"}

    def series(column: Column) -> Any:
        if column.kind in kinds:
            return pd.array(column.values, dtype=kinds[column.kind])
        return _objects(column)

    return pd.DataFrame({name: series(column) for name, column in columns.items()})


def to_polars(columns: Columns, feature: str) -> polars.DataFrame:
    """Table of Polars.

    Raises:
        MissingDependencyError: where Polars is not installed; ``feature`` begins the message.
    """
    pl = need("polars", extra="polars", feature=feature)
    kinds = {
        "int": pl.Int64, "int | None": pl.Int64, "float": pl.Float64, "bool": pl.Boolean,
        "str": pl.String, "tuple[str, ...]": pl.List(pl.String),
        "tuple[int, ...]": pl.List(pl.Int64),
    }  # fmt: skip

    def series(name: str, column: Column) -> Any:
        if column.words is None:
            return pl.Series(name, _spelled(column), dtype=kinds[column.kind])
        return pl.Series(name, column.words, dtype=pl.String).gather(column.values)

    return pl.DataFrame([series(name, column) for name, column in columns.items()])


def rows(columns: Columns) -> Iterator[tuple[Any, ...]]:
    """Rows of a table as plain values: numbers, strings, lists, None.

    Example:
        >>> list(rows({"step": Column("int", [3, 5]), "layer": of_words(np.array([0, 0]), ["fc1"])}))
        [(3, 'fc1'), (5, 'fc1')]
    """

    def plain(column: Column) -> Iterable[Any]:
        words = column.words
        if words is not None:
            return (words[code] for code in column.values)
        values = _spelled(column)
        return values.tolist() if isinstance(values, np.ndarray) else values

    return zip(*(plain(column) for column in columns.values()), strict=True)


def spelled(text: str) -> str:
    """Text in UTF-8 that every table takes: half of a surrogate pair is spelled out.

    Example:
        >>> spelled("fc\\ud800")
        'fc\\\\ud800'
    """
    return text.encode("utf-8", "backslashreplace").decode()


def _spelled(column: Column) -> Any:
    if column.kind == "str":
        return [spelled(text) for text in column.values]
    if column.kind == "tuple[str, ...]":
        return [[spelled(text) for text in texts] for texts in column.values]
    if column.kind == "tuple[int, ...]":
        return [list(numbers) for numbers in column.values]
    return column.values


def _objects(column: Column) -> np.ndarray:
    """As objects, one by one: ``np.array`` would cut trailing NULs and stack equal lists."""
    values = _spelled(column) if column.words is None else column.words
    array = np.empty(len(values), object)
    array[:] = values
    return array if column.words is None else array[column.values]
