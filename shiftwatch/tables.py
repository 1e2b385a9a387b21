"""Tables: what a run holds, one table for each kind of thing."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from shiftwatch.columns import Column, of_records, of_words
from shiftwatch.records import Alert, Event, Incident, Layer

if TYPE_CHECKING:
    from shiftwatch.run import Run


def table(run: Run, name: str = "metrics", mode: str = "train") -> dict[str, Column]:
    """One table of a run, as columns.

    Args:
        run: what is read.
        name: a key of :data:`TABLES`.
        mode: ``"train"`` or ``"eval"``; only the metrics differ.

    Returns:
        Name to column.

    Raises:
        ValueError: for another name or mode.

    Example:
        >>> from shiftwatch import Run
        >>> list(table(Run(), "windows"))
        ['first', 'step', 'loss', 'learning_rate']
    """
    if name not in TABLES:
        near = difflib.get_close_matches(name, TABLES, n=1)
        cure = f"Did you mean {near[0]!r}?" if near else "Choose one of them."
        raise ValueError(f"table must be one of {', '.join(TABLES)}; got {name!r}. {cure}")
    if mode not in ("train", "eval"):
        raise ValueError(f"mode must be 'train' or 'eval'; got {mode!r}. Choose one of them.")
    return TABLES[name](run, mode)


def metrics(run: Run, mode: str) -> dict[str, Column]:
    """A row per number: step (the window's last), layer, tensor (with its part), metric, value.

    Rows come by step; where a metric does not apply there is none.
    """
    chosen = np.array([i for i, s in enumerate(run.sites) if s.mode == mode], np.int64)
    sites = [run.sites[i] for i in chosen]
    empty = np.zeros(0, np.int64)
    steps, places, keys, numbers = [empty], [empty], [empty], [np.zeros(0)]
    for key, name in enumerate(run.metrics):
        values = run.metric(name)[:, chosen]
        window, place = np.nonzero(~np.isnan(values))
        steps.append(run.steps[window])
        places.append(place)
        keys.append(np.full(window.size, key))
        numbers.append(values[window, place])
    step = np.concatenate(steps)
    order = np.argsort(step, kind="stable")
    place = np.concatenate(places)[order]
    return {
        "step": Column("int", step[order]),
        "layer": of_words(place, [site.layer for site in sites]),
        "tensor": of_words(place, [site.label for site in sites]),
        "metric": of_words(np.concatenate(keys)[order], run.metrics),
        "value": Column("float", np.concatenate(numbers)[order]),
    }


def windows(run: Run, mode: str) -> dict[str, Column]:
    """A row per window: its first and last step, its mean loss and the learning rate at its end.

    Loss and learning rate are NaN where unknown; the rate is the largest of the optimizer's.
    """
    return {
        "first": Column("int", run.first),
        "step": Column("int", run.steps),
        "loss": Column("float", run.losses),
        "learning_rate": Column("float", run.learning_rates),
    }


def losses(run: Run, mode: str) -> dict[str, Column]:
    """A row per step whose loss is known, with the learning rate then, NaN where unknown.

    Of windows that were merged, means of some steps, and the learning rate at their end.
    """
    steps, values = run.course
    known, rates = run.schedule
    place = np.searchsorted(known, steps)  # a rate holds up to its step, within its window
    window = np.append(np.searchsorted(run.steps, known), -1)[place]
    same = window == np.searchsorted(run.steps, steps)
    return {
        "step": Column("int", steps),
        "loss": Column("float", values),
        "learning_rate": Column("float", np.where(same, np.append(rates, np.nan)[place], np.nan)),
    }


def alerts(run: Run, mode: str) -> dict[str, Column]:
    """A row per alert, in the order raised; columns as the fields of ``Alert``."""
    return of_records(Alert, run.alerts)


def incidents(run: Run, mode: str) -> dict[str, Column]:
    """A row per incident; columns as the fields of ``Incident``."""
    return of_records(Incident, run.incidents)


def events(run: Run, mode: str) -> dict[str, Column]:
    """A row per event; columns as the fields of ``Event``."""
    return of_records(Event, run.events)


def layers(run: Run, mode: str) -> dict[str, Column]:
    """A row per layer, in execution order; columns as the fields of ``Layer``."""
    return of_records(Layer, list(run.layers.values()))


#: Name of a table to what makes it of a run and a mode.
TABLES: dict[str, Callable[[Run, str], dict[str, Column]]] = {
    f.__name__: f for f in (metrics, windows, losses, alerts, incidents, events, layers)
}
