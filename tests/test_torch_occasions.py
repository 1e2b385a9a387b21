"""Real trainings that change on purpose, beside those that break in the same way."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from shiftwatch.integrations.torch import watch  # noqa: E402
from shiftwatch.monitor import Monitor  # noqa: E402
from shiftwatch.records import INPUT, Alert  # noqa: E402


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def mlp() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)
    )


def train(
    model: nn.Module,
    steps: int = 200,
    *,
    optimizer: Any = None,
    size: Callable[[int], int] = lambda step: 64,
    shown: Callable[[int, Any], Any] = lambda step, x: x,
    wanted: Callable[[int, Any], Any] = lambda step, y: y,
    before: Callable[[int], Any] = lambda step: None,
    lr: float = 0.02,
) -> Monitor:
    """Points of four kinds; the functions are told the step and may change what they like."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=lr)
    data = torch.Generator().manual_seed(1)
    rule = torch.randn(20, 4, generator=data)
    with watch(model, optimizer=optimizer, run=False, strict=True) as monitor:
        for step in range(steps):
            before(step)
            x = torch.randn(size(step), 20, generator=data)
            y = wanted(step, (x @ rule).argmax(1))
            loss = nn.functional.cross_entropy(model(shown(step, x)), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.step(loss=loss)
    return monitor


def said(alerts: list[Alert]) -> list[tuple[str, str]]:
    return [(a.origin, a.kind) for a in alerts]


# --- batches -----------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "then"), [(256, 8), (8, 256)])
@pytest.mark.parametrize("norm", [False, True])
def test_another_batch_size_is_healthy(first: int, then: int, norm: bool) -> None:
    model = mlp()
    if norm:
        model.insert(1, nn.BatchNorm1d(64))
    assert train(model, size=lambda step: first if step < 100 else then).alerts == []


def test_another_scale_of_the_input_is_found_whatever_the_batch_size_was() -> None:
    """An excuse lasts for a few steps."""
    monitor = train(
        mlp(),
        size=lambda step: 64 if step < 60 else 32,
        shown=lambda step, x: x * 8 if step >= 120 else x,
    )
    alert = monitor.alerts[0]
    assert (alert.origin, alert.step) == (INPUT, 120)


def test_labels_of_other_samples_are_found_by_the_loss() -> None:
    model = mlp()
    monitor = train(
        model,
        600,
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
        wanted=lambda step, y: y.flip(0) if step >= 350 else y,
    )
    (alert,) = (a for a in monitor.alerts if a.metric == "loss")
    assert (alert.kind, alert.layer, alert.tensor) == ("exploding", "4", "gradient")
    assert abs(alert.step - 350) <= 2 and alert.detected <= 350 + 200


def test_a_hard_batch_that_recovers_is_healthy() -> None:
    model = mlp()
    monitor = train(
        model, 300, optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
        wanted=lambda step, y: y.flip(0) if step == 200 else y,
    )  # fmt: skip
    assert monitor.alerts == []


def test_a_new_class_whose_loss_decays_is_healthy() -> None:
    """Three classes at first; the fourth comes to be learnt."""
    model = mlp()
    monitor = train(
        model, 400, optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
        wanted=lambda step, y: y if step >= 200 else y.clamp(max=2),
    )  # fmt: skip
    assert monitor.alerts == []


# --- what learns -------------------------------------------------------------------------


def test_a_backbone_that_is_thawed_is_healthy() -> None:
    model = mlp()
    backbone = [p for layer in (model[0], model[2]) for p in layer.parameters()]

    def before(step: int) -> None:
        if step in (0, 100):
            for parameter in backbone:
                parameter.requires_grad_(step == 100)

    assert train(model, before=before).alerts == []


def test_a_layer_that_is_frozen_on_purpose_is_no_frozen_layer() -> None:
    model = mlp()
    assert train(
        model, before=lambda step: model[2].requires_grad_(False) if step == 100 else None
    ).alerts == []  # fmt: skip


def test_a_layer_that_the_optimizer_lost_is_frozen() -> None:
    """It gets a gradient, and nobody moves it."""
    model = mlp()
    optimizer = torch.optim.SGD([{"params": layer.parameters()} for layer in (model[0], model[2], model[4])], lr=0.02)  # fmt: skip

    def before(step: int) -> None:
        if step == 100:
            del optimizer.param_groups[1]

    monitor = train(model, optimizer=optimizer, before=before)
    (alert,) = monitor.alerts
    assert (alert.kind, alert.layer, alert.step) == ("frozen", "2", 100)
    assert alert.detected <= 100 + 40


def deep(layers: int = 5) -> nn.Sequential:
    widths = [20, *[32] * (layers - 1), 4]
    made = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*made[:-1])


def without(left_out: set[int], late: bool = False) -> Monitor:
    """The optimizer does not hold some of five layers; or is given them at step 60."""
    model = deep()
    parts = [[*layer.parameters()] for i, layer in enumerate(model) if i not in left_out]
    optimizer = torch.optim.SGD([p for part in parts for p in part], lr=0.05)
    rest = [p for i in left_out for p in model[i].parameters()]

    def before(step: int) -> None:
        if late and step == 60:
            optimizer.add_param_group({"params": rest})

    return train(model, 120, optimizer=optimizer, before=before)


@pytest.mark.parametrize("place", [2, 4, 8])
def test_a_layer_that_the_optimizer_never_held_is_frozen(place: int) -> None:
    """One of five, behind others that learn."""
    (alert,) = without({place}).alerts
    assert (alert.kind, alert.origin, alert.step) == ("frozen", str(place), 0)
    assert 23 <= alert.detected <= 32


@pytest.mark.parametrize("left_out", [{0}, {0, 2}, {0, 2, 4, 6}, {4, 6}], ids=str)
def test_layers_at_the_beginning_or_many_that_are_left_out_are_a_choice(left_out: set[int]) -> None:
    """A backbone whose parameters still ask for gradients, or most of a net."""
    assert without(left_out).alerts == []


def test_a_head_that_learns_before_all_others_do_is_healthy() -> None:
    assert without({0, 2, 4, 6}, late=True).alerts == []


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_a_cosine_schedule_that_ends_at_nothing_is_healthy(kind: Any) -> None:
    model = mlp()
    optimizer = kind(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 160)

    def before(step: int) -> None:
        if 0 < step <= 160:
            schedule.step()

    assert train(model, 260, optimizer=optimizer, before=before).alerts == []


@pytest.mark.parametrize("lr", [0.02, 1e-4])
def test_a_bias_before_a_norm_is_not_called_frozen(lr: float) -> None:
    """Its gradient is nothing but rounding."""
    model = nn.Sequential(nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 4))
    assert train(model, 300, lr=lr).alerts == []


class Deep(nn.Module):
    """Residual blocks that are left out at random."""

    def __init__(self, drop: float = 0.2) -> None:
        super().__init__()
        self.stem, self.head, self.drop = nn.Linear(20, 32), nn.Linear(32, 4), drop
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 32))
            for _ in range(4)
        )
        self.luck = torch.Generator().manual_seed(3)

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        for block in self.blocks:
            if float(torch.rand((), generator=self.luck)) >= self.drop:
                x = x + block(x)
        return self.head(x)


def test_stochastic_depth_is_healthy() -> None:
    assert train(Deep(), 400).alerts == []


# --- symbols -----------------------------------------------------------------------------


class Reader(nn.Module):
    """Reads symbols: an embedding, a mean over the sequence, two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 32)
        self.fc, self.act, self.head = nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)

    def forward(self, x: Any) -> Any:
        return self.head(self.act(self.fc(self.embed(x))).mean(1))


def read(
    length: Callable[[int], int] = lambda step: 8,
    shown: Callable[[int, Any], Any] = lambda step, x: x,
    before: Callable[[int, Reader], Any] = lambda step, model: None,
    steps: int = 160,
) -> Monitor:
    model, data = Reader(), torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with watch(model, optimizer=optimizer, run=False, strict=True) as monitor:
        for step in range(steps):
            before(step, model)
            x = torch.randint(50, (64, length(step)), generator=data)
            y = x[:, 0] % 4
            loss = nn.functional.cross_entropy(model(shown(step, x)), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.step(loss=loss)
    return monitor


def test_symbols_that_are_all_one_are_a_data_fault() -> None:
    """Symbols have no distribution that is watched: the embedding shows it, and did not change."""
    monitor = read(shown=lambda step, x: torch.zeros_like(x) if step >= 100 else x)
    alert = monitor.alerts[0]
    assert (alert.origin, alert.step) == (INPUT, 100) and alert.layer in ("embed", INPUT)
    assert {a.origin for a in monitor.alerts} == {INPUT}


def test_an_embedding_that_was_edited_is_a_corruption() -> None:
    def before(step: int, model: Reader) -> None:
        if step == 100:
            with torch.no_grad():
                model.embed.weight.mul_(5)

    alert = read(before=before).alerts[0]
    assert (alert.kind, alert.layer, alert.origin) == ("corruption", "embed", "embed")
    assert alert.step == 100


@pytest.mark.parametrize(("first", "then"), [(8, 24), (24, 6)])
def test_sequences_of_another_length_are_healthy(first: int, then: int) -> None:
    monitor = read(length=lambda step: first if step < 80 else then)
    assert monitor.alerts == []
    assert [(e.step, e.kind) for e in monitor.history.events if e.kind == "shape"] == [
        (80, "shape")
    ]
