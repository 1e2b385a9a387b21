"""Reporters: what a person sees while training runs, and what survives trouble."""

from __future__ import annotations

import io
import json
import logging
import pickle
import struct
import subprocess
import sys
import textwrap
import zlib

import numpy as np
import pytest

from shiftwatch.history import History, Window
from shiftwatch.records import INPUT, Alert, Incident, Layer, Report, Site
from shiftwatch.reporters import (
    METRICS,
    ConsoleReporter,
    JsonlReporter,
    LoggingReporter,
    deliver,
    rollups,
    standing,
    worst,
)
from shiftwatch.reporters.line import line
from shiftwatch.reporters.pace import Pace
from shiftwatch.reporters.picture import colours, heatmap, png
from shiftwatch.summaries import Summary

SITES = (
    Site(INPUT),
    Site("fc1"),
    Site("fc1", "gradient"),
    Site("fc1", mode="eval"),
    Site("fc2", "input"),
)


def an_alert(number=1, layer="fc1", severity="warning", **changes):
    fields = {
        "step": 10, "layer": layer, "tensor": "output", "kind": "dead", "severity": severity,
        "metric": "dead_fraction", "value": 0.9, "limit": 0.5,
        "message": f"step 10 · {layer} output · dead_fraction 0.9 (limit 0.5)",
        "advice": "look at the bias", "origin": layer, "incident": number, "detected": 12,
    }  # fmt: skip
    return Alert(**(fields | changes))


def an_incident(number=1, origin="fc1", followers=(), cleared=None):
    return Incident(number, origin, 10, 12, "warning", ("dead",), followers, cleared)


def a_report(step=7, values=0.5, **changes):
    metrics = {name: np.full(len(SITES), float(values)) for name in METRICS}
    return Report(max(step - 7, 0), step, SITES, changes.pop("metrics", metrics), **changes)


# rollups


def test_the_worst_site_is_the_largest_by_size_and_keeps_its_sign():
    values = np.array([0.1, -0.8, 0.0, 0.0, 0.3])
    assert worst(a_report(metrics={"mean_shift": values}), "mean_shift") == (SITES[1], -0.8)


def test_gradients_and_eval_mode_do_not_compete_with_the_outputs_in_training():
    values = np.array([0.1, 0.2, 9.0, 9.0, 0.3])
    assert worst(a_report(metrics={"kl": values}), "kl") == (SITES[4], 0.3)


def test_nan_never_wins_and_infinity_does():
    assert worst(a_report(metrics={"kl": np.array([np.nan, 1, 0, 0, np.inf])}), "kl") == (
        SITES[4],
        np.inf,
    )
    assert worst(a_report(values=np.nan), "kl") is None
    assert worst(a_report(metrics={}), "kl") is None


def test_a_window_older_than_a_site_has_a_column_less_and_still_a_worst():
    assert worst(a_report(metrics={"kl": np.array([0.1, 0.2])}), "kl") == (SITES[1], 0.2)


def test_rollups_have_the_same_keys_whatever_was_measured():
    full = set(rollups(a_report()))
    assert full == set(rollups(a_report(metrics={})))
    assert full == {f"worst_{m}" for m in METRICS} | {
        "layers_in_alarm", "incidents", "overhead", "every",
    }  # fmt: skip
    assert all(type(value) is float for value in rollups(a_report()).values())


def test_an_incident_counts_until_it_is_cleared():
    first = a_report(incidents=(an_incident(1, "fc1", ("fc2", "fc3")), an_incident(2, "fc2")))
    opened = standing({}, first)
    later = standing(opened, a_report(step=15))
    series = rollups(a_report(step=15), later)
    assert (series["incidents"], series["layers_in_alarm"]) == (2.0, 3.0)
    after = standing(later, a_report(step=23, incidents=(an_incident(1, cleared=20),)))
    assert set(after) == {2}
    assert set(opened) == {1, 2}, "states are values: the one before is what it was"


# pace and lines


def test_a_pace_in_seconds_is_silent_at_first_and_then_keeps_its_distance(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    pace = Pace(seconds=60)
    heard = []
    for step in range(20):
        clock[0] += 10
        if pace.due(step):
            heard.append(step)
    assert heard == [5, 11, 17]


def test_a_pace_in_steps_goes_on_after_a_new_run_began_at_zero():
    pace = Pace(steps=100)
    assert [s for s in (99, 100, 199, 7, 99, 107) if pace.due(s)] == [99, 199, 107]


@pytest.mark.parametrize("wrong", [{"seconds": -1}, {"steps": 0}, {"seconds": float("nan")}])
def test_a_pace_of_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match="seconds must be 0 or more"):
        Pace(**wrong)


def test_a_line_names_the_worst_layers_and_a_few_origins():
    many = {n: an_incident(n, f"blocks.{n}") for n in range(5)}
    text = line(a_report(metrics={"kl": np.array([0, 0.25, 0, 0, 0])}, overhead=0.0123), many)
    assert text == (
        "step 7 · kl 0.25 at fc1 · in alarm: blocks.0, blocks.1, blocks.2 and 2 more · overhead 1.2 %"
    )
    assert "at fc2 input" in line(a_report(metrics={"kl": np.arange(5.0)}))


# logging


def test_alerts_are_logged_at_their_level_with_message_and_advice(caplog):
    alerts = (an_alert(), an_alert(severity="critical"))
    with caplog.at_level(logging.WARNING, logger="shiftwatch"):
        LoggingReporter()(a_report(alerts=alerts))
    assert [r.levelno for r in caplog.records] == [logging.WARNING, logging.CRITICAL]
    assert caplog.messages[0] == f"{alerts[0].message} · look at the bias"
    assert caplog.records[0].alert is alerts[0]


def test_a_percent_sign_in_a_message_is_no_format(caplog):
    with caplog.at_level(logging.WARNING, logger="shiftwatch"):
        LoggingReporter()(a_report(alerts=(an_alert(message="90 % dead %s", advice=""),)))
    assert caplog.messages == ["90 % dead %s"]


def test_a_summary_line_comes_now_and_then_and_at_the_end(caplog):
    reporter = LoggingReporter(steps=100)
    with caplog.at_level(logging.INFO, logger="shiftwatch"):
        for step in range(7, 240, 8):
            reporter(a_report(step))
        reporter(a_report(239, final=True))
    assert [r.levelno for r in caplog.records] == [logging.INFO] * 3
    starts = [message.split(" · ")[0] for message in caplog.messages]
    assert starts == ["step 103", "step 207", "step 239"]
    assert caplog.messages[-1].endswith("finished with no alert")


def run_python(code, *args, **env):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
        capture_output=True, text=True, timeout=60, check=False, encoding="utf-8", **env,
    )  # fmt: skip


def test_alerts_are_heard_on_stderr_where_nobody_set_up_logging():
    done = run_python("""
        from shiftwatch.records import Alert, Report
        from shiftwatch.reporters import LoggingReporter
        alert = Alert(1, "fc1", "output", "dead", "warning", "dead_fraction", .9, .5,
                      "fc1 is dead", "look at the bias", "fc1", 1, 2)
        LoggingReporter(steps=1)(Report(0, 7, (), {}, alerts=(alert,)))
        """)
    assert (done.stdout, done.stderr.strip()) == ("", "fc1 is dead · look at the bias")


def test_importing_shiftwatch_sets_up_no_logging():
    done = run_python("""
        import logging, shiftwatch.reporters
        logger = logging.getLogger("shiftwatch")
        assert not logger.handlers and not logging.getLogger().handlers
        assert logger.level == logging.NOTSET and logger.propagate
        """)
    assert done.returncode == 0, done.stderr


# console


def test_the_console_prints_when_due_and_at_once_on_an_alert():
    stream = io.StringIO()
    reporter = ConsoleReporter(stream, steps=100)
    reporter(a_report(7))
    reporter(a_report(15, alerts=(an_alert(),), incidents=(an_incident(),)))
    reporter(a_report(103))
    lines = stream.getvalue().splitlines()
    assert [text.split(" · ")[0] for text in lines] == [
        "shiftwatch: step 15",
        "shiftwatch: step 103",
    ]
    assert all("in alarm: fc1" in text for text in lines)


def test_the_console_writes_to_whatever_stdout_is_at_that_moment(capsys):
    ConsoleReporter(seconds=0)(a_report())
    assert capsys.readouterr().out.startswith("shiftwatch: step 7 ")


def test_a_terminal_without_unicode_still_gets_its_line():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    ConsoleReporter(stream, seconds=0)(a_report())
    assert raw.getvalue().startswith(b"shiftwatch: step 7 ? mean_shift")


def test_a_progress_bar_stays_in_one_piece(tmp_path):
    pytest.importorskip("tqdm")
    done = run_python("""
        import sys
        from tqdm import tqdm
        from shiftwatch.records import Report
        from shiftwatch.reporters import ConsoleReporter
        reporter = ConsoleReporter(sys.stderr, seconds=0)
        for step in tqdm(range(3), mininterval=0, file=sys.stderr):
            reporter(Report(step, step, (), {}))
        """)
    assert done.returncode == 0, done.stderr
    ours = [text for text in done.stderr.replace("\r", "\n").split("\n") if "shiftwatch:" in text]
    assert ours == [f"shiftwatch: step {step} · overhead 0 %" for step in range(3)]


# jsonl


def lines(path):
    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return [json.loads(text, parse_constant=refuse) for text in path.read_text().splitlines()]


def test_a_line_of_json_tells_the_whole_report(tmp_path):
    path = tmp_path / "new" / "log.jsonl"
    JsonlReporter(path)(
        a_report(
            metrics={"kl": np.array([0, np.inf, 0, 0, 0]), "saturation": np.full(5, np.nan)},
            alerts=(an_alert(value=np.inf),),
            incidents=(an_incident(followers=("fc2",)),),
            losses=np.array([1.0, np.nan, 3.0]),
        )
    )
    (row,) = lines(path)
    assert (row["first"], row["step"], row["final"], row["loss"]) == (0, 7, False, 2.0)
    assert row["rollups"]["worst_kl"] is None and row["rollups"]["worst_saturation"] is None
    assert row["rollups"]["layers_in_alarm"] == 2.0
    assert row["where"] == {"kl": "fc1:output"}
    assert row["alerts"][0]["value"] is None and row["alerts"][0]["incident"] == 1
    assert row["incidents"][0]["followers"] == ["fc2"]


def test_a_second_run_continues_the_file(tmp_path):
    for _ in range(2):
        JsonlReporter(tmp_path / "log.jsonl")(a_report())
    assert len(lines(tmp_path / "log.jsonl")) == 2


def test_a_folder_in_the_way_is_refused_at_once(tmp_path):
    with pytest.raises(OSError):
        JsonlReporter(tmp_path)


def test_numpy_numbers_in_an_alert_are_numbers(tmp_path):
    path = tmp_path / "log.jsonl"
    JsonlReporter(path)(a_report(alerts=(an_alert(step=np.int64(3), value=np.float32(0.5)),)))
    assert lines(path)[0]["alerts"][0]["value"] == 0.5


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes")
def test_a_full_disk_is_said_once_and_costs_no_line_when_there_is_room_again(tmp_path):
    path = tmp_path / "log.jsonl"
    done = run_python(
        """
        import resource, signal, sys
        from pathlib import Path
        from shiftwatch.records import Report
        from shiftwatch.reporters import JsonlReporter
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        path = Path(sys.argv[1])
        reporter = JsonlReporter(path)
        reporter(Report(0, 0, (), {}))
        room = path.stat().st_size + 10  # the next line does not fit, a part of it does
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        for step in (1, 2, 3):
            reporter(Report(step, step, (), {}))
            assert path.read_bytes().endswith(b"}\\n"), "a torn line"
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        reporter(Report(4, 4, (), {}))
        """,
        path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("cannot be written") == 1
    assert [row["step"] for row in lines(path)] == [0, 1, 2, 3, 4]


# deliver


def test_a_reporter_that_raises_is_logged_once_and_left_out(caplog):
    seen = []

    class Broken:
        def __call__(self, report):
            raise RuntimeError("no route to host")

    reporters = (Broken(), seen.append)
    with caplog.at_level(logging.INFO, logger="shiftwatch"):
        for step in (7, 15, 23):
            reporters = deliver(reporters, a_report(step))
    assert [report.step for report in seen] == [7, 15, 23]
    assert len(caplog.records) == 1 and caplog.records[0].exc_info
    assert "Broken failed at step 7 (RuntimeError: no route to host)" in caplog.messages[0]


def test_strict_raises_what_the_reporter_raised():
    def broken(report):
        raise RuntimeError("no route to host")

    with pytest.raises(RuntimeError, match="no route"):
        deliver((broken,), a_report(), strict=True)


def test_control_c_in_a_reporter_is_control_c():
    def interrupted(report):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deliver((interrupted,), a_report())


@pytest.mark.parametrize("make", [LoggingReporter, ConsoleReporter, "jsonl"])
def test_reporters_travel_to_another_process(make, tmp_path):
    reporter = JsonlReporter(tmp_path / "log.jsonl") if make == "jsonl" else make()
    pickle.loads(pickle.dumps(reporter))(a_report())


# picture


def pixels(image):
    """Reads back the PNGs that we write: 8 bit RGB, one chunk, no filter."""
    width, height = struct.unpack(">II", image[16:24])
    at = image.index(b"IDAT")
    (length,) = struct.unpack(">I", image[at - 4 : at])
    raw = zlib.decompress(image[at + 4 : at + 4 + length])
    rows = np.frombuffer(raw, np.uint8).reshape(height, 1 + 3 * width)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 3)


def test_a_png_holds_the_pixels_it_was_given():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(pixels(png(image)), image)


def test_other_programs_read_our_png(tmp_path):
    pil = pytest.importorskip("PIL.Image")
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(np.asarray(pil.open(io.BytesIO(png(image)))), image)


def test_colours_grow_lighter_with_the_size_of_the_value():
    light = colours(np.linspace(0, 1, 20), top=1.0).astype(float) @ [0.299, 0.587, 0.114]
    assert (np.diff(light) > 0).all()


def test_the_map_shows_outputs_in_training_and_escapes_names():
    run = a_history((Site("<b>&"), Site("fc1", "gradient"), Site("fc2")))
    page = heatmap(run, "kl")
    assert "<div>&lt;b&gt;&amp;</div>" in page and "<b>&" not in page
    assert "<div>fc2</div>" in page and "fc1" not in page
    assert "steps 0 to 15" in page and "http" not in page
    with pytest.raises(ValueError, match="no metric 'psi'"):
        heatmap(run, "psi")


def test_the_map_of_a_run_that_saw_nothing_is_a_page_all_the_same():
    page = heatmap(a_history((Site("fc1"),), values=np.full((1, 1), np.nan)), "kl")
    assert "<div>fc1</div>" in page


def a_history(sites, values=None):
    history = History()
    for site in sites:
        history.add_site(site, Layer(site.layer))
    values = np.array([[0.0, 9.0, 1.0], [1.0, 9.0, np.nan]]) if values is None else values
    for i, row in enumerate(values):
        empty = Summary.empty((len(sites),))
        history.add_window(Window(8 * i, 8 * i + 7, empty, {"kl": row}, np.zeros(0), 0.01))
    return history.view()
