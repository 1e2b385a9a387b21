"""Networks and how they are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tests.truth.harness import NONE, PARTLY, Training, cell, training

ORDER = 10


def supervised(model: nn.Module, *shape: int, batch: int = 16, **options: Any) -> Training:
    """Random inputs of the given shape, four classes, momentum, one evaluation in between."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def step(i: int) -> Any:
        optimizer.zero_grad()
        x, y = torch.randn(batch, *shape), torch.randint(4, (batch,))
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        if i != 3:
            return loss
        model.eval()
        with torch.no_grad():
            out = model(torch.randn(batch, *shape))
        model.train()
        return loss, out

    return training(model, step, optimizer, **options)


@cell("plain")
def plain() -> Training:
    model = nn.Sequential(
        nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 4)
    )
    return supervised(model, 8)


@cell("in-place activations", note="an output is what the layer put out, before it is overwritten")
def in_place() -> Training:
    model = nn.Sequential(
        nn.Linear(8, 32), nn.ReLU(inplace=True), nn.Linear(32, 16), nn.SiLU(inplace=True),
        nn.Linear(16, 4),
    )  # fmt: skip
    return supervised(model, 8)


class Overwritten(nn.Module):
    """Outputs, slices of outputs and views of outputs are overwritten in place."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 16), nn.Linear(16, 8), nn.Unflatten(1, (2, 4))
        self.d = nn.Linear(8, 4)

    def forward(self, x: Any) -> Any:
        x = self.b(self.a(x).relu_())
        x[:, :3].mul_(2)
        x = self.c(x)
        x.add_(1)
        return self.d(x.flatten(1))


@cell("outputs overwritten in place", note="likewise; what became of it is the next layer's input")
def overwritten() -> Training:
    return supervised(Overwritten(), 8)


class Functional(nn.Module):
    """Activations without modules, a residual sum, a mean over time."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x: Any) -> Any:
        x = F.relu(self.a(x))
        return self.c(x + torch.tanh(self.b(x)))


@cell(
    "functional activations",
    note="what a function made is seen as the next layer's input, and after the last layer not at all",
)
def functional() -> Training:
    return supervised(Functional(), 8)


@cell("`channels_last`")
def channels_last() -> Training:
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3, stride=2),
        nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    ).to(memory_format=torch.channels_last)  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step(i: int) -> Any:
        optimizer.zero_grad()
        x = torch.randn(4, 2, 8, 8).to(memory_format=torch.channels_last)
        loss = F.cross_entropy(model(x), torch.randint(4, (4,)))
        loss.backward()
        optimizer.step()
        return loss

    return training(model, step, optimizer)


class Tied(nn.Module):
    """An embedding whose weight is the head's, too."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix = nn.Embedding(32, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 32, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Any) -> Any:
        return self.head(torch.tanh(self.mix(self.embed(x))))


@cell("weight tying", note="a shared weight is one site, under the name of the first layer")
def tied() -> Training:
    model = Tied()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

    def step(i: int) -> Any:
        optimizer.zero_grad()
        x = torch.randint(32, (4, 8))
        loss = F.cross_entropy(model(x).flatten(0, 1), x.roll(-1, 1).flatten())
        loss.backward()
        optimizer.step()
        return loss

    return training(model, step, optimizer)


class Shared(nn.Module):
    """One block, called over and over with inputs that grow."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.block, self.act = nn.Linear(8, 16), nn.Tanh()
        self.head, self.times = nn.Linear(16, 4), times

    def forward(self, x: Any) -> Any:
        return self.head(sum(self.act(self.block(x * (i / 10))) for i in range(self.times)))


@cell("a module called 3 times per step", note="every call is seen, up to four per step")
def shared_little() -> Training:
    return supervised(Shared(3), 8)


@cell(
    "a module called 20 times per step",
    note="of more than four calls a fair choice of four is seen",
)
def shared_often() -> Training:
    return supervised(Shared(20), 8)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Any) -> Any:
        y, _ = self.attend(x, x, x)
        return self.head((x + y).mean(1))


@cell(
    "`nn.MultiheadAttention`",
    note="its `out_proj` is never called as a module; its parameters and the result are seen",
    dark={"attend.out_proj": "its parent computes without calling it"},
)
def attention() -> Training:
    return supervised(Attention(), 5, 8)


class Encoder(nn.Module):
    """Two layers; half of the samples are padded where ``mask`` says so."""

    def __init__(self, mask: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(8, 4)
        self.mask = mask

    def forward(self, x: Any) -> Any:
        mask = torch.zeros(x.shape[:2], dtype=torch.bool)
        mask[::2, 3:] = True
        return self.head(self.encoder(x, src_key_padding_mask=mask if self.mask else None)[:, 0])


DARK = {
    **{f"encoder.layers.{i}.self_attn.out_proj": "its parent computes" for i in range(2)},
    "encoder.layers.0@eval": "it takes PyTorch's fast path in evaluation, as do all layers like it",
}
FAST = tuple(
    f"encoder.layers.{i}.{part}:output@eval"
    for i in range(2)
    for part in ("self_attn", "linear1", "linear2", "norm1", "norm2")
)


@cell(
    "`nn.TransformerEncoderLayer`",
    outputs=PARTLY,
    unheard=FAST,
    note="training is seen whole; evaluation takes PyTorch's fast path, as it does without "
    "shiftwatch, and calls no layer",
    dark=DARK,
)
def encoder() -> Training:
    return supervised(Encoder(False), 5, 8)


@cell(
    "`nn.TransformerEncoder` with a padding mask",
    outputs=PARTLY,
    unheard=FAST,
    note="likewise; in evaluation PyTorch makes nested tensors",
    dark=DARK,
    warns="The PyTorch API of nested tensors",
)
def encoder_masked() -> Training:
    return supervised(Encoder(True), 5, 8)


class Packed(nn.Module):
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Linear(4, 8), kind(8, 8, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Any, lengths: Any) -> Any:
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embed(x), lengths, batch_first=True, enforce_sorted=False
        )
        _, last = self.rnn(packed)
        last = last[0] if isinstance(last, tuple) else last
        return self.head(last[-1])


def packed(kind: Any, fixed: bool = True) -> Training:
    model = Packed(kind)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step(i: int) -> Any:
        optimizer.zero_grad()
        lengths = torch.tensor([7, 3, 5, 1])[torch.randperm(4)]
        out = model(torch.randn(4, 7, 4), lengths)
        loss = F.cross_entropy(out, torch.randint(4, (4,)))
        loss.backward()
        optimizer.step()
        return loss

    return training(model, step, optimizer)


@cell(
    "`PackedSequence` through an LSTM", note="packed values are seen as they are, without padding"
)
def packed_lstm() -> Training:
    return packed(nn.LSTM)


@cell("`PackedSequence` through a GRU", note="likewise")
def packed_gru() -> Training:
    return packed(nn.GRU)


@cell(
    "another length in each batch",
    inputs=NONE,
    note="every batch counts the same, whatever its length",
)
def dynamic() -> Training:
    model = nn.Sequential(nn.Embedding(16, 8), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 16))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step(i: int) -> Any:
        optimizer.zero_grad()
        x = torch.randint(16, (4 + i % 3, (17, 64, 5, 33, 48, 21, 9, 40)[i]))
        loss = F.cross_entropy(model(x).flatten(0, 1), x.flatten())
        loss.backward()
        optimizer.step()
        return loss

    return training(model, step, optimizer)


@dataclass
class Pair:
    logits: Any
    hidden: Any


class Part(nn.Module):
    """A layer that returns a tuple, a mapping or a dataclass."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.weight, self.kind = nn.Parameter(torch.randn(8, 8) / 3), kind

    def forward(self, x: Any) -> Any:
        y, z = x @ self.weight, torch.sigmoid(x)
        return {"tuple": (y, [z]), "dict": {"y": y, "z": z}, "class": Pair(y, (z,))}[self.kind]


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = Part("tuple"), Part("dict"), Part("class")
        self.head = nn.Linear(8, 4)

    def forward(self, x: Any, *, extra: Any = None) -> Any:
        y, (z,) = self.a(x)
        found = self.b(y + z)
        last = self.c(found["y"] * found["z"])
        return self.head(last.logits + last.hidden[0] + (0 if extra is None else extra))


@cell(
    "tuples, mappings and dataclasses as outputs",
    note="each floating tensor is a site of its own, up to eight",
)
def nested() -> Training:
    return supervised(Nested(), 8)


@cell("keyword arguments", note="the model's are inputs of their own")
def keywords() -> Training:
    model = Nested()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step(i: int) -> Any:
        optimizer.zero_grad()
        out = model(x=torch.randn(16, 8), extra=torch.randn(16, 8))
        loss = F.cross_entropy(out, torch.randint(4, (16,)))
        loss.backward()
        optimizer.step()
        return loss

    return training(model, step, optimizer)


class Sometimes(nn.Module):
    """Of two experts one is called, the other in other steps; a third never."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.unused, self.head, self.turn = nn.Linear(8, 8), nn.Linear(8, 4), 0

    def forward(self, x: Any) -> Any:
        self.turn += 1
        return self.head(torch.tanh(self.experts[self.turn % 2](x)))


@cell(
    "layers that some steps leave out",
    note="seen where they are called; one that is never called is named after three steps",
    dark={"unused": "it was not called in the first 3 steps"},
)
def sometimes() -> Training:
    return supervised(Sometimes(), 8)


class Forward(nn.Module):
    """One layer is called as PyTorch means it to be, the other by its method."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 4)

    def forward(self, x: Any) -> Any:
        return self.head(torch.relu(self.b.forward(torch.relu(self.a(x)))))


@cell(
    "`layer.forward(x)` in place of `layer(x)`",
    outputs=PARTLY,
    gradients=PARTLY,
    inputs=PARTLY,
    unheard=("b:output", "b:gradient", "b:input"),
    note="a method that is called directly runs no hook",
    dark={"b": "calls of .forward() itself"},
)
def forward() -> Training:
    return supervised(Forward(), 8)


@cell(
    "hooks of the user's own, replacing outputs",
    note="what the layers after it get, if the hook was there before `watch`",
)
def own_hooks() -> Training:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    model[0].register_forward_hook(lambda module, args, output: output * 2)
    return supervised(model, 8)


@cell("`torch.inference_mode` in evaluation")
def inference() -> Training:
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step(i: int) -> Any:
        model.eval()
        with torch.inference_mode():
            out = model(torch.randn(16, 8)).sum().item()
        model.train()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(torch.randn(16, 8)), torch.randint(4, (16,))) + out
        loss.backward()
        optimizer.step()
        return loss

    return training(model, step, optimizer)


@cell("frozen BatchNorm (a part in eval mode)", note="the mode is that of the whole model")
def frozen_norm() -> Training:
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
    model[1].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step(i: int) -> Any:
        model[1].eval()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(torch.randn(16, 8)), torch.randint(4, (16,)))
        loss.backward()
        optimizer.step()
        return loss

    return training(model, step, optimizer)


@cell(
    "fine-tuning in eval mode",
    loose=("*:gradient",),
    note="a step without a pass in training mode was training: gradients are seen from the second on",
)
def eval_mode() -> Training:
    model = nn.Sequential(nn.Linear(8, 32), nn.Dropout(0.5), nn.Tanh(), nn.Linear(32, 4)).eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step(i: int) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(torch.randn(64, 8)), torch.randint(4, (64,)))
        loss.backward()
        optimizer.step()
        return loss

    return training(model, step, optimizer, eval_trains=True)


@cell("lazy modules", note="may be watched before their first call, which makes the weights")
def lazy() -> Training:
    model = nn.Sequential(
        nn.LazyLinear(16, bias=False), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(4)
    )
    optimizers: list[Any] = []

    def step(i: int) -> Any:
        loss = F.cross_entropy(model(torch.randn(16, 8)), torch.randint(4, (16,)))
        optimizer = (optimizers or [torch.optim.SGD(model.parameters(), lr=0.05)])[0]
        optimizers[:] = [optimizer]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return training(model, step)


@cell("NaN and Inf", note="counted apart; the rest of the numbers are those of the finite values")
def nonfinite() -> Training:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

    def step(i: int) -> Any:
        x = torch.randn(16, 8)
        if i == 5:
            x[3], x[4, 2] = float("nan"), float("inf")
        model.zero_grad()
        loss = F.cross_entropy(model(x), torch.randint(4, (16,)))
        loss.backward()
        return loss

    return training(model, step)
