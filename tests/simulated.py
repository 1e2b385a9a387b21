"""Runs to read: real arrays, summarized, with a fault in the middle; no framework."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from shiftwatch import Monitor
from shiftwatch.activations import FLAT
from shiftwatch.divergences import DIVERGENCES
from shiftwatch.history import History, Run, Window
from shiftwatch.records import INPUT, Alert, Event, Incident, Layer, Site
from shiftwatch.statistics import STATISTICS
from shiftwatch.summaries import Block, Summary, measure

#: Names of layers that try to become markup.
HOSTILE = [
    "plain",
    "</script><img src=x onerror=\"document.title='pwned'\">",
    "a\"b'c&d<!--data-->",
    "<svg onload=alert(1)>",
    "weiß.層.🙂",
    "x" * 300,
]

_EVERY = 5  # steps per window
_TYPES = ("Conv2d", "BatchNorm2d", "ReLU")
_SCALE = {"output": 1.0, "input": 1.0, "gradient": 1e-3, "weight": 0.1, "update": 1e-4}


def empty_run() -> Run:
    """A run that saw nothing."""
    return History().view()


def simulated(
    layers: int = 12,
    windows: int = 200,
    *,
    seed: int = 0,
    fault: bool = True,
    loss: bool = True,
    rate: Callable[[np.ndarray], np.ndarray] | None = None,
    evaluation: bool = True,
    tensors: tuple[str, ...] = ("output", "gradient", "weight", "update"),
    names: list[str] | None = None,
    distinct: int | None = None,
) -> Run:
    """Blocks of convolution, normalisation and ReLU; at 60 % of the time one loses its mean.

    Args:
        rate: learning rates of steps; ``None`` where no optimizer is known.
        distinct: windows really computed; later ones repeat them.
    """
    rng = np.random.default_rng(seed)
    names = names or [f"block{i // 3}.{('conv', 'norm', 'relu')[i % 3]}" for i in range(layers)]
    history = History(limit=max(windows, 4))
    history.meta.update(
        options={"every": 1, "reference": "first", "rules": ["A()", "B()"], "budget": None},
        versions={"python": "3.12.1", "numpy": np.__version__},
        started="2026-03-01T10:00:00+00:00",
        finished=True,
    )
    sites = _sites(history, names, tensors, evaluation)
    onset, broken = int(0.6 * windows), max(0, len(names) // 3)
    computed: list[tuple[Summary, dict[str, np.ndarray]]] = []
    reference: Summary | None = None
    for window in range(windows):
        if distinct is None or window < distinct:
            since = window - onset if fault else -1
            summary, dead = _observed(rng, sites, window / windows, since, broken, window % 10 == 9)
            reference = _first_seen(reference, summary)
            computed.append((summary, _metrics(summary, reference, dead)))
        summary, metrics = computed[window % len(computed)]
        losses = 2.3 * np.exp(-3 * window / windows) + 0.05 * rng.normal(size=_EVERY) + 0.1
        first = window * _EVERY
        steps = np.arange(first, first + _EVERY)
        history.add_window(
            Window(
                first=first,
                step=first + _EVERY - 1,
                summary=summary,
                metrics=metrics,
                losses=losses if loss else np.zeros(0),
                overhead=0.008,
                rates=np.array([steps, rate(steps)]) if rate else np.zeros((2, 0)),
            )
        )
    history.add_event(Event(windows // 4 * _EVERY, "learning_rate", "0.1 → 0.01"))
    history.add_event(Event(0, "dark", "head.out_proj: the hook never fired"))
    if fault:
        _judge(history, names, broken, onset * _EVERY, windows * _EVERY)
    return history.view()


def _sites(
    history: History, names: list[str], tensors: tuple[str, ...], evaluation: bool
) -> list[tuple[int, str, str, bool]]:
    """Register all sites: (place of the layer, tensor, mode, whether a ReLU)."""
    history.add_site(Site(INPUT, "input"), Layer(INPUT))
    sites = [(-1, "input", "train", False)]
    before = INPUT
    for i, name in enumerate(names):
        relu = i % 3 == 2
        layer = Layer(
            name, _TYPES[i % 3], "relu" if relu else "", not relu, (before,), "batch" * (i % 3 == 1)
        )
        before = name
        for tensor in tensors:
            if relu and tensor in ("weight", "update"):
                continue
            part = "weight" if tensor in ("weight", "update") else ""
            history.add_site(Site(name, tensor, part), layer)
            sites.append((i, tensor, "train", relu and tensor == "output"))
        if evaluation:
            history.add_site(Site(name, mode="eval"), layer)
            sites.append((i, "output", "eval", relu))
    return sites


def _observed(
    rng: np.random.Generator,
    sites: list[tuple[int, str, str, bool]],
    time: float,
    since: int,
    broken: int,
    evaluated: bool,
) -> tuple[Summary, np.ndarray]:
    values = rng.normal(size=(1, len(sites), 32, 16))
    filled = np.ones((1, len(sites)), bool)
    for s, (place, tensor, mode, relu) in enumerate(sites):
        scale = _SCALE[tensor] * (1 + 0.05 * time * place)
        values[0, s] = scale * (values[0, s] + 0.1 * np.sin(6 * time + place))
        if since >= 0 and tensor == "output" and place >= broken:
            size = 0.4 * since if place == broken else 0.1 * since * np.exp(-(place - broken) / 6)
            values[0, s] += scale * min(size, 3.0) * (-1 if place == broken else 0.5)
        if since >= 0 and tensor == "gradient" and place <= broken:
            values[0, s] *= 0.05
        if relu:
            values[0, s] = np.maximum(values[0, s], 0.0)
        filled[0, s] = mode == "train" or evaluated
    relus = np.array([s for s, site in enumerate(sites) if site[3]], int)
    others = np.setdiff1d(np.arange(len(sites)), relus)
    dead = np.full(len(sites), np.nan)
    parts, order = [], []
    for columns, flat in ((others, None), (relus, FLAT["relu"])):
        seen = columns[filled[0, columns]]
        if seen.size:
            one, _ = measure(Block(values[:, seen], np.ones((1, seen.size), bool), flat))
            parts.append(one)
            if flat is not None:
                dead[seen] = STATISTICS["dead_fraction"](one)
        missing = columns[~filled[0, columns]]
        parts.append(Summary.empty((missing.size,)))
        order.extend([*seen, *missing])
    plain = [part[np.arange(part.shape[0])] for part in parts]
    return Summary.concatenate(plain)[np.argsort(order)], dead


def _first_seen(reference: Summary | None, summary: Summary) -> Summary:
    if reference is None:
        return summary
    sites = summary.shape[0]
    both = Summary.concatenate([reference, summary])
    return both[np.where(reference.count > 0, np.arange(sites), np.arange(sites) + sites)]


def _metrics(summary: Summary, reference: Summary, dead: np.ndarray) -> dict[str, np.ndarray]:
    compared = ("mean_shift", "variance_shift", "kl", "js")
    alone = ("saturation", "zero_fraction", "nonfinite", "std")
    with np.errstate(all="ignore"):
        metrics = {key: DIVERGENCES[key](summary, reference) for key in compared}
        metrics |= {key: STATISTICS[key](summary) for key in alone}
    return {**metrics, "dead_fraction": dead}


def _judge(history: History, names: list[str], broken: int, onset: int, end: int) -> None:
    origin = names[broken]
    message = f"step {onset} · mean_shift −1.7 (limit −1.0 for 2 windows; reference steps 0–4)"
    for kind, metric, value, limit, severity, layer, number, step in (
        ("mean_shift", "mean_shift", -1.7, -1.0, "critical", origin, 1, onset),
        ("distribution_shift", "js", 0.3, 0.1, "warning", origin, 1, onset + 5),
        ("nonfinite", "nonfinite", 0.1, 0.0, "warning", names[-1], 2, int(0.9 * end)),
        ("vanishing", "std", 1e-6, 1e-5, "info", names[0], 3, min(40, end - 1)),
    ):
        history.add_alert(
            Alert(
                step=step,
                layer=layer,
                tensor="gradient" if severity == "info" else "output",
                kind=kind,
                severity=severity,
                metric=metric,
                value=value,
                limit=limit,
                message=message if kind == "mean_shift" else f"step {step} · {kind}",
                advice="Nothing to do yet." if severity == "info" else f"Look at {kind} first.",
                origin=layer,
                incident=number,
                detected=step + 10,
            )
        )
    followers = tuple(names[broken + 1 :])
    kinds = ("mean_shift", "distribution_shift")
    history.add_incident(Incident(1, origin, onset, onset + 10, "critical", kinds, followers))
    history.add_incident(
        Incident(
            2, names[-1], int(0.9 * end), int(0.9 * end) + 10, "warning", ("nonfinite",), (), end
        )
    )


#: Layers of :func:`dying`: unit to the steps in which it is silent, the last of them exclusive.
DEATHS = {
    "early": {u: (40 + 8 * k, 120 if u == 5 else 10**6) for k, u in enumerate((31, 5, 0, 17))},
    "late": dict.fromkeys(range(0, 64, 2), (160, 10**6)),
}


def dying(steps: int = 240) -> Run:
    """Rectifiers of which some units fall silent, watched; of one unit it is for a while only."""
    rng = np.random.default_rng(0)
    with Monitor(run=False) as monitor:
        for step in range(steps):
            for name in ("early", "late"):
                values = np.maximum(rng.normal(size=(32, 64)), 0)
                for unit, (first, last) in DEATHS[name].items():
                    if first <= step < last:
                        values[:, unit] = 0
                monitor.observe(name, values, activation="relu")
            monitor.observe("flat", rng.normal(size=(32, 8)))
            monitor.step(loss=1.0)
    return monitor.history
