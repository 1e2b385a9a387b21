"""Runs held against each other: the numbers, the words, and the command line's files."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import shiftwatch
from shiftwatch import Monitor
from shiftwatch.cli import main
from shiftwatch.comparison import LIMITS, Comparison, compare
from shiftwatch.comparison.alignment import pair_windows
from shiftwatch.comparison.departure import departures
from shiftwatch.comparison.junit import junit
from shiftwatch.comparison.measures import more_drift
from shiftwatch.comparison.words import sentence
from shiftwatch.divergences import DIVERGENCES
from shiftwatch.history import History, Run, Window
from shiftwatch.records import Event, Layer, Site
from shiftwatch.report import render_comparison
from shiftwatch.summaries import Block, measure
from tests.simulated import HOSTILE, empty_run, simulated


@functools.cache
def _good() -> Run:
    return simulated(fault=False, seed=1)


@functools.cache
def _bad() -> Run:
    return simulated(seed=2)


@functools.cache
def _compared() -> Comparison:
    return compare(_good(), _bad(), names=("good", "bad"))


# -- what departs ---------------------------------------------------------------------------


def test_a_run_does_not_differ_from_itself() -> None:
    """Nothing departs, every score is 0, and the verdict says so."""
    (against,) = compare(_good(), _good()).against
    assert against.departed == against.passed == ()
    assert all(d.score == 0 for d in against.differences)
    assert "none of 12 layers departs" in against.verdict


def test_two_seeds_of_one_recipe_do_not_depart() -> None:
    """What chance changes stays under the limits."""
    (against,) = compare(_good(), simulated(fault=False, seed=3)).against
    assert against.departed == against.passed == ()


def test_the_broken_layer_departs_first_and_leads_the_ranking() -> None:
    """Its mean moves from step 600 on, a little more with each window; gradients fell at once."""
    (against,) = _compared().against
    assert against.differences[0].layer == "block1.norm"
    first = next(d for d in against.departed if d.measure != "gradient")
    assert first.layer == "block1.norm"
    assert first.since is not None and 600 <= first.since <= 640
    assert f"from step {first.since}" in first.sentence
    assert f"First, {against.departed[0].sentence}." in _compared().verdict


def test_layers_before_the_broken_one_do_not_depart() -> None:
    """Neither do the input and what the fault cannot reach."""
    gone = {d.layer for d in _compared().against[0].departed if d.measure != "gradient"}
    assert not gone & {"block0.conv", "block0.norm", "block0.relu", "block1.conv", "<input>"}


def test_values_are_the_divergences_of_b_from_a() -> None:
    """At each moment, of the windows that were matched."""
    a, b, (against,) = _good(), _bad(), _compared().against
    k, column = 150, [p.b for p in against.pairs].index("block2.conv")
    i, j = int(against.aligned.window_a[k]), int(against.aligned.window_b[k])
    one = a.summary(i)[a.column(Site("block2.conv"))]
    other = b.summary(j)[b.column(Site("block2.conv"))]
    for key in ("mean_shift", "variance_shift", "js"):
        assert against.values[key][k, column] == pytest.approx(DIVERGENCES[key](other, one))


def test_shares_are_differences_of_what_the_runs_recorded() -> None:
    """B's share less A's."""
    a, b, (against,) = _good(), _bad(), _compared().against
    site = Site("block1.relu")
    column = [p.b for p in against.pairs].index("block1.relu")
    expected = b.metric("saturation")[:, b.column(site)] - a.metric("saturation")[:, a.column(site)]
    np.testing.assert_allclose(against.values["saturation"][:, column], expected)


def test_shares_that_were_not_recorded_are_counted_again() -> None:
    """NaN in the summaries is seen without the metric."""
    a = _shifted(lambda step: 0.0)
    b = _shifted(lambda step: np.nan if step > 5 else 0.0)
    found = compare(a, b, names=("a", "b")).differences[0]
    assert found.measure == "nonfinite"
    assert found.sentence == "100 % of fc's values are not finite from step 6, 0 % in a"


def test_one_odd_window_is_no_departure() -> None:
    """A spike is the alerts' business; what stays is a departure, since its first window."""
    a = _shifted(lambda step: 0.0)
    (spike,) = compare(a, _shifted(lambda step: 9.0 * (step == 20))).against
    assert spike.departed == spike.passed == ()
    (jump,) = compare(a, _shifted(lambda step: 9.0 * (step >= 20))).against
    assert jump.departed[0].since == 20 and jump.departed[0].until is None


def test_what_came_back_has_passed_and_fails_no_check() -> None:
    """Ten steps of another mean, then the same again."""
    a = _shifted(lambda step: 0.0)
    found = compare(a, _shifted(lambda step: 9.0 * (10 <= step < 20)))
    (passed,) = found.against[0].passed
    assert (passed.since, passed.until) == (10, 20)
    assert found.against[0].departed == () and not found.fails("difference")
    assert "For a while" in found.verdict


def test_moments_without_a_value_count_neither_for_nor_against() -> None:
    """Three known moments over the limit are as many, whatever lies between them."""
    series = np.array([0.0, 0.0, np.nan, 2.0, np.nan, 2.0, np.nan, np.nan, 2.0, 0.0, 0.0, 0.0])
    (found,) = departures(series[:, None])
    assert (found.score, found.begin, found.end) == (2.0, 3, 9)
    (alone,) = departures(np.array([0.0, 0.0, 3.0, np.nan, np.nan, np.nan, 0.0, 0.0])[:, None])
    assert alone.begin == -1


def test_a_difference_that_changes_sides_is_none() -> None:
    """Now more, now less: that is noise, however large."""
    assert departures(np.tile([3.0, -3.0], 20)[:, None])[0].score == 0.0


def test_a_difference_from_the_start_is_said_so() -> None:
    """And its size is that of the shift."""
    difference = compare(_shifted(lambda s: 0.0), _shifted(lambda s: 4.0)).differences[0]
    assert re.fullmatch(
        r"fc's values lie [34](\.\d)? standard deviations higher from the start",
        difference.sentence,
    )
    assert difference.value == pytest.approx(4.0, abs=0.3)


def test_drift_counts_where_it_is_larger_by_ratio_and_by_distance() -> None:
    """Ten times hardly anything is hardly anything."""
    more = more_drift(np.array([0.01, 1.0, 10.0, np.nan]), np.array([0.1, 4.0, 11.0, 1.0]))
    assert more[0] < 0.1 and more[1] == 2.0 and more[2] < 0.2 and np.isnan(more[3])


def test_a_smaller_loss_that_shrinks_all_gradients_is_no_difference() -> None:
    """Gradients are compared beside those of the other layers; one that vanishes is seen."""

    def run(factors: list[float]) -> Run:
        return _sized([Site(f"fc{i}", "gradient") for i in range(5)], factors)

    assert compare(run([1.0] * 5), run([1e-4] * 5)).against[0].departed == ()
    (gone,) = compare(run([1.0] * 5), run([1, 1, 1, 1e-3, 1])).against[0].departed
    assert (gone.layer, gone.measure) == ("fc3", "gradient")
    assert (
        gone.sentence
        == ("fc3's gradient, beside that of other layers, is 1,000× smaller from the start")
        or "over 1,000×" in gone.sentence
    )


def test_updates_that_stop_are_a_difference() -> None:
    """A layer that no longer moves has updates of nothing; a ratio of nothing is bounded."""
    sites = [Site("fc", "weight", "weight"), Site("fc", "update", "weight")]
    (gone,) = compare(_sized(sites, [1, 1e-3]), _sized(sites, [1, 0])).against[0].departed
    assert gone.sentence == (
        "fc's updates, for the size of its weights, are over 1,000× smaller from the start"
    )


def test_every_measure_has_a_limit_and_a_sentence() -> None:
    """For more and for less."""
    (against,) = _compared().against
    assert set(against.values) == set(LIMITS)
    assert all(v.shape == (200, 13) for v in against.values.values())
    for key in LIMITS:
        for value in (-2.0, 2.0):
            said = sentence(key, "fc1", value, 0.1, 0.4, "from step 7", name_a="good")
            assert "fc1" in said and "from step 7" in said


def test_a_difference_of_the_input_alone_is_said_so() -> None:
    """It is no layer: none of them departs."""

    def train(fault: bool) -> Run:
        rng = np.random.default_rng(0)
        monitor = Monitor(run=False)
        for step in range(64):
            for name in ("<input>", "fc1"):
                wide = 8.0 if fault and name == "<input>" and step > 31 else 1.0
                monitor.observe(name, wide * rng.normal(size=(32, 4)))
            monitor.step()
        return monitor.history

    (against,) = compare(train(False), train(True), names=("good", "new")).against
    assert [d.layer for d in against.departed] == ["<input>"]
    assert "new departs from good in its input alone. First, the input" in against.verdict


def test_infos_are_no_alerts_of_either() -> None:
    """Only warnings and criticals count."""
    assert _compared().alerts[0] == ()
    assert {a.severity for a in _compared().alerts[1]} == {"critical", "warning"}


def test_three_runs_are_each_held_against_the_first() -> None:
    """The order of the runs is kept."""
    found = compare(_good(), _good(), _bad(), names=("a", "b", "c"))
    assert [len(x.departed) > 0 for x in found.against] == [False, True]
    assert "b is like a" in found.verdict and "c raised 2 incidents, a none" in found.verdict


def test_runs_of_one_name_are_told_apart() -> None:
    """Names in words must name one run each."""
    assert compare(_good(), _good()).names == ("in memory (1)", "in memory (2)")


# -- which moments --------------------------------------------------------------------------


def test_windows_match_by_step_and_not_by_number() -> None:
    """A run with windows of ten steps beside one with windows of one."""
    a = _shifted(lambda step: float(step >= 50) * 5, every=1, steps=100)
    b = _shifted(lambda step: float(step >= 50) * 5, every=10, steps=100)
    (against,) = compare(a, b).against
    assert (np.abs(against.aligned.last_a - against.aligned.last_b) <= 5).all()
    assert against.departed == ()


def test_only_the_common_time_is_compared() -> None:
    """What B did after A had ended is no difference."""
    a = _shifted(lambda step: 0.0, steps=40)
    b = _shifted(lambda step: 9.0 * (step > 60), steps=100)
    (against,) = compare(a, b).against
    assert against.aligned.last_b.max() <= 41
    assert against.departed == ()


def test_by_share_of_training_a_schedule_of_half_the_length_is_the_same() -> None:
    """By step the two are apart, by share they are one."""
    a = _shifted(lambda step: 5.0 * (step >= 100), steps=200)
    b = _shifted(lambda step: 5.0 * (step >= 50), steps=100)
    assert compare(a, b).against[0].departed
    found = compare(a, b, align="share")
    assert found.against[0].departed == ()
    assert found.against[0].aligned.at[-1] == 1.0


def test_by_epoch_each_run_is_read_at_its_own_pace() -> None:
    """Epochs of 20 steps against epochs of 40, as the runs noted them."""
    a = _shifted(lambda step: 5.0 * (step >= 40), steps=80, epoch=20)
    b = _shifted(lambda step: 5.0 * (step >= 80), steps=160, epoch=40)
    assert compare(a, b).against[0].departed
    assert compare(a, b, align="epoch").against[0].departed == ()
    assert pair_windows(a, b, "epoch").at[-1] == pytest.approx(4.0)


def test_runs_without_a_step_in_common_have_a_page_by_share() -> None:
    """One that went on where the other ended; nobody asked how they compare by step."""
    a = _shifted(lambda step: 0.0)
    b = _shifted(lambda step: 0.0, begin=9000)
    page = render_comparison(a, b, align="share")
    assert '"alignments":["share"]' in page


def test_epochs_noted_while_training_are_known_to_the_comparison() -> None:
    """``monitor.event("epoch", …)`` is all it takes."""
    with Monitor(run=False) as monitor:
        for step in range(64):
            if step % 16 == 0:
                monitor.event("epoch", str(step // 16))
            monitor.observe("fc", np.random.default_rng(step).normal(size=(16, 4)))
            monitor.step()
    found = compare(monitor.history, monitor.history, align="epoch")
    assert found.against[0].aligned.at[-1] == pytest.approx(4.0)


def test_a_note_of_an_epoch_changes_nothing_that_is_judged_or_told() -> None:
    """At each step or never: the same reports, alerts and windows, of a run that breaks."""

    def trained(note: bool) -> tuple[Monitor, list[str]]:
        told: list[Any] = []
        with Monitor(run=False, reporters=[told.append]) as monitor:
            for step in range(96):
                if note:
                    monitor.event("epoch", str(step))
                values = np.random.default_rng(step).normal(size=(16, 4))
                monitor.observe("fc", values * (50 if step >= 64 else 1))
                monitor.step(loss=1.0)
        return monitor, [repr((r.first, r.step, r.metrics, r.alerts, r.incidents)) for r in told]

    (noted, told), (silent, expected) = trained(True), trained(False)
    assert told == expected and noted.alerts == silent.alerts != []
    assert len(noted.history.events) == 96 and silent.history.events == []


def test_thousands_of_epochs_take_little_room_on_the_page() -> None:
    """One at each of 40,000 steps: some are sent, and between those they go on evenly."""
    run = _shifted(lambda step: 0.0, every=1_000, steps=40_000)
    plain = render_comparison(run, run, names=("a", "b"))
    run.events += [Event(step, "epoch", str(step)) for step in range(40_000)]
    page = render_comparison(run, run, align="epoch", names=("a", "b"))
    assert len(page) < len(plain) + 50_000
    assert '"done":[0.0,40.0,80.0' in page


def test_long_runs_are_compared_at_an_even_choice_of_steps() -> None:
    """From the first window to the last."""
    a = simulated(layers=2, windows=700, distinct=5, fault=False, evaluation=False)
    aligned = compare(a, a).against[0].aligned
    assert aligned.size == 300
    assert aligned.last_b[0] == a.steps[0] and aligned.last_b[-1] == a.steps[-1]


# -- learning rates -------------------------------------------------------------------------


def _steady(**options: Any) -> Run:
    return _shifted(lambda step: 0.0, **options)


def _cosine(steps: int) -> Any:
    return lambda step: 0.05 * (1 + np.cos(np.pi * step / steps))


def _halving(every: int) -> Any:
    return lambda step: 0.1 * 0.5 ** (step // every)


@pytest.mark.parametrize(
    ("a", "b", "align"),
    [
        ({"rate": _cosine(40)}, {"rate": _cosine(40), "every": 8, "limit": 4}, "step"),
        ({"rate": _halving(7)}, {"rate": _halving(7), "begin": 20}, "step"),
        ({"rate": _cosine(40)}, {"rate": _cosine(160), "steps": 160}, "share"),
        ({"rate": _cosine(160), "steps": 160}, {"rate": _cosine(40)}, "share"),
        (
            {"rate": _halving(10), "epoch": 10},
            {"rate": _halving(30), "epoch": 30, "steps": 120},
            "epoch",
        ),
        ({"rate": _halving(7)}, {}, "step"),
    ],
)
def test_one_schedule_is_alike_at_every_length_and_however_windows_were_merged(
    a: dict[str, Any], b: dict[str, Any], align: str
) -> None:
    """Also in a run that was resumed, and where one run knows no rate."""
    assert compare(_steady(**a), _steady(**b), align=align).against[0].schedules is None


def test_learning_rates_that_differ_are_told_from_the_step_on() -> None:
    """To the step, within windows; a warm-up is told with its end."""
    a = _steady(steps=200, every=5, rate=lambda step: 0.1 + 0.0 * step)
    b = _steady(steps=200, every=5, rate=lambda step: np.where(step < 103, 0.1, 0.01))
    found = compare(a, b, names=("good", "new"))
    assert found.verdict == (
        "new is like good: none of 1 layer departs over steps 0–199. "
        "The learning rates differ from step 103: 0.01, 0.1 in good."
    )
    warm = _steady(steps=200, every=5, rate=lambda step: np.minimum(0.1, (step + 1) / 150))
    found = compare(a, warm, names=("good", "new"))
    assert "differ from the start to step 14: 0.00667, 0.1 in good." in found.verdict
    plain = found.to_plain()["against_first"][0]["learning_rates"]
    assert plain == {"since": 0, "until": 14, "most": 0, "sizes": [0.1, 1 / 150]}


@pytest.mark.parametrize(("step", "first"), [(60, True), (101, True), (140, False)])
def test_learning_rates_lead_the_verdict_only_where_they_differ_first(
    step: int, first: bool
) -> None:
    """Before the layer, in its window, and after it; the values tell of them in each case."""
    a = _steady(steps=200, every=5, rate=lambda s: 0.1 + 0.0 * s)
    b = _shifted(
        lambda s: 9.0 * (s >= 100), steps=200, every=5, rate=lambda s: np.where(s < step, 0.1, 1.0)
    )
    (against,) = compare(a, b, names=("good", "new")).against
    assert against.schedules is not None and against.schedules.since == step
    assert against.departed[0].since == 100
    rates = f"First, the learning rates differ from step {step}: 1, 0.1 in good. Then fc's "
    assert (rates in against.verdict) is first
    assert ("learning rates" in against.verdict) is first
    page = render_comparison(a, b, names=("good", "new"))
    item = f"<span>the learning rates differ from step {step}: 1, 0.1 in good</span>"
    assert (page.index(item) < page.index('layer=fc"')) is first


# -- what cannot be compared ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("runs", "options", "words"),
    [
        (lambda: [_good()], {}, "needs two or more runs; got 1"),
        (lambda: [_good(), empty_run()], {}, "must hold a window of steps"),
        (lambda: [_good(), _good()], {"align": "hour"}, "must be one of step, epoch, share"),
        (lambda: [_good(), _good()], {"align": "epoch"}, "noted 0"),
        (lambda: [_good(), _good()], {"names": ("one",)}, "one for each of 2 runs; got 1"),
        (
            lambda: [simulated(layers=1, windows=4), _shifted(lambda s: 0.0)],
            {},
            "has block0.conv, .* has fc",
        ),
        (
            lambda: [_shifted(lambda s: 0.0), _shifted(lambda s: 0.0, begin=9000)],
            {},
            "must overlap in time.*Align by share",
        ),
    ],
)
def test_what_cannot_be_compared_is_said_with_the_cure(
    runs: Any, options: dict[str, Any], words: str
) -> None:
    """What must hold, what came, what to do."""
    with pytest.raises(ValueError, match=words):
        compare(*runs(), **options)


def test_a_grade_that_is_none_is_refused() -> None:
    """Instead of never failing, or of failing on something else."""
    quiet = compare(_good(), _good())
    for judge in (_compared().fails, functools.partial(junit, quiet)):
        with pytest.raises(ValueError, match="one of critical, warning, difference; got 'error'"):
            judge("error")


# -- for programs ---------------------------------------------------------------------------


def test_folders_are_as_good_as_runs(recorded: Path) -> None:
    """``shiftwatch.compare`` opens them."""
    found = shiftwatch.compare(recorded / "good", recorded / "new")
    assert found.names == ("good", "new")
    assert found.differences[0].layer == "fc2"


def test_json_holds_everything_and_no_number_that_json_does_not_know() -> None:
    """NaN and infinities are null."""
    plain = json.loads(json.dumps(_compared().to_plain(), allow_nan=False))
    assert plain["verdict"] == _compared().verdict
    (run,) = plain["against_first"]
    assert run["differences"][0]["layer"] == "block1.norm"
    assert plain["runs"][1]["alerts"][0]["kind"] == "mean_shift"


@pytest.mark.parametrize(
    ("grade", "failures"), [("", 0), ("critical", 1), ("warning", 1), ("difference", None)]
)
def test_junit_fails_what_fail_on_names(grade: str, failures: int | None) -> None:
    """Counts in the attributes are those of the elements, and the rest passes with its words."""
    root = ElementTree.fromstring(junit(_compared(), grade))
    assert root.tag == "testsuites"
    (suite,) = root
    assert suite.get("name") == "bad against good"
    cases = suite.findall("testcase")
    assert len(cases) == int(suite.get("tests", "")) == int(root.get("tests", "")) == 14
    failed = [c for c in cases if c.find("failure") is not None]
    departed = len(_compared().against[0].departed)
    assert (
        len(failed)
        == int(suite.get("failures", ""))
        == (1 + departed if failures is None else failures)
    )
    assert all(c.get("classname") == "bad" and c.get("name") for c in cases)
    told = [c for c in cases if c.find("failure") is not None or c.find("system-out") is not None]
    assert len(told) >= 1 + departed


def test_junit_is_what_ci_servers_read() -> None:
    """Read back by an independent reader; layers without a counterpart are skipped tests."""
    junitparser = pytest.importorskip("junitparser")
    found = compare(
        simulated(layers=6, windows=10, fault=False), simulated(layers=7, windows=10, fault=False)
    )
    xml = junitparser.JUnitXml.fromstring(junit(found, "difference").encode())
    assert (xml.tests, xml.failures, xml.errors) == (9, 0, 0)
    (suite,) = xml
    skipped = [case.name for case in suite if case.is_skipped]
    assert skipped == ["block2.conv has a counterpart"]
    assert sum(case.is_passed for case in suite) == 8


#: What the schema of Jenkins (junit-10.xsd of its xUnit plugin, to which pytest's results are held too)
#: lets stand in each element: attributes that it needs, others, and elements. Of what we write all is listed.
_SCHEMA = {
    "testsuites": ("", "name tests failures errors time", "testsuite"),
    "testsuite": ("name tests failures errors", "skipped time", "testcase"),
    "testcase": ("name", "classname time", "failure skipped system-out"),
    "failure": ("", "message type", ""),
    "skipped": ("", "message type", ""),
    "system-out": ("", "", ""),
}


def _breaches(root: ElementTree.Element) -> list[str]:
    """Where a document is not as the schema has it."""
    found = [] if root.tag == "testsuites" else [root.tag]
    for element in root.iter():
        needed, others, inside = (set(words.split()) for words in _SCHEMA[element.tag])
        has = set(element.keys())
        wrong = {child.tag for child in element} - inside | needed - has | has - needed - others
        if not re.fullmatch(r"\d{0,3}(\.\d*)?", element.get("time", "0")):
            wrong.add("time")
        found += [f"{element.tag}: {word}" for word in sorted(wrong)]
    return found


@pytest.mark.parametrize("grade", ["", "difference"])
@pytest.mark.parametrize("names", [("good", "same", "bad"), ("<a>", "b\x00&", "weiß 層 \ud800")])
def test_junit_keeps_to_the_schema_and_a_reader_loses_nothing_of_it(
    grade: str, names: tuple[str, ...]
) -> None:
    """Suites that pass, fail and skip; read and written again by junitparser it is the same document."""
    junitparser = pytest.importorskip("junitparser")
    other = simulated(layers=13, windows=30, fault=False)
    text = junit(compare(_good(), other, _bad(), names=names), grade)
    root = ElementTree.fromstring(text)
    kinds = {element.tag for element in root.iter()}
    assert kinds >= {"skipped", "failure" if grade else "system-out"}
    assert _breaches(root) == []
    again = junitparser.JUnitXml.fromstring(text.encode()).tostring()
    assert ElementTree.canonicalize(again.decode()) == ElementTree.canonicalize(text)
    root[0][0].set("severity", "critical")
    del root[1].attrib["errors"]
    assert _breaches(root) == ["testcase: severity", "testsuite: errors"]


def test_no_name_breaks_the_xml() -> None:
    """Markup is escaped, and what XML cannot hold is spelled out."""
    names = [*HOSTILE, "bell\x07\x1b[31m", "\ud800lone", "\ufffe"]
    run = simulated(names=names, windows=20)
    text = junit(compare(run, run, names=("<a>", "b\x00&")), "difference")
    root = ElementTree.fromstring(text)
    told = [case.get("name", "") for case in root.iter("testcase")]
    assert any("</script><img" in name for name in told)
    assert any("bell\\x07\\x1b[31m" in name for name in told)
    assert any("\\ud800lone" in name for name in told)
    assert root[0].get("name") == "b\\x00& against <a>"


# -- the command line -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs on disk: a good one, another seed of it, and one whose second layer moves."""
    folder = tmp_path_factory.mktemp("compared")
    for name, seed, fault in (("good", 0, 0.0), ("seed", 1, 0.0), ("new", 2, 3.0)):
        rng = np.random.default_rng(seed)
        with Monitor(run=folder / name) as monitor:
            for step in range(128):
                monitor.observe("fc1", rng.normal(size=(32, 8)))
                monitor.observe("fc2", rng.normal(size=(32, 8)) + fault * (step >= 64))
                monitor.step()
    return folder


def test_the_command_ends_with_the_code_that_ci_asks_for(recorded: Path) -> None:
    """A seed passes each check, a moved layer fails those that it should."""
    good, seed, new = (str(recorded / name) for name in ("good", "seed", "new"))
    for grade in ("critical", "warning", "difference"):
        assert main(["compare", good, seed, "--fail-on", grade]) == 0
    assert main(["compare", good, new, "--fail-on", "difference"]) == 1
    assert main(["compare", good, new, "--fail-on", "warning"]) == 1
    assert main(["compare", good, seed, new, "--fail-on", "difference"]) == 1
    assert main(["compare", good, new]) == 0
    assert main(["compare", good]) == 2
    assert main(["compare", good, str(recorded / "none")]) == 2
    assert main(["compare", good, new, "--attempts", "1"]) == 2
    assert main(["compare", good, new, "--align", "epoch"]) == 2


def test_the_command_says_the_verdict_and_writes_its_files(
    recorded: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Words on stdout, a page, and the results of tests."""
    good, new = str(recorded / "good"), str(recorded / "new")
    page, results = tmp_path / "page.html", tmp_path / "results.xml"
    command = ["compare", good, new, "-o", str(page), "--junit", str(results)]
    assert main([*command, "--align", "share", "--fail-on", "difference"]) == 1
    text = capsys.readouterr().out
    assert "new departs from good in 1 of 2 layers" in text
    assert re.search(r"^fc2 +\d\.\d\d ×  fc2.* from step 64", text, re.MULTILINE)
    assert text.splitlines()[-1] == str(page)
    assert "departs from good" in page.read_text(encoding="utf-8")
    (suite,) = ElementTree.parse(results).getroot()
    assert suite.get("failures") == "2"


def test_json_is_all_that_the_command_prints(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One object, to be piped on."""
    assert main(["compare", str(recorded / "good"), str(recorded / "new"), "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["align"] == "step" and plain["page"] == "compare.html"
    assert plain["against_first"][0]["differences"][0]["since"] == 64


# -- runs -----------------------------------------------------------------------------------


def _shifted(
    course: Any,
    *,
    every: int = 1,
    steps: int = 40,
    epoch: int = 0,
    begin: int = 0,
    rate: Any = None,
    limit: int = 1024,
) -> Run:
    """One layer whose mean follows ``course`` of the step; NaN fills it with NaN.

    ``rate`` is the learning rate as a function of steps, ``limit`` the windows that are kept.
    """
    history = History(limit=limit)
    history.add_site(Site("fc"), Layer("fc", "Linear"))
    for first in range(begin, begin + steps, every):
        rng = np.random.default_rng(first // 10)
        last = first + every - 1
        values = rng.normal(size=(1, 1, 100, 8)) + course(last)
        summary, _ = measure(Block(values, np.ones((1, 1), bool)))
        inside = np.arange(first, last + 1.0)
        rates = np.array([inside, rate(inside)]) if rate else np.zeros((2, 0))
        history.add_window(Window(first, last, summary, {}, np.zeros(0), 0.0, rates))
    for step in range(0, steps, epoch) if epoch else ():
        history.add_event(Event(step, "epoch", str(step // epoch)))
    return history.view()


def _sized(sites: list[Site], factors: list[float]) -> Run:
    """Sites whose values have a size each."""
    history = History()
    for site in sites:
        history.add_site(site, Layer(site.layer, "Linear"))
    for step in range(40):
        values = np.random.default_rng(step).normal(size=(1, len(sites), 50, 8))
        values *= np.array(factors)[:, None, None]
        summary, _ = measure(Block(values, np.ones((1, len(sites)), bool)))
        history.add_window(Window(step, step, summary, {}, np.zeros(0), 0.0))
    return history.view()
