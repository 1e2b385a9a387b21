"""The truth table: for each way to run PyTorch, what is seen and that it is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from shiftwatch.integrations.torch import slab, weights
from tests.processes import together
from tests.truth import table
from tests.truth.harness import Cell, faults


def _each() -> list[Any]:
    slow = {True: [pytest.mark.slow], False: []}
    return [pytest.param(c, marks=slow[c.slow], id=c.mode) for c in table.cells()]


@pytest.mark.parametrize("cell", _each())
def test_what_the_table_says_is_so(cell: Cell, tmp_path: Path) -> None:
    """Same bits, the declared sites and no others, the numbers of the full tensors, the messages."""
    if cell.cuda and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    if cell.processes == 1:
        found = faults(cell)
    else:
        each = together(table.faults_of, tmp_path, cell.mode, size=cell.processes)
        found = [fault for faults_of_one in each for fault in faults_of_one]
    assert not found, "\n".join(["", *found])


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell", [c for c in table.cells() if not c.cuda and c.processes == 1], ids=lambda c: c.mode
)
def test_it_is_so_on_the_path_of_a_device(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, with CPU tensors taken for a device's."""
    for module in (slab, weights):
        monkeypatch.setattr(module, "elsewhere", lambda tensor: torch.device("cpu"))
    found = faults(cell)
    assert not found, "\n".join(["", *found])


def test_the_page_in_the_docs_is_the_one_that_the_cells_declare() -> None:
    """Write it anew with ``python -m tests.truth``."""
    assert table.PAGE.read_text(encoding="utf-8") == table.page()
