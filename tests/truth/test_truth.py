"""The truth table: for each way to run PyTorch, what is seen and that it is right."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from tests.truth import table
from tests.truth.harness import Cell, faults


@pytest.mark.parametrize("cell", table.cells(), ids=lambda c: c.mode)
def test_what_the_table_says_is_so(cell: Cell) -> None:
    """Same bits, the declared sites and no others, the numbers of the full tensors, the messages."""
    found = faults(cell)
    assert not found, "\n".join(["", *found])


def test_the_page_in_the_docs_is_the_one_that_the_cells_declare() -> None:
    """Write it anew with ``python -m tests.truth``."""
    assert table.PAGE.read_text(encoding="utf-8") == table.page()
