"""How long `import shiftwatch` takes, beside bare Python and NumPy: medians of fresh processes.

The promise: under 0.15 s with NumPy, so that a command line answers at once and a training
script does not notice.

    python benchmarks/import_time.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

STATEMENTS = {
    "python": "pass",
    "import numpy": "import numpy",
    "import shiftwatch": "import shiftwatch",
    "Monitor": "from shiftwatch import Monitor",
    "command line": "import shiftwatch.cli",
}
RUNS = 15


def seconds(statement: str) -> float:
    """Wall-clock seconds of a fresh interpreter that runs a statement and ends."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - begin


def main() -> None:
    """Print the medians, the statements taking turns so that a busy moment hits all alike."""
    for statement in STATEMENTS.values():
        seconds(statement)  # compile to bytecode, fill the file cache
    rounds = [
        {name: seconds(statement) for name, statement in STATEMENTS.items()} for _ in range(RUNS)
    ]
    bare = statistics.median(times["python"] for times in rounds)
    print(f"{'':18} {'whole process':>14} {'beyond Python':>14}   (ms, median of {RUNS})")
    for name in STATEMENTS:
        median = statistics.median(times[name] for times in rounds)
        print(f"{name:18} {median * 1e3:14.0f} {(median - bare) * 1e3:14.0f}")


if __name__ == "__main__":
    main()
