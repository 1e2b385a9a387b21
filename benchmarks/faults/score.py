"""What the rows say: false alarms, recall, kinds, origins, delays, lead; and where it is weak."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.faults import faults, healthy
from benchmarks.faults.faults import ANYWHERE, INPUT
from benchmarks.faults.intervals import clopper_pearson, redrawn
from benchmarks.faults.runs import Row

ALARMS = ("warning", "critical")


@dataclass(frozen=True)
class Finding:
    """What an observer made of a faulty run.

    Args:
        early: whether it alarmed before the fault struck, a false alarm.
        detected: step of the first alarm from the fault on; ``None`` for a miss.
        kinds: of the alarms of that incident, in their order.
        origin: that it named.
        kind_right: whether one of the kinds is a right one.
        exact: whether the origin is the right one; ``None`` where any is right.
        adjacent: likewise, or whether it is a neighbour of it.
        lead: steps from the alarm to the loss that shows it; negative where the loss was first,
            infinite where it never shows.
    """

    early: bool
    detected: int | None = None
    delay: int = 0
    kinds: tuple[str, ...] = ()
    origin: str = ""
    kind_right: bool = False
    exact: bool | None = None
    adjacent: bool | None = None
    lead: float = math.nan


def alarms(row: Row) -> list[dict[str, Any]]:
    """Alerts that are not mere information."""
    return [a for a in row["alerts"] if a["severity"] in ALARMS]


def find(row: Row) -> Finding:
    """Judge the first incident after the fault struck."""
    strikes = row["strikes"]
    raised = alarms(row)
    early = any(a["detected"] < strikes for a in raised)
    later = [a for a in raised if a["detected"] >= strikes]
    if not later:
        return Finding(early)
    first = later[0]
    incident = [a for a in later if a["incident"] == first["incident"]]
    kinds = tuple(dict.fromkeys(a["kind"] for a in incident))
    right = row["origin"]
    exact = None if right == ANYWHERE else first["origin"] == right
    adjacent = None if right == ANYWHERE else exact or first["origin"] in row["near"]
    shown = row["shown"]
    return Finding(
        early=early,
        detected=first["detected"],
        delay=first["detected"] - strikes,
        kinds=kinds,
        origin=first["origin"],
        kind_right=bool(set(kinds) & set(faults.BY_CODE[row["code"]].kinds)),
        exact=exact,
        adjacent=adjacent,
        lead=math.inf if shown is None else shown - first["detected"],
    )


@dataclass(frozen=True)
class Table:
    """Rows of words under a head; drawn as text or as Markdown."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def text(self) -> str:
        """In columns."""
        widths = [max(len(r[i]) for r in [self.head, *self.rows]) for i in range(len(self.head))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in [self.head, *self.rows]
        ]
        return "\n".join([self.title, *lines])

    def markdown(self) -> str:
        """As Markdown has it."""
        rows = [[cell.replace("<", "&lt;") for cell in row] for row in [self.head, *self.rows]]
        lines = [f"| {' | '.join(row)} |" for row in rows]
        lines.insert(1, "|---" * len(self.head) + "|")
        return "\n".join([f"### {self.title}", "", *lines])


def tables(rows: Iterable[Row]) -> list[Table]:
    """All tables of some rows."""
    rows = list(rows)
    known = [row for row in rows if "error" not in row]
    calm, struck, apart = divided(known)
    found = [_overview(calm, struck, apart)]
    if calm:
        found += [_situations(calm), _false_alarms(calm)]
    if struck:
        found += [_faults(struck), _networks(calm, struck), _weak(struck), _equivalent(struck)]
    return [*(table for table in found if table.rows), *errors(rows)]


def errors(rows: Iterable[Row]) -> list[Table]:
    """The cases that ended with one, if any."""
    broken = [row for row in rows if "error" in row]
    lines = [(row["key"], row["error"].strip().splitlines()[-1]) for row in broken]
    return [Table("Errors", ("case", "error"), lines)] if lines else []


def divided(rows: Iterable[Row]) -> tuple[list[Row], list[Row], list[Row]]:
    """Healthy runs, faulty runs, and those that are neither: a healthy run that did not learn is no
    evidence of anything, nor is a fault that cannot be told from a new task.
    """
    calm, struck, apart = [], [], []
    for row in rows:
        if row["strikes"] is None:
            (calm if learned(row) else apart).append(row)
        else:
            (struck if faults.BY_CODE[row["code"]].told else apart).append(row)
    return calm, struck, apart


def share(hits: int, trials: int) -> str:
    """A share in per cent, with its interval of 95 %."""
    if not trials:
        return "-"
    low, high = clopper_pearson(hits, trials)
    return f"{hits}/{trials} = {hits / trials:.1%} [{low:.1%}, {high:.1%}]"


def _overview(calm: Sequence[Row], struck: Sequence[Row], apart: Sequence[Row]) -> Table:
    """The figures that count."""
    killed = [row for row in struck if row["killed"]]
    findings = [find(row) for row in killed]
    caught = [f for f in findings if f.detected is not None]
    placed = [f for f in caught if f.exact is not None]
    data = [
        f for row, f in zip(killed, findings, strict=True)
        if row["origin"] == INPUT and f.detected is not None
    ]  # fmt: skip
    sudden = [
        f.delay
        for row, f in zip(killed, findings, strict=True)
        if f.detected is not None and faults.BY_CODE[row["code"]].sudden
    ]
    lines = [
        ("healthy runs with an alarm", share(sum(bool(alarms(r)) for r in calm), len(calm))),
        ("for other networks like these", _elsewhere(calm, lambda row: bool(alarms(row)))),
        ("situations with an alarm in every seed", _structural(calm)),
        ("left out: situations that did not learn", _loud([r for r in apart if r["strikes"] is None])),
        ("left out: faults that were not killed", _found([r for r in struck if not r["killed"]])),
        ("left out: faults like a new task", _loud([r for r in apart if r["strikes"] is not None])),
        ("faults killed", share(len(killed), len(struck))),
        ("killed faults found", share(len(caught), len(killed))),
        ("for other networks like these", _elsewhere(killed, lambda row: find(row).detected is not None)),
        ("of those that edit no weight", _without_edits(killed)),
        ("alarm before the fault", _before(struck)),
        ("kind right, of those found", share(sum(f.kind_right for f in caught), len(caught))),
        ("origin exact", share(sum(bool(f.exact) for f in placed), len(placed))),
        ("origin exact or adjacent", share(sum(bool(f.adjacent) for f in placed), len(placed))),
        ("<input> for faults of the data", share(sum(bool(f.exact) for f in data), len(data))),
        ("delay in steps, quartiles", quartiles([f.delay for f in caught])),
        ("of sudden faults", quartiles(sudden)),
        ("lead over the loss in steps, quartiles", quartiles([f.lead for f in caught if math.isfinite(f.lead)])),
        ("found before or with the loss", share(sum(f.lead >= 0 for f in caught), len(caught))),
        ("found, never shown by the loss", share(sum(math.isinf(f.lead) for f in caught), len(caught))),
        ("healthy siblings that the oracle would kill", _oracle(struck)),
        ("watched run not the same as without", str(sum(not row["same"] for row in struck))),
    ]  # fmt: skip
    return Table("Overview", ("what", "how much"), lines)


def _elsewhere(rows: Sequence[Row], hit: Callable[[Row], bool]) -> str:
    """The same share's interval where networks, and not runs, are drawn anew."""
    networks = _by(rows, lambda row: row["network"]).values()
    low, high = redrawn([(sum(map(hit, own)), len(own)) for own in networks])
    return f"[{low:.1%}, {high:.1%}]"


def _loud(rows: Sequence[Row]) -> str:
    """How many there are, and how many of them raised anything."""
    return f"{len(rows)}, {sum(bool(alarms(r)) for r in rows)} of them with an alarm"


def _without_edits(killed: Sequence[Row]) -> str:
    """An edited weight is plain to see for who compares weights; these are not."""
    rest = [row for row in killed if "corruption" not in faults.BY_CODE[row["code"]].kinds]
    return share(sum(find(row).detected is not None for row in rest), len(rest))


def _found(rows: Sequence[Row]) -> str:
    """How many there are, and in how many of them something was raised since the fault."""
    return f"{len(rows)}, {sum(find(r).detected is not None for r in rows)} of them with an alarm"


def _before(struck: Sequence[Row]) -> str:
    """One for each run until its fault, which many faults share."""
    twins = _twins([row for row in struck if row["strikes"]])
    return share(sum(any(find(r).early for r in rows) for rows in twins.values()), len(twins))


def _twins(struck: Sequence[Row]) -> dict[Any, list[Row]]:
    """Faults of one run at one step."""
    return _by(struck, lambda row: (row["network"], row["seed"], row["steps"], row["strikes"]))


def _oracle(struck: Sequence[Row]) -> str:
    """One judgement for each twin."""
    twins = _twins(struck)
    return share(sum(rows[0]["sibling_killed"] for rows in twins.values()), len(twins))


def learned(row: Row) -> bool:
    """Whether a healthy run got anywhere: that a GAN's loss falls is not asked."""
    if "gan" in row["network"]:
        return row["last"] is not None
    return row["last"] is not None and row["last"] < 0.98 * row["first"]


def _structural(calm: Sequence[Row]) -> str:
    """Situations that alarm on some network with every seed."""
    groups = _by(calm, lambda row: (row["code"], row["network"]))
    found = [f"{c} on {n}" for (c, n), rows in groups.items() if all(map(alarms, rows))]
    return f"{len(found)} of {len(groups)}: {', '.join(sorted(found))}" if found else "0"


def _situations(calm: Sequence[Row]) -> Table:
    """One row per situation."""
    lines = []
    for code, rows in sorted(_by(calm, lambda row: row["code"]).items()):
        loud = [row for row in rows if alarms(row)]
        kinds = _counted(a["kind"] for row in loud for a in alarms(row)[:1])
        lines.append((code, healthy.BY_CODE[code].name, f"{len(loud)}/{len(rows)}", kinds))
    return Table("Healthy situations", ("code", "situation", "alarms", "first kinds"), lines)


def _false_alarms(calm: Sequence[Row]) -> Table:
    """One row per healthy run that alarmed."""
    lines = []
    for row in sorted(calm, key=lambda row: row["key"]):
        for alert in alarms(row)[:1]:
            value = f"{alert['metric']} {alert['value']} (limit {alert['limit']})"
            where = f"{alert['layer']} {alert['tensor']}"
            learning = f"{row['first']} to {row['last']}"
            lines.append((row["key"], str(alert["step"]), alert["kind"], where, value, learning))
    return Table("False alarms", ("case", "step", "kind", "where", "value", "loss"), lines)


def _faults(struck: Sequence[Row]) -> Table:
    """One row per fault."""
    lines = []
    for code, rows in sorted(_by(struck, lambda row: row["code"]).items()):
        killed = [row for row in rows if row["killed"]]
        caught = [f for f in map(find, killed) if f.detected is not None]
        placed = [f for f in caught if f.exact is not None]
        lines.append(
            (
                code,
                faults.BY_CODE[code].name,
                f"{len(killed)}/{len(rows)}",
                f"{len(caught)}/{len(killed)}",
                f"{sum(f.kind_right for f in caught)}/{len(caught)}",
                f"{sum(bool(f.exact) for f in placed)}/{len(placed)}",
                f"{sum(bool(f.adjacent) for f in placed)}/{len(placed)}",
                quartiles([f.delay for f in caught]),
            )
        )
    head = ("code", "fault", "killed", "found", "kind", "origin", "adjacent", "delay")
    return Table("Faults", head, lines)


def _networks(calm: Sequence[Row], struck: Sequence[Row]) -> Table:
    """One row per architecture."""
    lines = []
    quiet, broken = (_by(rows, lambda row: row["network"]) for rows in (calm, struck))
    for name in sorted({*quiet, *broken}):
        killed = [row for row in broken.get(name, []) if row["killed"]]
        caught = [f for f in map(find, killed) if f.detected is not None]
        placed = [f for f in caught if f.exact is not None]
        rows = quiet.get(name, [])
        lines.append(
            (
                name,
                f"{sum(bool(alarms(row)) for row in rows)}/{len(rows)}",
                f"{len(caught)}/{len(killed)}",
                f"{sum(f.kind_right for f in caught)}/{len(caught)}",
                f"{sum(bool(f.exact) for f in placed)}/{len(placed)}",
            )
        )
    return Table("Networks", ("network", "false alarms", "found", "kind", "origin"), lines)


def _weak(struck: Sequence[Row]) -> Table:
    """One row per killed fault that was missed, misnamed, misplaced, or found late."""
    lines = []
    for row in sorted(struck, key=lambda row: row["key"]):
        f = find(row)
        sudden = faults.BY_CODE[row["code"]].sudden
        late = sudden and f.detected is not None and f.delay > 8
        what = [
            *(["early"] if f.early else []),
            *(["missed"] if f.detected is None else []),
            *(["kind"] if f.detected is not None and not f.kind_right else []),
            *(["origin"] if f.exact is False and not f.adjacent else []),
            *(["adjacent"] if f.exact is False and f.adjacent else []),
            *(["late"] if late else []),
        ]
        if what and (row["killed"] or f.early):
            said = f"{', '.join(f.kinds)} from {f.origin} after {f.delay}" if f.kinds else ""
            why = f"{row['why']} {row['loss']} {row['output']}"
            lines.append((row["key"], ", ".join(what), row["origin"], said, why))
    head = ("case", "what", "origin", "said", "killed by")
    return Table("Weak spots", head, lines)


def _equivalent(struck: Sequence[Row]) -> Table:
    """Faults that did nothing, by fault, and whether they were reported all the same."""
    lines = []
    groups = _by([row for row in struck if not row["killed"]], lambda row: row["code"])
    for code, rows in sorted(groups.items()):
        raised = sum(find(row).detected is not None for row in rows)
        where = ", ".join(sorted({row["network"] for row in rows}))
        lines.append((code, faults.BY_CODE[code].name, str(len(rows)), str(raised), where))
    return Table("Equivalent mutants", ("code", "fault", "runs", "reported", "networks"), lines)


def quartiles(values: Sequence[float]) -> str:
    """Median and quartiles."""
    if not values:
        return "-"
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:g} [{low:g}, {high:g}]"


def _by(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups


def _counted(words: Iterable[str]) -> str:
    counts: dict[str, int] = defaultdict(int)
    for word in words:
        counts[word] += 1
    return ", ".join(f"{word} {n}" for word, n in sorted(counts.items(), key=lambda p: -p[1]))
