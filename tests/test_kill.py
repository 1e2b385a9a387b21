"""A training that dies without warning: what it saw is readable, and it can go on."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import shiftwatch

TRAINING = """
import os, pickle, sys
from pathlib import Path
import numpy as np
from shiftwatch import Monitor

folder, steps = Path(sys.argv[1]), int(sys.argv[2])
checkpoint = folder / "checkpoint.pkl"
monitor = Monitor(run=folder / "run")
start = 0
if checkpoint.exists():
    state = pickle.loads(checkpoint.read_bytes())
    monitor.load_state_dict(state)
    start = monitor.steps
rng = np.random.default_rng(start)
for step in range(start, steps):
    x = rng.normal(size=(32, 16))
    monitor.observe("<input>", x)
    monitor.observe("fc1", x @ np.eye(16) * 2)
    monitor.step(loss=1.0)
    if step % 40 == 39:
        aside = checkpoint.with_suffix(".tmp")
        aside.write_bytes(pickle.dumps(monitor.state_dict()))
        os.replace(aside, checkpoint)
    print(step, flush=True)
monitor.close()
"""


def train(folder: Path, steps: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", TRAINING, str(folder), str(steps)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_a_killed_run_is_reported_and_a_resumed_one_appends(tmp_path: Path) -> None:
    """kill -9 after step 100; report; go on from the checkpoint at step 79 to step 159."""
    process = train(tmp_path, 10_000)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 100:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()

    run = shiftwatch.open(tmp_path / "run")
    assert run.steps[-1] >= 95, "windows that were judged are lost"
    assert run.meta["finished"] is False
    report = [sys.executable, "-m", "shiftwatch", "report", str(tmp_path / "run")]
    done = subprocess.run(report, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000

    saved = pickle.loads((tmp_path / "checkpoint.pkl").read_bytes())["steps"]
    again = train(tmp_path, saved + 80)
    assert again.stdout is not None
    lines = again.communicate()[0].split()
    assert again.returncode == 0
    assert int(lines[0]) == saved
    run = shiftwatch.open(tmp_path / "run")
    assert run.attempts == ["attempt-001"]
    assert run.first[0] == 0
    assert run.steps[-1] == saved + 79
    assert np.array_equal(run.first[1:], run.steps[:-1] + 1), "a gap or an overlap"
    assert any(e.kind == "resume" for e in run.events)
    assert run.meta["finished"] is True


def test_the_lock_of_a_killed_run_does_not_stay(tmp_path: Path) -> None:
    process = train(tmp_path, 10_000)
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.communicate()
    time.sleep(0.05)
    with shiftwatch.Monitor(run=tmp_path / "run") as monitor:
        assert monitor.history.attempt == "attempt-002"
