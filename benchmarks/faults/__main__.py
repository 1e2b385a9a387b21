"""Run a set of cases and print what an observer made of it.

    python -m benchmarks.faults [--set design] [--quick] [--only GLOB] [--jobs 2]
                                [--observer NAME] [--results FOLDER] [--score] [--markdown FILE]

Called from the root of the repository. Rows go to ``benchmarks/results/faults``: what each fault did
to ``SET-oracle.jsonl``, what an observer found to ``SET-OBSERVER.jsonl``. A case that is there is not
run again, so a run that was stopped goes on. After a change of the observer remove its file, after
one of faults or networks the oracle's too.

``--observer baselines`` records the run once for all other monitors, and prints how they compare; the
name of one of them, as "z > 3", prints its tables. ``python -m benchmarks.faults.compare`` sets all
observers beside each other.

``--quick`` runs some cases of every kind, in about two minutes, and keeps rows only in a folder
named by ``--results``. ``--score`` runs nothing and prints the tables of what is there. The test set
is for the end: look at it once.
"""

from __future__ import annotations

import argparse
import os
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.faults.baselines import BASELINES
from benchmarks.faults.cases import SETS, Case, cases, quick
from benchmarks.faults.compare import RESULTS, observers_table, only, rules_table, standing
from benchmarks.faults.observers import OBSERVERS
from benchmarks.faults.runs import ORACLE, Row, join, load, run_all
from benchmarks.faults.score import Table, errors, tables


def main() -> None:
    """Run what is missing, print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--set", choices=SETS, default="design", dest="group")
    parser.add_argument("--quick", action="store_true", help="some cases of every kind")
    parser.add_argument("--only", default="*", help="cases whose key matches this pattern")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    names = (*OBSERVERS, *BASELINES)
    parser.add_argument("--observer", choices=names, default="shiftwatch")
    parser.add_argument("--results", type=Path, help="folder of the rows")
    parser.add_argument("--score", action="store_true", help="run nothing")
    parser.add_argument("--markdown", type=Path, help="file to write the tables to")
    given = parser.parse_args()
    chosen = (quick if given.quick else cases)(given.group)
    chosen = [case for case in chosen if fnmatchcase(case.key, given.only)]
    with TemporaryDirectory() as fleeting:
        folder = given.results or (Path(fleeting) if given.quick else RESULTS)
        rows = _rows(given, chosen, folder)
    found = _tables(given.observer, list(rows.values()))
    print("\n\n".join(table.text() for table in found))
    if given.markdown is not None:
        given.markdown.write_text("\n\n".join(table.markdown() for table in found) + "\n")


def _rows(given: argparse.Namespace, chosen: list[Case], folder: Path) -> dict[str, Row]:
    """Rows of the chosen cases: those that are there, or all."""
    observer = given.observer if given.observer in OBSERVERS else "baselines"
    found = {}
    for name in (ORACLE, observer):
        path = folder / f"{given.group}-{name}.jsonl"
        found[name] = load(path) if given.score else run_all(chosen, path, name, jobs=given.jobs)
    return join(chosen, found[ORACLE], found[observer])


def _tables(observer: str, rows: list[Row]) -> list[Table]:
    """What an observer found; of all baselines at once how they compare."""
    known = [row for row in rows if "error" not in row]
    if observer == "baselines":
        standings = [standing(tool, only(known, tool)) for tool in BASELINES]
        return [observers_table(standings), rules_table(known), *errors(rows)]
    if observer in BASELINES:
        return [*tables(only(known, observer)), *errors(rows)]
    return tables(rows)


if __name__ == "__main__":
    main()
