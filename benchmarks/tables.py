"""Write the tables of README.md and of pages in docs/ from benchmarks/results.

    python benchmarks/tables.py [--check]

Each stands between ``<!-- table: NAME -->`` and ``<!-- end of table -->``, and is made by the
function of that name. ``--check`` writes nothing, and fails where a table is not that of the results.
Where a mark is lost nothing is written, for it would be written over what stands between the others.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import measure
from overhead import amortised
from workloads import NAMES

ROOT = Path(__file__).parent.parent
PLACE = re.compile(r"(?<=<!-- table: )(\w+)( -->\n).*?(?=<!-- end of table -->)", re.DOTALL)
MARK = re.compile(r"^<!-- (?:table: (\w+)|end of table) -->$", re.MULTILINE)

Rows = list[dict[str, Any]]


def _rows(name: str) -> Rows:
    return measure.load(measure.RESULTS / f"{name}.json")


def _table(head: str, lines: Iterable[Iterable[str]]) -> str:
    columns = head.count("|") + 1
    body = ("| " + " | ".join(cells) + " |\n" for cells in lines)
    return f"| {head} |\n|{'---|' * columns}\n" + "".join(body)


def _cell(workload: str, variant: str, rows: Rows) -> dict[str, Any]:
    return next((r for r in rows if (r["workload"], r["variant"]) == (workload, variant)), {})


def _spread(row: dict[str, Any]) -> str:
    return f"{row['paired']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def cost() -> str:
    """Everything on, per network."""
    rows = _rows("overhead")
    lines = []
    for workload, name in NAMES.items():
        row = _cell(workload, "shiftwatch", rows)
        if not row:
            continue
        lines.append(
            (
                name,
                f"{row['plain']:,.1f} ms",
                f"{row['direct']:.3f}",
                _spread(row),
                f"{_cell(workload, 'shiftwatch, outputs only', rows)['direct']:.3f}",
                f"{row['plain_p99']:,.1f} → {row['p99']:,.1f} ms",
                f"{row['held'] / 1e6:.0f} MB",
            )
        )
    head = "network | plain step | direct | paired [quartiles] | outputs alone | p99 | held"
    return _table(head, lines)


def peers() -> str:
    """What each adds on average, per network: ratios of step times."""
    rows = _rows("overhead")
    variants = [r["variant"] for r in rows if r["workload"] == "small"]
    variants.sort(key=lambda v: not v.startswith("shiftwatch"))
    lines = []
    for variant in variants:
        cells = []
        for workload in NAMES:
            row = _cell(workload, variant, rows)
            ratio = amortised(row, rows) if row else None
            digits = 1 if ratio is not None and ratio >= 10 else 3
            cells.append("–" if ratio is None else f"{ratio:.{digits}f}")
        lines.append((variant, *cells, _cell("small", variant, rows)["sees"]))
    return _table(" | ".join(["", *NAMES.values(), "what it sees"]), lines)


def parts() -> str:
    """Where the time goes."""
    rows = _rows("parts")
    lines = []
    workloads = list(dict.fromkeys(r["workload"] for r in rows))
    first = [r for r in rows if r["workload"] == workloads[0]]
    for part in first:
        cells = []
        for workload in workloads:
            row = next(r for r in rows if (r["workload"], r["part"]) == (workload, part["part"]))
            cells += [f"{row['us']:,.0f} [{row['low']:,.0f}, {row['high']:,.0f}]"]
            cells += [f"{row['share']:.2%}"]
        lines.append((part["part"], *cells))
    sums = []
    for workload in workloads:
        mine = [r for r in rows if r["workload"] == workload]
        sums += [f"{sum(r['us'] for r in mine):,.0f}", f"{sum(r['share'] for r in mine):.2%}"]
    steps = {r["workload"]: r["step"] for r in rows}
    heads = [f"{NAMES[w]}, {steps[w]:,.0f} ms: µs [quartiles] | of the step" for w in workloads]
    return _table(" | ".join(["part", *heads]), [*lines, ("all", *sums)])


def budget() -> str:
    """Whether it is kept."""
    return _table(
        "budget | batch | plain step | spent, measured from outside | said by shiftwatch | "
        "idle `step()` | steps watched",
        (
            (
                f"{row['budget']:.0%}",
                str(row["batch"]),
                f"{row['plain']:.2f} ms",
                f"{row['outside']:.2%}",
                f"{row['monitor']:.2%}",
                f"{row['idle_us']:.1f} µs",
                f"{row['watched']} of {row['steps']:,}",
            )
            for row in _rows("budget")
        ),
    )


def pages() -> str:
    """The report of large runs: written, and looked at."""
    rows = _rows("report")
    times = list(dict.fromkeys(r["what"] for r in rows if r["what"] != "file"))
    lines = []
    for file in (r for r in rows if r["what"] == "file"):
        mine = {r["what"]: r for r in rows if r["case"] == file["case"]}
        lines.append(
            (
                file["case"],
                f"{file['folder_bytes'] / 1e6:,.0f} MB",
                f"{file['seconds']:.1f} s ({file['processor']:.1f} s)",
                f"{file['open_bytes'] / 1e6:,.0f}, {file['peak_bytes'] / 1e6:,.0f} MB",
                f"{file['page_bytes'] / 1e6:.1f} MB",
                *(
                    f"{mine[t]['median']:,.0f} [{mine[t]['low']:,.0f}, {mine[t]['high']:,.0f}]"
                    for t in times
                ),
            )
        )
    heads = " | ".join(f"{t}, ms" for t in times)
    return _table(
        f"run | folder | written (processor) | memory to open, to write | file | {heads}", lines
    )


def live() -> str:
    """What a server of pages costs while it is asked."""
    return _table(
        " | median [quartiles]",
        (
            (row["name"], f"{median:,.{digits}f} [{low:,.{digits}f}, {high:,.{digits}f}]")
            for row in _rows("live")
            for low, median, high in [row["quartiles"]]
            for digits in [0 if median >= 100 else 2 if median < 1 else 1]
        ),
    )


def comparison() -> str:
    """Comparing large runs, and writing the page."""
    rows = _rows("comparison")
    lines = []
    for case in dict.fromkeys(row["case"] for row in rows):
        mine = {row["what"]: row["quartiles"] for row in rows if row["case"] == case}
        cells = (
            f"{median:.1f} s [{low:.1f}, {high:.1f}]"
            for low, median, high in (mine["compared"], mine["written"])
        )
        lines.append((case, *cells, f"{mine['megabytes'][1]:.1f} MB"))
    return _table(" | compared | page written, too | page", lines)


def papers() -> str:
    """What holds of each paper's figure."""
    rows = _rows("papers")
    lines = []
    for script in dict.fromkeys(r["script"] for r in rows):
        mine = [r for r in rows if r["script"] == script]
        held = f"{sum(r['holds'] for r in mine)} of {len(mine)}"
        link = f"[script](../examples/papers/{script}.py)"
        lines.append((f"[{script}](#{script})", link, held, f"{mine[0]['seconds']} s"))
    return _table("figure | made by | claims that hold | processor time", lines)


def claims(script: str) -> str:
    """What must hold of one paper's figure, and what was measured."""
    return _table(
        "must hold | measured: median (range over seeds), or share [95 %] | ",
        (
            (row["criterion"], row["measured"], "holds" if row["holds"] else "**fails**")
            for row in _rows("papers")
            if row["script"] == script
        ),
    )


SCRIPTS = tuple(dict.fromkeys(row["script"] for row in _rows("papers")))
TABLES: dict[str, Callable[[], str]] = {
    **{f.__name__: f for f in (cost, peers, parts, budget, pages, live, comparison, papers)},
    **{script: partial(claims, script) for script in SCRIPTS},
}

#: Page to the tables that it holds, in any order.
PAGES = {
    "README.md": ("cost",),
    "docs/cost.md": ("cost", "peers", "parts", "budget"),
    "docs/papers.md": ("papers", *SCRIPTS),
    "docs/report.md": ("pages",),
    "docs/live.md": ("live",),
    "docs/comparison.md": ("comparison",),
}


def fault(text: str, names: Sequence[str]) -> str:
    """What is wrong with the marks of a page that holds these tables; empty where nothing is."""
    marks = [found[1] or "end" for found in MARK.finditer(text)]
    if sorted(marks[::2]) == sorted(names) and marks[1::2] == ["end"] * len(names):
        return ""
    return (
        f"must hold the tables {', '.join(names)}, each between '<!-- table: NAME -->' and "
        f"'<!-- end of table -->'; its marks are {', '.join(marks) or 'none'}. Put back what is lost"
    )


def filled(text: str) -> str:
    """A page with its tables as the results have them."""
    return PLACE.sub(lambda found: found[1] + found[2] + TABLES[found[1]](), text)


def main() -> None:
    """Write, or check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    old = {name: (ROOT / name).read_text(encoding="utf-8") for name in PAGES}
    wrong = {name: fault(text, PAGES[name]) for name, text in old.items()}
    new = {name: filled(text) for name, text in old.items() if not wrong[name]}
    if check:
        stale = {name for name in new if new[name] != old[name]}
        wrong |= dict.fromkeys(stale, "has a table that is not that of the results; run tables.py")
    if any(wrong.values()):
        sys.exit("\n".join(f"{name} {what}." for name, what in wrong.items() if what))
    if not check:
        for name, text in new.items():
            (ROOT / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
