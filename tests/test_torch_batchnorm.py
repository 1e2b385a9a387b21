"""Batch normalisation judged in training: what enters it beside its running statistics."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shiftwatch.integrations.torch import watch
from shiftwatch.monitor import Monitor
from shiftwatch.rules import DEFAULT, Rule


def dense(momentum: float | None = 0.1) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(20, 32, bias=False), nn.BatchNorm1d(32, momentum=momentum), nn.ReLU(),
        nn.Linear(32, 64, bias=False), nn.BatchNorm1d(64, momentum=momentum), nn.ReLU(),
        nn.Linear(64, 4),
    )  # fmt: skip


def convolutions() -> nn.Sequential:
    return nn.Sequential(
        nn.Unflatten(1, (1, 4, 5)),
        nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
    )  # fmt: skip


def norms(model: nn.Module) -> list[nn.BatchNorm1d]:
    return [m for m in model.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]  # type: ignore[misc]


def settle(model: nn.Module) -> None:
    """Pretrain the running statistics and freeze the layers, as in fine-tuning."""
    data = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _ in range(100):
            model(torch.randn(64, 20, generator=data))
    for norm in norms(model):
        norm.eval().requires_grad_(False)


def train(
    model: nn.Module, steps: int = 120, batch: int = 32, lr: float = 0.05,
    change: Callable[[int], None] = lambda step: None,
    shown: Callable[[Tensor, int], Tensor] = lambda x, step: x, **options: object,
) -> Monitor:  # fmt: skip
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr)
    data = torch.Generator().manual_seed(1)
    inputs, rule = torch.randn(2048, 20, generator=data), torch.randn(20, 4, generator=data)
    labels = (inputs @ rule).argmax(1)
    with watch(model, optimizer=optimizer, run=False, strict=True, **options) as monitor:  # type: ignore[arg-type]
        for step in range(steps):
            some = torch.randint(0, 2048, (batch,), generator=data)
            loss = nn.functional.cross_entropy(model(shown(inputs[some], step)), labels[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            change(step)
            monitor.step(loss=loss)
    return monitor


def batchnorm_alerts(monitor: Monitor) -> list[tuple[str, int]]:
    return [(a.layer, a.detected) for a in monitor.alerts if a.kind == "batchnorm"]


def test_the_gap_is_that_of_whole_batches_and_running_buffers() -> None:
    """In a stationary network, samples of a window agree with the full data to sampling error."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 16), nn.BatchNorm1d(16, momentum=0.0), nn.Linear(16, 4))
    norm = norms(model)[0]
    norm.running_mean, norm.running_var = torch.randn(16), torch.rand(16) + 0.5
    monitor = train(model, steps=64, lr=0.0)
    data = torch.Generator().manual_seed(1)
    with torch.no_grad():
        enters = model[0](torch.randn(2048, 20, generator=data))
        spread = (norm.running_var + norm.eps).sqrt()
        gap = ((enters.mean(0) - norm.running_mean).abs() / spread).mean().item()
        stretch = (enters.var(0) / spread**2).log2().abs().mean().item() / 2
    _, gaps = monitor.history.series("batchnorm_gap", "1")
    _, stretches = monitor.history.series("batchnorm_stretch", "1")
    assert gaps == pytest.approx(gap, abs=0.05)
    assert stretches == pytest.approx(stretch, abs=0.1)


def test_running_statistics_that_hardly_move_fire_without_an_evaluation() -> None:
    """At the first norm, though what enters it is off by less than an octave."""
    torch.manual_seed(0)
    (alert,) = (a for a in train(dense(1e-6)).alerts if a.kind == "batchnorm")
    assert (alert.layer, alert.origin) == ("1", "1") and alert.detected <= 72
    assert "they were hardly updated" in alert.message


def test_running_statistics_that_were_never_updated_fire_at_once() -> None:
    """At the first norm: whether they are far off by chance does not matter."""
    torch.manual_seed(0)
    (alert,) = (a for a in train(dense(0.0)).alerts if a.kind == "batchnorm")
    assert (alert.layer, alert.origin) == ("1", "1") and alert.detected <= 24
    assert "they were never updated, and evaluation would normalise" in alert.message


def test_a_norm_that_was_left_in_evaluation_mode_fires() -> None:
    torch.manual_seed(0)
    model = dense()
    for norm in norms(model):
        norm.eval()
    monitor = train(model)
    assert [(layer, when <= 24) for layer, when in batchnorm_alerts(monitor)] == [("1", True)]
    assert "it is in evaluation mode" in monitor.alerts[0].message


def test_a_frozen_norm_fires_when_its_input_moves_away() -> None:
    torch.manual_seed(0)
    model = dense()
    settle(model)
    monitor = train(
        model, steps=320, lr=0.01, shown=lambda x, step: x + 0.04 * min(max(step - 100, 0), 200)
    )
    found = batchnorm_alerts(monitor)
    assert found and found[0][1] > 100


def test_running_statistics_that_were_lost_fire_where_they_stay_lost() -> None:
    torch.manual_seed(0)
    model = dense()
    settle(model)
    norms(model)[1].running_var.div_(100)  # type: ignore[union-attr]
    assert [layer for layer, _ in batchnorm_alerts(train(model, lr=0.01))] == ["4"]


@pytest.mark.parametrize("momentum", [0.1, 0.01, None])
def test_healthy_norms_raise_nothing(momentum: float | None) -> None:
    torch.manual_seed(0)
    monitor = train(dense(momentum), steps=400)
    assert batchnorm_alerts(monitor) == []
    _, gaps = monitor.history.series("batchnorm_gap", "4")
    assert len(gaps) > 20 and gaps[-1] < 0.1


def test_running_statistics_that_move_slowly_raise_nothing() -> None:
    """Momentum 0.001 goes a fifteenth of the way in 64 steps, six times as far as the limit."""
    torch.manual_seed(0)
    assert batchnorm_alerts(train(dense(0.001), steps=160)) == []


def test_batches_of_two_raise_nothing() -> None:
    """Each batch is off by σ/√2, and so is what the running averages keep of it."""
    torch.manual_seed(0)
    assert batchnorm_alerts(train(convolutions(), steps=300, batch=2)) == []
    assert batchnorm_alerts(train(dense(), steps=300, batch=2, lr=0.001)) == []


@pytest.mark.parametrize("lr", [0.01, 0.1])
def test_norms_that_were_frozen_on_purpose_raise_nothing(lr: float) -> None:
    torch.manual_seed(0)
    model = dense()
    settle(model)
    assert batchnorm_alerts(train(model, steps=300, lr=lr)) == []


def test_a_layer_that_feeds_two_norms_is_not_read() -> None:
    """Its samples are pooled over both calls, and belong to neither."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.a, self.b = nn.Linear(20, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.a(self.layer(x)) + self.b(self.layer(x + 5)))

    torch.manual_seed(0)
    history = train(Shared(), steps=32).history
    assert "batchnorm_gap" not in history.metrics


def test_a_norm_without_running_statistics_is_not_read() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 8), nn.BatchNorm1d(8, track_running_stats=False))
    assert "batchnorm_gap" not in train(model, steps=32).history.metrics


def test_a_rule_of_ones_own_may_watch_the_gap() -> None:
    torch.manual_seed(0)
    rules = [*DEFAULT, Rule("batchnorm_stretch", 0.7, kind="distribution_shift")]
    monitor = train(dense(1e-6), steps=48, rules=rules)
    assert {a.metric for a in monitor.alerts} == {"batchnorm_stretch"}
    assert np.isfinite([a.value for a in monitor.alerts]).all()


# --- training that goes on in evaluation mode ---------------------------------------------


def dropouts() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 4),
    )  # fmt: skip


def about_mode(monitor: Monitor) -> list[tuple[str, str, str, int]]:
    return [(a.kind, a.layer, a.origin, a.step) for a in monitor.alerts if a.metric == "mode"]


@pytest.mark.parametrize(
    ("build", "kind", "layer"), [(dense, "batchnorm", "1"), (dropouts, "distribution_shift", "2")]
)
def test_a_train_that_was_forgotten_is_found(
    build: Callable[[], nn.Module], kind: str, layer: str
) -> None:
    torch.manual_seed(0)
    model = build()
    monitor = train(model, change=lambda step: model.eval() and None if step == 60 else None)
    assert about_mode(monitor) == [(kind, layer, layer, 61)]
    (alert,) = (a for a in monitor.alerts if a.metric == "mode")
    assert alert.detected <= 72 and "Call model.train() after every evaluation" in alert.advice


def test_a_train_forgotten_before_the_first_step_is_no_news() -> None:
    """It is meant so in fine-tuning, and what is wrong with it shows elsewhere."""
    torch.manual_seed(0)
    model = dense()
    settle(model)
    for one in (model.eval(), dropouts().eval()):
        assert train(one, lr=0.01).alerts == []


def test_evaluation_between_steps_is_healthy() -> None:
    torch.manual_seed(0)
    for model in (dense(), dropouts()):

        def evaluate(step: int, model: nn.Module = model) -> None:
            if step % 20 == 19:
                model.eval()
                with torch.no_grad():
                    model(torch.randn(64, 20, generator=torch.Generator().manual_seed(step)))
                model.train()

        assert train(model, steps=160, change=evaluate).alerts == []


def test_a_layer_without_modes_may_be_trained_in_any() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 4))
    assert (
        train(model, change=lambda step: model.eval() and None if step == 60 else None).alerts == []
    )


def test_norms_that_are_frozen_on_purpose_in_the_middle_raise_nothing() -> None:
    """Once the running statistics have settled: the model itself stays in training mode."""
    torch.manual_seed(0)
    model = dense()

    def freeze(step: int) -> None:
        if step == 150:
            for norm in norms(model):
                norm.eval().requires_grad_(False)

    assert train(model, steps=300, change=freeze).alerts == []


def test_running_variances_that_were_overwritten_are_named_at_that_step() -> None:
    """A hundredth of what they were: they would heal within some dozens of steps."""
    model = dense()

    def change(step: int) -> None:
        if step == 77:
            norms(model)[1].running_var.mul_(0.01)  # type: ignore[union-attr]

    monitor = train(model, change=change)
    (alert,) = monitor.alerts
    assert (alert.kind, alert.layer, alert.origin) == ("batchnorm", "4", "4")
    assert 77 <= alert.detected <= 78 and "overwritten" in alert.message


def test_a_model_that_is_loaded_overwrites_its_running_statistics_on_purpose() -> None:
    """All of them and the weights, from half an hour ago or another training."""
    torch.manual_seed(1)
    model, other = dense(), dense()
    settle(other)

    def change(step: int) -> None:
        if step == 77:
            model.load_state_dict(other.state_dict())

    assert not batchnorm_alerts(train(model, change=change))


def test_running_statistics_of_a_moving_input_lie_between_old_and_new() -> None:
    """An input that grows by a fifth per step moves them fast, and by nobody's hand."""
    monitor = train(dense(), steps=48, shown=lambda x, step: x * 1.2 ** max(0, step - 24), lr=1e-4)
    assert not [a for a in monitor.alerts if "overwritten" in a.message]
