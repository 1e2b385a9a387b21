"""Recurrent layers along time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shiftwatch.integrations.torch import over_time


class Last(nn.Module):
    """Reads the output of the last index."""

    def __init__(self, kind: Any = nn.RNN, layers: int = 1, **options: Any) -> None:
        super().__init__()
        self.rnn = kind(3, 8, layers, **options)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        out = self.rnn(x)[0]
        return torch.as_tensor(self.head(out[:, -1] if self.rnn.batch_first else out[-1]))


def batch(first: bool = True) -> tuple[Tensor, Tensor]:
    data = torch.Generator().manual_seed(0)
    x = torch.randn(4, 12, 3, generator=data)
    return (x if first else x.transpose(0, 1)), torch.randn(4, 2, generator=data)


def test_gradients_agree_with_a_recurrence_by_hand() -> None:
    """A linear chain: h_t = w h_{t-1} + x_t, the loss the sum of the last: dL/dx_t = w^(T-t)."""

    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.RNN(1, 1, nonlinearity="relu", bias=False, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.rnn(x)[0])

    model = Chain()
    with torch.no_grad():
        model.rnn.weight_ih_l0.fill_(1.0)
        model.rnn.weight_hh_l0.fill_(0.5)
    (found,) = over_time(model, lambda out: out[0, -1, 0], torch.ones(1, 6, 1))
    np.testing.assert_allclose(found.input_gradient, 0.5 ** np.arange(5, -1, -1), rtol=1e-6)
    np.testing.assert_allclose(found.output_gradient, [0, 0, 0, 0, 0, 1], rtol=1e-6)
    np.testing.assert_allclose(found.mean, np.cumsum(0.5 ** np.arange(6)), rtol=1e-6)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("first", [True, False])
def test_both_layouts_of_time_are_read(kind: Any, first: bool) -> None:
    torch.manual_seed(0)
    model = Last(kind, batch_first=first)
    x, y = batch(first)
    (found,) = over_time(model, nn.functional.mse_loss, (x, y))
    with torch.no_grad():
        out = model.rnn(x)[0].numpy()
    axes = (0, 2) if first else (1, 2)
    np.testing.assert_allclose(found.mean, out.mean(axes), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.std, out.std(axes), rtol=1e-4)
    assert (found.output_gradient[:-1] == 0).all() and found.output_gradient[-1] > 0
    assert (found.input_gradient > 0).all()


def test_nothing_is_changed() -> None:
    torch.manual_seed(0)
    model = Last(nn.LSTM, 2, batch_first=True, dropout=0.3)
    x, y = batch()
    nn.functional.mse_loss(model(x), y).backward()
    grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    state = torch.get_rng_state()
    over_time(model, nn.functional.mse_loss, (x, y))
    now = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(grads, now, strict=True))
    assert torch.equal(torch.get_rng_state(), state) and not x.requires_grad
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_model_without_recurrent_layers_has_no_profile() -> None:
    assert over_time(nn.Linear(3, 2), lambda out: out.sum(), torch.ones(2, 3)) == ()


def test_the_record_reads_as_a_table() -> None:
    (found,) = over_time(Last(batch_first=True), nn.functional.mse_loss, batch())
    lines = str(found).splitlines()
    assert lines[0] == "rnn" and len(lines) == 2 + 12
