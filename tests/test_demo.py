"""The demo of the core: every scenario is told rightly, and its verdicts are honest."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import numpy as np
import pytest

import shiftwatch
from shiftwatch import Alert, Monitor, demo
from shiftwatch.records import INPUT


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[demo.Outcome]:
    folder = tmp_path_factory.mktemp("demo")
    lines: list[str] = []
    found = demo.run(folder, lines.append)
    assert [line.split(":")[0] for line in lines] == [o.truth.name for o in found]
    return found


def test_every_scenario_is_told_rightly(outcomes: list[demo.Outcome]) -> None:
    assert all(o.right for o in outcomes), demo.table(outcomes)
    assert {o.truth.step is None for o in outcomes} == {True, False}  # healthy and broken ones


def test_every_scenario_leaves_a_run(outcomes: list[demo.Outcome]) -> None:
    for outcome in outcomes:
        assert outcome.run is not None and outcome.run.name == outcome.truth.name
        run = shiftwatch.open(outcome.run)
        assert run.meta["finished"] and run.meta["config"] == {"scenario": outcome.truth.what}
        assert bool([a for a in run.alerts if a.severity != "info"]) == (
            outcome.truth.step is not None
        )


def test_the_healthy_network_learns(outcomes: list[demo.Outcome]) -> None:
    run = outcomes[0].run
    assert run is not None
    losses = shiftwatch.open(run).losses
    assert losses[0] > 2.0 and losses[-1] < 0.5


def test_faults_are_found_within_a_few_steps_at_the_step_they_struck(
    outcomes: list[demo.Outcome],
) -> None:
    for outcome in outcomes:
        if outcome.truth.step is None or outcome.run is None:
            continue
        first = shiftwatch.open(outcome.run).alerts[0]
        assert first.step == outcome.truth.step
        assert first.detected - first.step <= 16
        assert first.origin in outcome.truth.origins


def test_the_table_shows_truth_beside_verdict(outcomes: list[demo.Outcome]) -> None:
    text = demo.table(outcomes)
    for outcome in outcomes:
        assert outcome.truth.name in text and outcome.truth.what in text and outcome.found in text
    assert "WRONG" not in text


# --- the verdicts ------------------------------------------------------------------------

TRUTH = demo.Truth("dead", "a bias pushed down", 100, ("dead",), ("fc2",))


def alert(kind: str = "dead", origin: str = "fc2", step: int = 100, incident: int = 1) -> Alert:
    return Alert(
        step, "fc2", "output", kind, "warning", "dead_fraction", 1.0, 0.5, f"it broke: {kind}", "",
        origin, incident, step + 2,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("alerts", "right"),
    [
        ([alert()], True),
        ([alert("mean_shift"), alert()], True),
        ([], False),
        ([alert("mean_shift")], False),
        ([alert(origin="fc1")], False),
        ([alert(step=99)], False),  # before it struck: luck
        ([alert("mean_shift", "fc1"), alert(incident=2)], False),  # only its second incident
    ],
)
def test_a_fault_is_told_rightly_by_kind_origin_and_time(alerts: list[Alert], right: bool) -> None:
    outcome = demo.judge(TRUTH, alerts, 1.0, None)
    assert outcome.right is right
    assert ("no alert" in outcome.found) == (not alerts)


def test_any_alert_in_a_healthy_run_is_wrong() -> None:
    healthy = demo.Truth("healthy", "nothing")
    assert demo.judge(healthy, [], 1.0, None).right
    wrong = demo.judge(healthy, [alert()], 1.0, None)
    assert not wrong.right and "it broke" in wrong.found
    assert "WRONG" in demo.table([wrong])


def test_where_every_layer_is_hit_any_origin_is_right() -> None:
    truth = demo.Truth("rate", "learning rate × 1000", 100, ("dead",))
    assert demo.judge(truth, [alert(origin="fc9")], 1.0, None).right


def test_watching_changes_nothing_in_the_training() -> None:
    def trained(watched: bool) -> list[np.ndarray]:
        random = np.random.default_rng(0)
        network = demo.Network(random, (8, 6, 4))
        monitor = Monitor(run=False, rules=None if watched else ())
        with monitor:
            for _ in range(20):
                x, y = random.normal(size=(16, 8)), random.integers(0, 4, 16)
                network.train(x, y, 0.1, monitor)
        assert monitor.history.sites[0].layer == INPUT
        return network.weights + network.biases

    for a, b in zip(trained(True), trained(False), strict=True):
        np.testing.assert_array_equal(a, b)


# --- which demo runs ---------------------------------------------------------------------


def announced(monkeypatch: pytest.MonkeyPatch, *entries: EntryPoint) -> None:
    monkeypatch.setattr(demo, "entry_points", lambda group: entries)


def test_a_frameworks_demo_runs_where_the_framework_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    announced(monkeypatch, EntryPoint("zlib", "zlib:adler32", "shiftwatch.demos"))
    import zlib

    assert demo.find_demo() == (zlib.adler32, "")


def test_without_a_framework_the_demo_of_the_core_runs_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    announced(monkeypatch)
    assert demo.find_demo()[0] is demo.run and "announced" in demo.find_demo()[1]
    announced(monkeypatch, EntryPoint("odd", "no_such_package.demo:main", "shiftwatch.demos"))
    found, why = demo.find_demo()
    assert found is demo.run and "odd" in why and "no_such_package" in why
