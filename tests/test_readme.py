"""The code that README prints runs as printed, and its tables are those of the benchmarks."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shiftwatch import Monitor

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


#: A piece of each block, in their order: a test below runs it.
RUN = (
    "monitor.step(loss=loss)\n\nmonitor.report",
    "layers=[",
    "print(check(",
    "ShiftWatch(run=",
    "JsonlReporter",
    'monitor.observe("encoder.0"',
)


def block(start: str) -> str:
    """The one printed block that contains a line."""
    assert start in RUN
    found = [b for b in BLOCKS if start in b]
    assert len(found) == 1, f"README prints {len(found)} blocks with {start!r}"
    return found[0]


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What a user has before adding shiftwatch."""
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
    x, y = torch.randn(96, 8), torch.randint(0, 2, (96,))
    return {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "criterion": torch.nn.CrossEntropyLoss(),
        "loader": list(zip(x.split(8), y.split(8), strict=True)),
    }


def test_the_three_lines_run_as_printed(training: dict[str, Any], tmp_path: Path) -> None:
    exec(block("monitor.step(loss=loss)\n\nmonitor.report"), training)
    assert training["monitor"].alerts == []
    assert (tmp_path / "first.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "runs/first/attempt-001").is_dir()


def test_the_options_run_as_printed(training: dict[str, Any]) -> None:
    code = block("layers=[").replace('["encoder.*", "head"]', '["0", "2"]')
    exec("from shiftwatch.integrations.torch import watch\n" + code, training)
    training["monitor"].close()


def test_the_look_before_the_first_step_runs_as_printed(
    training: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    training["x"], training["y"] = training["loader"][0]
    exec(block("print(check("), training)
    assert capsys.readouterr().out.startswith("Sequential · 8 samples · loss")


def test_the_lightning_lines_run_as_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("pytorch_lightning")
    from pytorch_lightning import Trainer

    monkeypatch.chdir(tmp_path)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    exec(block("ShiftWatch(run="), {"Trainer": lambda callbacks: Trainer(
        callbacks=callbacks, accelerator="cpu", logger=False, enable_checkpointing=False
    )})  # fmt: skip


def test_the_lines_for_any_framework_run_as_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import numpy as np

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    exec(
        block('monitor.observe("encoder.0"'),
        {"batches": range(10), "activations": rng.normal(size=(16, 8)), "loss": 1.0},
    )
    assert (tmp_path / "runs/first/attempt-001").is_dir()


def test_the_reporters_run_as_printed(
    training: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    code = "from shiftwatch.integrations.torch import watch\n" + block("JsonlReporter")
    exec(code.replace("watch(model, reporters", "monitor = watch(model, reporters"), training)
    training["monitor"].close()


def test_every_block_of_code_is_run_here() -> None:
    assert [[start for start in RUN if start in b] for b in BLOCKS] == [[start] for start in RUN]


def test_the_commands_that_read_a_run_run_as_printed(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    import numpy as np

    for name in ("good", "first"):
        with Monitor(run=tmp_path / "runs" / name) as monitor:
            for step in range(64):
                monitor.observe("fc1", np.random.default_rng(step).normal(size=(32, 8)))
                monitor.step()
    found = re.findall(r"^\$ shiftwatch ((?!demo|serve).*?)(?: +#.*)?$", README, re.MULTILINE)
    assert {command.split()[0] for command in found} >= {"show", "alerts", "report", "export"}
    for command in found:
        run = [sys.executable, "-m", "shiftwatch", *command.split()]
        done = subprocess.run(run, cwd=tmp_path, capture_output=True, encoding="utf-8")
        assert done.returncode == 0, done.stdout + done.stderr


def tables(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, root / "benchmarks" / "tables.py", *options]
    return subprocess.run(command, capture_output=True, encoding="utf-8")


def test_the_tables_are_those_of_the_results() -> None:
    """Here and in docs/cost.md; ``python benchmarks/tables.py`` writes them anew."""
    pytest.importorskip("torch")
    done = tables(ROOT, "--check")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("options", [("--check",), ()])
def test_a_lost_mark_of_a_table_is_said_and_nothing_is_written(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    """Found to pass the check, and what stood up to the next mark to be written over."""
    pytest.importorskip("torch")
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks")
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("*.png"))
    lost = {
        "README.md": ("<!-- table: cost -->\n", "<!-- end of table -->\n"),
        "docs/cost.md": ("<!-- end of table -->\n",),
        "docs/papers.md": ("<!-- table: santurkar -->\n",),
        "docs/report.md": ("<!-- end of table -->\n",),
    }
    pages = {name: (ROOT / name).read_text(encoding="utf-8") for name in lost}
    for name, marks in lost.items():
        for mark in marks:
            assert mark in pages[name]
            pages[name] = pages[name].replace(mark, "", 1)
        (tmp_path / name).write_text(pages[name], encoding="utf-8")
    done = tables(tmp_path, *options)
    assert done.returncode == 1
    assert [line.split(" must hold ")[0] for line in done.stderr.splitlines()] == list(lost)
    assert "its marks are none." in done.stderr and "cost, peers, end, " in done.stderr
    assert pages == {name: (tmp_path / name).read_text(encoding="utf-8") for name in lost}
