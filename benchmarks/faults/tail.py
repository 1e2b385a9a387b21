"""How far healthy scores reach: what the limits of the alarms rest on.

    python -m benchmarks.faults.tail            # from the root of the repository; five minutes of a core

Every healthy situation of the calibration set is watched, with one seed, and the scores of all levels of all layers are
collected as the detector weighs them: times the change over the size that matters, where it is
there at the next step, too. Peaks over a threshold follow a generalised Pareto
law (Pickands 1975, Balkema & de Haan 1974) whatever the law of the scores, if they are alike and
hardly dependent. Its constants go into ``shiftwatch/alpha.py``; the table says how well they hold: how many
runs exceed what one in a hundred should, on one half of the architectures with the constants of
the other; and how firm the constants are: peaks come in crowds, so whole networks are drawn anew.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import genpareto

from benchmarks.faults import healthy
from benchmarks.faults.cases import SEEDS, SETS, Case, cases
from benchmarks.faults.intervals import clopper_pearson
from benchmarks.faults.observers import OBSERVERS, silence
from benchmarks.faults.score import learned
from benchmarks.faults.training import train
from shiftwatch.alpha import MOST
from shiftwatch.detectors.jump import LEAST, Jump

RESULTS = Path(__file__).parent.parent / "results" / "faults"

#: Scores from which on the tail is fitted, and the first step that counts.
THRESHOLD, BURN_IN = 3.0, 32


@contextmanager
def listening(heard: list[float], looks: list[int]) -> Iterator[None]:
    """Collect scores of levels that moved by a size that matters and stayed; and count all scores."""
    run = Jump.run

    def listen(self: Jump, state: Any, values: Any, times: Any, *more: Any) -> Any:
        state, out = run(self, state, values, times, *more)
        if self.trade < 1:  # of layers' levels
            floor = np.broadcast_to(more[1], values.shape)
            with np.errstate(all="ignore"):
                least = self.trade * floor
                place = values - out.change
                later = values[1:] - place[:-1]  # what confirms a jump
                stays = (np.sign(later) == np.sign(out.change[:-1])) & (np.abs(later) >= least[1:])
                counts = np.isfinite(later) & (times[:-1] >= BURN_IN)[:, None, None]
                large = np.abs(out.change[:-1]) / floor[:-1]
                score = np.abs(out.score[:-1])
                strength = np.minimum(score / LEAST, score * large)
                peaks = counts & stays & (large >= self.trade) & (strength >= THRESHOLD)
            looks.append(int(counts.sum()))
            heard.extend(strength[peaks].tolist())
        return state, out

    Jump.run = listen  # type: ignore[method-assign]
    try:
        yield
    finally:
        Jump.run = run  # type: ignore[method-assign]


def measure(case: Case) -> dict[str, Any]:
    """One healthy run: its largest scores and how many there were."""
    torch.set_num_threads(1)
    heard: list[float] = []
    looks: list[int] = []
    with silence(), listening(heard, looks):
        trace = train(case.plan, healthy.BY_CODE[case.code].actions, attach=OBSERVERS["shiftwatch"])
    row = {"first": float(trace.losses[:10].mean()), "last": float(trace.losses[-20:].mean())}
    return {
        "key": case.key,
        "network": case.network,
        "looks": sum(looks),
        "scores": sorted((round(s, 3) for s in heard), reverse=True)[:500],
        "learned": bool(np.isfinite(row["last"])) and learned({**row, "network": case.network}),
    }


def fit(rows: Sequence[dict[str, Any]]) -> tuple[float, float, float]:
    """Share of looks over the threshold, and shape and scale of the excess."""
    scores = np.concatenate([np.array(row["scores"]) for row in rows])
    looks = sum(row["looks"] for row in rows)
    shape, _, scale = genpareto.fit(scores - THRESHOLD, floc=0.0)
    return scores.size / looks, float(shape), float(scale)


def beyond(rows: Sequence[dict[str, Any]], alpha: float, tail: tuple[float, float, float]) -> int:
    """Runs whose largest score is over the limit of their own number of looks."""
    rate, shape, scale = tail
    count = 0
    for row in rows:
        p = alpha / max(row["looks"], 1) / rate
        limit = THRESHOLD + scale / shape * (p**-shape - 1)
        count += bool(row["scores"]) and row["scores"][0] > limit
    return count


def redrawn(rows: Sequence[dict[str, Any]], times: int = 400) -> np.ndarray:
    """Shape, and chance of a look beyond MOST, with as many networks drawn anew: float64[times, 2]."""
    rng = np.random.default_rng(0)
    names = sorted({row["network"] for row in rows})
    found = []
    for _ in range(times):
        drawn = [r for name in rng.choice(names, len(names)) for r in rows if r["network"] == name]
        rate, shape, scale = fit(drawn)
        found.append((shape, rate * genpareto.sf(MOST - THRESHOLD, shape, scale=scale)))
    return np.array(found)


def main() -> None:
    """Measure what is missing, fit, and print the constants and how well they hold."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults.tail", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--set", choices=SETS, default="calibration", dest="group")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    path = given.results / f"{given.group}-tail.json"
    if not path.exists():
        seed = SEEDS[given.group][0]
        chosen = [c for c in cases(given.group) if c.strikes is None and c.seed == seed]
        with multiprocessing.get_context("spawn").Pool(given.jobs) as pool:
            found = list(pool.imap_unordered(measure, chosen))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(sorted(found, key=lambda row: row["key"])))
    rows = [row for row in json.loads(path.read_text()) if row["learned"]]
    rate, shape, scale = fit(rows)
    print(f"{len(rows)} runs, {sum(r['looks'] for r in rows):,} scores")
    print(f"RATE, SHAPE, SCALE = {rate:.3g}, {shape:.3g}, {scale:.3g}  # over {THRESHOLD:g}")
    names = sorted({row["network"] for row in rows})
    peaks = {n: sum(len(r["scores"]) for r in rows if r["network"] == n) for n in names}
    loud = sum(bool(r["scores"]) for r in rows)
    most = max(peaks, key=lambda name: peaks[name])
    print(
        f"{sum(peaks.values())} peaks in {loud} runs of {sum(map(bool, peaks.values()))} of "
        f"{len(names)} networks, {peaks[most]} of them in {most}; the largest "
        f"{max(max(r['scores'], default=0.0) for r in rows)}"
    )
    (low, least), (high, largest) = np.percentile(redrawn(rows), [2.5, 97.5], axis=0)
    print(
        f"networks drawn anew, 95 %: SHAPE {low:.2f} to {high:.2f}, beyond {MOST:g} "
        f"{least:.1g} to {largest:.1g} of all looks"
    )
    halves = [[r for r in rows if names.index(r["network"]) % 2 == k] for k in (0, 1)]
    for alpha in (0.001, 0.01, 0.1):
        hits = sum(beyond(halves[k], alpha, fit(halves[1 - k])) for k in (0, 1))
        low, high = clopper_pearson(hits, len(rows))
        print(
            f"alpha {alpha:g}: {hits}/{len(rows)} = {hits / len(rows):.1%} [{low:.1%}, {high:.1%}]"
        )


if __name__ == "__main__":
    main()
