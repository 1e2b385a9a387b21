"""`shiftwatch show --follow`: in a terminal, through a pipe, and how it ends."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shiftwatch
from shiftwatch.cli import main
from shiftwatch.cli.follow import screen
from shiftwatch.cli.terminal import cells
from tests.live import Training, until
from tests.test_cli import HOSTILE, record


@pytest.fixture
def follow() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the follower of a folder; what is left of it at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(folder: Path, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-u", "-m", "shiftwatch", "show", str(folder), "--follow"]
        started.append(subprocess.Popen(command, text=True, **options))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def told(training: Training, run: Path, follow: Any) -> subprocess.Popen[str]:
    """A follower that has told of the first steps of a training."""
    training.steps(60)
    reader: subprocess.Popen[str] = follow(run, stdout=subprocess.PIPE)
    assert reader.stdout is not None
    assert reader.stdout.readline()
    return reader


def test_through_a_pipe_incidents_come_as_lines_and_the_end_ends_it(
    tmp_path: Path, follow: Any
) -> None:
    run = tmp_path / "run"
    with Training(run, break_at=100) as training:
        training.steps(60)
        reader = follow(run, stdout=subprocess.PIPE)
        assert reader.stdout is not None
        assert re.match(r"step \d+ · loss [\d.]+ · healthy$", reader.stdout.readline())
        training.steps(80)
        incident = reader.stdout.readline()
        assert incident.startswith("incident 1 · critical: fc2 from step 100: non-finite values")
        training.end()
        rest = reader.communicate(timeout=30)[0].splitlines()
    assert rest[-2].startswith("step 139") and rest[-2].endswith("critical · ended")
    assert rest[-1].startswith("1 incident. It began in fc2 at step 100")
    assert reader.returncode == 0


def test_a_training_that_dies_ends_it_too(tmp_path: Path, follow: Any) -> None:
    with Training(tmp_path / "run") as training:
        reader = told(training, tmp_path / "run", follow)
        training.kill()
        rest = reader.communicate(timeout=30)[0]
    assert "died: the process that wrote it is gone" in rest
    assert reader.returncode == 0


def test_a_run_that_is_deleted_ends_it(tmp_path: Path, follow: Any) -> None:
    with Training(tmp_path / "run") as training:
        reader = told(training, tmp_path / "run", follow)
        shutil.rmtree(tmp_path / "run")
        assert "its folder is gone" in reader.communicate(timeout=30)[0]
    assert reader.returncode == 0


def test_it_waits_for_a_run_to_begin_and_ctrl_c_ends_it(tmp_path: Path, follow: Any) -> None:
    reader = follow(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert reader.stdout is not None
    with Training(tmp_path) as training:
        training.steps(60)
        assert "healthy" in reader.stdout.readline()
        reader.send_signal(signal.SIGINT)
        assert reader.communicate(timeout=30)[1] == ""
    assert reader.returncode == 130


def test_in_a_terminal_it_is_drawn_anew_in_place(tmp_path: Path, follow: Any) -> None:
    """A real pseudo-terminal: incidents stand above layers, and the cursor goes back up."""
    run = tmp_path / "run"
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "100", "LINES": "24", "TERM": "xterm"}
    with Training(run, break_at=100) as training:
        training.steps(60)
        reader = follow(run, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        seen = ""

        def shows(words: str) -> bool:
            nonlocal seen
            if select.select([ours], [], [], 0.1)[0]:
                seen += os.read(ours, 65536).decode("utf-8", "replace")
            return words in seen

        until(lambda: shows("Layers, "))
        assert "Incidents" not in seen and re.search(r"writing · step \d\d ", seen)
        training.steps(80)
        until(lambda: shows("critical: fc2 from step 100"))
        until(lambda: shows("") and "fc3" in seen[seen.rindex("Incidents") :])
        latest = seen[seen.rindex("Incidents") :]
        assert latest.index("critical: fc2") < latest.index("Layers")
        assert "\x1b[1A" in seen, "drawn below instead of in place"
        training.end()
        until(lambda: shows("ended"))
    assert reader.wait(30) == 0
    os.close(ours)


def test_without_rich_a_terminal_is_told_how_to_get_it(tmp_path: Path) -> None:
    record(tmp_path / "run", broken=False, steps=30)
    code = (
        "import sys; sys.modules['rich'] = None; sys.stdout.isatty = lambda: True\n"
        "from shiftwatch.cli import main\n"
        f"sys.exit(main(['show', {str(tmp_path / 'run')!r}, '--follow']))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert told.returncode == 2
    assert "pip install 'shiftwatch[cli]'" in told.stderr


@pytest.mark.parametrize(("columns", "rows"), [(200, 60), (80, 24), (40, 10), (20, 3)])
def test_what_is_drawn_fits_the_terminal(tmp_path: Path, columns: int, rows: int) -> None:
    names = tuple(f"block{i}.{'層' * 10}" for i in range(30))
    record(tmp_path / "run", broken=True, names=(names[0], HOSTILE, *names[1:]), steps=100)
    lines = screen(shiftwatch.open(tmp_path / "run"), "writing", columns, rows)
    assert len(lines) <= rows
    assert max(cells(text) for text, _ in lines) <= columns
    assert not any("\x1b" in text or "\n" in text for text, _ in lines)
    assert "1 incident"[:columns] in lines[1][0]


def test_rows_with_an_alert_stay_where_there_is_no_room_for_all(tmp_path: Path) -> None:
    names = tuple(f"layer{i}" for i in range(20))
    record(tmp_path / "run", broken=True, names=(*names[5:], names[0], names[1]), steps=100)
    run = shiftwatch.open(tmp_path / "run")
    text = [line for line, _ in screen(run, "writing", 100, 18)]
    assert any(line.startswith("! ") for line in text)
    assert "more, in a taller terminal" in text[-1]


def test_a_run_that_ended_before_its_first_window_is_said_to_have_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path / "run", broken=False, steps=0)
    assert main(["show", str(tmp_path / "run"), "--follow"]) == 0
    assert capsys.readouterr().out == "ended\nNothing recorded: no window of steps is complete.\n"
    run = shiftwatch.open(tmp_path / "run")
    assert screen(run, "ended", 80, 24)[0][0].startswith("ended · Nothing recorded")
    for state in ("writing", "ended"):
        assert max(cells(text) for text, _ in screen(run, state, 20, 3)) <= 20


def test_wrong_usage_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(tmp_path / "none"), "--follow"]) == 2
    assert "does not exist" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main(["show", str(tmp_path / "file"), "--follow"]) == 2
    assert "is no folder" in capsys.readouterr().err
    record(tmp_path / "runs" / "first", broken=False, steps=10)
    assert main(["show", str(tmp_path / "runs"), "--follow"]) == 2
    followed = capsys.readouterr().err
    assert "a folder of runs, such as first" in followed
    assert main(["show", str(tmp_path / "runs")]) == 2
    assert capsys.readouterr().err == followed
    assert main(["show", str(tmp_path), "--follow", "--attempt", "1"]) == 2
    assert "leave --attempt out" in capsys.readouterr().err
