"""The monitor: it sees everything, says what it must, and never harms the run."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import shiftwatch
from shiftwatch import Alert, Monitor, Report, Rule, Summary
from shiftwatch.plain import plain as written
from shiftwatch.records import INPUT
from shiftwatch.rules import DEFAULT
from tests import counted

Shown = list[tuple[str, np.ndarray, dict[str, Any]]]


def net(steps: int, fault: int | None = None, seed: int = 0) -> list[Shown]:
    """What a small net shows at each step; from the fault on, fc2 is ten times as large."""
    random = np.random.default_rng(seed)
    weight = random.normal(size=(8, 8))
    shown = []
    for step in range(steps):
        x = random.normal(size=(16, 8))
        weight = weight + 1e-3 * random.normal(size=weight.shape)
        hidden = x @ weight + 0.3 * random.normal(size=x.shape)
        out = (hidden + random.normal(size=x.shape)) * (
            10 if fault is not None and step >= fault else 1
        )
        shown.append(
            [
                (INPUT, x, {}),
                ("fc1", hidden, {}),
                ("relu1", np.maximum(hidden, 0), {"activation": "relu"}),
                ("fc2", out, {}),
                ("fc1", weight, {"tensor": "weight"}),
            ]
        )
    return shown


def show(monitor: Monitor, shown: list[Shown], loss: float | None = 1.0) -> Monitor:
    for arrays in shown:
        for name, values, options in arrays:
            monitor.observe(name, values, **options)
        monitor.step(loss=loss)
    return monitor


def told(alerts: list[Alert]) -> list[tuple[int, str, str, str, int]]:
    return [(a.step, a.kind, a.layer, a.origin, a.incident) for a in alerts]


def noise(seed: int = 0, shape: tuple[int, ...] = (16, 8)) -> Callable[[], np.ndarray]:
    random = np.random.default_rng(seed)
    return lambda: random.normal(size=shape)


# --- silence -----------------------------------------------------------------------------

HEALTHY: dict[str, Callable[[int, np.random.Generator], tuple[float, float]]] = {
    "still": lambda step, random: (1.0, 0.0),
    "slow drift": lambda step, random: (1 + step / 100, step / 100),
    "cosine": lambda step, random: (1.5 + np.cos(np.pi * step / 200), 0.0),
    "warm-up": lambda step, random: (0.1 + min(1.0, step / 50), 0.0),
    "decay": lambda step, random: (0.99**step, 0.0),
}


@pytest.mark.parametrize("course", HEALTHY)
def test_a_healthy_course_is_silent(course: str) -> None:
    random = np.random.default_rng(0)
    with Monitor(run=False, strict=True) as monitor:
        for step in range(200):
            size, place = HEALTHY[course](step, random)
            values = random.normal(place, size, (16, 8))
            monitor.observe(INPUT, random.normal(size=(16, 8)))
            monitor.observe("fc", values)
            monitor.observe("relu", np.maximum(values, 0), activation="relu")
            monitor.step(loss=size)
    assert monitor.alerts == []


def test_a_random_walk_of_the_level_is_silent() -> None:
    random = np.random.default_rng(1)
    level, mean = 0.0, 0.0
    with Monitor(run=False, strict=True) as monitor:
        for _ in range(250):
            level, mean = level + 0.02 * random.normal(), mean + 0.03 * random.normal()
            monitor.observe("fc", random.normal(mean, 2**level, (32, 16)))
            monitor.step()
    assert monitor.alerts == []


def test_a_constant_layer_is_silent() -> None:
    for value in (0.0, 1.0, -1e-30, 1e30):
        with Monitor(run=False, strict=True) as monitor:
            for _ in range(64):
                monitor.observe("fc", np.full((8, 4), value))
                monitor.step()
        assert monitor.alerts == []


def test_batches_of_any_size_are_silent() -> None:
    random = np.random.default_rng(2)
    with Monitor(run=False, strict=True) as monitor:
        for step in range(160):
            monitor.observe("fc", random.normal(size=((64, 32, 40, 57)[step % 4], 16)))
            monitor.step()
    assert monitor.alerts == []


# --- when it is judged does not matter ---------------------------------------------------


@pytest.fixture(scope="module")
def faulty() -> list[Shown]:
    return net(96, fault=70)


@pytest.fixture(scope="module")
def expected(faulty: list[Shown]) -> list[tuple[int, str, str, str, int]]:
    alerts = told(show(Monitor(run=False, strict=True), faulty).alerts)
    assert alerts and all(a[0] == 70 and a[2] == a[3] == "fc2" for a in alerts)
    return alerts


@pytest.mark.parametrize("shape", [(2, 16), (4, 4), (16, 2)])
def test_a_checkpoint_alarms_nobody_however_small_the_layers(shape: tuple[int, int]) -> None:
    """Found: a window of one step, cut short by ``state_dict()``, had another histogram."""
    random = np.random.default_rng(0)
    with Monitor(run=False, strict=True) as monitor:
        for step in range(240):
            for name in ("fc1", "fc2", "fc3"):
                monitor.observe(name, random.normal(size=shape))
            monitor.step()
            if step in (140, 200, 203):
                monitor.state_dict()
    assert monitor.alerts == []


@pytest.mark.parametrize("often", [1, 3, 13])
def test_alerts_are_the_same_drained_early_or_late(
    often: int, faulty: list[Shown], expected: list[Any]
) -> None:
    with Monitor(run=False, strict=True) as monitor:
        for step, arrays in enumerate(faulty):
            show(monitor, [arrays])
            if step % often == 0:
                monitor.state_dict()
    assert told(monitor.alerts) == expected


def test_an_array_may_be_written_into_once_it_was_shown() -> None:
    """Found to be judged as it was when the ring was full."""
    buffer, source = np.zeros((16, 8)), noise()
    with Monitor(run=False, strict=True) as monitor:
        for step in range(16):
            np.copyto(buffer, source() + step)
            monitor.observe("fc", buffer)
            np.copyto(buffer, np.nan)
            monitor.step()
    assert monitor.alerts == []
    assert monitor.history.metric("mean")[:, 0] == pytest.approx([3.5, 11.5], abs=0.2)


def test_the_arrays_shown_are_left_as_they_are() -> None:
    values = noise()()
    values.flags.writeable = False
    kept = values.copy()
    with Monitor(run=False, strict=True) as monitor:
        monitor.observe("fc", values)
        monitor.observe("fc", values, tensor="weight")
        monitor.step()
    np.testing.assert_array_equal(values, kept)


# --- which steps are watched -------------------------------------------------------------


def test_every_watches_each_nth_step_from_the_first() -> None:
    with Monitor(run=False, every=5, strict=True) as monitor:
        for step in range(48):
            monitor.observe("fc", np.full((4, 2), 100.0 + step))
            monitor.step(loss=float(step))
    run = monitor.history
    assert monitor.steps == 48
    assert int(run.summary(0).count[0]) == 8 * 8  # eight watched steps of eight values
    assert (run.first[0], run.steps[-1]) == (0, 45)
    assert run.metric("mean")[:, 0] == pytest.approx([117.5, 142.5])
    assert run.losses == pytest.approx([17.5, 42.5])


def test_every_finds_the_fault_all_the_same() -> None:
    with Monitor(run=False, every=2, strict=True) as monitor:
        show(monitor, net(160, fault=120))
    assert {a.layer for a in monitor.alerts} == {"fc2"} and monitor.alerts[0].step == 120


def test_a_budget_thins_the_watching() -> None:
    seen = {}
    for budget in (None, 1e-4):
        with Monitor(run=False, budget=budget, strict=True) as monitor:
            show(monitor, net(80))
        seen[budget] = int(monitor.history.between(0, 80).count[1]) // 128
        assert monitor.steps == 80 and monitor.alerts == []
    assert seen[None] == 80 and 8 <= seen[1e-4] <= 40


@pytest.mark.parametrize("every", [0, -1, 1.5, True, "2", None])
def test_every_is_a_whole_number(every: Any) -> None:
    with pytest.raises(ValueError, match="every must be a whole number"):
        Monitor(run=False, every=every)


@pytest.mark.parametrize("budget", [0, 1, -0.1, 2.0, float("nan")])
def test_a_budget_is_a_share(budget: float) -> None:
    with pytest.raises(ValueError, match=r"budget is a share .* Use 0\.01"):
        Monitor(run=False, budget=budget)


# --- what it takes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        np.ones((2, 3), np.float16),
        np.ones((2, 3), ">f4"),
        np.ones((2, 3), np.longdouble),
        np.ones((2, 3), bool),
        np.ones((2, 3), np.uint8),
        np.asfortranarray(np.ones((2, 3))),
        np.ones((4, 6))[::2, ::-2],
        np.broadcast_to(np.float32(1), (2, 3)),
        np.ma.masked_array(np.ones((2, 3))),
        [[1, 1, 1], [1, 1, 1]],
        ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
    ],
    ids=lambda v: f"{type(v).__name__} {getattr(v, 'dtype', '')}",
)
def test_any_array_of_real_numbers_is_taken(values: Any) -> None:
    with Monitor(run=False, strict=True) as monitor:
        monitor.observe("fc", values)
        monitor.step()
    assert monitor.history.metric("mean")[0, 0] == 1 and monitor.history.summary(0).count[0] == 6


@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (1, 5), (2, 3, 4), (2, 3, 4, 5), (3, 5000)])
def test_any_shape_of_two_axes_or_more_is_taken(shape: tuple[int, ...]) -> None:
    for axis in (*range(len(shape)), *range(-len(shape), 0)):
        with Monitor(run=False, strict=True) as monitor:
            monitor.observe("fc", np.full(shape, 2.0), units_axis=axis)
            monitor.step()
        assert monitor.history.metric("mean")[0, 0] == 2


def test_half_precision_is_measured_by_its_own_limits() -> None:
    values = np.array([[3e-5, 1.0], [6e-8, 0.0]], np.float16)
    with Monitor(run=False, rules=[Rule("subnormal", 2.0)], strict=True) as monitor:
        for dtype in (np.float16, np.float32, np.float64):
            monitor.observe(np.dtype(dtype).name, values.astype(dtype))
        monitor.observe("tiny", np.array([[1e-40, 1.0], [1e-44, 0.0]], np.float32))
        monitor.step()
    assert monitor.history.metric("subnormal")[0] == pytest.approx([0.5, 0, 0, 0.5])


BAD: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "vector": ([1.0, 2.0], {}, ValueError, r"fc: an output needs at least two axes.*\(2,\).*None"),
    "number": (3.0, {}, ValueError, "at least two axes"),
    "gradient": ([1.0], {"tensor": "gradient"}, ValueError, "gradient needs at least two axes"),
    "no units": (np.zeros((4, 0)), {}, ValueError, r"at least one value.*\(4, 0\)"),
    "no batch": (np.zeros((0, 4)), {}, ValueError, "Leave empty batches"),
    "no weight": (np.zeros(0), {"tensor": "weight"}, ValueError, "at least one value"),
    "complex": (
        np.ones((2, 2), complex),
        {},
        TypeError,
        "real numbers; got an array of complex128",
    ),
    "strings": ([["a", "b"]], {}, TypeError, "real numbers"),
    "objects": (np.ones((2, 2), object), {}, TypeError, "real numbers; got an array of object"),
    "times": (np.zeros((2, 2), "M8[s]"), {}, TypeError, "real numbers"),
    "nothing": (None, {}, TypeError, "real numbers"),
    "axis": (
        np.ones((2, 2)),
        {"units_axis": 2},
        ValueError,
        r"units_axis must lie in -2 … 1.*got 2",
    ),
    "axis below": (np.ones((2, 2)), {"units_axis": -3}, ValueError, "got -3"),
    "tensor": (np.ones((2, 2)), {"tensor": "outputs"}, ValueError, "tensor must be one of output"),
    "mode": (np.ones((2, 2)), {"mode": "test"}, ValueError, "'train' or 'eval'; got 'test'"),
    "activation": (
        np.ones((2, 2)),
        {"activation": "ReLU"},
        ValueError,
        "activation must be one of",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_watched_is_refused_with_the_cure(case: str) -> None:
    values, options, error, words = BAD[case]
    with Monitor(run=False) as monitor:
        with pytest.raises(error, match=words):
            monitor.observe("fc", values, **options)
        monitor.observe("other", np.ones((2, 2)))  # and nothing is broken by it
        monitor.step()
    assert [s.layer for s in monitor.history.sites if s.layer == "other"] == ["other"]
    assert len(monitor.history) == 1


@pytest.mark.parametrize("name", [3, None, "", b"fc", ("fc",)])
def test_a_layer_is_named_by_a_string(name: Any) -> None:
    with pytest.raises(TypeError, match="name must be a string"):
        Monitor(run=False).observe(name, np.ones((2, 2)))


@pytest.mark.parametrize("name", ["a b", "a/b", "ä", "a\nb", "<script>", "a" * 500, "a:b[c]@eval"])
def test_any_name_survives_the_way_to_the_disk(name: str, tmp_path: Path) -> None:
    with Monitor(run=tmp_path / "run", strict=True) as monitor:
        monitor.observe(name, np.ones((2, 2)))
        monitor.step()
    assert [s.layer for s in shiftwatch.open(tmp_path / "run").sites] == [name]


def test_a_site_keeps_its_width() -> None:
    """Found reshaped into units that are none, or refused deep inside with no name."""
    for first, then, options in [
        ((8, 4), (4, 8), {}),
        ((8, 4), (8, 5), {}),
        ((2, 4, 8), (2, 5, 8), {"units_axis": 1}),
    ]:
        monitor = Monitor(run=False, strict=True)
        monitor.observe("fc", np.ones(first), **options)
        with pytest.raises(ValueError, match=r"fc:output: .* had \d units .* has \d now, in shape"):
            monitor.observe("fc", np.ones(then), **options)
        monitor.step()
        monitor.close()
        assert len(monitor.history) == 1
    monitor = Monitor(run=False, strict=True)
    monitor.observe("fc", np.ones((4, 3)), tensor="weight")
    with pytest.raises(ValueError, match=r"fc:weight: .* 12 values .* 15 now"):
        monitor.observe("fc", np.ones((5, 3)), tensor="weight")


def test_a_layer_may_be_seen_several_times_in_a_step() -> None:
    with Monitor(run=False, strict=True) as monitor:
        for _ in range(16):
            for value in (0.0, 0.0, 3.0):
                monitor.observe("cell", np.full((4, 2), value))
            monitor.step()
    assert monitor.history.metric("mean")[:, 0] == pytest.approx([1, 1])
    assert monitor.history.metric("std")[:, 0] == pytest.approx([2**0.5, 2**0.5])
    assert monitor.alerts == []


def test_updates_are_told_from_weights() -> None:
    with Monitor(run=False, strict=True) as monitor:
        for step in range(8):
            monitor.observe("fc", np.full((3, 3), 1.0 + 0.5 * step), tensor="weight")
            monitor.step()
    run = monitor.history
    assert [s.key for s in run.sites] == ["fc:weight", "fc:update"]
    assert run.metric("mean")[0] == pytest.approx([2.75, 0.5])


@pytest.mark.parametrize("loss", [1, 1.5, np.float32(2), np.array(3.0), True])
def test_a_loss_is_one_number(loss: Any) -> None:
    with Monitor(run=False, strict=True) as monitor:
        monitor.observe("fc", np.ones((2, 2)))
        monitor.step(loss=loss)
    assert monitor.history.losses.tolist() == [float(loss)]


@pytest.mark.parametrize("loss", ["low", [1.0, 2.0], np.ones(3), {}, 1j])
def test_a_loss_that_is_no_number_is_left_out_and_said_once(
    loss: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Found to end the watching."""
    with Monitor(run=False) as monitor:
        show(monitor, net(16), loss=loss)
    assert len(monitor.history) == 2 and np.isnan(monitor.history.losses).all()
    assert [r.getMessage()[:24] for r in caplog.records] == ["loss is not watched: it "]


# --- numbers at the edge -----------------------------------------------------------------


@pytest.mark.parametrize("size", [1e-320, 1e-170, 1e-30, 1e30, 1e160, 1e300])
def test_no_size_of_values_ends_the_watching(size: float) -> None:
    """Warnings are errors in these tests, and here NumPy was told to raise as well."""
    with np.errstate(all="ignore"):
        arrays = np.random.default_rng(0).normal(size=(40, 16, 8))
        arrays[20:] *= size
    with np.errstate(all="raise"), Monitor(run=False, strict=True) as monitor:
        for values in arrays:
            monitor.observe("fc", values)
            monitor.observe("relu", np.abs(values), activation="relu")
            monitor.observe("fc", values, tensor="weight")
            monitor.observe("fc", values, tensor="gradient")
            monitor.step(loss=size)
        monitor.state_dict()
    assert monitor.steps == 40 and monitor.alerts


def test_weights_that_are_not_finite_do_not_disturb_the_caller() -> None:
    with Monitor(run=False, strict=True) as monitor:
        for value in (1.0, np.inf, np.inf, -np.inf, np.nan):
            monitor.observe("fc", np.full((3, 3), value), tensor="weight")
            monitor.step()
    assert [a.kind for a in monitor.alerts] == ["nonfinite"] and monitor.alerts[0].step == 1


# --- resume ------------------------------------------------------------------------------


def plain(value: Any) -> bool:
    if type(value) is dict:
        return all(type(k) is str and plain(v) for k, v in value.items())
    if type(value) is list:
        return all(map(plain, value))
    return value is None or type(value) in (str, int, float, bool, bytes)


@pytest.mark.parametrize("steps", [0, 3, 64, 80])
def test_a_state_holds_plain_containers_only(steps: int, tmp_path: Path) -> None:
    with Monitor(run=tmp_path / "run", strict=True) as monitor:
        show(monitor, net(steps, fault=60))
        monitor.observe("late", np.ones((2, 2)))  # shown, and its step not over
        state = monitor.state_dict()
    assert plain(state)


def test_a_state_passes_through_a_checkpoint_of_pytorch(tmp_path: Path) -> None:
    """Found refused for its empty bytes."""
    if find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    monitor = show(Monitor(run=False, strict=True), net(70, fault=60))
    script = tmp_path / "check.py"
    script.write_text(
        "import sys, torch\n"
        f"state = {monitor.state_dict()!r}\n"
        "torch.save(state, sys.argv[1])\n"
        "assert torch.load(sys.argv[1], weights_only=True) == state\n"
    )
    ran = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "state.pt")], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("stop", [1, 40, 71, 75])
def test_a_resumed_run_raises_what_an_uninterrupted_one_does(
    stop: int, tmp_path: Path, faulty: list[Shown], expected: list[Any]
) -> None:
    first = show(Monitor(run=tmp_path / "run", strict=True), faulty[:stop])
    state = first.state_dict()
    show(first, faulty[stop : stop + 10])  # lost: the job died after its checkpoint
    first.close()
    with Monitor(run=tmp_path / "run", strict=True) as second:
        second.load_state_dict(state)
        assert second.steps == stop
        show(second, faulty[stop:])
    assert told(second.alerts) == expected
    run = shiftwatch.open(tmp_path / "run")
    assert told(run.alerts) == expected
    assert run.attempts == ["attempt-001"]
    assert run.first[0] == 0 and run.steps[-1] == 95
    assert (run.steps[:-1] < run.first[1:]).all()  # no step twice
    assert any(e.kind == "resume" and e.step == stop for e in run.events)


def test_a_run_in_memory_resumes_too(faulty: list[Shown], expected: list[Any]) -> None:
    state = show(Monitor(run=False, strict=True), faulty[:40]).state_dict()
    with Monitor(run=False, strict=True) as second:
        second.load_state_dict(state)
        show(second, faulty[40:])
    assert told(second.alerts) == expected


@pytest.mark.parametrize("place", [0, len(DEFAULT)])
def test_a_run_that_goes_on_with_another_rule_keeps_what_the_others_knew(
    place: int, faulty: list[Shown], expected: list[Any]
) -> None:
    """Found: all rules were left without the states of their sites, and the watching ended."""
    state = show(Monitor(run=False, strict=True), faulty[:40]).state_dict()
    never = Rule("kl", 1e9)
    rules = [*DEFAULT[:place], never, *DEFAULT[place:]]
    with Monitor(run=False, strict=True, rules=rules) as second:
        second.load_state_dict(state)
        show(second, faulty[40:])
    assert told(second.alerts) == expected


@pytest.mark.parametrize("change", ["a field less", "an axis more", "longer"])
def test_a_rule_whose_state_has_another_form_begins_anew(
    change: str, faulty: list[Shown], expected: list[Any]
) -> None:
    """As that of another version; the other rules go on."""
    state = show(Monitor(run=False, strict=True), faulty[:40]).state_dict()
    judgement = state["judgement"]
    kept = judgement["rules"][judgement["names"].index("Fading")]
    if change == "a field less":
        kept.pop()
    else:
        shape = kept[0]["shape"]
        kept[0] = written(np.zeros((2, *shape) if change == "an axis more" else shape[0] + 9))
    with Monitor(run=False, strict=True) as second:
        second.load_state_dict(state)
        show(second, faulty[40:])
    assert told(second.alerts) == expected


def test_a_state_comes_back_as_it_was(faulty: list[Shown]) -> None:
    first = show(Monitor(run=False, strict=True), faulty[:76])
    second = Monitor(run=False, strict=True)
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict()


def test_a_resumed_run_is_surprised_by_the_same_losses() -> None:
    """A loss far above all recent ones ends its window at once, also soon after the resumption."""
    shown = net(112)

    def ends(monitor: Monitor, first: int) -> list[int]:
        with monitor:
            for step in range(first, 112):
                show(monitor, shown[step : step + 1], loss=3.0 if step >= 90 else 1.0)
            return [step for step in monitor.history.steps.tolist() if step >= 80]

    first = show(Monitor(run=False, strict=True), shown[:80])
    second = Monitor(run=False, strict=True)
    second.load_state_dict(first.state_dict())
    whole = ends(Monitor(run=False, strict=True), 0)
    assert ends(second, 80) == whole
    assert whole[:3] == [87, 90, 91]  # not at the end of its eight steps, 95


def test_a_state_goes_on_where_it_was_saved_and_harms_no_other_folder(tmp_path: Path) -> None:
    """Found to remove a folder of the user's with everything in it."""
    first = show(Monitor(run=tmp_path / "one", strict=True), net(16))
    state = first.state_dict()
    first.close()
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "weights.pt").write_text("precious")
    with Monitor(run=tmp_path / "two", strict=True) as second:
        second.load_state_dict(state)
        show(second, net(8))
    assert (tmp_path / "two" / "weights.pt").read_text() == "precious"
    assert second.run == tmp_path / "one"
    assert shiftwatch.open(tmp_path / "one").steps[-1] == 23


def test_a_state_whose_run_is_gone_starts_an_attempt(tmp_path: Path) -> None:
    first = show(Monitor(run=tmp_path / "one", strict=True), net(16))
    state = first.state_dict()
    first.close()
    (tmp_path / "one").rename(tmp_path / "elsewhere")
    with Monitor(run=tmp_path / "one", strict=True) as second:
        second.load_state_dict(state)
        show(second, net(8))
    assert shiftwatch.open(tmp_path / "one").first[0] == 16


def test_a_state_is_loaded_before_the_first_step_and_by_its_own_version() -> None:
    state = show(Monitor(run=False), net(2)).state_dict()
    with pytest.raises(ValueError, match=r"before the first step; 1 were watched"):
        show(Monitor(run=False), net(1)).load_state_dict(state)
    with pytest.raises(ValueError, match="must be of version 1; got 2"):
        Monitor(run=False).load_state_dict({**state, "version": 2})
    other = Monitor(run=False)
    other.observe("conv9", np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"another model.*<input>.*conv9"):
        other.load_state_dict(state)


# --- where it records --------------------------------------------------------------------


def test_without_a_folder_nothing_is_written(tmp_path: Path) -> None:
    monitor = show(Monitor(run=False, strict=True), net(16))
    monitor.close()
    assert monitor.run is None and list(tmp_path.iterdir()) == []
    assert len(monitor.history) == 2


def test_a_dated_folder_goes_where_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Monitor() as first, Monitor() as second:
        runs = [first.run, second.run]
    assert all(r is not None and r.parent == Path("shiftwatch-runs") for r in runs)
    assert runs[0] != runs[1]  # in the same second
    monkeypatch.setenv("SHIFTWATCH_DIR", str(tmp_path / "all"))
    with Monitor() as third:
        assert third.run is not None and third.run.parent == tmp_path / "all"


def test_a_folder_that_holds_a_run_gets_another_attempt(tmp_path: Path) -> None:
    show(Monitor(run=tmp_path / "run", strict=True), net(8)).close()
    show(Monitor(run=tmp_path / "run", strict=True), net(16)).close()
    assert shiftwatch.open(tmp_path / "run").attempts == ["attempt-001", "attempt-002"]
    assert len(shiftwatch.open(tmp_path / "run", attempt="attempt-001")) == 1
    assert len(shiftwatch.open(tmp_path / "run")) == 2


def test_two_writers_are_refused(tmp_path: Path) -> None:
    with Monitor(run=tmp_path / "run"):
        with pytest.raises(OSError, match="one writer at a time"):
            Monitor(run=tmp_path / "run")
    Monitor(run=tmp_path / "run").close()


def test_true_is_no_folder() -> None:
    with pytest.raises(ValueError, match="got True"):
        Monitor(run=True)


def test_what_is_read_back_is_what_was_in_memory(tmp_path: Path, faulty: list[Shown]) -> None:
    rules = [*DEFAULT, Rule("zero_fraction", 0.2, severity="info")]
    with Monitor(run=tmp_path / "run", rules=rules, config={"lr": 0.1}, strict=True) as monitor:
        show(monitor, faulty)
        monitor.event("note", "by hand")
    read, kept = shiftwatch.open(tmp_path / "run"), monitor.history
    assert read.alerts == kept.alerts and any(a.severity == "info" for a in kept.alerts)
    assert [a for a in read.alerts if a.severity != "info"] == monitor.alerts
    assert read.incidents == kept.incidents == monitor.incidents
    assert read.events == kept.events
    assert read.sites == kept.sites and read.layers == kept.layers
    assert read.metrics == kept.metrics and list(read.steps) == list(kept.steps)
    for key in kept.metrics:
        np.testing.assert_allclose(read.metric(key), kept.metric(key), rtol=1e-6)
    np.testing.assert_allclose(read.losses, kept.losses)
    assert read.meta["config"] == {"lr": 0.1} and read.meta["finished"] is True
    assert (kept.path, kept.attempt) == (read.path, read.attempt)


# --- the end -----------------------------------------------------------------------------


def test_after_close_nothing_happens_and_it_is_said_once(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monitor = show(Monitor(run=tmp_path / "run", strict=True), net(10))
    monitor.close()
    monitor.close()
    state = monitor.state_dict()
    for _ in range(3):
        monitor.observe("fc1", np.ones((2, 2)))
        monitor.step(loss=1.0)
        monitor.event("note", "late")
    assert monitor.steps == 10 and monitor.state_dict()["steps"] == state["steps"]
    said = [r.getMessage() for r in caplog.records if "after close()" in r.getMessage()]
    assert len(said) == 2 and said[0].startswith("observe()") and said[1].startswith("step()")
    assert shiftwatch.open(tmp_path / "run").steps[-1] == 9


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_in_the_training_goes_through_and_the_run_is_whole(
    error: type[BaseException], tmp_path: Path
) -> None:
    with pytest.raises(error), Monitor(run=tmp_path / "run") as monitor:
        show(monitor, net(13))
        raise error
    run = shiftwatch.open(tmp_path / "run")
    assert run.steps[-1] == 12 and run.meta["finished"] is False
    assert any(error.__name__ in e.detail for e in run.events)
    Monitor(run=tmp_path / "run").close()  # the lock is gone


def test_a_step_without_anything_shown_is_fine() -> None:
    with Monitor(run=False, strict=True) as monitor:
        for _ in range(20):
            monitor.step()
    assert monitor.steps == 20 and monitor.alerts == []
    with Monitor(run=False, strict=True) as monitor:
        pass
    assert len(monitor.history) == 0


# --- errors of others --------------------------------------------------------------------


def breaks(summary: Summary) -> np.ndarray:
    if summary.count.size and summary.count[0] > 0:
        raise ZeroDivisionError("my metric")
    return summary.mean


class BreakingRule(Rule):
    def update(self, state: Any, evidence: Any) -> Any:
        raise ZeroDivisionError("my rule")


BROKEN: dict[str, dict[str, Any]] = {
    "metric": {"metrics": {"mine": breaks}},
    "rule": {"rules": [BreakingRule("kl", 1.0)]},
}


@pytest.mark.parametrize("what", BROKEN)
def test_an_error_inside_ends_the_watching_and_not_the_training(
    what: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with Monitor(run=tmp_path / "run", **BROKEN[what]) as monitor:
        show(monitor, net(40))
        monitor.state_dict()
    assert monitor.steps == 40
    errors = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert len(errors) == 1 and f"my {what}" in errors[0].getMessage()
    assert "Training goes on" in errors[0].getMessage() and errors[0].exc_info
    assert any("watching ended" in e.detail for e in shiftwatch.open(tmp_path / "run").events)


@pytest.mark.parametrize("what", BROKEN)
def test_an_error_in_a_checkpoint_or_at_the_end_is_no_error_of_the_training(what: str) -> None:
    """Found to come out of ``state_dict()``, in the middle of saving a checkpoint."""
    monitor = show(Monitor(run=False, **BROKEN[what]), net(3))
    assert monitor.state_dict()["steps"] == 3
    show(Monitor(run=False, **BROKEN[what]), net(3)).close()


@pytest.mark.parametrize("what", BROKEN)
def test_strict_raises_and_lets_go_of_the_folder(what: str, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError, match=f"my {what}"):
        show(Monitor(run=False, strict=True, **BROKEN[what]), net(8))
    monitor = show(Monitor(run=tmp_path / "run", strict=True, **BROKEN[what]), net(3))
    with pytest.raises(ZeroDivisionError):
        monitor.close()
    monitor.close()
    Monitor(run=tmp_path / "run").close()


def test_a_reporter_that_breaks_is_left_out_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[Report] = []

    def broken(report: Report) -> None:
        raise OSError("no network")

    with Monitor(run=False, reporters=[broken, seen.append]) as monitor:
        show(monitor, net(16))
    assert len(seen) == 3 and seen[-1].final and len(monitor.history) == 2
    assert sum("no network" in r.getMessage() for r in caplog.records) == 1
    with pytest.raises(OSError, match="no network"):
        show(Monitor(run=False, reporters=[broken], strict=True), net(8))


def test_what_is_no_reporter_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="callable of one Report; got 3"):
        Monitor(run=False, reporters=[3])  # type: ignore[list-item]


def test_reporters_get_every_window_and_every_alert(faulty: list[Shown]) -> None:
    reports: list[Report] = []
    with Monitor(run=False, reporters=[reports.append], strict=True) as monitor:
        show(monitor, faulty)
    assert [a for r in reports for a in r.alerts] == monitor.alerts
    assert [r.step for r in reports[:-1]] == list(monitor.history.steps)
    assert reports[-1].final and reports[-1].run is not None
    assert len(reports[-1].run) == len(monitor.history)
    assert {i.number for r in reports for i in r.incidents} == {i.number for i in monitor.incidents}


# --- heard -------------------------------------------------------------------------------


def test_an_alert_is_heard_where_no_logging_was_set_up(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import numpy as np\n"
        "from shiftwatch import Monitor\n"
        "with Monitor(run=False) as monitor:\n"
        "    for step in range(12):\n"
        "        monitor.observe('fc1', np.full((4, 2), np.nan if step == 9 else 1.0))\n"
        "        monitor.step()\n"
    )
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert ran.returncode == 0 and ran.stdout == ""
    assert ran.stderr.startswith("step 9 · fc1 output · nonfinite")
    assert len(ran.stderr.splitlines()) == 1


def test_a_healthy_run_says_nothing(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import numpy as np\n"
        "from shiftwatch import Monitor\n"
        "with Monitor() as monitor:\n"
        "    for step in range(12):\n"
        "        monitor.observe('fc1', np.ones((4, 2)))\n"
        "        monitor.step(loss=1.0)\n"
    )
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.mark.parametrize("folder", [True, False])
def test_a_report_is_one_page_whether_or_not_there_is_a_folder(
    folder: bool, tmp_path: Path
) -> None:
    if find_spec("shiftwatch.report") is None:
        pytest.skip("no report yet")
    run = tmp_path / "run" if folder else False
    with Monitor(run=run, strict=True) as monitor:
        show(monitor, net(45, fault=40))
        page = monitor.report(tmp_path / "open.html").read_text(encoding="utf-8")
    late = monitor.report(str(tmp_path / "closed.html"))
    assert late == tmp_path / "closed.html"
    for text in (page, late.read_text(encoding="utf-8")):
        assert "<html" in text and "fc2" in text


# --- cost --------------------------------------------------------------------------------


def calls(layers: int) -> int:
    """Function calls of the analysis of eight steps, Python's and NumPy's."""
    source = noise(shape=(4, 4))
    monitor = Monitor(run=False, rules=[*DEFAULT, Rule("zero_fraction", 0.99)], strict=True)
    for step in range(16):
        for i in range(layers):
            monitor.observe(f"fc{i}", source(), activation="relu" if i % 2 else "")
            monitor.observe(f"fc{i}", source(), tensor="gradient")
            monitor.observe(f"fc{i}", np.ones((2, 2)) + 1e-3 * step, tensor="weight")
        if step < 15:
            monitor.step(loss=1.0)

    def counts(frame: FrameType, event: str, argument: Any) -> bool:
        # What was observed array by array is collected array by array; dictionaries are free.
        cheap = event == "c_call" and argument.__name__ in ("get", "items", "append")
        code = frame.f_code
        return not (cheap or code.co_name == "__eq__" or code.co_filename.endswith("arrays.py"))

    return counted.calls(lambda: monitor.step(loss=1.0), counts)


def test_the_analysis_takes_as_many_calls_for_ten_layers_as_for_many() -> None:
    few, many = calls(10), calls(100)
    assert many < 1.1 * few, (few, many)  # large lots are measured by themselves


def test_memory_stays_bounded_however_long_the_run() -> None:
    values = noise(shape=(2, 2))
    monitor = Monitor(run=False, rules=(), strict=True)
    sizes = {}
    for step in range(1, 1101):
        monitor.observe("fc", values())
        monitor.step(loss=1.0)
        state = monitor.state_dict()  # a window for each step
        if step in (100, 1100):
            sizes[step] = len(repr(state))
    run = monitor.history
    assert len(run) <= 1024 and (run.first[0], run.steps[-1]) == (0, 1099)
    assert int(run.between(0, 1099).count[0]) == 4400
    assert sizes[1100] < 1.2 * sizes[100]
