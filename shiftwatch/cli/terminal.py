"""What commands share towards the terminal: safe text, colour, tables, small charts, progress."""

from __future__ import annotations

import importlib.util
import math
import shutil
import sys
import textwrap
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

#: Colour of a severity or of a verdict's level, in Rich's words.
STYLES = {"critical": "bold red", "warning": "yellow", "info": "dim", "healthy": "green"}

_BLOCKS, _ASCII = "▁▂▃▄▅▆▇█", ".:-=+*#@"


def escape(text: str) -> str:
    r"""Text that cannot move the cursor, change colours, break the line or reorder it.

    Names of layers come from anywhere. Control, format and unassigned characters are
    written as Python writes them.

    Example:
        >>> print(escape("fc1\x1b[2J\n"))
        fc1\x1b[2J\n
    """
    return "".join(
        c if c == " " or c.isprintable() else c.encode("unicode_escape").decode("ascii")
        for c in text
    )


def say(text: str = "", style: str = "") -> None:
    """Print a line to stdout, coloured where that is a terminal and Rich is installed."""
    console = _console(sys.stdout) if style and sys.stdout.isatty() else None
    if console is None:
        print(escape(text))
    else:
        console.print(escape(text), style=style, markup=False, highlight=False, soft_wrap=True)


def progress(text: str) -> None:
    """Print a line to stderr, where it disturbs nobody who reads stdout."""
    print(escape(text), file=sys.stderr, flush=True)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say what is going on, if it takes over a second."""
    timer = threading.Timer(1.0, progress, [f"{what} …"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def width() -> int | None:
    """Columns of the terminal; ``None`` where stdout is none, so that nothing is cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def indented(text: str, by: int) -> list[str]:
    """Text in lines of the terminal's width; one line where stdout is none."""
    columns = width()
    text = escape(text)
    lines = textwrap.wrap(text, max(20, columns - by)) if columns else [text]
    return [" " * by + line for line in lines]


def cells(text: str) -> int:
    """Columns that a terminal needs for a text: two for East Asian wide characters.

    Example:
        >>> cells("fc1"), cells("層1")
        (3, 3)
    """
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def cut(text: str, most: int) -> str:
    """A text in at most so many characters, its middle left out.

    Example:
        >>> cut("encoder.layers.3.out_proj", 15)
        'encoder…ut_proj'
    """
    if len(text) <= most:
        return text
    tail = most // 2
    return f"{text[: most - tail - 1]}…{text[len(text) - tail :]}"


def padded(text: str, most: int, right: bool = False) -> str:
    """A text filled up with blanks to so many columns."""
    blanks = " " * max(0, most - cells(text))
    return blanks + text if right else text + blanks


def table(rows: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """Lines of a table, two blanks between columns.

    Args:
        rows: cells, escaped; the headings among them.
        right: per column, whether it is flush right.

    Example:
        >>> table([["layer", "kl"], ["fc1", "0.25"]], [False, True])
        ['layer    kl', 'fc1    0.25']
    """
    widths = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            padded(cell, most, flush) for cell, most, flush in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]


def figure(value: float) -> str:
    """A figure in at most six characters; a blank for NaN.

    Example:
        >>> [figure(v) for v in (0.0213, -16.08, 1300.0, 2.5e6, float("inf"), float("nan"))]
        ['0.02', '-16.1', '1300', '2e+06', 'inf', '']
    """
    if math.isnan(value):
        return ""
    size = abs(value)
    form = ".2f" if size < 9.995 else ".1f" if size < 99.95 else ".0f" if size < 9999.5 else ".0e"
    text = format(value, form)
    return text.lstrip("-") if not float(text) else text


def sparkline(values: Sequence[float], top: float) -> str:
    """A series as a row of blocks, by size.

    Args:
        values: float[n]; a blank stands for NaN.
        top: value of a full block; or the largest finite value, where that is larger.

    Example:
        >>> sparkline([0.0, -0.5, float("nan"), 1.0], 1.0)
        '▁▅ █'
    """
    blocks = _BLOCKS if _shows(_BLOCKS) else _ASCII
    sizes = [abs(v) for v in values]
    top = max([top, *(v for v in sizes if math.isfinite(v))])
    return "".join(
        " " if math.isnan(v) else blocks[int(min(v / top, 1.0) * (len(blocks) - 1) + 0.5)]
        for v in sizes
    )


def _shows(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


@lru_cache(maxsize=1)
def _console(stream: Any) -> Any:
    """Rich's console, where Rich is installed."""
    if importlib.util.find_spec("rich") is None:
        return None
    from rich.console import Console

    return Console(file=stream)
