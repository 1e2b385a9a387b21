"""W&B with the real package, offline; what the server would be sent is read from the file."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import numpy as np
import pytest

wandb = pytest.importorskip("wandb")

from shiftwatch.history import History, Window  # noqa: E402
from shiftwatch.integrations.wandb import WandbReporter, _shortened, thinned  # noqa: E402
from shiftwatch.records import Alert, Incident, Layer, Report, Site  # noqa: E402
from shiftwatch.reporters import METRICS, deliver  # noqa: E402
from shiftwatch.summaries import Summary  # noqa: E402
from tests import wandb_file  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # wandb's own

SITES = (Site("<input>"), Site("blocks.8.act"), Site("head"), Site("head", "gradient"))


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    for name, value in {
        "WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(tmp_path),
        "WANDB_CACHE_DIR": str(tmp_path / "cache"), "WANDB_DATA_DIR": str(tmp_path / "data"),
        "WANDB_CONSOLE": "off", "WANDB_X_DISABLE_STATS": "true", "WANDB_X_DISABLE_META": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    yield
    while wandb.run is not None:
        wandb.run.finish()


def start(**options):
    folder = os.environ["WANDB_DIR"]
    settings = wandb.Settings(console="off", x_disable_stats=True, x_disable_meta=True)
    return wandb.init(project="p", dir=folder, settings=settings, **options)


def a_window(step, **changes):
    """Of eight steps; the shift of blocks.8.act equals the step, the others' is 0.1."""
    values = np.array([0.1, float(step), -0.1, 99.0])
    metrics = dict.fromkeys(METRICS, values) | {"dead_fraction": np.full(4, np.nan)}
    return Report(step - 7, step, SITES, metrics, overhead=0.01, **changes)


def an_alert(number=1, origin="head"):
    return Alert(
        10, origin, "output", "dead", "critical", "dead_fraction", 0.9, 0.5,
        f"{origin} is dead", "look at the bias", origin, number, 12,
    )  # fmt: skip


def the_end(*reports):
    """The final report, with the history that the reports before make."""
    history = History()
    for site in SITES:
        history.add_site(site, Layer(site.layer, "Linear"))
    for r in reports:
        empty = Summary.empty((len(SITES),))
        history.add_window(Window(r.first, r.step, empty, dict(r.metrics), r.losses, 0.01))
        for incident in r.incidents:
            history.add_incident(incident)
        for alert in r.alerts:
            history.add_alert(alert)
    history.meta["finished"] = True
    last = reports[-1]
    return Report(last.first, last.step, SITES, last.metrics, final=True, run=history.view())


def ours(rows):
    return [row["shiftwatch/step"] for row in rows if "shiftwatch/worst_kl" in row]


def test_a_run_shows_rollups_alerts_tables_and_pages():
    run = start()
    reporter = WandbReporter(run, per_layer=["blocks.*"])
    incident = Incident(1, "head", 10, 12, "critical", ("dead",), ("out",))
    reports = [
        a_window(7),
        a_window(15, alerts=(an_alert(),), incidents=(incident,)),
        a_window(23),
    ]
    for report in reports:
        reporter(report)
        run.log({"loss": 1.0})
    reporter(the_end(*reports))
    file = wandb_file.finish(run)

    rows = wandb_file.history(file)
    assert ours(rows) == [7, 15, 23]
    first, second, third = rows[:3]
    assert first["shiftwatch/worst_kl"] == 7.0 and first["loss"] == 1.0
    assert "shiftwatch/worst_dead_fraction" not in first, "NaN draws nothing"
    assert first["shiftwatch_kl/blocks_8_act"] == 7.0
    assert [row["shiftwatch/incidents"] for row in rows[:3]] == [0, 1, 1]
    assert second["shiftwatch/layers_in_alarm"] == 2 and third["shiftwatch/alerts"] == 1
    assert all(len([k for k in row if k.startswith("shiftwatch/")]) <= 12 for row in rows[:3])

    (alert,) = wandb_file.records(file, "alert")
    assert (alert.title, alert.level) == ("dead: head", "ERROR")
    assert alert.text == "head is dead\nlook at the bias" and alert.wait_duration == 600_000

    layers = wandb_file.table(file, "shiftwatch/layers")
    assert layers["layer"] == ["<input>", "blocks.8.act", "head"]
    assert layers["kl"] == [0.1, 23.0, -0.1] and layers["worst_kl"] == [0.1, 23.0, -0.1]
    assert layers["dead_fraction"] == [None] * 3 and set(layers) >= set(METRICS)
    series = wandb_file.table(file, "shiftwatch/series")
    assert series["step"] == [7, 15, 23] and series["worst_kl"] == [7.0, 15.0, 23.0]
    assert wandb_file.table(file, "shiftwatch/alerts_raised")["origin"] == ["head"]

    assert "data:image/png;base64," in wandb_file.page(file, "shiftwatch/map")
    assert "blocks.8.act" in wandb_file.page(file, "shiftwatch/report")
    metrics = {m.name or m.glob_name: m for m in wandb_file.records(file, "metric")}
    assert metrics["shiftwatch/*"].step_metric == "shiftwatch/step"
    assert metrics["shiftwatch_kl/*"].step_metric == "shiftwatch/step"


USERS = {
    "implicit step": lambda run, step: run.log({"loss": step}),
    "explicit global step": lambda run, step: run.log({"loss": step}, step=step),
    "explicit epoch": lambda run, step: step % 8 == 7 and run.log({"loss": step}, step=step // 8),
    "in two calls": lambda run, step: (
        run.log({"loss": step}, commit=False),
        run.log({"accuracy": step}),
    ),
    "never": lambda run, step: None,
}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("first", ["user", "shiftwatch"])
def test_the_users_own_rows_are_complete_and_in_order(user, first):
    run = start()
    alone, both = [], []
    reporter = WandbReporter(run, html=False)
    reports = []
    for step in range(24):
        log = USERS[user]
        if first == "user":
            log(run, step)
        if step % 4 == 3:
            reports.append(a_window(step))
            reporter(reports[-1])
        if first == "shiftwatch":
            log(run, step)
    reporter(the_end(*reports))
    file = wandb_file.finish(run)
    both = [row for row in wandb_file.history(file) if "loss" in row]

    run = start()
    for step in range(24):
        USERS[user](run, step)
    file_alone = wandb_file.finish(run)
    alone = [row for row in wandb_file.history(file_alone) if "loss" in row]

    mine = ("loss", "accuracy", "_step")
    assert [[r.get(k) for k in mine] for r in both] == [[r.get(k) for k in mine] for r in alone]
    whole = wandb_file.table(file, "shiftwatch/series")["step"]
    assert whole == [3, 7, 11, 15, 19, 23], "what the charts lost, the table has"
    shown = ours(wandb_file.history(file))
    if user == "explicit epoch":
        assert shown and set(shown) <= set(whole)
    elif user == "never":
        assert shown == [23]
    else:
        assert shown[:5] == whole[:5]


def test_windows_that_the_charts_do_not_show_are_counted(caplog):
    run = start()
    reporter = WandbReporter(run, html=False, table=False)
    with caplog.at_level(logging.INFO, logger="shiftwatch"):
        for step in (7, 15, 23):
            reporter(a_window(step))
        reporter(the_end(a_window(23)))
    assert "charts show 1 of 3 windows" in caplog.text


def test_without_a_run_it_makes_one_of_its_own_and_finishes_it():
    reporter = WandbReporter(html=False)
    reports = [a_window(7), a_window(15)]
    for report in reports:
        reporter(report)
    assert wandb.run is None, "a wandb.log of the program must not go there"
    file = reporter._run.settings.sync_file
    reporter(the_end(*reports))
    assert ours(wandb_file.history(wandb_file.complete(file))) == [7, 15]
    assert wandb_file.table(file, "shiftwatch/series")["step"] == [7, 15]


def test_a_program_that_opens_its_run_late_shares_ours_and_keeps_its_rows(caplog):
    reporter = WandbReporter(html=False)
    reports = [a_window(7), a_window(15), a_window(23)]
    reporter(reports[0])
    run = start()
    for step in range(8, 24):
        run.log({"loss": step}, step=step)
        if step in (15, 23):
            reporter(a_window(step))
    reporter(the_end(*reports))
    rows = wandb_file.history(wandb_file.finish(run))
    assert [row["loss"] for row in rows if "loss" in row] == list(range(8, 24))
    assert "Call wandb.init() before training" in caplog.text


def test_it_takes_the_run_that_is_active_at_its_first_report():
    reporter = WandbReporter(html=False, table=False)
    run = start()
    reporter(a_window(7))
    file = wandb_file.finish(run)
    assert ours(wandb_file.history(file)) == [7]


def test_a_second_training_reports_to_the_run_that_is_active_then():
    reporter = WandbReporter(html=False)
    files = []
    for step in (7, 15):
        run = start()
        reporter(a_window(step))
        reporter(the_end(a_window(step)))
        files.append(wandb_file.finish(run))
    assert [ours(wandb_file.history(file)) for file in files] == [[7], [15]]


def test_two_runs_at_once_each_get_their_own():
    runs = [start(reinit="create_new") for _ in range(2)]
    for i, run in enumerate(runs):
        WandbReporter(run, html=False)(a_window(7 + 8 * i))
    files = [wandb_file.finish(run) for run in runs]
    assert [ours(wandb_file.history(file)) for file in files] == [[7], [15]]


def test_a_run_finished_before_the_monitor_is_said_once_and_nothing_else_happens(caplog):
    run = start()
    reporter = WandbReporter(run)
    reporter(a_window(7))
    run.finish()
    with caplog.at_level(logging.INFO, logger="shiftwatch"):
        alive = deliver((reporter,), a_window(15), strict=True)
        alive = deliver(alive, the_end(a_window(15)), strict=True)
    assert alive == (reporter,)
    ours = [record.levelname for record in caplog.records if record.name == "shiftwatch"]
    assert ours == ["WARNING"]
    assert "Close the monitor before run.finish()" in caplog.text


def test_disabled_mode_does_nothing_and_says_nothing(caplog):
    run = start(mode="disabled")
    reporter = WandbReporter(run, per_layer=["*"])
    with caplog.at_level(logging.INFO, logger="shiftwatch"):
        reporter(a_window(7, alerts=(an_alert(),)))
        reporter(a_window(15))
        reporter(the_end(a_window(7), a_window(15)))
    run.finish()
    assert not [record for record in caplog.records if record.name == "shiftwatch"]


def test_alerts_of_one_kind_and_origin_are_sent_once_within_the_cooldown():
    run = start()
    reporter = WandbReporter(run, html=False, table=False, cooldown=3600)
    reporter(a_window(7, alerts=(an_alert(1), an_alert(2, "fc1"))))
    reporter(a_window(15, alerts=(an_alert(3),)))
    file = wandb_file.finish(run)
    assert [a.title for a in wandb_file.records(file, "alert")] == ["dead: head", "dead: fc1"]


def test_no_cooldown_means_none_and_not_wandbs_minute():
    run = start()
    reporter = WandbReporter(run, html=False, table=False, cooldown=0)
    for step in (7, 15):
        reporter(a_window(step, alerts=(an_alert(step),)))
    file = wandb_file.finish(run)
    assert [a.wait_duration for a in wandb_file.records(file, "alert")] == [1, 1]


def test_a_report_that_cannot_be_made_leaves_the_tables(monkeypatch, caplog):
    import shiftwatch.report

    def broken(history):
        raise RuntimeError("no page today")

    monkeypatch.setattr(shiftwatch.report, "render", broken)
    run = start()
    reporter = WandbReporter(run)
    reporter(a_window(7))
    reporter(the_end(a_window(7)))
    file = wandb_file.finish(run)
    assert wandb_file.table(file, "shiftwatch/layers")["layer"][-1] == "head"
    assert "no page today" in caplog.text


def test_layers_whose_names_become_alike_keep_a_series_each():
    run = start()
    sites = (Site("a.b"), Site("a_b"))
    report = Report(0, 7, sites, {"kl": np.array([1.0, 2.0])})
    WandbReporter(run, per_layer=["*"], html=False)(report)
    file = wandb_file.finish(run)
    row = wandb_file.history(file)[-1]
    assert sorted(v for k, v in row.items() if k.startswith("shiftwatch_kl/")) == [1.0, 2.0]


def test_one_pattern_in_place_of_a_list_is_refused():
    with pytest.raises(TypeError, match="list of patterns"):
        WandbReporter(per_layer="blocks.*")


def test_titles_stay_under_the_64_characters_that_wandb_takes():
    title = _shortened("distribution_shift: ", "very." * 30 + "fc1")
    assert len(title) == 63 and title.endswith("very.fc1")
    assert _shortened("dead: ", "fc1") == "dead: fc1"


def test_thinning_keeps_the_peaks():
    rows = [{"step": float(i), "kl": 9.0 if i == 6 else float("nan")} for i in range(16)]
    for _ in range(3):
        rows = thinned(rows)
    assert [row["kl"] for row in rows if row["kl"] == row["kl"]] == [9.0]
    assert rows[-1]["step"] == 15.0


def test_without_wandb_the_error_says_how_to_get_it():
    code = "import sys; sys.modules['wandb'] = None\nimport shiftwatch.integrations.wandb"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "pip install 'shiftwatch[wandb]'" in done.stderr


def test_a_file_torn_at_any_byte_can_be_read_up_to_there(tmp_path):
    run = start()
    for step in range(5):
        run.log({"loss": step})
    file = wandb_file.finish(run)
    whole, data = wandb_file.history(file), file.read_bytes()
    torn = tmp_path / "torn.wandb"
    for size in range(7, len(data), 97):
        torn.write_bytes(data[:size])
        rows = wandb_file.history(torn)
        assert rows == whole[: len(rows)]
