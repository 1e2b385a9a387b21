"""Incidents: one cause, one number, and the layer where it began."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from shiftwatch import Alert, Layer, Monitor, Site
from shiftwatch.incidents import Incidents
from shiftwatch.origin import Drift, find_origin
from shiftwatch.records import INPUT, KINDS
from shiftwatch.rules import Firing
from shiftwatch.sites import Sites

LAYERS = 6

#: What breaks a layer, and the kinds that name it.
FAULTS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], set[str]]] = {
    "x4": (lambda v: 4 * v, {"variance_shift", "exploding"}),
    "x100": (lambda v: 100 * v, {"variance_shift", "exploding"}),
    "/5": (lambda v: v / 5, {"variance_shift", "vanishing"}),
    "+3": (lambda v: v + 3 * v.std(), {"mean_shift"}),
    "constant": (lambda v: np.full_like(v, 0.5), set(KINDS)),
    "nan": (lambda v: np.where(v > v.std(), np.nan, v), {"nonfinite"}),
}


def chain(
    monitor: Monitor,
    fault: Callable[[np.ndarray], np.ndarray] = lambda v: v,
    origin: int | None = None,
    begin: int = 56,
    end: int = 10_000,
    steps: int = 72,
    seed: int = 0,
) -> Monitor:
    """Six layers, each a mix of the one before and of noise; -1 is the model's input."""
    random = np.random.default_rng(seed)
    for step in range(monitor.steps, steps):
        values = random.normal(size=(16, 16))
        for i in range(-1, LAYERS):
            if i >= 0:
                values = 0.7 * values + 0.3 * np.nanstd(values) * random.normal(size=values.shape)
            if i == origin and begin <= step < end:
                values = fault(values)
            monitor.observe(f"fc{i}" if i >= 0 else INPUT, values)
        monitor.step(loss=1.0)
    return monitor


def watch(*given: Any, **options: Any) -> Monitor:
    with Monitor(run=False, strict=True) as monitor:
        chain(monitor, *given, **options)
    return monitor


CASES = [(fault, 2) for fault in FAULTS]
CASES += [(f, i) for f in ("x4", "+3", "nan") for i in range(-1, LAYERS) if i != 2]


@pytest.mark.parametrize(("fault", "origin"), CASES)
def test_the_origin_is_the_layer_that_changed_though_its_input_did_not(
    fault: str, origin: int
) -> None:
    name = INPUT if origin < 0 else f"fc{origin}"
    broken, kinds = FAULTS[fault]
    monitor = watch(broken, origin)
    assert {a.layer for a in monitor.alerts} == {a.origin for a in monitor.alerts} == {name}
    assert {a.kind for a in monitor.alerts} <= kinds
    assert len({a.kind for a in monitor.alerts}) == len(monitor.alerts)  # one of a kind
    assert all(a.step == 56 and 56 <= a.detected < 72 for a in monitor.alerts)
    (incident,) = monitor.incidents
    assert (incident.number, incident.origin, incident.step) == (1, name, 56)
    later = [f"fc{i}" for i in range(origin + 1, LAYERS)]
    if fault != "constant":  # whose followers see their own noise only, and that is nothing
        assert list(incident.followers) == later
    assert name not in incident.followers
    assert incident.kinds == tuple(a.kind for a in monitor.alerts)


def test_a_healthy_chain_raises_nothing() -> None:
    monitor = watch(steps=160)
    assert monitor.alerts == monitor.incidents == []


def test_an_incident_is_cleared_when_nothing_holds_any_more() -> None:
    monitor = watch(FAULTS["nan"][0], 2, begin=40, end=44, steps=128)
    (incident,) = monitor.incidents
    assert incident.cleared is not None and 44 <= incident.cleared < 128
    assert watch(FAULTS["nan"][0], 2, begin=40, steps=80).incidents[0].cleared is None


def test_a_second_fault_later_is_a_second_incident() -> None:
    with Monitor(run=False, strict=True) as monitor:
        chain(monitor, FAULTS["nan"][0], 4, begin=40, end=44, steps=128)
        assert monitor.incidents[0].cleared is not None
        chain(monitor, FAULTS["nan"][0], 1, begin=140, steps=150, seed=1)
    assert [(i.number, i.origin) for i in monitor.incidents] == [(1, "fc4"), (2, "fc1")]
    assert [(a.incident, a.layer) for a in monitor.alerts] == [(1, "fc4"), (2, "fc1")]


@pytest.mark.parametrize("factor", [4.0, 100.0, 0.2])
def test_the_way_back_is_the_end_of_an_incident_and_no_news(factor: float) -> None:
    """Found raised as a fault of its own."""
    random = np.random.default_rng(0)
    with Monitor(run=False, strict=True) as monitor:
        for step in range(180):
            for name in ("fc1", "fc2"):
                fault = (64 <= step < 76 and name == "fc1") or (140 <= step and name == "fc2")
                monitor.observe(name, random.normal(size=(16, 16)) * (factor if fault else 1))
            monitor.step()
    assert [(a.step, a.layer) for a in monitor.alerts if a.kind == "variance_shift"] == [
        (64, "fc1"),
        (140, "fc2"),
    ]
    first, second = monitor.incidents
    assert first.cleared is not None and 76 <= first.cleared <= 80
    assert (second.number, second.origin, second.followers) == (2, "fc2", ())


def test_a_level_that_stays_is_raised_once_and_a_later_change_again() -> None:
    random = np.random.default_rng(0)
    with Monitor(run=False, strict=True) as monitor:
        for step in range(560):
            monitor.observe(
                "fc", random.normal(size=(16, 8)) * 4.0 ** ((step >= 64) + (step >= 480))
            )
            monitor.step()
    assert [(a.step, a.incident) for a in monitor.alerts if a.kind == "variance_shift"] == [
        (64, 1),
        (480, 2),
    ]


def test_every_alert_reads_in_one_line_and_says_what_to_do() -> None:
    for fault in FAULTS:
        for alert in watch(FAULTS[fault][0], 2).alerts:
            assert "\n" not in alert.message and alert.message == str(alert)
            assert all(word in alert.message for word in ("step 56", "fc2", alert.kind))
            assert alert.kind in KINDS and len(alert.advice) > 40
            assert type(alert.value) is float and type(alert.limit) is float
            assert type(alert.step) is int and type(alert.detected) is int


# --- the origin, by hand -----------------------------------------------------------------


def firing(
    column: int,
    step: int = 10,
    kind: str = "variance_shift",
    metric: str = "variance_shift",
    severity: str = "warning",
    score: float = 2.0,
    origin: str = "",
) -> Firing:
    return Firing(step, column, kind, severity, metric, 3.0, 1.0, "so it is", score, origin)


def table(*names: str) -> Sites:
    """A chain of layers with weights; a name that begins with ``relu`` is an activation."""
    sites = Sites()
    before: tuple[str, ...] = ()
    for name in names:
        act = "relu" if name.startswith("relu") else ""
        layer = Layer(name, activation=act, parameters=not act and name != INPUT, parents=before)
        sites.add(Site(name, "input" if name == INPUT else "output"), layer)
        before = (name,)
    return sites


def moved(sites: Sites, *sizes: float, step: int = 10) -> Drift:
    return Drift(np.array([step]), np.array([[*sizes, *[0.0] * (len(sites) - len(sizes))]]))


def test_the_input_comes_before_all_others() -> None:
    sites = table(INPUT, "a", "b")
    drift = moved(sites, 1.0, 5.0, 9.0)
    assert find_origin([firing(2), firing(1), firing(0)], sites, drift) == (INPUT, False)
    # Even where only the layers behind it crossed their limits.
    assert find_origin([firing(2), firing(1)], sites, drift)[0] == INPUT


def test_the_largest_gain_wins_not_the_largest_drift() -> None:
    sites = table(INPUT, "a", "b", "c")
    drift = moved(sites, 0.0, 0.1, 3.0, 9.0)
    assert find_origin([firing(3, score=9.0), firing(2)], sites, drift)[0] == "b"


def test_an_activations_cause_is_the_layer_before_it() -> None:
    sites = table("a", "relu", "b")
    assert find_origin([firing(1)], sites, moved(sites, 2.0, 3.0))[0] == "a"
    # … unless that one stood still: then its own operation changed.
    assert find_origin([firing(1)], sites, moved(sites, 0.0, 3.0))[0] == "relu"


def test_what_is_first_within_a_step_is_nearest_to_the_cause() -> None:
    sites = table("a", "b", "c")
    weight = sites.add(Site("c", "weight"), sites.layers["c"])
    shift = firing(0)
    corruption = firing(weight, kind="corruption", severity="critical")
    assert find_origin([shift, corruption], sites, moved(sites, 5.0))[0] == "c"
    assert find_origin([shift, firing(2, step=9)], sites, moved(sites, 0, 0, 5.0))[0] == "c"
    late = firing(2, kind="dead")
    assert find_origin([shift, late], sites, moved(sites, 5.0))[0] == "a"


@pytest.mark.parametrize("slow", ["dead", "saturation", "batchnorm", "distribution_shift"])
def test_what_is_slow_to_show_comes_after_what_shows_at_once(slow: str) -> None:
    """When units fell silent is known to a step or two."""
    sites = table("a", "b", "c")
    late = firing(2, step=9, kind=slow)
    assert find_origin([late, firing(0)], sites, moved(sites, 5.0))[0] == "a"
    # … if it is as recent; and alone it stands for itself.
    assert find_origin([late, firing(0, step=12)], sites, moved(sites, 5.0, step=12))[0] == "c"
    assert find_origin([late], sites, moved(sites, 5.0))[0] == "c"


@pytest.mark.parametrize("first", [9, 10, 11])
def test_a_change_of_the_input_explains_what_happened_within_two_steps(first: int) -> None:
    sites = table(INPUT, "a", "b")
    update = sites.add(Site("b", "update"), sites.layers["b"])
    found = [firing(update, kind="update"), firing(0, step=first)]
    assert find_origin(found, sites, moved(sites, 2.0))[0] == INPUT
    assert find_origin([found[0], firing(0, step=13)], sites, moved(sites, 2.0))[0] == "b"


def test_a_weight_that_was_changed_from_outside_comes_before_the_input() -> None:
    sites = table(INPUT, "a", "b")
    weight = sites.add(Site("b", "weight"), sites.layers["b"])
    found = [firing(weight, kind="corruption", severity="critical"), firing(0)]
    assert find_origin(found, sites, moved(sites, 2.0, 0.0, 5.0))[0] == "b"


def looked_up() -> Sites:
    """Symbols, whose embedding a layer reads; the symbols themselves are not watched."""
    sites = Sites()
    sites.add(Site("embed"), Layer("embed", "Embedding", parameters=True, parents=(INPUT,)))
    sites.add(Site("fc"), Layer("fc", "Linear", parameters=True, parents=("embed",)))
    return sites


def test_an_embedding_whose_output_changed_was_given_other_symbols() -> None:
    sites = looked_up()
    assert find_origin([firing(0), firing(1)], sites, moved(sites, 3.0, 1.0))[0] == INPUT
    # … unless its table was edited, or a layer behind it changed more.
    weight = sites.add(Site("embed", "weight"), sites.layers["embed"])
    found = [firing(weight, kind="corruption", severity="critical"), firing(0)]
    assert find_origin(found, sites, moved(sites, 3.0, 1.0))[0] == "embed"
    assert find_origin([firing(1)], sites, moved(sites, 0.1, 3.0))[0] == "fc"


def test_an_embedding_of_what_the_model_computed_stands_for_itself() -> None:
    """As the codebook of a quantiser: its symbols are no input."""
    sites = Sites()
    sites.add(Site("fc"), Layer("fc", "Linear", parameters=True, parents=(INPUT,)))
    sites.add(Site("code"), Layer("code", "Embedding", parameters=True, parents=("fc",)))
    assert find_origin([firing(1)], sites, moved(sites, 0.1, 3.0))[0] == "code"


def test_a_gradient_fault_begins_where_it_enters() -> None:
    sites = table("a", "b", "c")
    columns = [sites.add(Site(n, "gradient"), sites.layers[n]) for n in ("a", "b")]
    found = [firing(c, kind="exploding", metric="rms") for c in columns]
    assert find_origin(found, sites, moved(sites))[0] == "b"


def test_updates_out_of_line_in_most_layers_began_everywhere() -> None:
    sites = table("a", "b", "c", "d")
    columns = [sites.add(Site(n, "update"), sites.layers[n]) for n in ("a", "b", "c", "d")]
    found = [firing(c, kind="update", score=float(c)) for c in columns]
    assert find_origin(found, sites, moved(sites)) == ("d", True)
    assert find_origin(found[:1], sites, moved(sites)) == ("a", False)


# --- the book-keeping --------------------------------------------------------------------


def told(
    incidents: Incidents, sites: Sites, firings: list[Firing], step: int, active: bool = True,
    **options: Any,
) -> list[Alert]:  # fmt: skip
    still = moved(sites, *[float(i == 0) * 2 for i in range(len(sites))])
    holds = np.full(len(sites), active)
    return incidents.update(firings, sites, still, step, holds, **options)[0]


def test_one_kind_is_raised_once_per_incident() -> None:
    sites, incidents = table("a", "b"), Incidents()
    assert len(told(incidents, sites, [firing(0), firing(1)], 12)) == 1
    assert told(incidents, sites, [firing(0, step=13)], 16) == []
    assert len(told(incidents, sites, [firing(0, step=20, kind="mean_shift")], 24)) == 1
    assert incidents.state()["open"][0]["incident"]["followers"] == ["b"]


def test_quiet_closes_an_incident_though_a_condition_holds() -> None:
    sites, incidents = table("a"), Incidents(quiet=32)
    assert told(incidents, sites, [firing(0)], 12)[0].incident == 1
    assert told(incidents, sites, [], 40) == []
    assert told(incidents, sites, [firing(0, step=41)], 44) == []
    told(incidents, sites, [], 80)
    assert told(incidents, sites, [firing(0, step=81)], 84)[0].incident == 2


def test_a_consequence_waits_for_its_cause() -> None:
    sites, incidents = table("a", "relu", "b"), Incidents()
    late = firing(2, step=11, kind="dead", metric="dead_fraction")
    assert told(incidents, sites, [late], 12, hurry=True) == []
    alerts = told(incidents, sites, [firing(0)], 13)
    assert alerts[0].origin == "a" and {a.incident for a in alerts} == {1}


def test_what_waits_is_said_at_the_end_of_the_run() -> None:
    """Found lost: the last windows of a run often hold the fault."""
    sites, incidents = table("a", "relu", "b"), Incidents()
    late = firing(1, step=11, kind="dead", metric="dead_fraction")
    told(incidents, sites, [late], 12, hurry=True)
    alerts, changed = incidents.flush(sites, 12)
    assert [(a.layer, a.kind) for a in alerts] == [("relu", "dead")] and len(changed) == 1
    assert incidents.flush(sites, 12)[0] == []


def test_a_layer_last_seen_in_a_jump_does_not_hold_others_back() -> None:
    """Found to keep every later alarm of dead units waiting, and to judge at every step."""
    random = np.random.default_rng(0)
    with Monitor(run=False, strict=True) as monitor:
        for step in range(160):
            monitor.observe("a", random.normal(size=(16, 8)))
            if step <= 60:
                monitor.observe("b", random.normal(size=(16, 8)) * (8 if step == 60 else 1))
            units = np.maximum(random.normal(size=(16, 8)), 0)
            if step > 100:
                units[:] = 0
            monitor.observe("relu", units, activation="relu")
            monitor.step()
    assert {(a.layer, a.kind) for a in monitor.alerts} >= {("relu", "dead")}
    assert len(monitor.history) < 40


def test_the_state_is_plain_and_comes_back() -> None:
    sites, incidents = table("a", "relu"), Incidents()
    told(incidents, sites, [firing(0)], 12)
    other = Incidents()
    other.load(incidents.state())
    assert other.state() == incidents.state()
    assert told(other, sites, [firing(0, step=13)], 16) == []
    assert told(other, sites, [firing(0, step=14, kind="mean_shift")], 16)[0].incident == 1

    waiting = Incidents()
    told(waiting, sites, [firing(1, kind="dead")], 12, hurry=True)
    other = Incidents()
    other.load(waiting.state())
    assert [a.kind for a in other.flush(sites, 12)[0]] == ["dead"]


# --- a second cause ----------------------------------------------------------------------


def network() -> tuple[Sites, dict[str, int]]:
    """``a`` feeds ``b`` and ``side``, ``b`` feeds ``c``; with columns by what they are."""
    sites = Sites()
    parents = {INPUT: (), "a": (INPUT,), "b": ("a",), "side": ("a",), "c": ("b",)}
    columns = {}
    for name, before in parents.items():
        layer = Layer(name, parameters=name != INPUT, parents=before)
        columns[name] = sites.add(Site(name, "input" if name == INPUT else "output"), layer)
    for name in ("a", "b", "c"):
        for tensor in ("weight", "gradient", "update"):
            columns[f"{name} {tensor}"] = sites.add(Site(name, tensor), sites.layers[name])
    return sites, columns


def tell(
    incidents: Incidents, sites: Sites, firings: list[Firing], step: int, **options: Any
) -> list[Alert]:
    """Alerts, where no site has moved and conditions hold everywhere."""
    return incidents.update(
        firings, sites, moved(sites), step, np.ones(len(sites), bool), **options
    )[0]


def opened(sites: Sites, column: int, **options: Any) -> Incidents:
    """An incident that is open since step 10."""
    incidents = Incidents()
    assert [a.incident for a in tell(incidents, sites, [firing(column, **options)], 11)] == [1]
    return incidents


SECOND = [
    ("a weight", {"kind": "corruption", "metric": "unexplained_change"}, "a"),
    ("c weight", {"kind": "corruption", "metric": "unexplained_change"}, "c"),
    ("c update", {"kind": "frozen", "metric": "relative_update"}, "c"),
    ("c update", {"kind": "update", "metric": "relative_update", "origin": "c"}, "c"),
    ("c", {"kind": "batchnorm", "metric": "mode"}, "c"),
    (INPUT, {}, INPUT),
    ("c", {"kind": "distribution_shift", "metric": "unit_shift", "origin": INPUT}, INPUT),
    ("a", {}, "a"),
    ("side", {"kind": "mean_shift"}, "side"),
    ("a update", {"kind": "update", "metric": "relative_update"}, "a"),
]


@pytest.mark.parametrize(("where", "what", "origin"), SECOND)
@pytest.mark.parametrize("delay", [4, 10, 40])
def test_what_an_open_incident_cannot_have_brought_about_is_one_of_its_own(
    where: str, what: dict[str, str], origin: str, delay: int
) -> None:
    """Found swallowed to the end of the run."""
    sites, columns = network()
    incidents = opened(sites, columns["b"])
    (alert,) = tell(incidents, sites, [firing(columns[where], step=10 + delay, **what)], 11 + delay)
    assert (alert.incident, alert.origin) == (2, origin)


FIRST = [
    ("c", {}, 30),
    ("c", {"kind": "dead", "metric": "dead_fraction"}, 30),
    ("c update", {"kind": "update", "metric": "relative_update"}, 30),
    ("a gradient", {"kind": "exploding", "metric": "rms"}, 30),
    ("a", {}, 12),
    ("a weight", {"kind": "corruption", "metric": "unexplained_change"}, 12),
]


@pytest.mark.parametrize(("where", "what", "step"), FIRST)
def test_what_its_cause_may_have_brought_about_belongs_to_an_open_incident(
    where: str, what: dict[str, str], step: int
) -> None:
    sites, columns = network()
    incidents = opened(sites, columns["b"])
    assert tell(incidents, sites, [firing(columns[where], step=step, **what)], 31) == []
    (held,) = incidents.state()["open"]
    assert held["incident"]["followers"] == [where.split()[0]]


def test_each_of_two_open_incidents_gets_what_is_its_own() -> None:
    sites, columns = network()
    incidents = opened(sites, columns["b"])
    tell(incidents, sites, [firing(columns["side"], step=20)], 21)
    later = [firing(columns[n], step=30, kind="mean_shift") for n in ("side", "b", "c")]
    alerts = tell(incidents, sites, later, 31)
    assert sorted((a.incident, a.layer) for a in alerts) == [(1, "b"), (2, "side")]
    assert [g["incident"]["followers"] for g in incidents.state()["open"]] == [["c"], []]


def test_what_happens_at_once_with_a_second_cause_goes_with_it() -> None:
    sites, columns = network()
    incidents = opened(sites, columns["c"])
    corruption = firing(columns["a weight"], step=30, kind="corruption", metric="corruption")
    others = [firing(columns[name], step=30) for name in ("a", "b", "c")]
    alerts = tell(incidents, sites, [*others, corruption], 31)
    assert [(a.incident, a.kind) for a in alerts] == [(2, "corruption"), (2, "variance_shift")]
    assert [g["incident"]["followers"] for g in incidents.state()["open"]] == [[], ["b"]]


def test_a_cause_that_was_in_several_layers_at_once_is_one_cause_in_others_too() -> None:
    """As weights that are rounded layer by layer."""
    sites, columns = network()
    what = {"kind": "corruption", "metric": "unexplained_change"}
    incidents = Incidents()
    tell(incidents, sites, [firing(columns[f"{n} weight"], **what) for n in "ab"], 11)
    assert tell(incidents, sites, [firing(columns["c weight"], step=40, **what)], 41) == []


def test_a_cause_that_goes_from_layer_to_layer_is_no_news_in_the_fourth() -> None:
    names = [f"layer{i}" for i in range(6)]
    sites, incidents = table(*names), Incidents()
    weights = [sites.add(Site(n, "weight"), sites.layers[n]) for n in names]
    numbers = []
    for i, column in enumerate(weights):
        what = firing(column, step=10 + 10 * i, kind="corruption", metric="unexplained_change")
        numbers += [a.incident for a in tell(incidents, sites, [what], 11 + 10 * i)]
    assert numbers == [1, 2, 3]


def test_what_feeds_a_layer_is_known_from_its_parents() -> None:
    """Loops end; a layer whose parents are not known sees all that ran before it."""
    sites, _ = network()
    assert sites.fed_by("b") == {"b", "c"} and sites.fed_by("c") == {"c"}
    assert sites.fed_by(INPUT) == set(sites.layers) and INPUT not in sites.fed_by("a")
    loop = Sites()
    for name, before in {"x": ("y",), "y": ("x",), "z": (), "late": ("z",)}.items():
        loop.add(Site(name), Layer(name, parameters=True, parents=before))
    assert loop.fed_by("y") == set(loop.layers) and loop.fed_by("z") == {"z", "late"}
    sites.add(Site("new"), Layer("new", parameters=True, parents=("c",)))
    assert sites.fed_by("b") == {"b", "c", "new"}


def test_a_loss_is_raised_beside_a_layer_of_the_same_kind() -> None:
    sites, columns = network()
    incidents = opened(sites, columns["b"], kind="exploding")
    loss = firing(columns["c gradient"], step=40, kind="exploding", metric="loss")
    alerts = tell(incidents, sites, [loss], 41)
    assert [(a.incident, a.metric) for a in alerts] == [(1, "loss")]
    assert tell(incidents, sites, [loss._replace(step=50)], 51) == []
    assert incidents.state()["open"][0]["incident"]["kinds"] == ["exploding"]


def broken(column: int, step: int) -> Firing:
    return firing(column, step=step, kind="nonfinite", metric="nonfinite", severity="critical")


def test_values_that_are_not_finite_are_raised_whatever_is_open() -> None:
    sites, columns = network()
    incidents = opened(sites, columns["b"])
    (alert,) = tell(incidents, sites, [broken(columns["a"], 30)], 31)
    assert (alert.incident, alert.layer, alert.origin) == (1, "a", "b")


def test_values_that_are_not_finite_are_told_of_one_incident_and_not_of_all() -> None:
    """They spread to whatever is open."""
    sites, columns = network()
    incidents = opened(sites, columns["b"])
    tell(incidents, sites, [firing(columns["side"], step=20)], 21)
    spread = [broken(columns[name], 30 + i) for i, name in enumerate(("side", "a", "b", "c"))]
    assert [a.incident for a in tell(incidents, sites, spread[::-1], 34)] == [2]
    assert tell(incidents, sites, [broken(columns["b gradient"], 36)], 37) == []
    other = Incidents()
    other.load(json.loads(json.dumps(incidents.state())))
    assert other.state() == incidents.state()
    assert tell(other, sites, [broken(columns["c gradient"], 44)], 45) == []


def test_values_that_are_not_finite_are_news_where_they_cannot_have_spread() -> None:
    sites, columns = network()
    incidents = opened(sites, columns["b"], kind="nonfinite", metric="nonfinite")
    # The next steps bring them to all layers, …
    for name, step in (("c", 10), ("a weight", 11), ("c gradient", 18)):
        assert tell(incidents, sites, [broken(columns[name], step)], step + 1) == []
    # … of which some are seen late.
    assert tell(incidents, sites, [broken(columns["c update"], 60)], 61) == []
    (alert,) = tell(incidents, sites, [broken(columns["side"], 80)], 81)
    assert (alert.incident, alert.origin) == (2, "side")
    # What fires once more was finite in between.
    (alert,) = tell(incidents, sites, [broken(columns["c"], 100)], 101)
    assert (alert.incident, alert.origin) == (3, "c")


def test_what_is_unrelated_keeps_no_incident_open() -> None:
    sites, columns = network()
    incidents = opened(sites, columns["b"])
    for step in range(40, 120, 8):
        tell(incidents, sites, [firing(columns["a gradient"], step=step, metric="rms")], step)
    assert incidents.state()["open"] == []
    assert tell(incidents, sites, [firing(columns["b"], step=121)], 122)[0].incident == 2


def test_a_consequence_of_a_second_cause_waits_for_it_too() -> None:
    sites, columns = network()
    incidents = opened(sites, columns["c"])
    late = firing(columns["b"], step=30, kind="dead", metric="dead_fraction")
    assert tell(incidents, sites, [late], 31, hurry=True) == []
    alerts = tell(incidents, sites, [firing(columns["a"], step=30)], 32)
    assert {(a.incident, a.origin) for a in alerts} == {(2, "a")}


def test_no_more_than_four_incidents_are_open_and_all_of_them_are_saved() -> None:
    names = [f"layer{i}" for i in range(8)]
    sites = Sites()
    for name in names:  # side by side
        sites.add(Site(name), Layer(name, parameters=True, parents=(INPUT,)))
    incidents = Incidents()
    for i in range(8):
        (alert,) = tell(incidents, sites, [firing(i, step=10 + 5 * i)], 11 + 5 * i)
        assert alert.incident == i + 1
    assert [g["incident"]["number"] for g in incidents.state()["open"]] == [5, 6, 7, 8]
    other = Incidents()
    other.load(json.loads(json.dumps(incidents.state())))
    assert other.state() == incidents.state()
    assert tell(other, sites, [firing(7, step=60)], 61) == []


def test_a_state_of_before_that_had_one_open_incident_is_taken() -> None:
    sites, columns = network()
    state = opened(sites, columns["b"]).state()
    (held,) = state["open"]
    before = {k: held[k] for k in ("incident", "everywhere", "latest", "raised")}
    incidents = Incidents()
    incidents.load({**state, "open": before})
    assert tell(incidents, sites, [firing(columns["b"], step=20)], 21) == []
    incidents.load({**state, "open": None})
    assert tell(incidents, sites, [firing(columns["b"], step=20)], 21)[0].incident == 2
