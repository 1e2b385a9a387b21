"""Compare: runs in, what is different in them out, the largest first."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from shiftwatch.comparison import words
from shiftwatch.comparison.alignment import ALIGNMENTS, Aligned, pair_windows
from shiftwatch.comparison.departure import Departure, departures
from shiftwatch.comparison.matching import Pair, match
from shiftwatch.comparison.measures import LIMITS, Measured, measured
from shiftwatch.comparison.result import Against, Comparison, Difference
from shiftwatch.comparison.schedules import schedules
from shiftwatch.records import INPUT, Alert
from shiftwatch.run import Run
from shiftwatch.store import open_run
from shiftwatch.wording import capital, count, run_name

#: A difference is told by the first of these groups that has departed; within a group, by
#: the measure with the greatest score. What follows from another comes after it.
_TOLD = (
    ("nonfinite",),
    ("dead_fraction", "saturation"),
    ("drift", "mean_shift", "variance_shift"),
    ("js", "weight", "gradient", "update"),
)


def compare(
    *runs: Run | str | os.PathLike[str],
    align: str = "step",
    names: Sequence[str] = (),
) -> Comparison:
    """What is different in runs, held against the first of them.

    Layers are matched by name, and by their place, kind and shape where they were renamed
    (:mod:`shiftwatch.comparison.matching` has the rule). A layer departs where a measure stays
    beyond its limit (:mod:`shiftwatch.comparison.departure`); the limits are sizes that matter,
    above what another seed changes (:data:`shiftwatch.comparison.LIMITS`).

    Args:
        runs: two or more: what ``shiftwatch.open`` or ``Monitor.history`` gives, or folders.
            The first counts as good.
        align: how moments are matched: ``"step"``; ``"epoch"``, where the runs noted theirs; or
            ``"share"`` of the training, for runs of different length.
        names: what the runs are called; their own names by default.

    Returns:
        The comparison; ``print`` shows its verdict.

    Raises:
        ValueError: for fewer than two runs, runs without a window, with no layer or no moment
            in common, an unknown alignment, or epochs that were not noted.
        FileNotFoundError: for a folder that does not exist.

    Cost: summaries of at most 300 windows of each run, about two seconds for 160 layers; of
        losses, and of shares that were recorded, all.

    Example:
        >>> import shiftwatch
        >>> def train(name, scale):
        ...     rng = np.random.default_rng(0)
        ...     with shiftwatch.Monitor(run=False) as monitor:
        ...         for step in range(64):
        ...             monitor.observe("fc1", scale ** (step > 31) * rng.normal(size=(32, 4)))
        ...             monitor.step()
        ...     return monitor.history
        >>> print(shiftwatch.compare(train("a", 1.0), train("b", 1.0), names=("good", "new")))
        new is like good: none of 1 layer departs over steps 0–63.
        >>> found = shiftwatch.compare(train("a", 1.0), train("b", 8.0), names=("good", "new"))
        >>> found.differences[0].sentence
        'fc1 drifts over 50× more from step 32: 7.2 standard deviations from its start, 0.1 in good'
    """
    opened = [r if isinstance(r, Run) else open_run(r) for r in runs]
    if len(opened) < 2:
        raise ValueError(
            f"A comparison needs two or more runs; got {len(opened)}. "
            "Give the good one first, then those in question."
        )
    if align not in ALIGNMENTS:
        raise ValueError(f"align must be one of {', '.join(ALIGNMENTS)}; got {align!r}.")
    called = _called(opened, names)
    for run, name in zip(opened, called, strict=True):
        if not len(run):
            raise ValueError(
                f"Every run must hold a window of steps; {name} holds none. It ended before the "
                "first, or it has just begun: compare it when it has trained on."
            )
    alerts = tuple(tuple(a for a in run.alerts if a.severity != "info") for run in opened)
    against = tuple(
        _against(opened[0], other, align, called[0], name)
        for other, name in zip(opened[1:], called[1:], strict=True)
    )
    return Comparison(
        names=tuple(called),
        align=align,
        against=against,
        alerts=alerts,
        verdict=" ".join(found.verdict for found in against),
    )


def _called(runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    """A name for each run, no two alike."""
    if names and len(names) != len(runs):
        raise ValueError(f"names must be one for each of {len(runs)} runs; got {len(names)}.")
    plain = list(names) or [run_name(run) for run in runs]
    if len(set(plain)) == len(plain):
        return plain
    for longer in (
        [f"{n} {r.attempt}".strip() for n, r in zip(plain, runs, strict=True)],
        [f"{r.path.parent.name}/{n}" if r.path else n for n, r in zip(plain, runs, strict=True)],
    ):
        if len(set(longer)) == len(longer):
            return longer
    return [f"{name} ({number})" for number, name in enumerate(plain, start=1)]


def _against(a: Run, b: Run, align: str, name_a: str, name_b: str) -> Against:
    matched = match(a.layers, b.layers)
    if not any(pair.b != INPUT for pair in matched.pairs):
        raise ValueError(
            "The runs must have layers in common, by name or by kind and shape; "
            f"{name_a} has {_some(a.layers)}, {name_b} has {_some(b.layers)}. "
            "Compare runs of the same model, or of one that was changed in part."
        )
    aligned = pair_windows(a, b, align)
    if not aligned.size:
        raise ValueError(
            f"The runs must overlap in time; {name_a} was watched in steps "
            f"{a.first[0]:,}–{a.steps[-1]:,}, {name_b} in {b.first[0]:,}–{b.steps[-1]:,}. "
            "Align by share of training instead."
        )
    found = measured(a, b, matched.pairs, aligned)
    against = Against(
        name=name_b,
        pairs=matched.pairs,
        only_first=matched.only_a,
        only_this=matched.only_b,
        aligned=aligned,
        values=found.values,
        sizes=found.sizes,
        differences=_differences(matched.pairs, aligned, found, name_a),
        loss=_last_losses(a, b, aligned),
        schedules=schedules(a, b, align),
        said=(),
    )
    return replace(against, said=_said(against, name_a, a, b))


def _some(layers: Iterable[str]) -> str:
    names = [n for n in layers if n != INPUT]
    shown = ", ".join(names[:3]) or "none"
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def _differences(
    pairs: Sequence[Pair], aligned: Aligned, found: Measured, name_a: str
) -> tuple[Difference, ...]:
    judged = {key: departures(table / LIMITS[key]) for key, table in found.values.items()}
    unknown = {key: np.isnan(table).all(0) for key, table in found.values.items()}
    result = []
    for column, pair in enumerate(pairs):
        own = {key: judged[key][column] for key in judged if not unknown[key][column]}
        measure = _told(own)
        told = own[measure] if measure and own[measure].begin >= 0 else None
        value, sizes = _typical(found, measure, column, told)
        result.append(
            Difference(
                layer=pair.b,
                twin=pair.a,
                sentence=_sentence(pair, measure, told, value, sizes, aligned, name_a),
                measure=measure,
                score=own[measure].score if measure else 0.0,
                since=_step(aligned, told.begin) if told else None,
                until=_step(aligned, told.end) if told else None,
                value=value,
                sizes=sizes,
                scores={key: d.score for key, d in own.items()},
            )
        )
    return tuple(sorted(result, key=lambda d: (not d.departs, not d.passed, -d.score)))


def _told(own: dict[str, Departure]) -> str:
    """The measure by which a layer's difference is told; ``""`` where none applies.

    One that lasts to the end comes before one that passed.
    """
    for lasts in (True, False):
        for group in _TOLD:
            gone = [
                k for k in group if k in own and own[k].begin >= 0 and (own[k].end < 0) is lasts
            ]
            if gone:
                return max(gone, key=lambda key: own[key].score)
    return max(own, key=lambda key: own[key].score, default="")


def _step(aligned: Aligned, moment: int) -> int | None:
    """First step of a moment's window in B; ``None`` for no moment."""
    return int(aligned.first_b[moment]) if moment >= 0 else None


def _typical(
    found: Measured, measure: str, column: int, told: Departure | None
) -> tuple[float, tuple[float, float]]:
    """Median of the difference, and of both sizes, over the time of a departure."""
    nothing = float("nan")
    if told is None:
        return nothing, (nothing, nothing)
    span = slice(told.begin, told.end if told.end >= 0 else None)
    value = float(np.nanmedian(found.values[measure][span, column]))
    if measure not in found.sizes:
        return value, (nothing, nothing)
    one, other = (float(np.nanmedian(s[span, column])) for s in found.sizes[measure])
    return value, (one, other)


def _sentence(
    pair: Pair,
    measure: str,
    told: Departure | None,
    value: float,
    sizes: tuple[float, float],
    aligned: Aligned,
    name_a: str,
) -> str:
    if told is None:
        return ""
    when = words.since(int(aligned.first_b[told.begin]), told.begin == 0, _step(aligned, told.end))
    return words.sentence(measure, pair.b, value, *sizes, when, name_a=name_a)


def _last_losses(a: Run, b: Run, aligned: Aligned) -> tuple[float, float]:
    """Mean loss of both over the last tenth of the moments compared."""
    tail = slice(-max(1, aligned.size // 10), None)
    result = []
    for run, windows in ((a, aligned.window_a), (b, aligned.window_b)):
        losses = run.losses[windows[tail]]
        known = losses[~np.isnan(losses)]
        result.append(float(known.mean()) if known.size else float("nan"))
    return result[0], result[1]


def _said(found: Against, name_a: str, a: Run, b: Run) -> tuple[str, ...]:
    """The verdict, sentence by sentence."""
    parts = (
        _incidents(name_a, found.name, a, b),
        *_departures(found, name_a),
        _losses(found, name_a, a),
        _strangers(found, name_a),
    )
    return tuple(part for part in parts if part)


def _incidents(name_a: str, name_b: str, a: Run, b: Run) -> str:
    """What was raised in B, against A; nothing where nothing was raised in either."""
    raised = [_raised(run) for run in (a, b)]
    if not raised[1]:
        told = words.first_incident(a.incidents)
        return f"{name_b} raised no alert; {name_a} did{told}." if raised[0] else ""
    incidents = [i for i in b.incidents if i.severity != "info"]
    number = count(len(incidents) or len(raised[1]), "incident" if incidents else "alert")
    also = f"{name_a} raised alerts too" if raised[0] else f"{name_a} none"
    return f"{name_b} raised {number}, {also}{words.first_incident(b.incidents)}."


def _raised(run: Run) -> list[Alert]:
    return [a for a in run.alerts if a.severity != "info"]


def _departures(found: Against, name_a: str) -> tuple[str, ...]:
    gone, passed = found.departed, found.passed
    rates = words.rates(found.schedules, name_a) if found.schedules and found.rates_first else ""
    layers = [d for d in found.differences if d.layer != INPUT]
    of = count(len(layers), "layer")
    if gone:
        number = sum(d.departs for d in layers)
        where = f"in {number} of {of}" if number else "in its input alone"
        head = f"{found.name} departs from {name_a} {where}."
        if rates:
            return head, f"First, {rates}.", f"Then {gone[0].sentence}."
        return head, f"First, {gone[0].sentence}."
    first, last = int(found.aligned.first_b[0]), int(found.aligned.last_b[-1])
    like = f"{found.name} is like {name_a}: none of {of} departs over steps {first:,}–{last:,}."
    return (
        like,
        *([f"{capital(rates)}."] if rates else []),
        *([f"For a while, {passed[0].sentence}."] if passed else []),
    )


def _losses(found: Against, name_a: str, a: Run) -> str:
    """The loss in the end, where both gave one: alike within 1 % of what A's came down."""
    one, other = found.loss
    if not np.isfinite(one) or np.isnan(other):
        return ""
    if not np.isfinite(other):
        return f"The loss is not finite in the end, {one:.3g} in {name_a}."
    known = a.losses[np.isfinite(a.losses)]
    alike = abs(other - one) <= max(0.1 * abs(one), 0.01 * abs(float(known[0]) - one))
    way = "about the same" if alike else "lower" if other < one else "higher"
    return f"The loss ends {way}: {other:.3g}, {one:.3g} in {name_a}."


def _strangers(found: Against, name_a: str) -> str:
    """Layers that were matched by structure, and those that have no counterpart."""
    parts = []
    renamed = sum(pair.by == "structure" and pair.a != pair.b for pair in found.pairs)
    if renamed:
        verb = "bears another name and was" if renamed == 1 else "bear other names and were"
        parts.append(f"{count(renamed, 'layer')} {verb} matched by place, kind and shape.")
    for name, only in ((name_a, found.only_first), (found.name, found.only_this)):
        if only:
            parts.append(f"Only in {name}: {_listed(only)}.")
    return " ".join(parts)


def _listed(names: Sequence[str], most: int = 4) -> str:
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
