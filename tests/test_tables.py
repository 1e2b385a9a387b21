"""The tables of a run, in pandas, Polars and Arrow and as files: the same numbers in each."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shiftwatch import Monitor, Run
from shiftwatch.cli.export import TABLES as OFFERED
from shiftwatch.export import export
from shiftwatch.history import History, Window
from shiftwatch.records import Alert, Incident, Layer, Site
from shiftwatch.store import open_run
from shiftwatch.summaries import Summary
from shiftwatch.tables import TABLES, table

STEPS, FAULT = 120, 80


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three layers; the second, of a name that needs quotes, is not finite from FAULT on."""
    folder = tmp_path_factory.mktemp("runs") / "broken"
    rng = np.random.default_rng(0)
    with Monitor(folder) as monitor:
        for step in range(STEPS):
            for name in ("fc1", "fc,2\n層", "fc3"):
                values = rng.normal(size=(32, 16))
                if name != "fc1" and step >= FAULT:
                    values[0] = np.inf
                monitor.observe(name, values, activation="relu" if name == "fc3" else "")
            monitor.event("learning_rate", "0.1 to 0.01") if step == 40 else None
            monitor.step(loss=1.0 / (step + 1))
    return open_run(folder)


def rows_of(run: Run, name: str, package: str) -> list[dict[str, Any]]:
    """A table's rows as plain Python values, missing ones as None."""
    pytest.importorskip({"arrow": "pyarrow"}.get(package, package))
    if package == "arrow":
        return [dict(row) for row in run.to_arrow(name).to_pylist()]
    if package == "polars":
        return run.to_polars(name).to_dicts()
    rows = run.to_pandas(name).to_dict(orient="records")
    return [{key: _plain(value) for key, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    return None if type(value).__name__ == "NAType" else value


@pytest.mark.parametrize("package", ["pandas", "polars", "arrow"])
@pytest.mark.parametrize("name", TABLES)
def test_each_package_gets_the_same_rows(run: Run, name: str, package: str) -> None:
    rows = rows_of(run, name, package)
    columns = table(run, name)
    assert rows and all(list(row) == list(columns) for row in rows)
    for key, column in columns.items():
        values = list(column.values)
        if column.words is not None:
            values = [column.words[code] for code in values]
        expected = [list(value) if isinstance(value, tuple) else value for value in values]
        np.testing.assert_equal([row[key] for row in rows], expected)


def test_the_alert_and_the_incident_are_those_of_the_run(run: Run) -> None:
    pytest.importorskip("pandas")
    assert run.to_pandas("alerts")["step"].tolist() == [a.step for a in run.alerts]
    (incident,) = run.to_pandas("incidents").to_dict(orient="records")
    assert (incident["origin"], incident["step"]) == ("fc,2\n層", FAULT)
    assert incident["kinds"] == ["nonfinite"]


def test_a_layer_is_one_group_however_many_tensors_of_it_were_seen() -> None:
    pytest.importorskip("pyarrow")
    monitor = Monitor(run=False)
    rng = np.random.default_rng(0)
    for _ in range(16):
        for name in ("fc1", "fc\ud800", "fc\\ud800"):  # the last is how the one before is spelled
            for tensor in ("output", "gradient"):
                monitor.observe(name, rng.normal(size=(32, 4)), tensor=tensor)
        monitor.step()
    arrow = monitor.history.to_arrow()
    for key in ("layer", "tensor", "metric"):
        words = arrow[key].chunk(0).dictionary.to_pylist()
        assert sorted(words) == sorted(set(words))
    groups = arrow.group_by("layer").aggregate([("value", "count")])
    assert sorted(groups["layer"].to_pylist()) == ["fc1", "fc\\ud800"]
    assert arrow.to_pandas()["layer"].tolist() == monitor.history.to_pandas()["layer"].tolist()


def test_losses_come_step_by_step(run: Run) -> None:
    steps, losses = run.course
    assert steps.tolist() == list(range(STEPS))
    np.testing.assert_allclose(losses, 1.0 / (steps + 1))


def test_losses_of_merged_windows_are_means_up_to_their_step() -> None:
    """The loss is the step itself here: the mean of some steps lies a little before the last."""
    history = History(limit=64)
    history.add_site(Site("fc1"), Layer("fc1"))
    for step in range(0, 4096, 4):
        given = np.arange(step, step + 4, dtype=float)
        history.add_window(Window(step, step + 3, Summary.empty((1,)), {}, given, 0.0))
    run = history.view()
    steps, losses = run.course
    assert len(run) == 64 and steps[-1] == 4095 and np.all(np.diff(steps) > 0)
    assert 512 < losses.size < 4096
    stride = np.diff(steps, prepend=-1)
    assert np.all(np.abs(steps - losses - (stride - 1) / 2) <= stride)


def test_each_loss_stands_beside_the_learning_rate_of_its_step() -> None:
    """One window knows both, one no rate, and in one a rate stands for several steps."""
    history = History()
    history.add_site(Site("fc1"), Layer("fc1"))
    empty, losses = Summary.empty((1,)), np.arange(4.0)
    known = [[0, 1, 2, 3], [0.4, 0.3, 0.2, 0.1]], [[], []], [[9, 11], [0.05, 0.01]]
    for first, rates in zip((0, 4, 8), known, strict=True):
        window = Window(first, first + 3, empty, {}, losses, 0.0, np.array(rates))
        history.add_window(window)
    beside = table(history.view(), "losses")["learning_rate"].values
    unknown = [np.nan] * 4
    np.testing.assert_array_equal(beside, [0.4, 0.3, 0.2, 0.1, *unknown, 0.05, 0.05, 0.01, 0.01])
    ends = table(history.view(), "windows")["learning_rate"].values
    np.testing.assert_array_equal(ends, [0.1, np.nan, 0.01])


def test_a_window_without_losses_has_no_row() -> None:
    history = History()
    history.add_site(Site("fc1"), Layer("fc1"))
    history.add_window(Window(0, 7, Summary.empty((1,)), {}, np.zeros(0), 0.0))
    history.add_window(Window(8, 9, Summary.empty((1,)), {}, np.array([np.nan, 2.0]), 0.0))
    steps, losses = history.view().course
    assert (steps.tolist(), losses.tolist()) == ([9], [2.0])


@pytest.mark.parametrize("package", ["pandas", "polars", "arrow"])
def test_an_empty_run_has_empty_tables_of_the_same_types(run: Run, package: str) -> None:
    pytest.importorskip({"arrow": "pyarrow"}.get(package, package))
    for name in TABLES:
        full, empty = (getattr(r, f"to_{package}")(name) for r in (run, Run()))
        if package == "arrow":
            assert (empty.num_rows, empty.schema) == (0, full.schema)
        elif package == "polars":
            assert (empty.height, empty.schema) == (0, full.schema)
        else:
            assert len(empty) == 0
            assert [kind.kind for kind in empty.dtypes] == [kind.kind for kind in full.dtypes]


@pytest.mark.parametrize("ending", ["parquet", "csv", "json"])
@pytest.mark.parametrize("name", TABLES)
def test_a_file_of_each_table_reads_back(run: Run, name: str, ending: str, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    path = export(run, tmp_path / f"{name}.{ending}", name)
    exact = partial(pandas.read_json, precise_float=True)
    read = {"parquet": pandas.read_parquet, "csv": pandas.read_csv, "json": exact}
    got, want = read[ending](path), run.to_pandas(name)
    assert list(got) == list(want)
    assert len(got) == len(want)
    for key in want:
        if key in ("kinds", "followers", "parents", "shape"):
            lists = [json.loads(v) if isinstance(v, str) else list(v) for v in got[key]]
            assert lists == want[key].tolist()
        elif want[key].dtype.kind == "f":
            shown = want[key].replace(np.inf, np.nan) if ending == "json" else want[key]
            np.testing.assert_allclose(got[key].astype(float), shown, rtol=1e-14)
        elif want[key].notna().all():
            assert (
                got[key].astype(object).where(got[key].notna(), "").tolist() == want[key].tolist()
            )


def test_another_table_or_mode_is_refused_by_name() -> None:
    with pytest.raises(
        ValueError, match=r"table must be one of .*; got 'alert'\. Did you mean 'alerts'"
    ):
        table(Run(), "alert")
    with pytest.raises(FileNotFoundError, match=r"got nowhere/a\.csv\. Create nowhere first"):
        export(run, "nowhere/a.csv")
    with pytest.raises(ValueError, match=r"mode must be 'train' or 'eval'; got 'test'"):
        table(Run(), "metrics", "test")


def test_the_command_offers_every_table() -> None:
    assert OFFERED == tuple(TABLES)


def test_what_may_be_missing_is_no_number(tmp_path: Path) -> None:
    """An incident that is open has not been cleared at any step."""
    pandas = pytest.importorskip("pandas")
    incidents = [
        Incident(1, "fc1", 3, 4, "warning", ("dead",), cleared=9),
        Incident(2, "fc2", 5, 5, "critical", ("nonfinite",)),
    ]
    cleared = Run(incidents=incidents).to_pandas("incidents")["cleared"]
    assert str(cleared.dtype) == "Int64" and cleared[0] == 9 and cleared[1] is pandas.NA


def test_without_its_package_each_says_what_to_install() -> None:
    code = """if True:
        import sys
        for name in ("pandas", "polars", "pyarrow"):
            sys.modules[name] = None
        from shiftwatch import Run
        from shiftwatch.export import export
        to_parquet = lambda: export(Run(), "run.parquet")
        for call in (Run().to_pandas, Run().to_polars, Run().to_arrow, to_parquet):
            try:
                call()
            except ImportError as error:
                print(error)
    """
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    extras = [line.rpartition("pip install ")[2] for line in out.stdout.splitlines()]
    wanted = ("export", "polars", "export", "export")
    assert extras == [f"'shiftwatch[{name}]'" for name in wanted]


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_csv_and_json_need_no_package(ending: str, tmp_path: Path) -> None:
    code = f"""if True:
        import sys
        for name in ("pandas", "polars", "pyarrow"):
            sys.modules[name] = None
        from shiftwatch import Run
        from shiftwatch.export import export
        print(export(Run(), "run.{ending}"))
    """
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    text = (tmp_path / f"run.{ending}").read_text()
    assert (
        json.loads(text) == [] if ending == "json" else text == "step,layer,tensor,metric,value\n"
    )


@pytest.mark.parametrize("value", [1e-300, 0.1, 1 / 3, -2.5e17, float("inf"), float("nan")])
def test_every_digit_of_a_number_comes_back(value: float, tmp_path: Path) -> None:
    """pandas' JSON keeps fifteen places, which makes 1e-20 nothing."""
    incident = Alert(1, "fc1", "output", "dead", "warning", "kl", value, 0.4, "", "", "fc1", 1, 2)
    run = Run(alerts=[incident])
    (row,) = json.loads(export(run, tmp_path / "a.json", "alerts").read_text())
    np.testing.assert_equal(row["value"], value if np.isfinite(value) else None)
    head, line = export(run, tmp_path / "a.csv", "alerts").read_text().splitlines()
    shown = dict(zip(head.split(","), line.split(","), strict=True))["value"]
    np.testing.assert_equal(float(shown or "nan"), value)


def test_an_alert_of_many_lines_stays_one_row(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    text = 'a "quoted"\nline, and; more'
    alert = Alert(1, "fc1", "output", "dead", "warning", "dead_fraction", 0.9, 0.4, text, "", "fc1", 1, 2)  # fmt: skip
    path = export(Run(alerts=[alert]), tmp_path / "alerts.csv", "alerts")
    assert pandas.read_csv(path)["message"].tolist() == [text]
