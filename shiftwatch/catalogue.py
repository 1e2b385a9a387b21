"""Catalogue: every metric by its name, ours and the user's."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from shiftwatch.divergences import DIVERGENCES
from shiftwatch.statistics import STATISTICS

#: A function of one Summary, or of ``(current, reference)``; it returns float64[...].
Metric = Callable[..., np.ndarray]

#: Every key and its function; :func:`arity` tells the two kinds apart.
metrics: Mapping[str, Metric] = MappingProxyType({**STATISTICS, **DIVERGENCES})


def arity(function: Metric) -> int:
    """Number of windows a metric looks at: 1 for a statistic, 2 for a divergence.

    Counted are positional parameters without a default, so options are free to come after.

    Raises:
        TypeError: for a function of any other number, or one that cannot be inspected.

    Example:
        >>> arity(metrics["saturation"]), arity(metrics["kl"])
        (1, 2)
    """
    if not callable(function):
        raise TypeError(
            f"A metric must be a function of (summary) or (current, reference); got {function!r}. "
            "Pass the function itself, not its result."
        )
    required = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    if len(required) not in (1, 2):
        names = ", ".join(parameter.name for parameter in required)
        raise TypeError(
            "A metric must be a function of (summary) or (current, reference); got "
            f"{getattr(function, '__name__', function)!r} of ({names}). "
            "Give every further parameter a default."
        )
    return len(required)


def extended(own: Mapping[str, Metric] | None = None) -> Mapping[str, Metric]:
    """The catalogue with a user's own metrics at the end.

    Args:
        own: name to function of ``(summary)`` or ``(current, reference)`` that takes a Summary of
            shape [...] and returns float64[...], NaN where it does not apply.

    Returns:
        A read-only mapping; :data:`metrics` itself stays as it is.

    Raises:
        ValueError: for a name that is taken, or is not made of letters, digits and ``_``.
        TypeError: for what is not a function of one or two windows.

    Example:
        >>> spread = lambda summary: summary.moments.max - summary.moments.min
        >>> extended({"spread": spread})["spread"] is spread
        True
    """
    own = dict(own or {})
    for name, function in own.items():
        _check_name(name)
        arity(function)
    return MappingProxyType({**metrics, **own})


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ValueError(
            "A metric's name must be a letter followed by letters, digits and '_', since it is a "
            f"key in files and dashboards; got {name!r}."
        )
    if name in metrics:
        raise ValueError(
            f"A metric's name must not be one of shiftwatch's own; got {name!r}. "
            "Choose another, so that old runs keep their meaning."
        )
