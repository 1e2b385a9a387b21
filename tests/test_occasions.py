"""Occasions: what a run does on purpose, or meets in its data, excuses what follows from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from shiftwatch import Layer, Site
from shiftwatch.occasions import ECHO, HOLD, RECENT, Occasions, look, occasions_init
from shiftwatch.records import Event
from shiftwatch.signs import Signs
from shiftwatch.sites import Sites
from shiftwatch.source import Batch

WEIGHTS = 10


def table() -> Sites:
    """Layers with a weight and a bias each."""
    sites = Sites()
    for i in range(WEIGHTS):
        for part in ("", "bias"):
            sites.add(Site(f"fc{i}", "update", part), Layer(f"fc{i}", parameters=True))
    return sites


def met(
    steps: int = 100,
    *,
    sizes: Sequence[int] | int = 32,
    learning: Sequence[int] | int = WEIGHTS,
    events: Sequence[Event] = (),
    losses: Sequence[float] | float = 1.0,
    stepped: Sequence[bool] | bool = True,
    cuts: Sequence[int] = (),
) -> Occasions:
    """The occasions of a run; of its layers the first so many learn in each step."""
    sites = table()
    number = np.broadcast_to(learning, steps)
    update = np.where(np.arange(len(sites)) // 2 < number[:, None], 1e-3, 0.0)
    loss = np.broadcast_to(np.asarray(losses, float), steps)
    size, took = np.broadcast_to(sizes, steps), np.broadcast_to(stepped, steps)
    state, parts = occasions_init(), list[Occasions]()
    for some in np.split(np.arange(steps), list(cuts)):
        batch = Batch(
            (), some, np.full(some.size, 0.1), took[some], np.zeros((some.size, len(sites))),
            size[some], tuple(e for e in events if e.step in some),
        )  # fmt: skip
        state, part = look(state, batch, update[some], sites, loss[some])
        parts.append(part)
    return Occasions(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def held(occasions: Occasions) -> list[int]:
    return np.flatnonzero(occasions.held).tolist()


def test_a_steady_run_has_no_occasions() -> None:
    found = met(200, losses=np.exp(np.random.default_rng(0).normal(0, 0.1, 200)))
    assert held(found) == [] and found.surprise.max() < 0.5


def test_another_batch_size_excuses_the_steps_after_it() -> None:
    assert held(met(sizes=[32] * 40 + [256] * 60)) == list(range(40, 40 + HOLD))


def test_the_odd_last_batch_of_an_epoch_is_an_occasion_once() -> None:
    """Epochs of ten batches: its size is known from the first on."""
    sizes = [7 if step % 10 == 9 else 32 for step in range(100)]
    assert held(met(sizes=sizes)) == list(range(9, 9 + HOLD))


def test_a_batch_size_that_was_not_met_lately_is_an_occasion_again() -> None:
    sizes = [32] * 20 + [8] * (RECENT + 20) + [32] * 20
    assert held(met(len(sizes), sizes=sizes))[HOLD:] == list(range(RECENT + 40, RECENT + 40 + HOLD))


def test_batch_sizes_that_always_differ_are_forgotten_without_an_error() -> None:
    assert len(held(met(sizes=np.arange(1, 101)))) == 99


@pytest.mark.parametrize("kind", ["shape"])
def test_events_of_some_kinds_are_occasions(kind: str) -> None:
    assert held(met(events=[Event(30, kind, "so it is")])) == list(range(30, 30 + HOLD))


def test_an_event_that_moves_no_distribution_is_none() -> None:
    assert held(met(events=[Event(30, "learning_rate", "0.1 to 0.01")])) == []


@pytest.mark.parametrize(("before", "after"), [(2, WEIGHTS), (WEIGHTS, 2)])
def test_layers_that_begin_or_cease_to_learn_are_an_occasion(before: int, after: int) -> None:
    assert held(met(learning=[before] * 50 + [after] * 50)) == list(range(50, 50 + HOLD))


@pytest.mark.parametrize(("freed", "steps"), [(WEIGHTS // 2, range(30, 45)), (1, range(0))])
def test_many_weights_that_were_freed_excuse_the_window_in_which_that_happened(
    freed: int, steps: range
) -> None:
    """It is told when the window is taken, and happened at some step of it."""
    events = [Event(44, "requires_grad", f"fc{i} trains") for i in range(freed)]
    assert held(met(events=events, cuts=[30, 45])) == list(steps)


def test_one_layer_of_many_that_stands_still_is_none() -> None:
    """It may as well be the fault that is looked for."""
    assert held(met(learning=[WEIGHTS] * 50 + [WEIGHTS - 1] * 50)) == []


def test_layers_that_learn_in_turns_are_none() -> None:
    """As in a GAN, whose two halves are trained alternately."""
    assert held(met(learning=[3 if step % 2 else 8 for step in range(100)])) == []


def test_steps_that_the_optimizer_left_out_are_none() -> None:
    """A gradient scaler skips some: then nothing moves, and nothing was frozen."""
    took = np.arange(100) % 20 != 19
    assert held(met(learning=np.where(took, WEIGHTS, 0), stepped=took)) == []


def test_a_loss_above_all_recent_ones_surprises_for_a_few_steps() -> None:
    losses = np.ones(120)
    losses[90] = 8.0
    surprise = met(120, losses=losses).surprise
    assert surprise[90 : 90 + ECHO].tolist() == [3.0] * ECHO
    assert not surprise[:90].any() and not surprise[90 + ECHO :].any()


def test_a_loss_that_was_met_lately_surprises_nobody() -> None:
    losses = np.ones(120)
    losses[[80, 110]] = 8.0
    assert not met(120, losses=losses).surprise[105:].any()


def test_nothing_surprises_before_there_is_a_past() -> None:
    assert met(2, losses=[1.0, 1e6]).surprise.tolist() == [0.0, pytest.approx(np.log2(1e6))]
    assert not met(60, losses=np.nan).surprise.any()


@pytest.mark.parametrize("odd", [np.nan, np.inf, -1.0, 0.0])
def test_a_loss_without_a_logarithm_is_passed_over(odd: float) -> None:
    losses = np.ones(120)
    losses[70:80] = odd
    losses[90] = 2.0
    surprise = met(120, losses=losses).surprise
    assert np.isfinite(surprise).all() and surprise.max() == 1.0 and surprise.argmax() == 90


@pytest.mark.parametrize("cuts", [[1], [40, 41, 42, 43], list(range(1, 150))])
def test_occasions_do_not_depend_on_how_a_run_is_cut_into_windows(cuts: list[int]) -> None:
    random = np.random.default_rng(3)
    course = {
        "sizes": np.where(np.arange(150) < 40, 32, random.choice([16, 48], 150)),
        "learning": np.where(np.arange(150) < 90, 4, WEIGHTS),
        "losses": np.exp(random.normal(0, 1, 150)),
        "events": [Event(42, "shape", "8 to 12 for each sample")],
    }
    whole, parts = met(150, **course), met(150, cuts=cuts, **course)  # type: ignore[arg-type]
    np.testing.assert_array_equal(whole.held, parts.held)
    np.testing.assert_array_equal(whole.surprise, parts.surprise)
    assert whole.held.any() and whole.surprise.any()


# --- at first sight ----------------------------------------------------------------------


def test_a_loss_of_twice_all_recent_ones_is_a_sign_once() -> None:
    signs = Signs()
    losses = [1.0] * 100 + [3.0] + [7.0] * 10 + [1.0] * 30 + [20.0]
    assert [t for t, loss in enumerate(losses) if signs.surprises(loss)] == [100, 141]


def test_losses_that_wander_or_are_below_zero_are_no_sign() -> None:
    random = np.random.default_rng(0)
    wanders, below = np.exp(random.normal(0, 0.2, 500)), random.normal(-20, 2, 500)
    for losses in (wanders, below, np.full(99, np.nan)):
        signs = Signs()
        assert not any(signs.surprises(float(loss)) for loss in losses)
