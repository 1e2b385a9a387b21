"""Run the scripts of this folder, one after the other, and say what holds.

    python examples/papers/all.py [--quick] [NAME ...]

Draws docs/papers/*.png and keeps what was measured in benchmarks/results/papers.json, from which
benchmarks/tables.py fills in docs/papers.md. ``--quick`` runs the first seed alone and keeps nothing.
Exit code 1 where a claim does not hold.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parents[1] / "benchmarks" / "results" / "papers.json"
SCRIPTS = (
    "ioffe_szegedy", "santurkar", "noisy_batchnorm",
    "glorot_saturation", "glorot_profiles", "lu_born_dead", "sokar_dormant",
    "wortsman_logits", "zhai_entropy", "bloom_spike", "psi_null", "arl_autocorrelation", "false_alarms", "root_cause",
)  # fmt: skip


def run(name: str, quick: bool) -> list[dict]:
    """Rows of one script: a claim each; one that fails where the script itself does."""
    before = processor_time()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "claims.json"
        command = [sys.executable, str(HERE / f"{name}.py"), "--json", str(file)]
        command += ["--quick", "--into", folder] if quick else []
        ran = subprocess.run(command, capture_output=True, encoding="utf-8")
        if file.exists():
            claims = json.loads(file.read_text(encoding="utf-8"))
        else:
            print(ran.stderr, file=sys.stderr)
            claims = [{"criterion": "runs", "measured": f"exit {ran.returncode}", "holds": False}]
    seconds = round(processor_time() - before)
    facts = {"script": name, "date": str(date.today())}
    return [{**facts, "seconds": seconds, **c} for c in claims]


def processor_time() -> float:
    """Seconds that scripts have taken of the processor, so that a busy machine changes little."""
    times = os.times()
    return times.children_user + times.children_system


def keep(rows: list[dict]) -> None:
    """Put rows into the results, in place of those of the same scripts, in the scripts' order."""
    old = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    new = {row["script"] for row in rows}
    rows = [*rows, *(row for row in old if row["script"] not in new)]
    rows.sort(key=lambda row: SCRIPTS.index(row["script"]))
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    RESULTS.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def main() -> None:
    """Run, print a table, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SCRIPTS))
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if unknown := set(given.names) - set(SCRIPTS):
        parser.error(f"no such script: {', '.join(sorted(unknown))}")
    holds = True
    for name in given.names or SCRIPTS:
        rows = run(name, given.quick)
        print(f"{name}, {rows[0]['seconds']} s", flush=True)
        for row in rows:
            mark = "holds" if row["holds"] else "FAILS"
            print(f"  {mark}  {row['criterion']:<66}  {row['measured']}", flush=True)
        holds &= all(row["holds"] for row in rows)
        if not given.quick:
            keep(rows)
    sys.exit(not holds)


if __name__ == "__main__":
    main()
