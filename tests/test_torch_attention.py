"""Entropy and logits of every attention, however it is computed."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shiftwatch.integrations.torch import attention, watch


class Explicit(nn.Module):
    """Softmax of scores, dropout, and a product: attention as papers write it."""

    def __init__(self, product: str = "matmul") -> None:
        super().__init__()
        self.product, self.drop = product, nn.Dropout(0.1)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Any = None) -> Tensor:
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if mask is not None:
            scores = scores.masked_fill(~mask, -1e9)
        weights = self.drop(F.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype))
        if self.product == "einsum":
            return torch.einsum("bhqk,bhkd->bhqd", weights, v)
        return weights @ v


class Fused(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Any = None) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def given(batch: int = 2, heads: int = 3, length: int = 5, width: int = 4) -> tuple[Tensor, ...]:
    data = torch.Generator().manual_seed(0)
    return tuple(torch.randn(batch, heads, length, width, generator=data) for _ in range(3))


def by_formula(q: Tensor, k: Tensor, mask: np.ndarray) -> tuple[float, float, float]:
    """Mean entropy, mean share, largest logit, with loops."""
    queries, keys = q.double().numpy(), k.double().numpy()
    entropies, shares, largest = [], [], -math.inf
    for b, h, i in np.ndindex(*queries.shape[:3]):
        allowed = np.flatnonzero(
            np.broadcast_to(mask, (*queries.shape[:3], keys.shape[2]))[b, h, i]
        )
        logits = keys[b, h, allowed] @ queries[b, h, i] / math.sqrt(queries.shape[-1])
        a = np.exp(logits - logits.max())
        a /= a.sum()
        entropies.append(-(a * np.log(a)).sum())
        largest = max(largest, logits.max())
        if len(allowed) > 1:
            shares.append(entropies[-1] / math.log(len(allowed)))
    return float(np.mean(entropies)), float(np.mean(shares)), float(largest)


MASKS = {
    "none": np.ones((1, 1, 5, 5), bool),
    "causal": np.tril(np.ones((5, 5), bool))[None, None],
    "padding": (np.arange(5) < np.array([5, 3])[:, None])[:, None, None],
}


@pytest.mark.parametrize("kind", ["matmul", "einsum", "sdpa"])
@pytest.mark.parametrize("masking", list(MASKS))
def test_readings_agree_with_the_formula(kind: str, masking: str) -> None:
    q, k, v = given()
    mask = MASKS[masking]
    model: nn.Module = Fused() if kind == "sdpa" else Explicit(kind)
    (found,) = attention(model, (q, k, v, torch.from_numpy(mask))).calls
    entropy, share, largest = by_formula(q, k, mask)
    assert found.entropy == pytest.approx(entropy, rel=1e-5)
    assert found.share == pytest.approx(share, rel=1e-5)
    assert found.largest == pytest.approx(largest, rel=1e-5)
    assert found.padded == pytest.approx(0.2 if masking == "padding" else 0.0)
    assert (found.queries, found.keys) == (5, 5)


def test_one_key_and_all_keys_are_the_two_ends() -> None:
    q, k, v = given(length=8)
    (flat,) = attention(Fused(), (0 * q, k, v)).calls
    (sharp,) = attention(Fused(), (1000 * q, k, v)).calls
    assert flat.entropy == pytest.approx(math.log(8)) and flat.share == pytest.approx(1.0)
    assert sharp.share < 0.01 and sharp.largest > 500


def test_causal_grouped_queries_and_a_scale_of_ones_own_are_followed() -> None:
    class Grouped(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(
                q, k, v, is_causal=True, scale=0.2, enable_gqa=True
            )

    q, k, v = given(heads=4)
    (found,) = attention(Grouped(), (q, k[:, :2], v[:, :2])).calls
    wide = k[:, :2].repeat_interleave(2, 1)
    entropy, share, largest = by_formula(q * 0.2 * math.sqrt(4), wide, MASKS["causal"])
    assert found.entropy == pytest.approx(entropy, rel=1e-5)
    assert (found.share, found.largest) == pytest.approx((share, largest), rel=1e-5)


@pytest.mark.parametrize("weights", [True, False])
def test_multihead_attention_is_seen_inside(weights: bool) -> None:
    """Both of its ways; by hand from its own projections."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mha = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.mha(x, x, x, need_weights=weights)[0])

    torch.manual_seed(0)
    model = Block()
    x = torch.randn(3, 6, 8)
    found = attention(model, x)
    assert [c.layer for c in found.calls] == ["mha"] and found.unseen == ()
    with torch.no_grad():
        both = F.linear(x, model.mha.in_proj_weight, model.mha.in_proj_bias)
    q, k, _ = (t.reshape(3, 6, 2, 4).transpose(1, 2) for t in both.chunk(3, -1))
    entropy, _, largest = by_formula(q, k, np.ones((1, 1, 6, 6), bool))
    assert found.calls[0].entropy == pytest.approx(entropy, rel=1e-5)
    assert found.calls[0].largest == pytest.approx(largest, rel=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_an_encoder_of_pytorch_is_seen_layer_by_layer(training: bool) -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    model = nn.TransformerEncoder(layer, 3).train(training)
    padding = torch.arange(7) >= torch.tensor([7, 4])[:, None]
    found = attention(model, {"src": torch.randn(2, 7, 16), "src_key_padding_mask": padding})
    assert [c.layer for c in found.calls] == [f"layers.{i}.self_attn" for i in range(3)]
    assert all(c.padded == pytest.approx(3 / 14) for c in found.calls)
    assert torch.backends.mha.get_fastpath_enabled()


def gpt2(implementation: str) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        n_layer=3, n_head=2, n_embd=16, vocab_size=32, n_positions=16,
        attn_implementation=implementation,
    )  # fmt: skip
    torch.manual_seed(0)
    model: nn.Module = transformers.GPT2LMHeadModel(config)
    return model


def test_gpt2_is_seen_alike_with_eager_and_fused_attention() -> None:
    tokens = torch.randint(0, 32, (2, 10), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(10) < torch.tensor([10, 7])[:, None]).long()
    batch = {"input_ids": tokens, "attention_mask": mask}
    eager, fused = (attention(gpt2(kind).eval(), batch) for kind in ("eager", "sdpa"))
    assert [c.layer for c in eager.calls] == [f"transformer.h.{i}.attn" for i in range(3)]
    assert [c.layer for c in fused.calls] == [c.layer for c in eager.calls]
    assert {c.kind for c in eager.calls} == {"softmax"} and {c.kind for c in fused.calls} == {
        "sdpa"
    }
    assert eager.unseen == fused.unseen == ()
    for a, b in zip(eager.calls, fused.calls, strict=True):
        assert (a.entropy, a.share, a.largest) == pytest.approx(
            (b.entropy, b.share, b.largest), rel=1e-4
        )
        assert a.padded == b.padded == pytest.approx(0.15)


def test_a_softmax_that_weighs_nothing_is_no_attention() -> None:
    class Head(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.softmax(-1).log()

    assert attention(Head(), torch.randn(2, 3, 5)).calls == ()


def test_what_ran_and_could_not_be_seen_is_named() -> None:
    class StrangeAttention(nn.Module):
        """Exponentials by hand."""

        def forward(self, x: Tensor) -> Tensor:
            weights = torch.exp(x @ x.transpose(-1, -2))
            return weights / weights.sum(-1, keepdim=True) @ x

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.strange, self.never = StrangeAttention(), nn.MultiheadAttention(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.strange(x))

    found = attention(Net(), torch.randn(2, 3, 4))
    assert found.calls == () and found.unseen == ("strange",)
    assert str(found).splitlines()[-1] == "not seen: strange"


def test_large_attentions_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = given(batch=4)
    mask = torch.rand(4, 1, 5, 5, generator=torch.Generator().manual_seed(1)) > 0.3
    whole = []
    for piece in (1 << 24, 60, 1):
        monkeypatch.setattr(sys.modules["shiftwatch.integrations.torch.attention"], "PIECE", piece)
        whole.append(attention(Fused(), (q, k, v, mask)))
    for other in whole[1:]:
        a, b = whole[0].calls[0], other.calls[0]
        assert (a.entropy, a.share, a.largest, a.padded) == pytest.approx(
            (b.entropy, b.share, b.largest, b.padded), rel=1e-5
        )


def test_nothing_is_left_behind_also_after_an_exception() -> None:
    model = gpt2("sdpa")
    state = torch.get_rng_state()
    with pytest.raises(IndexError):
        attention(model, {"input_ids": torch.full((1, 4), 99)})
    attention(model, {"input_ids": torch.zeros(1, 4, dtype=torch.long)})
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_monitor_sees_nothing_of_it() -> None:
    model = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    with watch(model, run=False, strict=True, rules=()) as monitor:
        for _ in range(8):
            attention(model, torch.randn(2, 7, 16))
            monitor.step()
    assert {s.tensor for s in monitor.history.sites} <= {"weight", "update"}


def test_the_record_reads_as_a_table() -> None:
    lines = str(attention(Fused(), given())).splitlines()
    assert lines[0].split() == ["layer", "kind", "T", "entropy", "share", "largest", "padded"]
    assert lines[1].split()[:2] == ["Fused", "sdpa"]
