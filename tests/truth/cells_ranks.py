"""Several processes or replicas."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from tests.truth.harness import Training, cell, training

ORDER = 35

# Each rank is held against its own full tensors; that windows merge is another test.
_ALONE = {"ranks": "alone"}
_MERGED = "of every rank; merged, they are those of all data (`tests/test_torch_ranks.py`)"


def _network() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(8, 32), nn.ReLU(), nn.LayerNorm(32), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 4)
    )  # fmt: skip


def _training(
    model: nn.Module,
    trained: nn.Module,
    options: dict[str, Any],
    dtype: torch.dtype = torch.float32,
) -> Training:
    """Each rank on data of its own."""
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.05, momentum=0.9)
    ranked = torch.distributed.is_available() and torch.distributed.is_initialized()
    torch.manual_seed(torch.distributed.get_rank() if ranked else 0)

    def step(i: int) -> Any:
        optimizer.zero_grad()
        x = torch.randn(16, 8).to(dtype)
        loss = F.cross_entropy(trained(x), torch.randint(4, (16,)))
        loss.backward()
        optimizer.step()
        return loss

    given = trained if trained is not model else None
    return training(model, step, optimizer, given=given, options=options)


@cell("`nn.DataParallel` on a CPU", note="there it calls the module itself")
def replicas() -> Training:
    model = _network()
    return _training(model, nn.DataParallel(model), {})


@cell("`DistributedDataParallel`", note=_MERGED, processes=2)
def replicated() -> Training:
    model = _network()
    return _training(model, DistributedDataParallel(model), _ALONE)


@cell("`DistributedDataParallel`, the network inside it watched", note=_MERGED, processes=2)
def inside() -> Training:
    model = _network()
    built = _training(model, DistributedDataParallel(model), _ALONE)
    built.watched[0].given = None
    return built


@cell("`DistributedDataParallel` with accumulation under `no_sync`", note=_MERGED, processes=2)
def accumulated() -> Training:
    model = _network()
    trained = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.05)
    torch.manual_seed(torch.distributed.get_rank())

    def step(i: int) -> Any:
        optimizer.zero_grad()
        for last in (False, True):
            with nullcontext() if last else trained.no_sync():
                loss = F.cross_entropy(trained(torch.randn(16, 8)), torch.randint(4, (16,)))
                loss.backward()
        optimizer.step()
        return loss

    return training(model, step, optimizer, given=trained, options=_ALONE)


def _sharded(dtype: torch.dtype = torch.float32, **options: Any) -> Training:
    model = _network()
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, **options)
    fully_shard(model, **options)
    return _training(model, model, _ALONE, dtype)


@cell(
    "`fully_shard` (FSDP2)",
    note="of weights and updates the part that each rank holds, " + _MERGED,
    processes=2,
)
def sharded() -> Training:
    return _sharded()


@cell(
    "`fully_shard` with `MixedPrecisionPolicy(bfloat16)`",
    note="weights and updates are those of the float32 that the optimizer holds",
    processes=2,
)
def halved() -> Training:
    return _sharded(torch.bfloat16, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16))
