"""Every example runs as it stands, from any folder, and finds what it says it finds."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "examples"

#: Packages that an example needs, and what it must print: the reader is told to look at it.
EXAMPLES = {
    "numpy_only": ("", r"Found: .*\bdead\b.* from fc1 at step 200\."),
    "pytorch_loop": ("torch sklearn", r"critical: .*\bexploding\b(.|\n)*It began in "),
    "preflight": (
        "torch sklearn",
        r"critical  fc1 +the signal fades(.|\n)*warning   <input>(.|\n)*gets the output of a softmax"
        r"(.|\n)*Fit to train: True\. The loss fell from 2\.\d+ to 0\.",
    ),
    "lightning_wandb": (
        "torch pytorch_lightning wandb",
        r"Found: variance_shift from <input> at step 150\.\nCharts .*worst_kl",
    ),
    "compare_runs": (
        "torch sklearn",
        r"batchnorm raised no alert; plain did: vanishing values in act3(.|\n)*loss ends lower"
        r"(.|\n)*fc3 drifts \d+× less from step \d+",
    ),
    "custom_metric": (
        "",
        r"on_report: attention since step 120: .*peak_ratio(.|\n)*is 3\d\.\d now",
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_finds_its_fault(name: str, tmp_path: Path) -> None:
    packages, claim = EXAMPLES[name]
    for package in packages.split():
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    runs, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    elsewhere.mkdir()
    ran = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", FOLDER / f"{name}.py"],
        cwd=elsewhere,
        env={**os.environ, "SHIFTWATCH_DIR": str(runs), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    assert re.search(claim, ran.stdout), ran.stdout
    assert list(runs.rglob("attempt-001"))
    assert list(elsewhere.iterdir()) == []


def test_every_example_is_tested_and_listed() -> None:
    scripts = {path.stem for path in FOLDER.glob("*.py")}
    listed = set(
        re.findall(r"^\| \[(\w+)\.py\]\(\1\.py\)", (FOLDER / "README.md").read_text(), re.M)
    )
    assert scripts == EXAMPLES.keys() == listed
