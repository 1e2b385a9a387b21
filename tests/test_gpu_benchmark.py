"""The benchmark for GPUs works where there is none, at sizes that say nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "gpu.py"


@pytest.mark.parametrize("workload", ["resnet50", "gpt"])
def test_the_benchmark_for_gpus_runs_on_a_cpu_too(workload: str, tmp_path: Path) -> None:
    """Every arm is measured beside plain steps, and saved with the conditions."""
    file = tmp_path / "gpu.json"
    options = "--quick --device cpu --blocks 2 --compile off".split()
    command = [sys.executable, SCRIPT, *options, "--only", workload, "--results", file]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text())
    assert [r["variant"] for r in rows] == ["nothing", "empty hook", "shiftwatch"]
    assert all(r["plain"] > 0 and 0 < r["low"] <= r["ratio"] <= r["high"] for r in rows)
    assert {"date", "device", "torch", "compiled", "quick"} <= rows[0].keys()
    assert rows[2]["steps"] == (2 + 2) * 8 and rows[2]["sites"] > 20
