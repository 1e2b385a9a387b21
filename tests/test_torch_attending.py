"""Attentions heard in the user's own passes: masks, sharpness, and no trace of the listening."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shiftwatch.integrations.torch import watch
from shiftwatch.integrations.torch.attending import EVERY
from shiftwatch.monitor import Monitor

LENGTH, WIDTH = 12, 16


@pytest.fixture(autouse=True)
def nothing_compiled() -> None:
    """Tests before these may have compiled something, and then nobody listens."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    if dynamo is not None:
        dynamo.counters.clear()


class Heads(nn.Module):
    """Causal attention of two heads, in words or by a fused kernel."""

    def __init__(self, fused: bool = False) -> None:
        super().__init__()
        self.fused, self.causal, self.scale, self.axis = fused, True, 1.0, -1
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, 2, -1).permute(2, 0, 3, 1, 4)
        if self.fused:
            mixed = F.scaled_dot_product_attention(self.scale * q, k, v, is_causal=self.causal)
        else:
            scores = self.scale * q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
            if self.causal:
                scores = scores.masked_fill(torch.ones(t, t, dtype=torch.bool).triu(1), -1e9)
            mixed = scores.softmax(self.axis) @ v
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(b, t, -1))
        return x + out


def network(fused: bool = False) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, WIDTH), Heads(fused), Heads(fused), nn.Linear(WIDTH, 3))


def train(
    model: nn.Module, change: Callable[[int], Any] = lambda step: None, steps: int = 5 * EVERY,
    watched: bool = True,
) -> tuple[Monitor | None, list[float]]:  # fmt: skip
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    data = torch.Generator().manual_seed(1)
    monitor = watch(model, optimizer=optimizer, run=False, strict=True) if watched else None
    losses = []
    for step in range(steps):
        change(step)
        x = torch.randn(8, LENGTH, 4, generator=data)
        loss = F.mse_loss(model(x), x[..., :3].cumsum(1) / LENGTH)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        if monitor is not None:
            monitor.step(loss=loss)
    if monitor is not None:
        monitor.close()
    return monitor, losses


def said(monitor: Monitor | None) -> list[tuple[str, str]]:
    assert monitor is not None
    return [(a.kind, a.layer) for a in monitor.alerts if a.metric == "attention"]


@pytest.mark.parametrize("fused", [False, True])
def test_attention_that_stays_as_it_is_is_silent(fused: bool) -> None:
    assert not said(train(network(fused))[0])


@pytest.mark.parametrize("fused", [False, True])
def test_a_mask_that_is_gone_is_laid_at_the_projection_after_it(fused: bool) -> None:
    torch.manual_seed(3)
    model = network(fused)

    def change(step: int) -> None:
        model[2].causal = step < 4 * EVERY  # type: ignore[assignment]

    assert said(train(model, change)[0]) == [("distribution_shift", "2.proj")]


def test_scores_that_explode_are_a_collapse_of_the_entropy() -> None:
    torch.manual_seed(3)
    model = network()

    def change(step: int) -> None:
        model[1].scale = 1.0 if step < 4 * EVERY else 60.0  # type: ignore[assignment]

    monitor, _ = train(model, change)
    assert ("collapse", "1.proj") in said(monitor) or any(
        a.origin == "1.proj"
        for a in monitor.alerts  # type: ignore[union-attr]
    )


def test_a_softmax_over_another_axis_is_no_attention_any_more() -> None:
    torch.manual_seed(3)
    model = network()

    def change(step: int) -> None:
        model[1].axis = -1 if step < 4 * EVERY else -2  # type: ignore[assignment]

    assert said(train(model, change)[0]) == [("distribution_shift", "1.proj")]


def test_multihead_attention_is_heard_inside_of_pytorchs_own_layers() -> None:
    """Without a mask, then with one."""
    torch.manual_seed(3)
    mask = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.mask = nn.Linear(4, WIDTH), None
            self.attend = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
            self.leave = nn.Linear(WIDTH, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.enter(x)
            mixed, _ = self.attend(x, x, x, attn_mask=self.mask)
            out: Tensor = self.leave(x + mixed)
            return out

    model = Encoder()

    def change(step: int) -> None:
        model.mask = None if step < 4 * EVERY else mask

    assert ("distribution_shift", "attend") in said(train(model, change)[0])


@pytest.mark.parametrize("fused", [False, True])
def test_listening_changes_no_bit_of_the_training(fused: bool) -> None:
    results = []
    for watched in (False, True):
        torch.manual_seed(3)
        model = network(fused)
        _, losses = train(model, steps=2 * EVERY, watched=watched)
        results.append((losses, [p.detach().clone() for p in model.parameters()]))
    (plain, weights), (seen, same) = results
    assert plain == seen and all(torch.equal(a, b) for a, b in zip(weights, same, strict=True))


def test_a_forward_pass_that_fails_leaves_no_mode_behind() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer=optimizer, run=False, strict=True) as monitor:
        for _ in range(2):  # the second one is listened to
            with pytest.raises(RuntimeError):
                model(torch.zeros(2, LENGTH, 5))
            monitor.step()
        assert torch._C._len_torch_function_stack() == 0
        model(torch.zeros(2, LENGTH, 4)).sum().backward()
        optimizer.step()
        monitor.step()
    assert torch._C._len_torch_function_stack() == 0


@pytest.mark.parametrize("strict", [False, True])
def test_an_error_of_the_listener_is_none_of_the_users_pass(
    strict: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The pass ends as it would have; then the layer of the message is named, or it is raised."""

    def broken(logits: object) -> Tensor:
        raise ValueError("no such logits")

    monkeypatch.setattr("shiftwatch.integrations.torch.attending.sharpness", broken)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(2, LENGTH, 4)
    with watch(model, optimizer=optimizer, run=False, strict=strict) as monitor:
        model(x).sum().backward()
        optimizer.step()
        monitor.step()
        if strict:
            with pytest.raises(ValueError, match="no such logits"):
                model(x)
        else:
            assert torch.isfinite(model(x)).all()
        monitor.step()
        model(x)
    assert strict or "listening failed: ValueError: no such logits" in caplog.text
    assert torch._C._len_torch_function_stack() == 0


def test_a_model_without_attention_is_left_alone_after_two_passes() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    heard = list[int]()
    model.register_forward_hook(lambda *_: heard.append(torch._C._len_torch_function_stack()))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer=optimizer, run=False, strict=True) as monitor:
        hooks = len(model._forward_hooks)
        for _ in range(4 * EVERY):
            model(torch.randn(2, 4)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.step()
            assert len(model._forward_hooks) == hooks
    assert np.flatnonzero(heard).tolist() == [1, EVERY + 1]


def test_another_length_is_no_other_mask() -> None:
    """The share of open keys of a causal mask depends on the length a little, the alarm does not."""
    torch.manual_seed(3)
    model = network()
    data = torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer=optimizer, run=False, strict=True) as monitor:
        for step in range(5 * EVERY):
            x = torch.randn(8, LENGTH if step < 4 * EVERY else 3, 4, generator=data)
            loss = model(x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.step(loss=loss)
    assert not said(monitor)


class Skipping(nn.Sequential):
    """The second attention of the network may be left out."""

    skipped = False

    def forward(self, x: Tensor) -> Tensor:
        for place, part in enumerate(self):
            x = x if self.skipped and place == 2 else part(x)
        return x


def test_an_attention_that_is_left_out_now_and_then_is_not_gone() -> None:
    """As under stochastic depth: in the pass that is listened to its layer did not run either."""
    model = Skipping(nn.Linear(4, WIDTH), *(Heads() for _ in range(6)), nn.Linear(WIDTH, 3))

    def change(step: int) -> None:
        model.skipped = step >= 3 * EVERY and step % EVERY < 3

    assert not said(train(model, change)[0])
