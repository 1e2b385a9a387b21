"""Recurrent networks: of rows of pixels, and of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.faults.data import SYMBOLS
from benchmarks.faults.networks.convolution import Past
from benchmarks.faults.networks.dense import Highway
from benchmarks.faults.networks.parts import Block, Pool
from benchmarks.faults.networks.transformer import Attention, LanguageModel, stacked, wider


class Recurrent(nn.Module):
    """A recurrent layer, and a dense one on its last output or its mean."""

    def __init__(
        self, cell: type[nn.RNNBase], width: int, *, mean: bool = False, **options: object
    ) -> None:
        super().__init__()
        self.rnn = cell(8, width, batch_first=True, **options)
        self.head = nn.Linear(width * (2 if self.rnn.bidirectional else 1), 10)
        self.mean = mean

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        logits: Tensor = self.head(y.mean(1) if self.mean else y[:, -1])
        return logits


class Characters(nn.Module):
    """Of text: an embedding, recurrent layers, and a prediction at each symbol."""

    def __init__(self, cell: type[nn.RNNBase], width: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, width)
        self.rnn = cell(width, width, layers, batch_first=True)
        self.head = nn.Linear(width, SYMBOLS)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(self.embed(x))
        logits: Tensor = self.head(y)
        return logits


class Normed(nn.Module):
    """A dense layer, a recurrent one both ways that begins orthogonal, a norm, and the largest."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(8, width)
        self.activation = nn.ReLU()
        self.rnn = nn.GRU(width, width, batch_first=True, bidirectional=True)
        for name, weight in self.rnn.named_parameters():
            if name.startswith("weight_hh"):
                nn.init.orthogonal_(weight)
        self.norm = nn.LayerNorm(2 * width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(self.activation(self.dense(x)))
        logits: Tensor = self.head(self.dropout(self.norm(y).amax(1)))
        return logits


class Stacked(nn.Module):
    """Two layers of LSTM both ways that forget little at first, and attention that pools the rows.

    Biases of forget gates begin at 1 (Jozefowicz et al. 2015).
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.rnn = nn.LSTM(8, width, 2, batch_first=True, dropout=dropout, bidirectional=True)
        for name, value in self.rnn.named_parameters():
            if name.startswith("bias_hh"):
                nn.init.ones_(value.detach()[width : 2 * width])
        self.pool = Pool(2 * width)
        self.head = nn.Linear(2 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        logits: Tensor = self.head(self.pool(y))
        return logits


class Tied(nn.Module):
    """Of text: two layers of LSTM with dropout around them, embedding and head of the same weight.

    As Press & Wolf (2017) and Merity et al. (2018) have it.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, width)
        self.before = nn.Dropout(dropout)
        self.rnn = nn.LSTM(width, width, 2, batch_first=True, dropout=dropout)
        self.after = nn.Dropout(dropout)
        self.head = nn.Linear(width, SYMBOLS)
        self.head.weight = self.embed.weight
        nn.init.uniform_(self.embed.weight, -0.1, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(self.before(self.embed(x)))
        logits: Tensor = self.head(self.after(y))
        return logits


class Filtered(nn.Module):
    """A convolution over the rows, an LSTM both ways, and the mean of what it says of them."""

    def __init__(self, channels: int, width: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv1d(8, channels, 3, padding=1)
        self.norm = nn.BatchNorm1d(channels)
        self.activation = nn.ReLU()
        self.rnn = nn.LSTM(channels, width, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.activation(self.norm(self.conv(x.transpose(1, 2))))
        y, _ = self.rnn(seen.transpose(1, 2))
        logits: Tensor = self.head(self.dropout(y.mean(1)))
        return logits


class Added(nn.Module):
    """Of text: layers of GRU, each added to what it is given (Wu et al. 2016), and a norm."""

    def __init__(self, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, width)
        self.rnns = nn.ModuleList(nn.GRU(width, width, batch_first=True) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, SYMBOLS)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.embed(x)
        for rnn in self.rnns:
            seen = seen + rnn(seen)[0]
        logits: Tensor = self.head(self.dropout(self.norm(seen)))
        return logits


def irnn(width: int) -> Recurrent:
    """Rectified units that begin by keeping what they have (Le et al. 2015)."""
    model = Recurrent(nn.RNN, width, nonlinearity="relu")
    nn.init.eye_(model.rnn.weight_hh_l0)
    for bias in (model.rnn.bias_ih_l0, model.rnn.bias_hh_l0):
        nn.init.zeros_(bias)
    return model


class SingleHead(nn.Module):
    """Of text: an LSTM, then one head of attention and dense layers beside shortcuts (Merity 2019)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, width)
        self.before = nn.Dropout(dropout)
        self.rnn = nn.LSTM(width, width, batch_first=True)
        self.blocks = stacked(
            1, width,
            lambda: [Attention(width, 1, causal=True), nn.Dropout(dropout)],
            lambda: [*wider(width, 2, nn.GELU()), nn.Dropout(dropout)],
        )  # fmt: skip
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, SYMBOLS)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(self.before(self.embed(x)))
        logits: Tensor = self.head(self.norm(self.blocks(y)))
        return logits


class Pyramid(nn.Module):
    """Layers of LSTM both ways, each of which sees half as many elements, two as one (Chan et al. 2016)."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.rnns = nn.ModuleList(
            nn.LSTM(4 * width if i else 8, width, batch_first=True, bidirectional=True)
            for i in range(layers)
        )
        self.head = nn.Linear(2 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        for i, rnn in enumerate(self.rnns):
            seen = x.reshape(len(x), x.shape[1] // 2, -1) if i else x
            x, _ = rnn(seen)
        logits: Tensor = self.head(x.mean(1))
        return logits


class Skipping(nn.Module):
    """Of text: every layer of LSTM sees the symbols, and the head sees every layer (Graves 2013)."""

    def __init__(self, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, width)
        self.rnns = nn.ModuleList(
            nn.LSTM(2 * width if i else width, width, batch_first=True) for i in range(layers)
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(layers * width, SYMBOLS)

    def forward(self, x: Tensor) -> Tensor:
        symbols = self.embed(x)
        found = list[Tensor]()
        for rnn in self.rnns:
            y, _ = rnn(torch.cat([symbols, *found[-1:]], -1))
            found.append(y)
        logits: Tensor = self.head(self.dropout(torch.cat(found, -1)))
        return logits


class ReNet(nn.Module):
    """Of rows: a GRU both ways along each row, two pixels at a time, then one down each column.

    As Visin et al. (2015) have it in place of convolutions.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.across = nn.GRU(2, width, batch_first=True, bidirectional=True)
        self.down = nn.GRU(2 * width, width, batch_first=True, bidirectional=True)
        self.dense = nn.Linear(2 * width, hidden)
        self.activation = nn.ReLU()
        self.head = nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        rows, _ = self.across(x.reshape(-1, 4, 2))
        columns = rows.unflatten(0, (len(x), -1)).transpose(1, 2)
        seen, _ = self.down(columns.flatten(0, 1))
        found = seen.unflatten(0, (len(x), -1)).mean((1, 2))
        logits: Tensor = self.head(self.activation(self.dense(found)))
        return logits


class MixedSoftmaxes(nn.Module):
    """Of text: an LSTM, and several softmaxes, of which a gate says how much each counts.

    As Yang et al. (2018) have it: outputs are logarithms of what these give together.
    """

    def __init__(self, width: int, softmaxes: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, width)
        self.before = nn.Dropout(dropout)
        self.rnn = nn.LSTM(width, width, batch_first=True)
        self.gate = nn.Linear(width, softmaxes)
        self.each = nn.Linear(width, softmaxes * width)
        self.activation = nn.Tanh()
        self.after = nn.Dropout(dropout)
        self.head = nn.Linear(width, SYMBOLS)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(self.before(self.embed(x)))
        shares = self.gate(y).softmax(-1)
        each = self.after(self.activation(self.each(y))).unflatten(-1, (shares.shape[-1], -1))
        mixed = (shares[..., None] * self.head(each).softmax(-1)).sum(-2)
        return (mixed + 1e-8).log()


class Asked(nn.Module):
    """Of rows: a GRU both ways, whose last states ask which rows count (Bahdanau et al. 2015).

    What is asked and what was found are joined in a dense layer, as Luong et al. (2015) have it.
    """

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.rnn = nn.GRU(8, width, batch_first=True, bidirectional=True)
        self.asked = nn.Linear(2 * width, hidden)
        self.given = nn.Linear(2 * width, hidden)
        self.compared = nn.Tanh()
        self.score = nn.Linear(hidden, 1)
        self.joined = nn.Linear(4 * width, hidden)
        self.activation = nn.Tanh()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        y, last = self.rnn(x)
        last = last.transpose(0, 1).flatten(1)
        scores = self.score(self.compared(self.asked(last)[:, None] + self.given(y)))
        found = (scores.softmax(1) * y).sum(1)
        joined = self.activation(self.joined(torch.cat([found, last], 1)))
        logits: Tensor = self.head(self.dropout(joined))
        return logits


class Spelt(nn.Module):
    """Of text: a convolution over the last symbols, a highway, an LSTM (Kim et al. 2016)."""

    def __init__(self, width: int, window: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, width)
        self.conv = Past(width, width, window)
        self.activation = nn.Tanh()
        self.highway = Highway(width, nn.ReLU)
        self.rnn = nn.LSTM(width, width, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, SYMBOLS)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.highway(self.activation(self.conv(self.embed(x))))
        y, _ = self.rnn(seen)
        logits: Tensor = self.head(self.dropout(y))
        return logits


class StateSpace(nn.Module):
    """States that fade and take in as what comes in says, behind a short convolution, then a gate.

    [batch, element, width], a layer of Gu & Dao (2024): each channel has some states, each of which fades
    at a rate of its own.
    """

    def __init__(self, width: int, states: int, rank: int) -> None:
        super().__init__()
        wide = 2 * width
        self.sizes = (rank, states, states)
        self.linear = nn.Linear(width, 2 * wide, bias=False)
        self.conv = Past(wide, wide, 3, groups=wide)
        self.activation = nn.SiLU()
        self.choose = nn.Linear(wide, sum(self.sizes), bias=False)
        self.pace = nn.Linear(rank, wide)
        paces = torch.empty(wide).uniform_(math.log(1e-3), math.log(0.1)).exp()
        self.pace.bias.detach().copy_(paces.expm1().log())
        self.fade = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(wide, 1))
        self.now = nn.Parameter(torch.ones(wide))
        self.gate = nn.SiLU()
        self.proj = nn.Linear(wide, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x, gates = self.linear(x).chunk(2, -1)
        x = self.activation(self.conv(x))
        pace, taken, shown = self.choose(x).split(self.sizes, -1)
        pace = F.softplus(self.pace(pace))
        kept = (-pace[..., None] * self.fade.exp()).exp()
        new = (pace * x)[..., None] * taken[:, :, None]
        state, states = torch.zeros_like(new[:, 0]), list[Tensor]()
        for keep, add in zip(kept.unbind(1), new.unbind(1), strict=True):
            state = keep * state + add
            states.append(state)
        seen = (torch.stack(states, 1) @ shown[..., None])[..., 0]
        out: Tensor = self.proj((seen + self.now * x) * self.gate(gates))
        return out


class Mamba(LanguageModel):
    """Of text: such layers, norms without a mean before them and ways around them."""

    def __init__(self, width: int, layers: int, states: int, rank: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, width)
        self.blocks = nn.Sequential()
        for _ in range(layers):
            inner = nn.Sequential(nn.RMSNorm(width), StateSpace(width, states, rank))
            self.blocks.append(Block(inner))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, SYMBOLS, bias=False)


class BesideConvolutions(nn.Module):
    """Of rows: an LSTM, and beside it three convolutions and a mean (LSTM-FCN, Karim et al. 2018)."""

    def __init__(self, width: int, channels: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.rnn = nn.LSTM(8, width, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.convs = nn.Sequential()
        for (a, b), size in zip(pairwise((8, *channels)), (5, 3, 3), strict=True):
            conv = nn.Conv1d(a, b, size, padding=size // 2)
            self.convs.extend([conv, nn.BatchNorm1d(b), nn.ReLU()])
        self.head = nn.Linear(width + channels[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        last = self.dropout(y[:, -1])
        seen = self.convs(x.transpose(1, 2)).mean(2)
        logits: Tensor = self.head(torch.cat([last, seen], 1))
        return logits
