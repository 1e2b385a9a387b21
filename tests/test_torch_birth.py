"""Nets that are born broken, and those that only look so."""

from __future__ import annotations

from collections.abc import Callable
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


def mlp(*norms: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        *norms, nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)
    )


def train(
    model: nn.Module,
    steps: int = 48,
    lr: float = 0.02,
    scale: float = 1.0,
    kind: Any = torch.optim.SGD,
) -> Monitor:
    optimizer = kind(model.parameters(), lr=lr)
    data = torch.Generator().manual_seed(1)
    rule = torch.randn(20, 4, generator=data)
    with watch(model, optimizer=optimizer, run=False, strict=True) as monitor:
        for _ in range(steps):
            inputs = torch.randn(64, 20, generator=data)
            loss = nn.functional.cross_entropy(model(scale * inputs), (inputs @ rule).argmax(1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.step(loss=loss)
    return monitor


def said(alerts: list[Alert]) -> list[tuple[str, str, int]]:
    return [(a.layer, a.kind, a.step) for a in alerts]


def test_a_layer_whose_weights_are_one_number_is_found() -> None:
    model = mlp()
    nn.init.constant_(model[2].weight, 0.05)  # type: ignore[arg-type]
    alert = train(model).alerts[0]
    assert (alert.layer, alert.kind, alert.origin, alert.step) == ("2", "collapse", "2", 0)
    assert alert.tensor == "weight" and alert.detected <= 8
    assert "all weights are about 0.05 at the start" in alert.message


class Gated(nn.Module):
    """Scales that begin at one number on purpose: PReLU, LayerNorm, a gate at zero, an adapter."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.norm = nn.Linear(20, 64), nn.LayerNorm(64)
        self.act, self.gate = nn.PReLU(64), nn.Parameter(torch.zeros(1))
        self.branch, self.head = nn.Linear(64, 64), nn.Linear(64, 4)
        self.down, self.up = nn.Linear(64, 4, bias=False), nn.Linear(4, 64, bias=False)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.branch.bias)

    def forward(self, x: Any) -> Any:
        x = self.act(self.norm(self.into(x)))
        x = x + self.gate * self.branch(x) + self.up(self.down(x))
        return self.head(x)


def test_scales_gates_and_adapters_that_begin_constant_are_healthy() -> None:
    assert train(Gated(), kind=torch.optim.AdamW, lr=1e-3).alerts == []


def test_a_layer_that_enlarges_what_enters_it_is_found() -> None:
    model = mlp()
    with torch.no_grad():
        model[2].weight.mul_(40)  # type: ignore[operator]
    alert = train(model, lr=1e-4).alerts[0]
    assert (alert.layer, alert.kind, alert.origin, alert.step) == ("2", "exploding", "2", 0)
    assert "from the start" in alert.message and alert.detected <= 8


def test_a_layer_whose_size_a_norm_takes_away_is_healthy() -> None:
    model = nn.Sequential(
        nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 4)
    )  # fmt: skip
    with torch.no_grad():
        model[2].weight.mul_(40)  # type: ignore[operator]
    assert train(model).alerts == []


@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_layer_that_loses_what_enters_it_is_found(place: int) -> None:
    """Its bias is as large as ever, and the same for all samples: it does not count."""
    model = mlp()
    with torch.no_grad():
        model[place].weight.mul_(1e-3)  # type: ignore[operator]
    alert = train(model).alerts[0]
    assert (alert.layer, alert.kind, alert.step) == (str(place), "vanishing", 0)
    assert alert.origin == str(place) and alert.detected <= 8
    assert alert.value == pytest.approx(6e-4, rel=0.2) and alert.limit == 0.005
    assert "makes the difference between samples ×0.000" in alert.message


@pytest.mark.parametrize("normed", [False, True])
def test_a_layer_that_begins_at_zero_with_nothing_around_it_is_found(normed: bool) -> None:
    model = mlp()
    model[1] = nn.Sequential(nn.BatchNorm1d(64), nn.ReLU()) if normed else nn.ReLU()
    with torch.no_grad():
        model[0].weight.zero_()  # type: ignore[operator]
    alert = train(model).alerts[0]
    assert (alert.layer, alert.kind, alert.step) == ("0", "vanishing", 0)
    assert alert.value < 1e-3 and "which nothing passes through" in alert.message


def test_a_signal_that_is_lost_before_a_norm_is_found() -> None:
    """Unlike one that is enlarged, the norm does not bring it back."""
    model = nn.Sequential(
        nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 4)
    )  # fmt: skip
    with torch.no_grad():
        model[2].weight.mul_(1e-3)  # type: ignore[operator]
    assert ("2", "vanishing", 0) in said(train(model).alerts)


@pytest.mark.parametrize("bias", [0.0, 0.3])
def test_branches_and_heads_that_begin_at_zero_are_healthy(bias: float) -> None:
    """Nothing at all passes, to rounding: that is no accident, whatever the bias."""
    model = Gated()
    for layer in (model.branch, model.head):
        nn.init.zeros_(layer.weight)
        nn.init.constant_(layer.bias, bias)
    monitor = train(model, kind=torch.optim.AdamW, lr=1e-3)
    assert [a for a in monitor.alerts if a.kind == "vanishing"] == []


def test_a_head_that_begins_small_is_healthy() -> None:
    model = mlp()
    with torch.no_grad():
        model[4].weight.mul_(0.02)  # type: ignore[operator]
    assert train(model).alerts == []


@pytest.mark.parametrize("scale", [0.1, 0.01, 0.001])
def test_a_bias_beside_a_small_input_is_no_gain(scale: float) -> None:
    """Small inputs are no fault of the layer, which adds what its bias always adds."""
    found = [a for a in train(mlp(), scale=scale).alerts if a.kind == "exploding"]
    assert found == []


def test_an_input_that_nobody_scaled_is_found() -> None:
    alert = train(mlp(), lr=1e-6, scale=100.0).alerts[0]
    assert (alert.layer, alert.kind, alert.origin, alert.step) == (
        INPUT,
        "variance_shift",
        INPUT,
        0,
    )
    assert alert.value == pytest.approx(100, rel=0.1) and alert.limit == 16


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(20), nn.LayerNorm(20)], ids=["batch", "layer"])
def test_an_input_that_a_norm_scales_is_healthy(norm: nn.Module) -> None:
    assert train(mlp(norm), scale=100.0).alerts == []


INITIALISATIONS: dict[str, Callable[[Any], Any]] = {
    "default": lambda weight: None,
    "kaiming": nn.init.kaiming_normal_,
    "xavier": nn.init.xavier_uniform_,
    "orthogonal": nn.init.orthogonal_,
    "sparse": lambda weight: nn.init.sparse_(weight, 0.5, 0.3),
    "truncated": lambda weight: nn.init.trunc_normal_(weight, std=0.1),
}


@pytest.mark.parametrize("name", INITIALISATIONS)
def test_usual_initialisations_are_healthy(name: str) -> None:
    model = mlp()
    for layer in model:
        if isinstance(layer, nn.Linear):
            INITIALISATIONS[name](layer.weight)
    assert train(model).alerts == []


@pytest.mark.parametrize("gain", [20, 80])
def test_gains_within_a_run_that_goes_on_are_no_news(gain: float) -> None:
    """A resumed run has learnt what it needs, and its first batch is not the first."""
    model = mlp()
    state = train(mlp(), steps=8).state_dict()
    with torch.no_grad():
        model[2].weight.mul_(gain)  # type: ignore[operator]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
    with watch(model, optimizer=optimizer, run=False, strict=True) as monitor:
        monitor.load_state_dict(state)
        for _ in range(4):
            model(torch.randn(64, 20)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.step()
    assert [a for a in monitor.alerts if "from the start" in a.message] == []


def sigmoids(depth: int, norm: bool = False) -> nn.Sequential:
    """As many layers as asked for, of which each but the last ends in a sigmoid."""
    layers: list[nn.Module] = [nn.Linear(20, 48)]
    for _ in range(depth - 1):
        norms = [nn.BatchNorm1d(48)] if norm else []
        layers += [*norms, nn.Sigmoid(), nn.Linear(48, 48)]
    return nn.Sequential(*layers[:-1], nn.Linear(48, 4))


@pytest.mark.parametrize(
    ("depth", "norm", "found"), [(2, False, False), (3, False, False), (6, False, True), (6, True, False)]
)  # fmt: skip
def test_sigmoids_one_behind_the_other_let_hardly_any_signal_through(
    depth: int, norm: bool, found: bool
) -> None:
    """Forth and back; two or three of them learn, and norms between them make good for it."""
    alerts = [a for a in train(sigmoids(depth, norm)).alerts if a.kind == "vanishing"]
    assert bool(alerts) == found
    for alert in alerts[:1]:
        assert alert.step == 0 and 39 <= alert.detected <= 47 and alert.tensor == "output"
        assert "differs from sample to sample" in alert.message and alert.value < alert.limit


def test_a_net_through_which_hardly_any_signal_passes_is_left_alone_where_its_loss_falls() -> None:
    """Its biases have much to learn: one answer for all samples is far better than its first ones."""
    model = sigmoids(6)
    nn.init.constant_(model[-1].bias, 5.0)  # type: ignore[arg-type]
    with torch.no_grad():
        model[-1].bias[1:] = -5.0  # type: ignore[index]
    assert "vanishing" not in {a.kind for a in train(model, lr=0.5).alerts}


def test_a_learning_rate_that_leaves_nothing_of_the_weights_is_found() -> None:
    """Its first windows are short: everything jumps, and is looked at step by step."""
    alert = train(mlp(), lr=0.5, kind=torch.optim.Adam).alerts[0]
    assert (alert.kind, alert.step) == ("update", 0) and alert.detected <= 16


@pytest.mark.parametrize(
    ("kind", "lr"),
    [(torch.optim.SGD, 0.1), (torch.optim.Adam, 3e-3), (torch.optim.RMSprop, 2e-3)],
)
def test_a_learning_rate_that_learns_is_healthy(kind: Any, lr: float) -> None:
    """RMSprop takes its first steps ten times as large: it divides by a mean that begins at zero."""
    assert train(mlp(), lr=lr, kind=kind).alerts == []


class Normed(nn.Module):
    """A branch that is added to something, and a norm behind the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.branch = nn.Linear(20, 64), nn.Linear(64, 64)
        self.norm, self.head = nn.LayerNorm(64), nn.Linear(64, 4)

    def forward(self, x: Any) -> Any:
        x = self.into(x)
        return self.head(self.norm(x + self.branch(x)))


def test_a_branch_that_drowns_what_it_is_added_to_is_found_behind_a_norm() -> None:
    """The norm makes the sum small again, and with it all that is not the branch."""
    model = Normed()
    with torch.no_grad():
        model.branch.weight.mul_(30)
    alert = train(model).alerts[0]
    assert (alert.layer, alert.kind, alert.step) == ("branch", "exploding", 0)
    assert "of what it is added to" in alert.message


def test_a_branch_of_the_size_of_what_it_is_added_to_is_healthy() -> None:
    """Three times the size that initialisation gives, and nearly twice that of the sum's other part."""
    model = Normed()
    with torch.no_grad():
        model.branch.weight.mul_(3)
    assert train(model).alerts == []
