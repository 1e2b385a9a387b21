"""The truth table as Markdown, from what the cells declare."""

from __future__ import annotations

import importlib
from pathlib import Path

from tests.truth.harness import CELLS, NONE, PARTLY, SAID, SEEN, Cell, faults

HERE = Path(__file__).resolve().parent
#: The page that is generated; ``python -m tests.truth`` writes it.
PAGE = HERE.parents[1] / "docs" / "truth_table.md"

MARK = {SEEN: "●", PARTLY: "◐", SAID: "○", NONE: "–"}

HEAD = """\
# What shiftwatch sees under PyTorch

For each way to run PyTorch: what is seen, and that it is right. Each row is a test. It trains a small network
three times from one seed: plain, with every tensor copied in full from outside, and watched. All three must leave
the same bits behind: results, gradients, weights, buffers and the random state. Each tensor that is seen
must agree with the full one in count, mean, standard deviation, share of zeros and range: to rounding where a tensor is small
enough to be read whole, else within the stated error of a sample. Whatever is not seen is declared, and said.
Compiled code is held to what the same training shows uncompiled, and to the bits that it leaves without shiftwatch.

| mark | meaning |
|:-:|---|
| ● | seen, and right |
| ◐ | some of it is seen, and right; the note says which is not |
| ○ | not seen; one message says so, by name |
| – | there is none |
| = | bit-identical with and without shiftwatch |
| ≠ | not bit-identical; the note says why |

*Outputs* are those of the layers: the modules that compute by themselves. *Inputs* are the model's, and those of layers with
weights where no layer put them out. *Gradients* are those of the outputs. This page is generated from the tests: `python -m tests.truth`.
"""


def cells() -> list[Cell]:
    """All cells, in the order of the page."""
    for path in sorted(HERE.glob("cells_*.py")):
        importlib.import_module(f"tests.truth.{path.stem}")
    return sorted(CELLS.values(), key=lambda c: c.section)


def faults_of(rank: int, folder: Path, mode: str) -> list[str]:
    """What one of several processes finds of the cell of this name."""
    cells()
    return [f"rank {rank}: {fault}" for fault in faults(CELLS[mode])]


def page() -> str:
    """The whole page."""
    lines = [HEAD]
    section = None
    for cell in cells():
        if cell.section != section:
            section = cell.section
            lines += [
                f"## {section[1]}\n",
                "| mode | outputs | inputs | gradients | weights | updates | bits | note |",
                "|---|:-:|:-:|:-:|:-:|:-:|:-:|---|",
            ]
        lines.append(row(cell))
        if cell is cells()[-1] or _next(cell) != section:
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def row(cell: Cell) -> str:
    """One line of the table."""
    marks = [cell.outputs, cell.inputs, cell.gradients, cell.weights, cell.updates]
    note = " ".join(filter(None, [cell.note, cell.bits]))
    bits = "≠" if cell.bits else "="
    parts = [cell.mode, *(MARK[m] for m in marks), bits, note]
    return "| " + " | ".join(p.replace("|", "\\|") for p in parts) + " |"


def _next(cell: Cell) -> tuple[int, str] | None:
    listed = cells()
    place = listed.index(cell) + 1
    return listed[place].section if place < len(listed) else None
