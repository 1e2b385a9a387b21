"""Outputs that take a few values only, and those that merely hold zeros."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from shiftwatch import Monitor

Change = Callable[[np.ndarray], np.ndarray]
STRIKES = 96


def shown(change: Change, since: int = STRIKES, scale: float = 1.0, steps: int = 160) -> Monitor:
    """A dense layer whose output is changed from a step on."""
    random = np.random.default_rng(0)
    weight = random.normal(size=(20, 16)) * scale / 20**0.5
    with Monitor(run=False, strict=True) as monitor:
        for step in range(steps):
            weight = weight + 1e-3 * random.normal(size=weight.shape)
            output = random.normal(size=(64, 20)) @ weight
            monitor.observe("dense", change(output) if step >= since else output)
            monitor.step()
    return monitor


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_an_output_that_is_rounded_is_found(scale: float) -> None:
    """It hardly moves mean and deviation: a deviation of 3 grows by half a per cent."""
    (alert,) = shown(np.round, scale=scale).alerts
    assert (alert.layer, alert.kind, alert.metric) == ("dense", "distribution_shift", "zero_gap")
    assert STRIKES <= alert.detected <= STRIKES + 24
    assert alert.value > 2 * alert.limit and "rounded or quantised" in alert.message


def test_an_output_that_was_rounded_from_the_start_is_meant_so() -> None:
    """Quantised and binary networks do that."""
    assert shown(np.round, since=0).alerts == []


def test_numbers_of_few_digits_are_healthy() -> None:
    """A bfloat16 has eight digits, binary ones, however small it is: none is lost near zero."""

    def short(output: np.ndarray) -> np.ndarray:
        bits = output.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
        return bits.view(np.float32)

    assert shown(short).alerts == []


def test_rows_that_are_padded_with_zeros_are_healthy() -> None:
    """Beside exact zeros there are as many small values as ever."""

    def padded(output: np.ndarray) -> np.ndarray:
        return np.where(np.arange(len(output))[:, None] < 8, 0.0, output)

    assert [a for a in shown(padded).alerts if a.metric == "zero_gap"] == []
