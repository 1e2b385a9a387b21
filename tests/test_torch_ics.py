"""Internal covariate shift of gradients, after Santurkar et al. (2018)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shiftwatch.integrations.torch import ics, watch

mse = nn.functional.mse_loss


def net(norm: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Linear(6, 8), nn.BatchNorm1d(8) if norm else nn.Identity(), nn.Tanh()]
    return nn.Sequential(*layers, nn.Dropout(0.3), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 2))


def batch() -> tuple[Tensor, Tensor]:
    data = torch.Generator().manual_seed(3)
    return torch.randn(16, 6, generator=data), torch.randn(16, 2, generator=data)


def everything(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Any]:
    """All that a call could have changed, as values."""
    held = [*model.parameters(), *model.buffers()]
    state = [v for s in optimizer.state_dict()["state"].values() for v in s.values()]
    numbers = [torch.get_rng_state(), *(torch.as_tensor(s) for s in state if s is not None)]
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    return [t.detach().clone() for t in (*held, *numbers, *grads)] + [t._version for t in held]


def unchanged(before: list[Any], after: list[Any]) -> bool:
    return len(before) == len(after) and all(
        torch.equal(a, b) if isinstance(a, Tensor) else a == b
        for a, b in zip(before, after, strict=True)
    )


def trained(
    kind: Callable[..., torch.optim.Optimizer], **options: Any
) -> tuple[nn.Sequential, torch.optim.Optimizer]:
    """A model in the middle of training: the optimizer has a state, gradients lie there."""
    model = net()
    optimizer = kind(model.parameters(), **options)
    x, y = batch()
    for _ in range(3):
        optimizer.zero_grad()
        mse(model(x), y).backward()
        optimizer.step()
    return model, optimizer


def test_two_linear_layers_agree_with_the_closed_form() -> None:
    r"""$L = |W_2 W_1 X - Y|^2$: the gradient of $W_2$ before and after $W_1$ made a step."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(4, 6)), rng.normal(size=(2, 4))
    x, y, rate = rng.normal(size=(16, 6)), rng.normal(size=(16, 2)), 0.01
    model = nn.Sequential(nn.Linear(6, 4, bias=False), nn.Linear(4, 2, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.from_numpy(first))
        model[1].weight.copy_(torch.from_numpy(second))

    def gradient(first: np.ndarray) -> np.ndarray:
        hidden = x @ first.T
        return np.asarray(2 * (hidden @ second.T - y).T @ hidden)

    error = x @ first.T @ second.T - y
    moved = first - rate * 2 * second.T @ error.T @ x
    g, h = gradient(first), gradient(moved)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    given = torch.from_numpy(x), torch.from_numpy(y)
    found = ics(model, lambda out, target: (out - target).square().sum(), given, optimizer)
    assert [s.layer for s in found.layers] == ["0", "1"]
    assert (found.layers[0].shift, found.layers[0].relative) == (0.0, 0.0)
    assert found.layers[0].cosine == pytest.approx(1.0)
    last = found.layers[1]
    assert found.loss == pytest.approx((error**2).sum())
    assert last.size == pytest.approx(np.linalg.norm(g))
    assert last.shift == pytest.approx(np.linalg.norm(g - h))
    assert last.relative == pytest.approx(np.linalg.norm(g - h) / np.linalg.norm(g))
    cosine = (g * h).sum() / np.linalg.norm(g) / np.linalg.norm(h)
    assert last.cosine == pytest.approx(cosine)


def test_a_deeper_network_agrees_with_steps_made_by_hand() -> None:
    """Adam with a state, BatchNorm and dropout: the definition followed with copies of the model."""
    model, optimizer = trained(torch.optim.Adam, lr=0.01)
    x, y = batch()
    found = ics(model, mse, (x, y), optimizer)

    def gradients(copied: nn.Module) -> dict[str, Tensor]:
        copied.zero_grad()
        state = torch.get_rng_state()
        torch.manual_seed(0)
        mse(copied(x), y).backward()
        torch.set_rng_state(state)
        return {n: p.grad.clone() for n, p in copied.named_parameters() if p.grad is not None}

    both = copy.deepcopy((model, optimizer))
    before = gradients(both[0])
    both[1].step()
    after = dict(both[0].named_parameters())
    mixed = copy.deepcopy(model)
    for layer in found.layers:
        then = gradients(mixed)
        names = [n for n in before if n.startswith(f"{layer.layer}.")]
        g = torch.cat([before[n].flatten() for n in names])
        h = torch.cat([then[n].flatten() for n in names])
        assert layer.shift == pytest.approx(float((g - h).norm()), rel=1e-4, abs=1e-7)
        with torch.no_grad():
            for name, parameter in mixed.named_parameters():
                if name in names:
                    parameter.copy_(after[name])
    assert [s.layer for s in found.layers] == ["0", "1", "4", "6"]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
        (torch.optim.AdamW, {"lr": 0.01, "amsgrad": True}),
    ],
)
def test_nothing_is_changed(kind: Any, options: dict[str, Any]) -> None:
    model, optimizer = trained(kind, **options)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)  # it wraps optimizer.step
    before, keys = everything(model, optimizer), [set(vars(m)) for m in model.modules()]
    ics(model, mse, batch(), optimizer)
    assert unchanged(before, everything(model, optimizer))
    assert keys == [set(vars(m)) for m in model.modules()]
    assert not any(m._forward_pre_hooks for m in model.modules())
    optimizer.step()
    scheduler.step()


def test_nothing_is_changed_by_a_loss_that_fails() -> None:
    model, optimizer = trained(torch.optim.Adam)
    before = everything(model, optimizer)
    calls = []

    def late(output: Tensor, target: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise ZeroDivisionError
        return mse(output, target)

    with pytest.raises(ZeroDivisionError):
        ics(model, late, batch(), optimizer)
    assert unchanged(before, everything(model, optimizer))
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_a_watched_training_is_the_same_and_the_monitor_sees_nothing_of_it() -> None:
    def run(measure: bool) -> tuple[list[Tensor], Any]:
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        torch.manual_seed(1)
        with watch(model, optimizer=optimizer, run=False, strict=True, rules=()) as monitor:
            for _ in range(16):
                mse(model(torch.randn(16, 6)), torch.zeros(16, 2)).backward()
                if measure:
                    ics(model, mse, batch(), optimizer)
                optimizer.step()
                optimizer.zero_grad()
                monitor.step()
        return list(model.state_dict().values()), monitor.history

    plain, one = run(False)
    measured, two = run(True)
    assert all(torch.equal(a, b) for a, b in zip(plain, measured, strict=True))
    for window in range(len(one)):
        np.testing.assert_array_equal(
            one.summary(window).histogram.counts, two.summary(window).histogram.counts
        )


def test_batchnorm_shifts_more_and_learns_better() -> None:
    """Santurkar's figure 2 on scikit-learn's digits: why the measure raises no alarm."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    inputs = torch.tensor(digits.data / 16, dtype=torch.float32)
    labels = torch.tensor(digits.target)
    loss = nn.functional.cross_entropy

    def run(norm: bool) -> tuple[float, float]:
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for width in (64, 100, 100):
            middle = nn.BatchNorm1d(100) if norm else nn.Identity()
            layers += [nn.Linear(width, 100), middle, nn.Sigmoid()]
        model = nn.Sequential(*layers, nn.Linear(100, 10))
        for layer in model[::3]:
            nn.init.normal_(layer.weight, std=0.1)
            nn.init.zeros_(layer.bias)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        shifts = []
        for step in range(400):
            some = torch.randint(0, 1437, (128,))
            if step in (290, 340, 390):
                found = ics(model, loss, (inputs[some], labels[some]), optimizer)
                shifts.append(found.layers[-1].relative)
            optimizer.zero_grad()
            loss(model(inputs[some]), labels[some]).backward()
            optimizer.step()
        right = model.eval()(inputs[1437:]).argmax(1) == labels[1437:]
        return float(np.mean(shifts)), float(right.float().mean())

    (more, well), (less, badly) = run(True), run(False)
    assert more > 3 * less
    assert well > 0.8 > 0.2 > badly


def test_a_model_with_a_loss_of_its_own_and_tied_weights() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=2, n_head=2, n_embd=16, vocab_size=32, n_positions=16)
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    tokens = torch.randint(0, 32, (2, 8))
    found = ics(model, None, {"input_ids": tokens, "labels": tokens}, optimizer)
    names = [s.layer for s in found.layers]
    assert names[0] == "transformer.wte" and names[-1] == "transformer.ln_f"
    assert "lm_head" not in names  # its weight is the embedding's
    assert found.layers[0].shift == 0 and found.layers[-1].shift > 0


def test_the_record_reads_as_a_table() -> None:
    model, optimizer = trained(torch.optim.SGD, lr=0.1)
    lines = str(ics(model, mse, batch(), optimizer)).splitlines()
    assert lines[0].split() == ["layer", "|G|", "|G-G′|", "relative", "cosine"]
    assert [line.split()[0] for line in lines[1:]] == ["0", "1", "4", "6"]


def test_wrong_arguments_are_refused_with_the_cure() -> None:
    model = net()
    optimizer = torch.optim.SGD(net().parameters(), lr=0.1)
    with pytest.raises(ValueError, match="holds none of them"):
        ics(model, mse, batch(), optimizer)
    with pytest.raises(TypeError, match=r"torch\.optim\.Optimizer"):
        ics(model, mse, batch(), "sgd")  # type: ignore[arg-type]
    mine = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="one number"):
        ics(model, lambda out, y: out - y, batch(), mine)
    with pytest.raises(TypeError, match="batch must be"):
        ics(model, mse, 3, mine)
