"""Attended: how sharp an attention is, and how many keys its mask leaves."""

from __future__ import annotations

from typing import NamedTuple


class Attended(NamedTuple):
    """One layer's attention at one step, from a few of its samples and heads.

    Attributes:
        step: optimizer step.
        column: of the output of the layer that its result enters, or that computes it.
        share: entropy of the weights of a query over that of equal ones, averaged: 0 to 1; NaN where
            there was an attention at every earlier reading and is none.
        open: share of the keys that a query may look at, averaged: 0 to 1; NaN likewise.
    """

    step: int
    column: int
    share: float
    open: float
