"""The command line on real run folders: what it prints, what it writes, how it ends."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shiftwatch import Monitor, Rule, __version__
from shiftwatch.cli import main
from shiftwatch.cli.layers import layer_table
from shiftwatch.cli.terminal import cells, escape, figure, waiting
from shiftwatch.store import open_run

HOSTILE = "fc\x1b[31m\n2\u202e"  # colours, a line of its own, and right to left
FAULT = 80


def record(
    folder: Path,
    *,
    broken: bool,
    names: tuple[str, ...] = ("fc1", "fc2", "fc3"),
    steps: int = 120,
    close: bool = True,
) -> Path:
    """A run of three noisy layers; in a broken one the second is not finite from FAULT on."""
    rng = np.random.default_rng(0)
    monitor = Monitor(folder, config={"broken": broken})
    for step in range(steps):
        monitor.observe("<input>", rng.normal(size=(32, 8)))
        for i, name in enumerate(names):
            values = rng.normal(size=(32, 16))
            if broken and i == 1 and step >= FAULT:
                values[0] = np.inf
            monitor.observe(name, values, activation="relu" if i == 2 else "")
        if step == 40:
            monitor.event("learning_rate", "0.1 to 0.01")
        monitor.step(loss=1.0 / (step + 1))
    if close:
        monitor.close()
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``good``, ``bad`` and ``hostile``; tests leave them as they are."""
    top = tmp_path_factory.mktemp("runs")
    record(top / "good", broken=False)
    record(top / "bad", broken=True)
    record(top / "hostile", broken=True, names=("fc1", HOSTILE, "層" * 40))
    return top


def shiftwatch(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own."""
    command = [sys.executable, "-m", "shiftwatch", *arguments]
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        command, **{"capture_output": True, "encoding": "utf-8", "timeout": 120, **options}
    )


# -- show ------------------------------------------------------------------------------------


def test_show_tells_verdict_incident_layers_and_events(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", str(runs / "bad")]) == 0
    text = capsys.readouterr().out
    assert "1 incident. It began in fc2" in text
    assert f"1. critical: fc2 from step {FAULT}: non-finite values" in text
    assert "step 40 · learning_rate · 0.1 to 0.01" in text
    rows = [
        line.split()[:2] for line in text.splitlines() if re.match(r"[! ] (<input>|fc\d) ", line)
    ]
    assert rows == [["<input>", "input"], ["fc1", "output"], ["!", "fc2"], ["fc3", "output"]]


def test_show_of_a_healthy_run_says_so(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(runs / "good")]) == 0
    text = capsys.readouterr().out
    assert "Healthy: no alert in 120 steps over 3 layers." in text
    assert "Incidents" not in text and "!" not in text


def test_notes_are_counted_where_they_are_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monitor = Monitor(tmp_path, rules=[Rule("zero_fraction", 0.2, severity="info")])
    rng = np.random.default_rng(0)
    for _ in range(200):
        monitor.observe("fc1", rng.normal(size=(32, 4)) * (rng.random((32, 4)) < 0.5))
        monitor.step()
    monitor.close()
    assert main(["show", str(tmp_path)]) == 0
    assert "Healthy: no alert, 1 note in 200 steps over 1 layer." in capsys.readouterr().out


def test_the_table_shows_the_numbers_of_the_run(runs: Path) -> None:
    run = open_run(runs / "bad")
    _, lines = layer_table(run, False, None)
    (row,) = (line for line, _ in lines if line.startswith("  fc3"))
    expected = []
    for key in ("mean_shift", "variance_shift", "kl", "saturation", "dead_fraction"):
        _, values = run.series(key, "fc3")
        expected += [figure(values[-1]), figure(values[np.abs(values).argmax()])]
    assert row.split()[2:12] == expected


@pytest.mark.parametrize("columns", [80, 100, 120, 200])
def test_the_table_fits_the_terminal(runs: Path, columns: int) -> None:
    for name in ("bad", "hostile"):
        _, lines = layer_table(open_run(runs / name), True, columns)
        if name == "bad":
            assert max(cells(line) for line, _ in lines) <= columns
        assert len(lines) == 2 + 4


def test_through_a_pipe_no_name_is_cut(runs: Path) -> None:
    ran = shiftwatch("show", str(runs / "hostile"), env={**os.environ, "COLUMNS": "40"})
    assert ran.returncode == 0, ran.stderr
    assert "層" * 40 in ran.stdout


def test_nothing_in_a_name_reaches_the_terminal_as_a_command(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = ("show", "alerts", "compare")
    for command in commands:
        others = [str(runs / "good")] if command == "compare" else []
        main([command, *others, str(runs / "hostile")])
    text, errors = capsys.readouterr()
    assert errors == ""
    assert text.count("fc\\x1b[31m\\n2\\u202e") >= 3
    assert {c for c in text if not c.isprintable()} == {"\n"}


def test_a_run_that_is_still_being_written_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path / "live", broken=False, close=False)
    assert main(["show", str(tmp_path / "live")]) == 0
    assert "not finished" in capsys.readouterr().out


def test_a_run_without_a_window_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path / "empty", broken=False, steps=0)
    assert main(["show", str(tmp_path / "empty")]) == 0
    assert "Nothing recorded" in capsys.readouterr().out
    assert main(["alerts", str(tmp_path / "empty")]) == 0
    assert main(["compare", str(tmp_path / "empty"), str(tmp_path / "empty")]) == 2
    assert "must hold a window of steps" in capsys.readouterr().err


def test_attempts_are_chosen_by_name_or_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = record(tmp_path / "run", broken=True)
    record(folder, broken=False)
    assert main(["alerts", str(folder)]) == 0
    assert main(["alerts", str(folder), "--attempt", "1"]) == 1
    assert main(["alerts", str(folder), "--attempt", "attempt-001"]) == 1
    capsys.readouterr()
    main(["show", str(folder), "--attempt", "2"])
    assert "attempt-002 (2 of 2)" in capsys.readouterr().out
    main(["compare", str(folder), str(folder), "--attempts", "2", "1"])
    told = r"run attempt-002 has no alert\nrun attempt-001 has \d+ alert"
    assert re.search(told, capsys.readouterr().out)


# -- alerts ----------------------------------------------------------------------------------


def test_alerts_are_a_line_each_with_the_advice_below(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["alerts", str(runs / "bad")]) == 1
    lines = capsys.readouterr().out.splitlines()
    alerts = [a for a in open_run(runs / "bad").alerts if a.severity != "info"]
    assert lines[0] == f"critical  {alerts[0].message}"
    assert lines[1] == f"{'':10}{alerts[0].advice}"
    assert len(lines) == sum(1 + bool(a.advice) for a in alerts)


def test_no_alert_is_silence_and_zero(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["alerts", str(runs / "good")]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["alerts", str(runs / "good"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_alerts_as_json_are_strict_and_hold_every_field(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    assert main(["alerts", str(runs / "hostile"), "--json"]) == 1
    (first, *_) = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert (first["layer"], first["kind"], first["step"]) == (HOSTILE, "nonfinite", FAULT)
    fields = "step layer tensor kind severity metric value limit message advice origin incident"
    assert list(first) == [*fields.split(), "detected"]


def test_severity_leaves_out_what_is_less(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with Monitor(tmp_path / "warned") as monitor:
        for step in range(120):
            monitor.observe("fc1", rng.normal(size=(64, 16)) + (3.0 if step >= FAULT else 0.0))
            monitor.step()
    severities = {alert.severity for alert in monitor.alerts}
    assert severities == {"warning"}
    assert main(["alerts", str(tmp_path / "warned")]) == 1
    assert main(["alerts", str(tmp_path / "warned"), "--severity", "critical"]) == 0


# -- report, compare, export -----------------------------------------------------------------


def test_report_goes_into_the_run_folder_unless_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = record(tmp_path / "run", broken=True)
    assert main(["report", str(folder)]) == 0
    assert main(["report", str(folder), "-o", "elsewhere.html"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(folder / "report.html"), "elsewhere.html"]
    assert "fc2" in (folder / "report.html").read_text(encoding="utf-8")
    assert Path("elsewhere.html").stat().st_size > 10_000


def test_compare_says_what_differs_and_writes_the_page(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = str(runs / "good"), str(runs / "bad")
    assert main(["compare", good, bad]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^bad raised 1 incident, good none: .* in fc2 from step", text)
    assert re.search(r"^fc2 +[\d.]+ ×  .*fc2", text, re.MULTILINE)
    assert "good has no alert\n" in text and f"bad has 1 alert, the first: step {FAULT}" in text
    assert text.splitlines()[-1] == "compare.html"
    assert "fc2" in Path("compare.html").read_text(encoding="utf-8")


def test_compare_fails_on_the_alerts_of_the_second_run_alone(runs: Path) -> None:
    good, bad = str(runs / "good"), str(runs / "bad")
    assert main(["compare", good, bad, "--fail-on", "critical"]) == 1
    assert main(["compare", good, bad, "--fail-on", "warning"]) == 1
    assert main(["compare", bad, good, "--fail-on", "warning"]) == 0


@pytest.mark.parametrize(
    ("ending", "reader"),
    [(".csv", "read_csv"), (".json", "read_json"), (".parquet", "read_parquet")],
)
def test_export_writes_what_to_pandas_gives(
    runs: Path, ending: str, reader: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pandas = _or_skip("pandas", *(["pyarrow"] if ending == ".parquet" else []))
    assert main(["export", str(runs / "good"), f"run{ending}"]) == 0
    assert capsys.readouterr().out == f"run{ending}\n"
    table = getattr(pandas, reader)(f"run{ending}")
    expected = open_run(runs / "good").to_pandas()
    assert list(table) == ["step", "layer", "tensor", "metric", "value"]
    assert len(table) == len(expected)
    assert np.allclose(table["value"], expected["value"], atol=1e-9)


def _or_skip(*packages: str) -> object:
    found = [pytest.importorskip(package) for package in packages]
    return found[0]


# -- errors ----------------------------------------------------------------------------------


def newer(tmp_path: Path) -> list[str]:
    folder = record(tmp_path / "newer", broken=False, steps=16)
    path = folder / "attempt-001" / "meta.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    return ["show", str(folder)]


def export_as_a_word(tmp_path: Path) -> list[str]:
    return ["export", str(record(tmp_path / "run", broken=False, steps=16)), "table.doc"]


def report_into_nothing(tmp_path: Path) -> list[str]:
    folder = record(tmp_path / "run", broken=False, steps=16)
    return ["report", str(folder), "-o", str(tmp_path / "no" / "such" / "report.html")]


def report_over_a_folder(tmp_path: Path) -> list[str]:
    return ["report", str(record(tmp_path / "run", broken=False, steps=16)), "-o", str(tmp_path)]


def compare_below_a_file(tmp_path: Path) -> list[str]:
    folder = str(record(tmp_path / "run", broken=False, steps=16))
    (tmp_path / "file").touch()
    return ["compare", folder, folder, "-o", str(tmp_path / "file" / "compare.html")]


def demo_over_a_file(tmp_path: Path) -> list[str]:
    (tmp_path / "file").touch()
    return ["demo", "--out", str(tmp_path / "file")]


def run_that_is_a_file(tmp_path: Path) -> list[str]:
    (tmp_path / "file").touch()
    return ["alerts", str(tmp_path / "file")]


def run_that_has_only_begun(tmp_path: Path) -> list[str]:
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "lock").touch()
    return ["show", str(tmp_path / "begun")]


def folder_of_runs(tmp_path: Path) -> list[str]:
    record(tmp_path / "runs" / "sweep" / "first", broken=False, steps=8)
    return ["alerts", str(tmp_path / "runs")]


BAD: list[tuple[Callable[[Path], list[str]], str]] = [
    (lambda path: ["show", str(path / "nowhere")], "does not exist. Give the folder"),
    (lambda path: ["show", str(path)], "is no shiftwatch run"),
    (lambda path: ["compare", str(path), str(path)], "is no shiftwatch run"),
    (lambda path: ["report", "no\x1b[2Jwhere"], r"no\x1b[2Jwhere does not exist"),
    (run_that_is_a_file, "is no shiftwatch run"),
    (run_that_has_only_begun, "is no shiftwatch run"),
    (folder_of_runs, "is a folder of runs, such as sweep/first. Give one of them"),
    (newer, "pip install -U shiftwatch"),
    (export_as_a_word, "must end in .parquet, .csv or .json; got 'table.doc'"),
    (report_into_nothing, "Create it first or give another place"),
    (report_over_a_folder, "must be a file; got the folder"),
    (compare_below_a_file, "must lie in an existing folder"),
    (demo_over_a_file, "File exists"),
]


@pytest.mark.parametrize(("prepare", "words"), BAD)
def test_what_cannot_work_is_said_in_one_line(
    prepare: Callable[[Path], list[str]],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = prepare(tmp_path)
    assert main(arguments) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.startswith("shiftwatch: ") and errors.count("\n") == 1
    assert words in errors


def test_a_folder_that_may_not_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Root may write anywhere, so the question is answered in its place."""
    folder = record(tmp_path / "run", broken=False, steps=16)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert main(["report", str(folder)]) == 2
    assert f"that you may write; {folder} is none" in capsys.readouterr().err


def test_an_error_of_the_system_names_file_and_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "report.html")

    monkeypatch.setattr("shiftwatch.report.write", full)
    assert main(["report", str(record(tmp_path / "run", broken=False, steps=16))]) == 2
    assert "shiftwatch: report.html: No space left on device." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the following arguments are required: COMMAND. See: shiftwatch --help"),
        (["show"], "the following arguments are required: RUN. See: shiftwatch show --help"),
        (["shwo", "x"], "invalid choice: 'shwo'"),
        (["alerts", "x", "--severity", "info"], "invalid choice: 'info'"),
        (["show", "x", "--al"], "unrecognized arguments: --al"),
    ],
)
def test_wrong_usage_is_said_in_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith("shiftwatch: ") and errors.count("\n") == 1
    assert words in errors


@pytest.mark.parametrize("arguments", [["--debug", "show", "x"], ["show", "x", "--debug"]])
def test_debug_shows_where_an_error_comes_from(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    errors = capsys.readouterr().err
    assert "Traceback" in errors and "open_run" in errors


def test_a_fault_of_our_own_is_called_one(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 would say that there are alerts."""
    monkeypatch.setattr("shiftwatch.report.write", lambda *_: {}["gone"])
    assert main(["report", str(runs / "good")]) == 2
    assert "unexpected KeyError: 'gone'. This is a fault of shiftwatch" in capsys.readouterr().err


def test_damage_is_said_and_the_rest_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = record(tmp_path / "run", broken=False)
    with (folder / "attempt-001" / "log.jsonl").open("ab") as file:
        file.write(b"no json\n")
    assert main(["show", str(folder)]) == 0
    out, errors = capsys.readouterr()
    assert "fc1" in out
    assert errors.startswith(f"shiftwatch: {folder}: log.jsonl: line ")


def test_an_interrupt_is_quiet(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("shiftwatch.report.write", interrupt)
    assert main(["report", str(runs / "good"), "-o", "report.html"]) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes end in other ways there")
def test_a_reader_that_leaves_is_no_error(runs: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        ran = shiftwatch(
            "alerts", str(runs / "bad"), capture_output=False, stdout=pipe, stderr=subprocess.PIPE
        )
    assert (ran.returncode, ran.stderr) == (141, "")


# -- demo, help, start -----------------------------------------------------------------------


def test_demo_trains_judges_and_leaves_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import shiftwatch.demo

    why = "No framework demo can run here (torch's needs torch)."
    monkeypatch.setattr(shiftwatch.demo, "find_demo", lambda: (shiftwatch.demo.run, why))
    assert main(["demo", "--out", "here", "--quick"]) == 0
    out, errors = capsys.readouterr()
    assert out.startswith("2 of 2 verdicts are right\n  ok ")
    assert errors.startswith(why) and "  ! step 250 · <input>" in errors
    for page in ("healthy/report.html", "input/report.html", "compare.html"):
        assert str(Path("here", page)) in out
        assert Path("here", page).stat().st_size > 10_000


def test_demo_admits_a_wrong_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from shiftwatch import demo

    def wrong(folder: Path, say: demo.Say, *, quick: bool) -> list[demo.Outcome]:
        truth = demo.Truth("dead", "bias pushed down", 10, ("dead",), ("fc2",))
        return [demo.judge(truth, [], 1.0, None)]

    monkeypatch.setattr(demo, "find_demo", lambda: (wrong, ""))
    assert main(["demo"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("0 of 1 verdicts are right\n  WRONG dead")


def test_help_says_what_each_command_does_with_an_example_and_the_exit_codes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "exit codes:" in text
    for command in ("demo", "show", "alerts", "report", "compare", "export"):
        assert re.search(rf"^    {command} +\w", text, re.M)
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert f"\n  shiftwatch {command}" in capsys.readouterr().out


def test_version_is_that_of_the_package() -> None:
    ran = shiftwatch("--version")
    assert (ran.returncode, ran.stdout) == (0, f"shiftwatch {__version__}\n")


def test_help_loads_the_standard_library_alone() -> None:
    code = (
        "import sys, shiftwatch.cli as cli\n"
        "try: cli.main(['show', '--help'])\n"
        "except SystemExit: pass\n"
        "print('loaded', *{name.partition('.')[0] for name in sys.modules})"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert ran.returncode == 0, ran.stderr
    (loaded,) = (line for line in ran.stdout.splitlines() if line.startswith("loaded"))
    assert "shiftwatch" in loaded and not {"numpy", "rich", "pandas"} & set(loaded.split())


def test_a_terminal_that_knows_ascii_alone_gets_ascii(runs: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    ran = shiftwatch("show", str(runs / "bad"), env=environment)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.isascii() and "fc2" in ran.stdout and "...." in ran.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.skipif(importlib.util.find_spec("rich") is None, reason="rich is not installed")
def test_a_terminal_gets_colours_and_a_pipe_none(runs: Path) -> None:
    assert "\x1b" not in shiftwatch("alerts", str(runs / "bad")).stdout
    assert "\x1b[" in terminal(80, "alerts", str(runs / "bad"))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("columns", [80, 140])
def test_what_is_shown_fits_the_terminal(runs: Path, columns: int) -> None:
    text = re.sub(r"\x1b\[[\d;]*m", "", terminal(columns, "show", str(runs / "bad")))
    assert "fc2" in text
    assert max(map(cells, text.splitlines())) <= columns


def terminal(columns: int, *arguments: str) -> str:
    """What the program writes to a terminal of so many columns."""
    import fcntl
    import pty
    import struct
    import termios

    reading, writing = pty.openpty()
    fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "shiftwatch", *arguments]
    with subprocess.Popen(command, stdout=writing, stderr=writing, env=environment):
        os.close(writing)
        parts = []
        try:
            while part := os.read(reading, 65536):
                parts.append(part)
        except OSError:  # Linux's way to say that the other end is closed
            pass
    os.close(reading)
    return b"".join(parts).decode().replace("\r\n", "\n")


# -- what the commands share -----------------------------------------------------------------


@pytest.mark.parametrize("text", ["fc1", "layer.0 ×", "層", "a\\b"])
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert escape(text) == text


@pytest.mark.parametrize("text", ["\x1b[2J", "\r", "\x9b31m", "\u2028", "\u202e", "\ud800", "\x00"])
def test_whatever_moves_the_cursor_is_written_out(text: str) -> None:
    assert escape(text).isascii() and escape(text).isprintable()


def test_a_figure_takes_six_characters_at_most() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=2000) * 10.0 ** rng.integers(-9, 40, 2000)
    edges = [9.995, 9.9949, 99.95, 99.949, 9999.5, 9999.4, 0.0, -0.0, np.inf, -np.inf]
    assert max(len(figure(v)) for v in [*values.tolist(), *edges]) <= 6
    assert figure(-0.0001) == "0.00"


def test_waiting_is_mentioned_only_when_it_is_long(capsys: pytest.CaptureFixture[str]) -> None:
    with waiting("Counting"):
        pass
    with waiting("Reading"):
        for _ in range(300):
            time.sleep(0.1)
            if errors := capsys.readouterr().err:
                break
    assert errors == "Reading …\n"
