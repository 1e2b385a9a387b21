"""The fault benchmark does what it says: disjoint sets, real faults, a fair oracle, exact intervals."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from benchmarks.faults import compare, faults, healthy, layers, oracle, pairs, runs, score
from benchmarks.faults.baselines import BASELINES
from benchmarks.faults.baselines.recording import COLUMNS, WINDOW, Recorder, Recording
from benchmarks.faults.baselines.signs import EPOCH, Sign, alerts, needed, of_layers
from benchmarks.faults.cases import PLACES, SEEDS, SETS, Case, cases, quick
from benchmarks.faults.faults import FAULTS, INPUT, Fault
from benchmarks.faults.habits import Adapted, bandit
from benchmarks.faults.healthy import SITUATIONS, Situation
from benchmarks.faults.intervals import clopper_pearson, redrawn
from benchmarks.faults.networks import BY_NAME, NETWORKS, Forgers, Network, skeleton
from benchmarks.faults.observers import FIELDS, OBSERVERS
from benchmarks.faults.training import Action, Plan, Trace, Training, train

DENSE = BY_NAME["dense relu"]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Nets this small only lose by sharing their work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def everything() -> list[Network]:
    return list(chain.from_iterable(NETWORKS.values()))


# The sets.


@pytest.mark.parametrize(("one", "other"), list(combinations(SETS, 2)))
def test_no_two_sets_share_a_seed_or_an_architecture(one: str, other: str) -> None:
    """By name, and by what the models are made of."""
    assert not {n.name for n in NETWORKS[one]} & {n.name for n in NETWORKS[other]}
    assert not {str(skeleton(n)) for n in NETWORKS[one]} & {
        str(skeleton(n)) for n in NETWORKS[other]
    }
    assert not set(SEEDS[one]) & set(SEEDS[other])
    assert not {c.seed for c in cases(one)} & {c.seed for c in cases(other)}


def test_the_list_of_cases_is_the_same_at_every_call() -> None:
    """Also where models were built anew."""
    before = {group: cases(group) for group in SETS}
    skeleton.cache_clear()
    assert {group: cases(group) for group in SETS} == before
    keys = [c.key for c in chain.from_iterable(before.values())]
    assert len(keys) == len(set(keys)) <= 3000


def test_every_set_has_every_fault_every_situation_and_runs_of_long_windows() -> None:
    """Where a fault fits no network of a set, that is a hole to know about; all seven families, too."""
    for group in SETS:
        found = cases(group)
        assert len({n.family for n in NETWORKS[group]}) == 7
        assert {c.code for c in found} == {f.code for f in FAULTS} | {s.code for s in SITUATIONS}
        assert {c.network for c in found} == {n.name for n in NETWORKS[group]}
        assert any(c.steps > 1024 and c.strikes is None for c in found)
        assert any(c.steps > 1024 and c.strikes is not None for c in found)


@pytest.mark.parametrize("network", everything(), ids=lambda n: n.name)
def test_modules_are_registered_in_the_order_in_which_they_are_called(network: Network) -> None:
    """On which neighbours rest; and the last child, which alone learns where a trunk is frozen, has weights."""
    torch.manual_seed(0)
    model, task, called = network.build(), network.task, list[str]()
    parts = dict(model.named_children()) if isinstance(model, Forgers) else {"": model}
    x = torch.randn(4, *task.noise) if task.noise else task.samples()[0][:4]
    for name in layers.leaves(model):
        model.get_submodule(name).register_forward_pre_hook(lambda *_, n=name: called.append(n))
    for part in parts.values():  # a discriminator is given what the generator made
        x = part(x)
    assert list(dict.fromkeys(called)) == layers.leaves(model)
    assert list(list(parts.values())[-1].children())[-1].state_dict()


@pytest.mark.parametrize("network", everything(), ids=lambda n: n.name)
def test_wherever_a_fault_strikes_there_is_a_layer_to_name(network: Network) -> None:
    """At every place, whether the fault makes sense there or not; and that layer has a neighbour."""
    model, tried = skeleton(network), 0
    for fault in FAULTS:
        for place in PLACES:
            layer = fault.layer(model, place)
            if layer:
                origin = fault.origin(model, layer)
                assert origin in layers.leaves(model) and layers.near(model, origin)
                tried += 1
    assert tried >= 60


def test_the_quick_cases_are_some_of_all_kinds() -> None:
    """Healthy and faulty, of all families."""
    some = quick("design")
    assert set(some) <= set(cases("design"))
    assert 15 < sum(c.strikes is None for c in some) < len(some) - 15
    assert len({BY_NAME[c.network].family for c in some}) == 7


# The faults.


def fitting(what: Fault | Situation) -> Network:
    """The first network that it fits."""
    networks = (n for n in everything() if what.fits(n))
    if isinstance(what, Situation):
        return next(networks)
    return next(n for n in networks if what.layer(skeleton(n), 0.5) is not None)


def snapshot(training: Training) -> dict[str, Any]:
    """All that a fault may change, by where it is."""
    found: dict[str, Any] = {"x": training.x.numpy().tobytes(), "y": training.y.numpy().tobytes()}
    found["rows"] = None if training.rows is None else training.rows.tobytes()
    found["optimizer"] = [
        ({k: v for k, v in g.items() if k != "params"}, list(map(id, g["params"])))
        for g in training.groups
    ]
    found["state"] = [len(o.state) for o in training.optimizers]
    found["memory"] = sorted(training.memory)
    names = ("parts", "enlarged", "clip", "cleared", "applied", "lower", "loss")
    found["training"] = [getattr(training, name) for name in names]
    for name, module in training.model.named_modules():
        own = dict(module.named_parameters(recurse=False)) | dict(
            module.named_buffers(recurse=False)
        )
        grads = [getattr(v, "grad", None) for v in own.values()]
        options = {k: v for k, v in vars(module).items() if isinstance(v, (int, float, bool))}
        found[f"layer {name}"] = (
            [v.detach().numpy().tobytes() for v in own.values()],
            [None if g is None else g.numpy().tobytes() for g in grads],
            options,
            vars(module).get("forward"),
        )
    return found


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.code)
def test_a_fault_changes_what_it_says_and_nothing_else(fault: Fault) -> None:
    """A layer's fault that layer, or its place in the optimizer; a fault of the data the batch."""
    network, seen = fitting(fault), list[dict[str, Any]]()
    layer = fault.layer(skeleton(network), 0.5)
    assert layer is not None
    strikes = 0 if fault.moment == "start" else 2

    def look(training: Training) -> None:
        if training.step == strikes:
            seen.append(snapshot(training))

    actions = [Action(fault.when, look), fault.action(layer), Action(fault.when, look)]
    train(Plan(network, seed=1, steps=strikes + 1, size=12), actions, strikes=strikes)
    changed = {key for key in seen[0] if seen[0][key] != seen[1][key]}
    assert changed
    if fault.where == INPUT:
        assert changed <= {"x", "y", "rows"}
    elif layer:
        mine = {key for key in seen[0] if key.startswith(f"layer {layer}")}
        assert changed <= {*mine, "optimizer", "memory"}
    if fault.where not in ("", INPUT):
        assert fault.origin(skeleton(network), layer) in layers.leaves(skeleton(network))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.code)
def test_a_run_with_a_fault_is_its_twin_until_it_strikes(fault: Fault) -> None:
    """To the last bit, so that whatever differs later is the fault's doing."""
    network = fitting(fault)
    layer = fault.layer(skeleton(network), 0.5)
    assert layer is not None
    plan, strikes = Plan(network, seed=1, steps=4, size=8), 3
    bad = train(
        plan,
        [replace(fault, when="begin" if fault.when == "start" else fault.when).action(layer)],
        strikes=strikes,
    )
    good = train(plan)
    assert np.array_equal(bad.losses[:strikes], good.losses[:strikes])


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda s: s.code)
def test_a_healthy_situation_trains(situation: Situation) -> None:
    """Twelve steps of it, so that what happens half-way happens."""
    plan = situation.planned(Plan(fitting(situation), seed=1, steps=12, size=8))
    trace = train(replace(plan, steps=12), situation.actions)
    assert np.isfinite(trace.losses).all()


def test_a_bandit_s_loss_is_its_regret_and_its_gradient_lowers_it() -> None:
    """A right guess becomes likelier, a wrong one less so; in the mean over many draws."""
    torch.manual_seed(0)
    logits = torch.zeros(4000, 5, requires_grad=True)
    y = torch.arange(4000) % 5
    loss = bandit(logits, logits, y)
    loss.backward()
    assert logits.grad is not None
    assert float(loss.detach()) == pytest.approx(0.8, abs=0.03)
    right = torch.nn.functional.one_hot(y, 5).bool()
    assert logits.grad[right].sum() < 0 < logits.grad[~right].sum()


def test_adapters_begin_as_the_layer_that_they_adapt() -> None:
    """And they, with norms and head, are all that learns."""
    frozen = torch.nn.Linear(6, 4)
    adapted, x = Adapted(frozen), torch.randn(3, 6)
    assert torch.equal(adapted(x), frozen(x))
    adapted(x).sum().backward()
    assert adapted.up.weight.grad is not None and frozen.weight.grad is None


# The oracle.


@pytest.fixture(scope="module")
def family() -> list[Trace]:
    """A twin and two siblings."""
    plan = Plan(DENSE, seed=1, steps=72)
    moments = oracle.probes(40, 72)
    return [train(plan, probes=moments, other=o) for o in (None, (40, 1), (40, 2))]


@pytest.mark.parametrize(("code", "killed"), [("", False), ("F40e", True), ("F01b", True)])
def test_the_oracle_tells_faults_from_what_does_nothing(
    family: list[Trace], code: str, killed: bool
) -> None:
    """A fault that does nothing is an equivalent mutant, blatant ones are killed."""
    actions = []
    if code:
        fault = faults.BY_CODE[code]
        actions = [fault.action(fault.layer(skeleton(DENSE), 0.5) or "")]
    plan = Plan(DENSE, seed=1, steps=72)
    run = train(plan, actions, strikes=40, probes=oracle.probes(40, 72))
    assert oracle.judge(run, family[0], family[1:], 40).killed is killed


def test_a_healthy_sibling_is_not_killed(family: list[Trace]) -> None:
    """Judged by the spread that it is one of."""
    twin, first, second = family
    assert not oracle.judge(first, twin, [first, second], 40).killed


def test_another_beginning_is_compared_with_other_healthy_beginnings(family: list[Trace]) -> None:
    """Other weights are another function at once, which no other batches explain."""
    plan, moments = Plan(DENSE, seed=1, steps=72), oracle.probes(0, 72)
    twin = train(plan, probes=moments)
    other = train(replace(plan, weights=2), probes=moments)
    batches = [train(plan, probes=moments, other=(0, i)) for i in (1, 2)]
    anew = [train(replace(plan, weights=1000 * i), probes=moments, other=(0, i)) for i in (1, 2)]
    assert oracle.judge(other, twin, batches, 0).why == "output"
    assert not oracle.judge(other, twin, anew, 0).killed
    alike = faults.BY_CODE["F13b"]
    broken = train(
        plan, [alike.action(alike.layer(skeleton(DENSE), 0.5) or "")], strikes=0, probes=moments
    )
    assert oracle.judge(broken, twin, anew, 0).why == "loss"


def test_a_loss_that_is_not_finite_kills(family: list[Trace]) -> None:
    """Whatever the spread."""
    losses = family[0].losses.copy()
    losses[50] = np.nan
    verdict = oracle.judge(replace(family[0], losses=losses), family[0], family[1:], 40)
    assert verdict.killed and verdict.why == "nonfinite"


# Two faults.


def test_a_second_fault_is_told_by_an_incident_of_its_own() -> None:
    """Weights ×5, then the input ×4: a miss if all were one incident, and not seen in the first alone."""
    tried = pairs.trials([DENSE.name], [10])
    both, first, _ = next(three for pair, _, three in tried if pair == "F40c then F34")
    blow, raised = both.blows[1], pairs.alerts(both)
    delay = pairs.told(raised, DENSE.name, blow)
    assert delay is not None and delay <= 8
    assert pairs.told([{**a, "incident": 1} for a in raised], DENSE.name, blow) is None
    alone = pairs.alerts(first)
    assert pairs.told(alone, DENSE.name, first.blows[0]) is not None
    assert pairs.told(alone, DENSE.name, blow) is None


# Runs and rows.


NAN = Case("design", "dense relu", "F39", seed=1, steps=40, strikes=30)


@pytest.fixture(scope="module")
def rows() -> tuple[dict[str, Any], dict[str, Any]]:
    """A NaN in the input, as the oracle has it and as the real observer."""
    return runs.judge(NAN), runs.watch(NAN, OBSERVERS["shiftwatch"])


def test_the_oracle_tells_what_was_done_and_the_observer_what_it_found(
    rows: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    """Joined they can be scored, and the watched run is the same as the one without."""
    verdict, watched = rows
    row = runs.join([NAN], {NAN.key: verdict}, {NAN.key: watched})[NAN.key]
    assert row.get("error") is None
    assert row["killed"] and row["why"] == "nonfinite" and row["shown"] == 30
    assert row["same"] and row["origin"] == INPUT
    assert score.find(row).exact and score.find(row).kind_right
    assert json.loads(json.dumps(row)) == row


def test_an_observer_has_no_say_in_the_verdict(
    rows: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    """So that another one costs its watched runs alone."""
    verdict, watched = rows
    assert "alerts" not in verdict and not {"killed", "shown", "origin"} & set(watched)


def test_rows_without_their_other_half_are_not_joined(
    rows: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    """And an error of either is one of the case; a healthy run needs no oracle."""
    verdict, watched = rows
    calm = Case("design", "dense relu", "H01", seed=1, steps=4)
    assert runs.join([NAN, calm], {}, {NAN.key: watched}) == {}
    assert runs.join([NAN], {NAN.key: verdict}, {}) == {}
    broken = {**verdict, "error": "once"}
    assert runs.join([NAN], {NAN.key: broken}, {NAN.key: watched})[NAN.key]["error"] == "once"
    assert runs.join([calm], {}, {calm.key: {"key": calm.key}}) == {calm.key: {"key": calm.key}}


def test_a_digest_is_that_of_the_losses_to_the_last_bit() -> None:
    """But one NaN is as good as another."""
    losses = np.array([1.0, 2.0, np.nan])
    other = losses.copy()
    other[2] = -other[2]
    assert runs.digest(losses) == runs.digest(other)
    other[1] = np.nextafter(2.0, 3.0)
    assert runs.digest(losses) != runs.digest(other)


def test_an_error_in_a_case_is_a_row() -> None:
    """Not the end of the benchmark."""

    def broken(*_: Any) -> Any:
        raise RuntimeError("no such luck")

    level = logging.getLogger("shiftwatch").level
    row = runs.watch(Case("design", "dense relu", "H01", seed=1, steps=4), broken)
    assert "no such luck" in row["error"]
    assert logging.getLogger("shiftwatch").level == level


def test_a_watched_training_is_silent_and_the_logger_as_before() -> None:
    """Others in the same process want to hear from it."""
    logger, heard = logging.getLogger("shiftwatch"), list[bool]()
    level = logger.level

    class Listener:
        def __init__(self, *_: Any) -> None:
            heard.append(logger.isEnabledFor(logging.CRITICAL))

        def after_step(self, loss: torch.Tensor, accuracy: float) -> None: ...

        def close(self) -> list[dict[str, Any]]:
            return []

    assert "error" not in runs.watch(Case("design", "dense relu", "H01", seed=1, steps=2), Listener)
    assert heard == [False]
    assert logger.level == level and logger.isEnabledFor(logging.CRITICAL)


def test_what_is_there_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows with an error are, and the one that a kill cut short."""
    wanted = [Case("design", "dense relu", "H01", seed=i, steps=4) for i in range(4)]
    path, asked = tmp_path / "rows.jsonl", list[str]()
    there = [{"key": wanted[0].key}, {"key": wanted[1].key, "error": "once"}]
    path.write_text("".join(json.dumps(r) + "\n" for r in there) + '{"key": "' + wanted[2].key)

    def fake(case: Case, attach: Any) -> dict[str, Any]:
        asked.append(case.key)
        return {"key": case.key, "new": True}

    monkeypatch.setattr(runs, "watch", fake)
    rows = runs.run_all(wanted, path, "shiftwatch")
    assert asked == [c.key for c in wanted[1:]]
    assert runs.load(path) == rows and "new" not in rows[wanted[0].key]
    runs.run_all(wanted, path, "shiftwatch")
    assert len(asked) == 3


# Scores.


@pytest.mark.parametrize(("hits", "trials"), [(0, 45), (1, 45), (20, 300), (300, 300), (7, 8)])
def test_the_interval_is_that_of_scipy(hits: int, trials: int) -> None:
    """An independent implementation of the exact one."""
    expected = binomtest(hits, trials).proportion_ci(0.95, method="exact")
    assert clopper_pearson(hits, trials) == pytest.approx((expected.low, expected.high), abs=1e-7)


def test_of_no_trials_nothing_is_known() -> None:
    """And more hits than trials are an error."""
    assert clopper_pearson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="3 of 2"):
        clopper_pearson(3, 2)


def test_hits_that_gather_in_one_group_are_less_sure_than_as_many_that_are_spread() -> None:
    """The same ten of a hundred, all in one network, and one in each."""
    gathered = redrawn([(10, 10)] + [(0, 10)] * 9)
    spread = redrawn([(1, 10)] * 10)
    assert gathered[0] == 0.0 and gathered[1] >= 0.3
    assert spread == (0.1, 0.1) and redrawn([]) == (0.0, 1.0)


def alert(detected: int, kind: str, origin: str, incident: int = 1) -> dict[str, Any]:
    return {
        "step": detected, "detected": detected, "kind": kind, "layer": origin, "tensor": "output",
        "severity": "warning", "origin": origin, "incident": incident, "metric": "std",
        "value": 1.0, "limit": 0.5,
    }  # fmt: skip


def faulty(*alerts: dict[str, Any], code: str = "F40c") -> dict[str, Any]:
    return {
        "key": "design/one", "code": code, "strikes": 100, "origin": "3",
        "near": ["2", "4"], "alerts": list(alerts), "killed": True, "why": "loss", "loss": 2.0,
        "output": 1.0, "shown": 104, "same": True, "network": "dense relu", "seed": 1, "steps": 240,
        "sibling_killed": False,
    }  # fmt: skip


def test_the_first_incident_after_the_fault_is_judged() -> None:
    """By all its kinds, and by its origin; one from before the fault is a false alarm."""
    found = score.find(
        faulty(alert(50, "dead", "1"), alert(102, "dead", "4", 2), alert(103, "corruption", "4", 2))
    )
    assert found.early and found.delay == 2 and found.lead == 2
    assert found.kinds == ("dead", "corruption") and found.kind_right
    assert (found.exact, found.adjacent) == (False, True)


def test_a_miss_is_a_miss() -> None:
    """Also where the only alarm came too early."""
    assert score.find(faulty()).detected is None
    assert score.find(faulty(alert(99, "dead", "3"))).detected is None


def test_the_loss_shows_a_fault_that_its_twin_does_not_show() -> None:
    """At twice the running median; where both jump, it is the batch."""
    calm = np.ones(80)
    batch = calm.copy()
    batch[60] = 5.0
    bad = batch.copy()
    bad[63:] = 2.5
    assert runs.shown(bad, batch, 50) == 63
    assert runs.shown(batch, batch, 50) is None
    bad[61] = np.nan
    assert runs.shown(bad, batch, 50) == 61


def test_tables_are_drawn_as_text_and_as_markdown() -> None:
    """Weak spots are named by case."""
    quiet = {
        "key": "h",
        "code": "H01",
        "network": "dense relu",
        "strikes": None,
        "alerts": [],
        "first": 2.0,
        "last": 0.1,
    }
    loud = {**quiet, "key": "h2", "alerts": [alert(7, "dead", "3")]}
    found = {t.title: t for t in score.tables([quiet, loud, faulty()])}
    assert "1/2 = 50.0%" in found["Overview"].text()
    assert "missed" in found["Weak spots"].text()
    assert found["Healthy situations"].markdown().count("|---") == 4
    assert healthy.BY_CODE["H01"].name in found["Healthy situations"].markdown()


# Baselines.

LAYERS, ACTIVATIONS = ("1", "2", "3"), ("", "relu", "tanh")


def calm(steps: int = 240, **changes: Any) -> Recording:
    """A recording in which no rule has anything to say, but for what is changed."""
    rng = np.random.default_rng(5)
    usual = {
        "output.finite": 1.0, "output.mean": 0.5, "output.std": 1.0, "output.zero": 0.3,
        "output.nonpositive": 0.3, "output.idle": 0.0, "gate.variance": 1.0, "gate.large": 0.0,
        "gate.saturated": 0.0, "weight.finite": 1.0, "weight.mean": 0.01, "weight.zero": 0.0,
        "weight.update": 1e-3, "weight.same": 0.0, "gradient.finite": 1.0, "gradient.mean": 1e-3,
        "gradient.mean_abs": 1e-2, "gradient.norm": 1.0, "gradient.zero": 0.0,
        "gradient.size": 100.0, "gradient.spread": 0.1,
    }  # fmt: skip
    assert set(usual) == set(COLUMNS)
    wiggle = {"output.mean", "output.std", "weight.mean", "gradient.mean"}
    columns = {}
    for name, value in usual.items():
        columns[name] = np.full((steps, 3), value)
        if name in wiggle:  # bounded, so that no z-score is large
            columns[name] += value * 0.05 * rng.uniform(-1, 1, (steps, 3))
    scalars = {
        "loss": 2.0 * 0.99 ** np.arange(steps),
        "accuracy": np.linspace(0.1, 0.95, steps),
        "rate": np.full(steps, 1e-3),
        "dropout": np.zeros(steps),
        "norm": 1 + 0.1 * rng.uniform(-1, 1, steps),
        "lowest": np.full(steps, -1.0),
        "highest": np.full(steps, 1.0),
        "bins": np.full((steps, 3, 10), 100.0),
    }
    for name, change in changes.items():
        change(columns[name.replace("__", ".")] if "__" in name else scalars[name])
    return Recording(LAYERS, ACTIVATIONS, columns, **scalars)


def since(step: int, value: float, layer: int | None = 1) -> Any:
    """Sets a column from a step on, in one layer; of a scalar with ``None``."""

    def change(column: np.ndarray) -> None:
        if layer is None:
            column[step:] = value
        else:
            column[step:, layer] = value

    return change


@pytest.mark.parametrize("tool", BASELINES)
def test_a_baseline_is_silent_where_nothing_is_the_matter(tool: str) -> None:
    """On figures within all of its limits."""
    assert BASELINES[tool](calm()) == []


@pytest.mark.parametrize(
    ("tool", "changes", "kind", "layer", "step"),
    [
        ("SageMaker Debugger", {"gradient__mean_abs": since(90, 1e-8)}, "vanishing", "2", 90),
        ("SageMaker Debugger", {"weight__finite": since(90, 0.0, 0)}, "nonfinite", "1", 90),
        ("SageMaker Debugger", {"output__idle": since(90, 0.6)}, "dead", "2", 90),
        ("SageMaker Debugger", {"gate__saturated": since(90, 0.6, 2)}, "saturation", "3", 90),
        ("SageMaker Debugger", {"gradient__spread": since(4, 1e-4)}, "vanishing", "2", 4),
        ("SageMaker Debugger", {"weight__same": since(90, 1.0, 0)}, "frozen", "1", 91),
        ("SageMaker Debugger", {"weight__zero": since(90, 1.0, 0)}, "collapse", "1", 90),
        ("SageMaker Debugger", {"weight__update": since(90, 11.0, 0)}, "update", "1", 90),
        ("SageMaker Debugger", {"loss": since(85, 3.0, None)}, "loss", "", 90),
        ("AUTOTRAINER", {"loss": since(90, np.nan, None)}, "nonfinite", "", 113),
        ("DeepDiagnosis", {"output__mean": since(90, np.nan)}, "nonfinite", "2", 113),
        ("DeepDiagnosis", {"output__nonpositive": since(90, 0.8)}, "dead", "2", 227),
        ("DeepDiagnosis", {"gate__large": since(90, 0.6, 2)}, "saturation", "3", 189),
        ("DeepDiagnosis", {"output__mean": since(0, 0.5)}, "frozen", "2", 189),
        ("DeepDiagnosis", {"gradient__mean_abs": since(90, 1e-8)}, "vanishing", "2", 113),
        ("DeepDiagnosis", {"weight__mean": since(0, 0.01, 0)}, "frozen", "1", 189),
        ("UMLAUT", {"highest": since(90, 1.5, None)}, "mean_shift", INPUT, 113),
        ("UMLAUT", {"rate": since(90, 0.1, None)}, "update", "", 113),
        ("UMLAUT", {"dropout": since(90, 0.9, None)}, "variance_shift", "", 113),
        ("loss spike", {"loss": since(90, 4.0, None)}, "loss", "", 90),
        ("loss spike", {"loss": since(90, np.inf, None)}, "nonfinite", "", 90),
        ("ZClip", {"norm": since(90, 2.0, None)}, "exploding", "", 90),
        ("ZClip", {"norm": since(90, np.nan, None)}, "nonfinite", "", 90),
        ("z > 3", {"output__mean": since(90, 2.0)}, "mean_shift", "2", 90),
        ("z > 6", {"output__std": since(90, 2.0)}, "variance_shift", "2", 90),
        ("PSI > 0.25", {"bins": lambda b: np.put(b[90], range(10, 20), 5000 * np.eye(10)[0])},
         "distribution_shift", "2", 95),
    ],
)  # fmt: skip
def test_a_baseline_raises_what_its_rules_say(
    tool: str, changes: dict[str, Any], kind: str, layer: str, step: int
) -> None:
    """With the layer that it names, at the step or at the end of the epoch or window."""
    found = alerts(tool, BASELINES[tool](calm(**changes)))
    assert found, "nothing was raised"
    assert (found[0]["kind"], found[0]["origin"], found[0]["detected"]) == (kind, layer, step)
    assert set(found[0]) == {*FIELDS, "by", "value", "limit"}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_sagemaker_sees_what_is_saved_by_default_and_no_more() -> None:
    """Every 500th step: of a fault at 90, in 240 steps, nothing; in 1,300 its traces."""
    changes = {"output__idle": since(90, 0.6)}
    rules = BASELINES["SageMaker Debugger /500"]
    assert rules(calm(**changes)) == []
    assert [(s.step, s.kind) for s in rules(calm(1300, **changes))] == [(500, "dead")]


def test_autotrainer_speaks_of_gradients_only_where_accuracy_is_missed() -> None:
    """Its gate, to which it owes its few false alarms."""
    bad = {"gradient__zero": since(0, 0.9, None)}
    assert BASELINES["AUTOTRAINER"](calm(**bad, accuracy=since(EPOCH, 0.9, None))) == []
    (sign,) = BASELINES["AUTOTRAINER"](calm(**bad, accuracy=since(0, 0.2, None)))
    assert (sign.kind, sign.layer, sign.step) == ("dead", "", 75)
    assert BASELINES["AUTOTRAINER"](calm(**bad, accuracy=since(0, np.nan, None))) == []


def test_a_rule_that_holds_for_long_speaks_once() -> None:
    """And again where it held no more meanwhile."""
    fired = np.zeros((10, 3), bool)
    fired[2:5, 1] = fired[7:, 1] = True
    found = of_layers(calm(10), fired, "dead", "output", "rule")
    assert [(s.step, s.layer) for s in found] == [(2, "2"), (7, "2")]


def test_alerts_of_a_step_are_an_incident_and_the_first_named_is_its_origin() -> None:
    """In the order of the tool, or by size where it has one; a loss names none."""
    signs = [
        Sign(7, "", "loss", "", "loss"),
        Sign(7, "3", "mean_shift", "output", "z", 4.0, 3.0, rank=-4.0),
        Sign(7, "1", "mean_shift", "output", "z", 9.0, 3.0, rank=-9.0),
        Sign(3, "", "loss", "", "loss"),
    ]
    found = alerts("tool", signs)
    assert [(a["step"], a["incident"], a["origin"]) for a in found] == [
        (3, 1, ""), (7, 2, "1"), (7, 2, "1"), (7, 2, "1"),
    ]  # fmt: skip


def test_what_is_kept_scores_as_all_alerts_do() -> None:
    """The first incident of each rule, and its first since the fault."""
    rng = np.random.default_rng(0)
    signs = [
        Sign(int(step), str(layer), "dead", "output", f"rule {rule}")
        for step, layer, rule in zip(
            rng.integers(0, 200, 300), rng.integers(0, 4, 300), rng.integers(0, 3, 300), strict=True
        )
    ]
    every = alerts("tool", signs)
    few = needed(every, 100)
    assert len(few) < 60
    assert score.find(faulty(*few)) == score.find(faulty(*every))
    assert needed(every, None)[0] == every[0]


def test_a_recording_holds_the_figures_of_full_tensors() -> None:
    """Compared with NumPy on the tensors of a net that is run by hand."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    kept: list[Recording] = []
    recorder = Recorder(model, [optimizer], lambda recording: kept.append(recording) or [])
    x, before = torch.randn(32, 4), model[0].weight.detach().numpy().copy()
    hidden = x.numpy() @ before.T + model[0].bias.detach().numpy()
    for _ in range(2):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            model(100 * x)  # an evaluation
        recorder.after_step(loss, 0.25)
        if not kept and len(recorder.bins) == 1:
            gradient, after = model[0].weight.grad.numpy().copy(), model[0].weight.detach().numpy()
            change = np.linalg.norm(after - before) / np.linalg.norm(before)
    assert recorder.close() == []
    (r,) = kept
    assert (r.layers, r.activations) == (("0", "1", "2"), ("", "relu", ""))
    near = partial(pytest.approx, rel=1e-4)
    assert r["output.mean"][0, 0] == near(hidden.mean())
    assert r["output.std"][0, 0] == near(hidden.std())
    assert r["output.zero"][0, 1] == near((hidden <= 0).mean())
    assert r["output.idle"][0, 1] == near(((hidden > 0).mean(0) < 0.01).mean())
    assert r["gate.variance"][0, 1] == near(hidden.var())
    assert r["gradient.mean_abs"][0, 0] == near(np.abs(gradient).mean())
    assert r["gradient.spread"][0, 0] == near(np.subtract(*np.quantile(gradient, [0.95, 0.05])))
    assert r["weight.update"][0, 0] == near(change)
    assert np.isnan(r["weight.mean"][:, 1]).all() and np.isnan(r["gate.large"][:, 0]).all()
    assert (r.lowest[0], r.highest[0]) == (near(float(x.min())), near(float(x.max())))
    assert r.accuracy.tolist() == [0.25, 0.25] and r.rate.tolist() == [0.1, 0.1]
    assert not model[0]._forward_hooks


def test_bins_are_deciles_of_the_first_window() -> None:
    """So that they hold a tenth each there, and later what has come to lie in them."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Identity())
    kept: list[Recording] = []
    recorder = Recorder(
        model, [torch.optim.SGD([torch.zeros(1)], 0.1)], lambda r: kept.append(r) or []
    )
    for step in range(2 * WINDOW):
        model(torch.randn(400, 5) + (3.0 if step >= WINDOW else 0.0))
        recorder.after_step(torch.ones(()), np.nan)
    recorder.close()
    bins = kept[0].bins
    assert np.allclose(bins[WINDOW - 1, 0], 400 * 5 * WINDOW / 10, atol=1)
    assert (bins[WINDOW:, 0].sum(-1) == 2000).all() and bins[WINDOW:, 0, -1].min() > 1900
    (sign,) = BASELINES["PSI > 0.25"](kept[0])
    assert sign.step == 2 * WINDOW - 1 and sign.value > 5


@pytest.mark.parametrize("name", ["dense dropout", "cnn batchnorm", "gpt", "lstm", "gan"])
def test_a_recorded_run_is_the_same_as_one_without(name: str) -> None:
    """To the last bit, whatever the network."""
    plan = Plan(BY_NAME[name], seed=1, steps=12, size=8)
    assert np.array_equal(train(plan).losses, train(plan, attach=OBSERVERS["baselines"]).losses)


def test_accuracy_is_handed_to_observers() -> None:
    """Of what predicts classes or symbols; of an autoencoder there is none."""
    seen: dict[str, list[float]] = {}

    def attach(*_: Any) -> Any:
        class Listener:
            def after_step(self, loss: torch.Tensor, accuracy: float) -> None:
                seen[name].append(accuracy)

            def close(self) -> list[dict[str, Any]]:
                return []

        return Listener()

    for name in ("dense relu", "gpt", "autoencoder"):
        seen[name] = []
        train(Plan(BY_NAME[name], seed=1, steps=60), attach=attach)
    assert seen["dense relu"][0] < 0.4 < 0.8 < np.mean(seen["dense relu"][-10:])
    assert 0 < np.mean(seen["gpt"]) < 1
    assert np.isnan(seen["autoencoder"]).all()


# Comparison.


def quiet(key: str, *found: dict[str, Any]) -> dict[str, Any]:
    return {
        "key": key, "code": "H01", "network": "dense relu", "strikes": None, "alerts": list(found),
        "first": 2.0, "last": 0.1,
    }  # fmt: skip


def test_a_standing_counts_runs_and_faults() -> None:
    """Faults that did nothing are none to be found; a tool that names no layer is told apart."""
    nothing = {**faulty(alert(101, "dead", "3")), "killed": False}
    rows = [
        quiet("a"), quiet("b", alert(7, "dead", "3")), nothing,
        faulty(alert(102, "corruption", "3")), faulty(alert(110, "loss", "")), faulty(),
    ]  # fmt: skip
    s = compare.standing("tool", rows)
    assert (s.loud, s.healthy, s.found, s.killed) == (1, 2, 2, 3)
    assert (s.right, s.exact, s.named, s.placed, s.delays) == (1, 1, 1, 2, (2, 10))
    mute = compare.standing("tool", [faulty(alert(110, "loss", ""))])
    assert "names none" in compare.observers_table([mute]).text()


def test_better_is_who_raises_less_and_finds_more_at_once() -> None:
    loud, silent = quiet("a", alert(7, "dead", "3")), quiet("a")
    found, missed = faulty(alert(110, "loss", "")), faulty()
    one = compare.standing("one", [silent, loud, found, missed])
    others = {
        "as good": [silent, loud, found, missed], "deaf": [silent, silent, missed, missed],
        "always": [loud, loud, found, found], "better": [silent, silent, found, found],
    }  # fmt: skip
    standings = [compare.standing(name, rows) for name, rows in others.items()]
    assert compare.better_than(one, standings) == ["better"]


def test_page_and_picture_come_from_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the cases that all observers have: one that a single one has counts for none."""
    pytest.importorskip("matplotlib")
    some = cases("design")
    healthy_ones = [c for c in some if c.strikes is None][:3]
    broken = next(c for c in some if c.code == "F40c" and c.seed == 101)
    verdict = {**faulty(), "key": broken.key, "strikes": broken.strikes, "digest": "a"}
    del verdict["alerts"], verdict["same"]
    ours = [{**quiet(c.key), "seconds": 1} for c in healthy_ones]
    theirs = [quiet(c.key, {**alert(9, "loss", ""), "by": "ZClip"}) for c in healthy_ones[:2]]
    strike = broken.strikes or 0
    struck = {"key": broken.key, "strikes": strike, "digest": "a"}
    ours.append({**struck, "alerts": [alert(strike + 1, "corruption", "3")]})
    theirs.append({**struck, "alerts": []})
    for name, rows in (("oracle", [verdict]), ("shiftwatch", ours), ("baselines", theirs)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"design-{name}.jsonl").write_text(lines)
    arguments = ["compare", "--set", "design", "--results", tmp_path, "--into", tmp_path]
    monkeypatch.setattr("sys.argv", list(map(str, arguments)))
    compare.main()
    text = (tmp_path / "faults.md").read_text()
    assert "2 healthy runs and 1 runs with a fault" in text
    said = "a higher recall than shiftwatch: none. The first row is shiftwatch on all runs"
    assert said in " ".join(text.split())
    assert "| **shiftwatch, all runs** | 0/3 = 0.0%" in text
    assert "| **shiftwatch** | 0/2 = 0.0% [0.0%, 84.2%] | 1/1 = 100.0%" in text
    assert "| ZClip | 2/2 = 100.0%" in text
    assert (tmp_path / "faults.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr("sys.argv", ["compare", "--set", "test", "--results", str(tmp_path)])
    with pytest.raises(SystemExit, match="no case of the set 'test'"):
        compare.main()


def test_what_did_not_learn_and_what_is_like_a_new_task_count_for_nothing() -> None:
    """Neither among false alarms nor among faults; they are told apart."""
    calm = {"strikes": None, "network": "cnn", "code": "H01", "first": 2.3, "last": 0.1}
    stuck = calm | {"last": 2.3}
    broken = {"strikes": 150, "network": "cnn", "code": "F34"}
    renamed = broken | {"code": "F36b"}
    assert score.divided([calm, stuck, broken, renamed]) == ([calm], [broken], [stuck, renamed])
