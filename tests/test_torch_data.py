"""The model's input against its own past: units that move, samples that repeat."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shiftwatch.contents import UNITS, contents
from shiftwatch.integrations.torch import watch
from shiftwatch.monitor import Monitor
from shiftwatch.records import INPUT
from shiftwatch.source import Group

CLASSES, WIDTH = 10, 40
Shown = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]


def samples() -> tuple[Tensor, Tensor]:
    """Features of different means, and classes that make up about half of the variance within."""
    data = torch.Generator().manual_seed(1)
    centres = torch.randn(CLASSES, WIDTH, generator=data) + torch.linspace(-1.5, 1.5, WIDTH)
    labels = torch.randint(0, CLASSES, (1024,), generator=data)
    return centres[labels] + torch.randn(1024, WIDTH, generator=data), labels


def train(
    shown: Shown = lambda step, x, y: (x, y), *, rows: Callable[[int, Tensor], Tensor] | None = None,
    steps: int = 120, batch: int = 32, pause: int | None = None,
) -> Monitor:  # fmt: skip
    """Train on batches as they are shown; ``rows`` says which samples may be drawn."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(WIDTH, 32), nn.ReLU(), nn.Linear(32, CLASSES))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    inputs, labels = samples()
    data = torch.Generator().manual_seed(2)
    monitor = watch(model, optimizer=optimizer, run=False, strict=True)
    for step in range(steps):
        if step == pause:
            state = monitor.state_dict()
            monitor.close()
            monitor = watch(model, optimizer=optimizer, run=False, strict=True)
            monitor.load_state_dict(state)
        allowed = torch.ones(len(labels), dtype=torch.bool) if rows is None else rows(step, labels)
        some = torch.multinomial(allowed.float(), batch, replacement=True, generator=data)
        x, y = shown(step, inputs[some], labels[some])
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.step(loss=loss)
    monitor.close()
    return monitor


def said(monitor: Monitor) -> list[tuple[str, str, str]]:
    """Kind, tensor's layer and origin of what was said of the input."""
    return [(a.kind, a.layer, a.origin) for a in monitor.alerts if a.layer == INPUT]


def test_batches_of_the_same_source_are_silent() -> None:
    assert not train().alerts


@pytest.mark.parametrize("batch", [1, 2, 5, 200])
def test_batches_of_any_size_are_silent(batch: int) -> None:
    """Means of few samples move more, and are expected to."""
    assert not said(train(batch=batch))


def test_features_in_another_order_are_laid_at_the_input() -> None:
    """Mean and deviation of all values stay the same to the last digit."""
    order = torch.randperm(WIDTH, generator=torch.Generator().manual_seed(3))
    found = train(lambda step, x, y: (x[:, order] if step >= 80 else x, y))
    assert ("distribution_shift", INPUT, INPUT) in said(found)
    assert min(a.step for a in found.alerts) == 80 and found.incidents[0].origin == INPUT


def test_one_class_alone_is_laid_at_the_input() -> None:
    found = train(rows=lambda step, y: (y == 3) | (step < 80))
    assert ("distribution_shift", INPUT, INPUT) in said(found)


def test_half_of_the_classes_are_no_alarm() -> None:
    """A class more or less is what curricula and samplers do."""
    assert not said(train(rows=lambda step, y: (y < 5) | (step < 80)))


def test_the_same_two_samples_again_and_again_are_a_collapse_of_the_input() -> None:
    def shown(step: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        some = torch.arange(len(x)) % 2 if step >= 80 else torch.arange(len(x))
        return x[some], y[some]

    found = train(shown)
    assert ("collapse", INPUT, INPUT) in said(found)
    alert = next(a for a in found.alerts if a.metric == "distinct")
    assert "the same samples again and again" in alert.message and alert.value < alert.limit


def test_a_short_batch_is_no_repetition() -> None:
    """Of an epoch's last four samples some are looked at several times."""

    def shown(step: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return (x[:4], y[:4]) if step % 12 >= 10 else (x, y)

    assert not said(train(shown))


def test_samples_that_always_repeat_are_usual() -> None:
    """Contrastive views, oversampling: what was so from the start is no news."""

    def shown(step: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        some = torch.arange(len(x)) // 4
        return x[some], y[some]

    assert not said(train(shown))


def test_a_resume_in_between_changes_nothing() -> None:
    order = torch.arange(WIDTH - 1, -1, -1)

    def shown(step: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return (x[:, order] if step >= 80 else x), y

    assert "distribution_shift" in {kind for kind, *_ in said(train(shown, pause=64))}


def test_contents_are_means_and_variances_of_the_units_by_step() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 1, 32, 20))
    seen = contents([Group(np.array([3]), values, np.array([[9], [5]]))], 3)
    assert seen.steps.tolist() == [5, 9] and seen.positions.tolist() == [32, 32]
    np.testing.assert_allclose(seen.mean[1, :20], values[0, 0].mean(0))
    np.testing.assert_allclose(seen.variance[0, :20], values[1, 0].var(0))
    assert np.isnan(seen.mean[:, 20:]).all() and seen.distinct.tolist() == [1.0, 1.0]


def test_contents_of_a_wide_input_are_of_some_of_its_units() -> None:
    values = np.arange(3.0 * 500).reshape(1, 1, 3, 500)
    seen = contents([Group(np.array([0]), values, np.array([[0]]))], 0)
    assert seen.mean.shape == (1, UNITS) and np.isfinite(seen.mean).all()


def test_a_block_of_units_that_is_always_the_same_is_no_repetition() -> None:
    """The black border of an image: in its middle samples differ."""
    values = np.zeros((1, 1, 8, 48))
    values[..., 16:32] = np.random.default_rng(0).normal(size=(8, 16))
    assert contents([Group(np.array([0]), values, np.array([[0]]))], 0).distinct.tolist() == [1.0]


def test_values_that_are_not_finite_leave_the_contents_of_the_others() -> None:
    values = np.ones((1, 1, 4, 2))
    values[0, 0, 0, 0] = np.nan
    seen = contents([Group(np.array([0]), values, np.array([[0]]))], 0)
    assert np.isfinite(seen.mean[0, :2]).all()


def test_without_an_input_there_is_nothing_to_compare() -> None:
    assert contents([], -1).steps.size == 0


def test_series_of_one_class_are_laid_at_the_input() -> None:
    """Classes that differ in the course of a series, and in nothing that is left of it over time."""
    torch.manual_seed(0)
    data = torch.Generator().manual_seed(1)
    courses = torch.randn(CLASSES, 8, 5, generator=data)
    courses = courses - courses.mean(1, keepdim=True)
    labels = torch.randint(0, CLASSES, (1024,), generator=data)
    series = courses[labels] + torch.randn(1024, 8, 5, generator=data)
    rnn, head = nn.GRU(5, 16, batch_first=True), nn.Linear(16, CLASSES)
    model = nn.ModuleDict({"rnn": rnn, "head": head})
    model.forward = lambda x: head(rnn(x)[0][:, -1])  # type: ignore[method-assign]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer=optimizer, run=False, strict=True) as monitor:
        for step in range(120):
            allowed = (labels == 3) if step >= 80 else torch.ones(1024, dtype=torch.bool)
            some = torch.multinomial(allowed.float(), 32, replacement=True, generator=data)
            loss = nn.functional.cross_entropy(model(series[some]), labels[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.step(loss=loss)
    assert said(monitor) == [("distribution_shift", INPUT, INPUT)]
    assert monitor.alerts[0].step == 80
