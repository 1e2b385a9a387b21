"""shiftwatch: watch the distribution of every layer while a neural network trains.

    from shiftwatch.integrations.torch import watch

    with watch(model, optimizer=optimizer, run="runs/first") as monitor:
        for x, y in loader:
            ...
            monitor.step(loss=loss)

Names are loaded when they are first used, so that ``import shiftwatch`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from shiftwatch._version import __version__ as __version__

if TYPE_CHECKING:
    from shiftwatch.catalogue import metrics as metrics
    from shiftwatch.comparison import compare as compare
    from shiftwatch.monitor import Monitor as Monitor
    from shiftwatch.records import Alert as Alert
    from shiftwatch.records import Event as Event
    from shiftwatch.records import Incident as Incident
    from shiftwatch.records import Layer as Layer
    from shiftwatch.records import Report as Report
    from shiftwatch.records import Site as Site
    from shiftwatch.rules import Rule as Rule
    from shiftwatch.run import Run as Run
    from shiftwatch.store import open_run as open
    from shiftwatch.summaries import Summary as Summary
    from shiftwatch.summaries import summarize as summarize

_HOMES = {
    "metrics": "catalogue",
    "compare": "comparison",
    "Monitor": "monitor",
    "Alert": "records",
    "Event": "records",
    "Incident": "records",
    "Layer": "records",
    "Report": "records",
    "Site": "records",
    "Rule": "rules",
    "Run": "run",
    "open": "store:open_run",
    "Summary": "summaries",
    "summarize": "summaries",
}

__all__ = [*sorted(_HOMES), "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'shiftwatch' has no attribute {name!r}")
    module, _, real = _HOMES[name].partition(":")
    return getattr(import_module(f"shiftwatch.{module}"), real or name)


def __dir__() -> list[str]:
    return __all__
