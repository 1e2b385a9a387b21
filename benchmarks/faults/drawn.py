"""Networks drawn at random in healthy situations: does anything that learns raise an alarm?

    python -m benchmarks.faults.drawn [--first 0] [--number 100] [--jobs 2]

A list of networks that somebody wrote holds what that person thought of. These are drawn: family, depth,
widths, activation, norm, dropout, initialisation, optimizer, rate and decay, each network in three situations.
Some learn nothing, and what is raised there is shown apart: it may well be right. The numbers
from 0 to 999 are for design, those above for figures. Nothing is kept: a number is always the same network.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from functools import partial
from multiprocessing import get_context
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.faults import healthy
from benchmarks.faults.cases import Case
from benchmarks.faults.data import COPY, IMAGES, ROWS, TEXT, Task
from benchmarks.faults.healthy import LONG
from benchmarks.faults.intervals import clopper_pearson, redrawn
from benchmarks.faults.networks import BY_NAME, Network
from benchmarks.faults.networks.autoencoder import autoencoder
from benchmarks.faults.networks.convolution import convolutions
from benchmarks.faults.networks.dense import Functional, dense, residual_dense
from benchmarks.faults.networks.network import Make
from benchmarks.faults.networks.parts import groups, initialised, lecun
from benchmarks.faults.networks.recurrent import Characters, Recurrent
from benchmarks.faults.networks.residual import residual
from benchmarks.faults.networks.transformer import Llama, Patches, Transformer
from benchmarks.faults.observers import OBSERVERS
from benchmarks.faults.runs import Row, watch
from benchmarks.faults.training import Plan

#: Situations per network.
EACH = 3
#: A run that ends above this share of its first loss has not learned.
LEARNT = 0.5

ACTIVATIONS = (
    nn.ReLU, nn.GELU, nn.Tanh, nn.Sigmoid, nn.ELU, nn.SELU, nn.SiLU, nn.Mish, nn.LeakyReLU, nn.PReLU,
    nn.Softplus, nn.Hardtanh, nn.Hardswish, nn.CELU, nn.Softsign, nn.ReLU6, nn.Hardsigmoid, nn.LogSigmoid,
)  # fmt: skip
FUNCTIONS = (F.relu, F.gelu, torch.tanh, F.silu, F.elu, F.softplus)
STARTS = (
    nn.init.kaiming_normal_, nn.init.xavier_uniform_, nn.init.orthogonal_, lecun,
    partial(nn.init.normal_, std=0.05), partial(nn.init.trunc_normal_, std=0.1),
)  # fmt: skip
#: Families by how often they are drawn.
FAMILIES = {
    "dense": 5, "functional": 1, "residual dense": 1, "convolution": 3, "residual": 1, "rows": 2, "text": 1,
    "encoder": 1, "decoder": 1, "llama": 1, "patches": 1, "autoencoder": 1,
}  # fmt: skip
#: What the faults' code calls those that have no list of their own.
KINDS = {
    "functional": "dense", "residual dense": "dense", "rows": "recurrent", "text": "recurrent",
    "encoder": "transformer", "decoder": "transformer", "llama": "transformer", "patches": "transformer",
}  # fmt: skip


def drawn(number: int) -> Network:
    """The network of this number.

    Example:
        >>> drawn(7).name == drawn(7).name, drawn(7).name == drawn(8).name
        (True, False)
    """
    random = Random(number)
    family = random.choice([name for name, often in FAMILIES.items() for _ in range(often)])
    activation = random.choice(ACTIVATIONS)
    build, task = _built(family, activation, random)
    if family in ("dense", "convolution") and random.random() < 0.7:
        build = partial(initialised, build, random.choice(STARTS))
    plain = family in ("dense", "functional", "residual dense", "convolution", "residual")
    optimizer = random.choice(("adam", "adamw", "momentum", "sgd") if plain else ("adam", "adamw"))
    rate, momentum, decay = _schedule(optimizer, random)
    name = f"drawn {number} {family} {activation.__name__} {optimizer} {rate:g}"
    return Network(name, KINDS.get(family, family), build, task, rate, momentum, decay=decay)


def _built(family: str, activation: type[nn.Module], random: Random) -> tuple[Make, Task]:
    """How a model of the family is made, and what it learns."""
    norm, dropout = random.choice((0, 0, 1, 2)), random.choice((0.0, 0.0, 0.1, 0.3))
    depth = random.randint(1, 3)

    def widths(number: int, low: int, high: int) -> tuple[int, ...]:
        return tuple(random.randrange(low, high, 4) for _ in range(number))

    if family == "dense":
        sizes = (64, *widths(random.randint(1, 6), 24, 160))
        rows = (None, nn.BatchNorm1d, nn.LayerNorm)[norm]
        return partial(dense, sizes, activation, rows, dropout), IMAGES
    if family == "functional":
        sizes = (64, *widths(random.randint(1, 4), 24, 128))
        return partial(Functional, sizes, random.choice(FUNCTIONS)), IMAGES
    if family == "residual dense":
        return partial(residual_dense, *widths(1, 32, 80), depth, dropout), IMAGES
    if family == "convolution":
        maps = (None, nn.BatchNorm2d, groups(2))[norm]
        return partial(convolutions, widths(depth + 1, 8, 32), activation, norm=maps), IMAGES
    if family == "residual":
        maps = random.choice((nn.BatchNorm2d, groups(2)))
        return partial(residual, *widths(1, 8, 20), depth + 1, maps, activation), IMAGES
    if family in ("rows", "text"):
        cell, layers = random.choice((nn.LSTM, nn.GRU, nn.RNN)), random.randint(1, 2)
        (width,) = widths(1, 20, 64)
        if family == "text":
            return partial(Characters, cell, width, layers), TEXT
        ways = {"mean": random.random() < 0.5, "bidirectional": random.random() < 0.3}
        return partial(Recurrent, cell, width, num_layers=layers, **ways), ROWS
    if family == "autoencoder":
        sizes = (*widths(depth, 16, 80), *widths(1, 6, 20))
        return partial(autoencoder, sizes, activation, random.choice((None, nn.LayerNorm))), COPY
    width, heads = random.choice((16, 24, 32)), random.choice((1, 2, 4))
    if family in ("llama", "patches"):
        return partial({"llama": Llama, "patches": Patches}[family], width, depth, heads), (
            TEXT if family == "llama" else IMAGES
        )
    order: dict[str, Any] = {"before": random.random() < 0.6, "dropout": dropout}
    if family == "encoder":
        return partial(Transformer, width, depth, heads, symbols=0, **order), ROWS
    return partial(Transformer, width, depth, heads, tied=random.random() < 0.5, **order), TEXT


def _schedule(optimizer: str, random: Random) -> tuple[float, float | None, float]:
    """Rate, momentum and decay as people choose them."""
    if optimizer == "sgd":
        return random.choice((0.05, 0.1, 0.2)), 0.0, random.choice((0.0, 5e-4))
    if optimizer == "momentum":
        return random.choice((0.01, 0.02, 0.05)), 0.9, random.choice((0.0, 5e-4))
    decay = random.choice((0.01, 0.05, 0.1)) if optimizer == "adamw" else 0.0
    return random.choice((5e-4, 1e-3, 2e-3, 3e-3)), None, decay


def runs_of(number: int) -> list[Row]:
    """What our monitor found of a network, in each of its situations."""
    torch.set_num_threads(1)
    network = drawn(number)
    BY_NAME[network.name] = network
    fitting = [s for s in healthy.SITUATIONS if s.fits(network) and s.plan.get("steps", 0) < LONG]
    found = []
    for situation in Random(-number - 1).sample(fitting, EACH):
        steps = situation.plan.get("steps", Plan(network, number).steps)
        case = Case("drawn", network.name, situation.code, 10_000 + number, steps)
        found.append(watch(case, OBSERVERS["shiftwatch"]))
    return found


def _learnt(row: Row) -> bool:
    return row["last"] is not None and row["last"] < LEARNT * row["first"]


def _told(row: Row) -> str:
    """A run with an alarm in one line."""
    first = row["alerts"][0]
    what = " ".join(str(first[k]) for k in ("detected", "kind", "layer", "tensor", "metric"))
    return f"{row['code']} {row['network']}: {what} {first['value']} (limit {first['limit']})"


def summary(rows: Sequence[Row]) -> str:
    """How many learn, and how many of these raise what."""
    good = [row for row in rows if _learnt(row)]
    loud = [row for row in good if row["alerts"]]
    networks = Counter(row["network"] for row in good)
    raised = Counter(row["network"] for row in loud)
    low, high = clopper_pearson(len(loud), len(good))
    least, most = redrawn([(raised[name], number) for name, number in networks.items()])
    kinds = Counter(row["alerts"][0]["kind"] for row in loud)
    return (
        f"{len(rows)} runs, {len(good)} learn, {len(loud)} of these with an alarm: "
        f"{len(loud) / max(len(good), 1):.1%} [{low:.1%}, {high:.1%}], networks drawn anew "
        f"[{least:.1%}, {most:.1%}]; {', '.join(f'{k} {n}' for k, n in kinds.most_common()) or 'none'}"
    )


def main() -> None:
    """Draw, train, and print what was raised."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults.drawn", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--first", type=int, default=0, help="number of the first network")
    parser.add_argument("--number", type=int, default=100, help="how many networks")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    given = parser.parse_args()
    rows: list[Row] = []
    numbers = range(given.first, given.first + given.number)
    with get_context("spawn").Pool(given.jobs) as pool:
        for found in pool.imap_unordered(runs_of, numbers):
            for row in found:
                if "error" in row:
                    print("error", row["code"], row["network"], row["error"], flush=True)
                    continue
                rows.append(row)
                if row["alerts"]:
                    print("learns" if _learnt(row) else "does not", _told(row), flush=True)
    print(summary(rows))


if __name__ == "__main__":
    main()
