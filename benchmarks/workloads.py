"""Six trainings to measure on, from a step of a third of a millisecond to one of a second.

Plain steps on two cores: small 0.6 ms, mlp 22, lstm 75, hf 165, cnn 600, gpt 800. Weights are
random, data are drawn: what is measured is time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.relu2 = nn.ReLU()
        self.short: nn.Module = nn.Sequential()
        if stride > 1 or inner != outer:
            self.short = nn.Sequential(
                nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(y + self.short(x))


class Attention(nn.Module):
    """A transformer block, pre-norm, causal."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc, self.act = nn.Linear(width, 4 * width), nn.GELU(approximate="tanh")
        self.out = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = self.qkv(self.ln1(x)).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(b, t, d))
        return x + self.out(self.act(self.fc(self.ln2(x))))


class GPT(nn.Module):
    """A small language model."""

    def __init__(self, layers: int, width: int, context: int, words: int = 1000) -> None:
        super().__init__()
        self.wte = nn.Embedding(words, width)
        self.wpe = nn.Parameter(torch.randn(context, width) * 0.02)
        self.blocks = nn.ModuleList(Attention(width, width // 64) for _ in range(layers))
        self.lnf, self.head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.wte(tokens) + self.wpe[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.lnf(x))
        return logits


class Recurrent(nn.Module):
    """A two-layer LSTM, its last output classified."""

    def __init__(self, inner: int, width: int) -> None:
        super().__init__()
        self.rnn = nn.LSTM(inner, width, num_layers=2, batch_first=True)
        self.fc = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        logits: Tensor = self.fc(y[:, -1])
        return logits


class Logits(nn.Module):
    """A transformers model that puts out its logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.model(tokens).logits
        return logits


class Batches(Protocol):
    """A list of inputs and targets, or what looks like one."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> tuple[Tensor, Tensor]: ...


def layers(number: int, width: int) -> nn.Sequential:
    """So many linear layers and ReLUs of one width, and ten outputs."""
    parts: list[nn.Module] = []
    for _ in range(number):
        linear = nn.Linear(width, width)
        nn.init.kaiming_normal_(linear.weight)
        parts += [linear, nn.ReLU()]
    return nn.Sequential(*parts, nn.Linear(width, 10))


def classes(*shape: int) -> Batches:
    """Four batches of inputs of this shape, batch first, that differ a little by class."""
    labels = torch.randint(10, (4, shape[0]))
    return [(torch.randn(shape) + y.view(-1, *[1] * (len(shape) - 1)) / 5, y) for y in labels]


class Stream:
    """Batches like those of :func:`classes`, every one new: nothing to learn by heart."""

    def __init__(self, *shape: int) -> None:
        self.shape = shape
        self.generator = torch.Generator().manual_seed(1)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        y = torch.randint(10, self.shape[:1], generator=self.generator)
        x = torch.randn(self.shape, generator=self.generator)
        return x + y.view(-1, *[1] * (len(self.shape) - 1)) / 5, y


def text(batch: int, context: int) -> Batches:
    """Four batches of tokens, frequent ones first, and of those that follow them."""
    drawn = torch.multinomial(1 / torch.arange(1, 1001).float(), 4 * batch * (context + 1), True)
    return [(t[:, :-1], t[:, 1:]) for t in drawn.view(4, batch, context + 1)]


def small(quick: bool) -> tuple[nn.Module, Batches]:
    """Four layers of 64 units, batch 32: a step of fixed costs, and thousands of them."""
    return layers(4, 64), Stream(32, 64)


def mlp(quick: bool) -> tuple[nn.Module, Batches]:
    """Ten layers of 512 units, batch 256; 128 units, batch 64 if quick."""
    width, batch = (128, 64) if quick else (512, 256)
    return layers(10, width), classes(batch, width)


def lstm(quick: bool) -> tuple[nn.Module, Batches]:
    """Two layers of 256 units, 64 sequences of 64 steps; 64 units, 16 steps if quick."""
    width, length = (64, 16) if quick else (256, 64)
    return Recurrent(128, width), classes(64, length, 128)


def hf(quick: bool) -> tuple[nn.Module, Batches]:
    """GPT-2 of transformers, four layers of 256, 8 x 128 tokens; one layer, 8 x 32 if quick."""
    from transformers import GPT2Config, GPT2LMHeadModel

    number, context = (1, 32) if quick else (4, 128)
    config = GPT2Config(
        vocab_size=1000, n_positions=context, n_embd=256, n_layer=number, n_head=4, use_cache=False
    )
    return Logits(GPT2LMHeadModel(config)), text(8, context)


def cnn(quick: bool) -> tuple[nn.Module, Batches]:
    """ResNet-18 at 32 x 32, batch 64; a quarter as wide, batch 16 if quick."""
    w, batch = (16, 16) if quick else (64, 64)
    parts: list[nn.Module] = [nn.Conv2d(3, w, 3, 1, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU()]
    inner = w
    for outer, stride in ((w, 1), (2 * w, 2), (4 * w, 2), (8 * w, 2)):
        parts += [Residual(inner, outer, stride), Residual(outer, outer, 1)]
        inner = outer
    parts += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inner, 10)]
    return nn.Sequential(*parts), classes(batch, 3, 32, 32)


def gpt(quick: bool) -> tuple[nn.Module, Batches]:
    """Six layers of width 384, 8 x 256 tokens; two of 128, 8 x 64 if quick."""
    number, width, context = (2, 128, 64) if quick else (6, 384, 256)
    return GPT(number, width, context), text(8, context)


Build = Callable[[bool], tuple[nn.Module, Batches]]

#: In the order of their steps, short ones first.
WORKLOADS: dict[str, Build] = {f.__name__: f for f in (small, mlp, lstm, hf, cnn, gpt)}

#: As tables and figures call them.
NAMES = {
    "small": "MLP 4 × 64",
    "mlp": "MLP 10 × 512",
    "lstm": "LSTM",
    "hf": "GPT-2 4 × 256",
    "cnn": "ResNet-18",
    "gpt": "GPT 6 × 384",
}

#: Modules without which a workload cannot be built.
NEEDS = {"hf": ("transformers",)}

#: Workloads whose steps are so short that a budget of 1 % leaves some out.
QUICK_STEPS = ("small", "mlp")


class Training:
    """A model and its optimizer; a call is a step."""

    def __init__(self, model: nn.Module, batches: Batches) -> None:
        self.model, self.batches = model, batches
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        self.steps = 0

    def __call__(self) -> Tensor:
        x, y = self.batches[self.steps % len(self.batches)]
        self.steps += 1
        self.optimizer.zero_grad()
        out = self.model(x)
        loss = F.cross_entropy(out.reshape(-1, out.shape[-1]), y.reshape(-1))
        loss.backward()
        self.optimizer.step()
        return loss


def training(name: str, quick: bool = False) -> Training:
    """A workload by its name, the same at every call."""
    torch.manual_seed(0)
    return Training(*WORKLOADS[name](quick))
