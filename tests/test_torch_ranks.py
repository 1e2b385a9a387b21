"""Several processes of one training under PyTorch, over gloo."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import shiftwatch
from shiftwatch import merging
from shiftwatch.integrations.torch import watch
from shiftwatch.summaries import summarize
from tests.processes import Said, together

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="needs gloo"
)


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 24), nn.ReLU(), nn.LayerNorm(24), nn.Linear(24, 12), nn.Tanh(), nn.Linear(12, 4)
    )  # fmt: skip


def _wrapped(kind: str) -> tuple[nn.Module, nn.Module]:
    """The network, and what is trained."""
    inner = _network()
    if kind == "ddp":
        return inner, DistributedDataParallel(inner)
    if kind == "fsdp":
        from torch.distributed.fsdp import fully_shard

        for layer in inner:
            if isinstance(layer, nn.Linear):
                fully_shard(layer)
        fully_shard(inner)
    return inner, inner


def _train(
    rank: int, model: nn.Module, monitor: Any, steps: int, optimizer: Any, fault: int = -1
) -> list[Tensor]:
    """Steps on data of this rank; the last one's input is broken from step ``fault`` on."""
    rng = torch.Generator().manual_seed(100 + rank)
    left = []
    for step in range(steps):
        x = torch.randn(8, 6, generator=rng)
        if step == fault and rank == 1:
            x[2, 3] = float("nan")
        loss = (model(x) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        left.append(loss.detach())
        if monitor is not None:
            monitor.step(loss=loss)
    return left


def _sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


# --- merged numbers --------------------------------------------------------------------------


def _seen(rank: int, folder: Path, kind: str) -> Any:
    inner, model = _wrapped(kind)
    optimizer = _sgd(model)
    full: dict[str, list[Any]] = {}

    def keep(name: str) -> Any:
        return lambda module, args, output: full.setdefault(f"{name}:output", []).append(
            output.detach().clone().numpy()
        )

    for name, layer in inner.named_children():
        layer.register_forward_hook(keep(name))
    inner.register_forward_pre_hook(
        lambda module, args: full.setdefault("<input>:input", []).append(args[0].clone().numpy())
    )
    monitor = watch(model, optimizer=optimizer, run=False, strict=True)
    _train(rank, model, monitor, 24, optimizer)
    monitor.close()
    history = monitor.history
    windows = [history.summary(i) for i in range(len(history))]
    keys = [site.key for site in history.sites]
    return (
        full,
        keys,
        windows,
        history.steps.tolist(),
        history.learning_rates,
        history.meta.get("dark"),
    )


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_merged_windows_are_those_of_all_data(tmp_path: Path, kind: str) -> None:
    """Count, moments, histogram and range of what both ranks saw, under the names of the network."""
    (mine, keys, windows, ends, rates, dark), (theirs, *_) = together(_seen, tmp_path, kind)
    assert ends == [7, 15, 23] and not dark
    assert rates.tolist() == [0.05] * 3
    assert {"<input>:input", "0:weight", "0:update", "3:gradient", "5:output"} <= set(keys)
    assert not any("module" in key or "fsdp" in key.lower() for key in keys)
    for column, key in enumerate(keys):
        if key not in mine:
            continue
        for number, window in enumerate(windows):
            steps = slice(8 * number, 8 * number + 8)
            values = np.concatenate([*mine[key][steps], *theirs[key][steps]])
            truth, told = summarize(values), window[column]
            assert told.count == truth.count == values.size
            assert np.array_equal(told.histogram.counts, truth.histogram.counts)
            np.testing.assert_allclose(told.mean, truth.mean, atol=1e-6)
            np.testing.assert_allclose(told.std, truth.std, rtol=1e-5)
            np.testing.assert_allclose(told.moments.max, values.max(), rtol=1e-6)


# --- one verdict -----------------------------------------------------------------------------


def _one_fault(rank: int, folder: Path) -> Any:
    said = Said()
    _, model = _wrapped("ddp")
    optimizer = _sgd(model)
    reports: list[int] = []
    monitor = watch(
        model, optimizer=optimizer, run=folder / "run",
        reporters=[lambda report: reports.append(report.step)],
    )  # fmt: skip
    _train(rank, model, monitor, 120, optimizer, fault=74)
    monitor.close()
    alerts = [(a.step, a.layer, a.kind, a.detected, a.message) for a in monitor.alerts]
    return alerts, monitor.incidents, reports, said.messages, monitor.run


def test_a_fault_on_one_rank_raises_the_same_alerts_on_all(tmp_path: Path) -> None:
    """It is found in that rank's data and named with it; rank 0 alone writes, reports and logs."""
    first, second = together(_one_fault, tmp_path)
    alerts, incidents, reports, messages, run = first
    assert alerts[0][:3] == (74, "<input>", "nonfinite")
    assert "on rank 1" in alerts[0][4]
    assert alerts[0][3] == 79, "judged at the next eighth step"
    assert second[0] == alerts and second[1] == incidents
    assert reports and not second[2]
    assert any("nonfinite" in message for message in messages) and not second[3]
    assert run == tmp_path / "run" and second[4] is None
    assert sorted(p.name for p in run.glob("attempt*")) == [shiftwatch.open(run).attempt]
    assert len(shiftwatch.open(run).alerts) >= 1


# --- harmless --------------------------------------------------------------------------------


def _left_behind(rank: int, folder: Path, kind: str) -> list[Any]:
    results = []
    for watched in (False, True):
        inner, model = _wrapped(kind)
        optimizer = _sgd(model)
        given = inner if kind == "ddp" else model
        monitor = watch(given, optimizer=optimizer, run=False, strict=True) if watched else None
        left = _train(rank, model, monitor, 20, optimizer)
        if monitor is not None:
            monitor.close()
        parameters = [getattr(p, "_local_tensor", p) for p in model.parameters()]
        results.append([t.detach().clone().numpy() for t in (*left, *parameters)])
        results[-1].append(torch.get_rng_state().numpy())
    return results


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_watching_ranks_leaves_the_same_bits(tmp_path: Path, kind: str) -> None:
    """Losses, weights and the random state of every rank, watched by the network inside a wrapper."""
    for plain, watched in together(_left_behind, tmp_path, kind):
        assert len(plain) == len(watched)
        assert all(a.tobytes() == b.tobytes() for a, b in zip(plain, watched, strict=True))


# --- nobody waits for anybody ----------------------------------------------------------------


def _only_first(rank: int, folder: Path) -> Any:
    said = Said()
    merging.FAREWELL = 60.0  # a wait would show
    _, model = _wrapped("ddp")
    optimizer = _sgd(model)
    monitor = watch(model, optimizer=optimizer, run=False) if rank == 0 else None
    _train(rank, model, monitor, 40, optimizer)
    began = time.monotonic()
    if monitor is None:
        return None
    monitor.close()
    return time.monotonic() - began, len(monitor.history), said.messages, monitor.steps


def test_rank_0_alone_watches_its_share_and_says_so_once(tmp_path: Path) -> None:
    """It waits for nobody, not at the end either, and says what to do about it."""
    (seconds, windows, messages, _), _ = together(_only_first, tmp_path)
    assert seconds < 30 and windows == 5
    (message,) = messages
    assert "not called by rank 1" in message and "ranks='alone'" in message


def _only_second(rank: int, folder: Path) -> Any:
    _, model = _wrapped("ddp")
    optimizer = _sgd(model)
    alone = Said()
    monitor = watch(model, optimizer=optimizer, run=False) if rank else None
    _train(rank, model, monitor, 40, optimizer, fault=20)
    if monitor is not None:
        monitor.close()
    dist.barrier()
    if monitor is None:
        return None
    return len(monitor.history), [a.layer for a in monitor.alerts], alone.messages


def test_another_rank_alone_watches_too(tmp_path: Path) -> None:
    """What rank 0 does not judge, the rank itself does, with its alerts in its log."""
    _, (windows, layers, messages) = together(_only_second, tmp_path)
    assert windows == 5 and layers == ["<input>"]
    assert "not called by rank 0" in messages[0] and "nonfinite" in messages[1]


def _uneven(rank: int, folder: Path) -> Any:
    said = Said()
    merging.FAREWELL = 60.0  # a wait would show
    _, model = _wrapped("ddp")
    optimizer = _sgd(model)
    monitor = watch(model, optimizer=optimizer, run=False)
    from torch.distributed.algorithms.join import Join

    with Join([model]):
        _train(rank, model, monitor, 60 if rank == 0 else 20, optimizer)
    began = time.monotonic()
    monitor.close()
    counts = {site.key: 0 for site in monitor.history.sites}
    for i in range(len(monitor.history)):
        for column, count in enumerate(monitor.history.summary(i).count):
            counts[monitor.history.sites[column].key] += int(count)
    return time.monotonic() - began, counts.get("<input>:input"), said.messages


def test_a_rank_that_stops_early_holds_nobody_up(tmp_path: Path) -> None:
    """With uneven inputs each rank's windows count as far as they go, and every value once."""
    (seconds, count, messages), (others, _, _) = together(_uneven, tmp_path)
    assert max(seconds, others) < 30
    assert count == 8 * 6 * (60 + 20)
    assert not messages


def _under_way() -> tuple[Said, nn.Module, torch.optim.Optimizer, Any]:
    """Every rank watches, and has trained for 30 steps that wait for no other rank."""
    said = Said()
    model = _network()
    optimizer = _sgd(model)
    monitor = watch(model, optimizer=optimizer, run=False)
    dist.barrier()  # all have called watch(), as DDP would see to
    _train(0, model, monitor, 30, optimizer)
    return said, model, optimizer, monitor


def _killed(rank: int, folder: Path) -> Any:
    said, model, optimizer, monitor = _under_way()
    if rank:
        os.kill(os.getpid(), signal.SIGKILL)
    began = time.monotonic()
    _train(1, model, monitor, 30, optimizer)
    monitor.close()
    return time.monotonic() - began, len(monitor.history), said.messages


def test_a_killed_rank_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """close() gives it five seconds, says which rank it was, and judges what there is."""
    (seconds, windows, messages), gone = together(_killed, tmp_path)
    assert gone is None
    assert seconds < 30 and windows == 8
    (message,) = messages
    assert message.startswith("rank 1 sent nothing")


def _killed_first(rank: int, folder: Path) -> Any:
    said, model, optimizer, monitor = _under_way()
    if rank == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(1)
    began = time.monotonic()
    _train(1, model, monitor, 30, optimizer)
    monitor.close()
    return time.monotonic() - began, said.messages, monitor.steps


def test_without_rank_0_the_others_watch_on_alone(tmp_path: Path) -> None:
    """Its process kept the store: the others find it gone, say so once, and go on."""
    gone, (seconds, messages, steps) = together(_killed_first, tmp_path)
    assert gone is None
    assert seconds < 30 and steps == 60
    (message,) = messages
    assert message.startswith("rank 1 watches its own share alone, in memory")


def _frozen_first(rank: int, folder: Path) -> Any:
    said, model, optimizer, monitor = _under_way()
    pid = torch.tensor([os.getpid()])
    dist.broadcast(pid, 0)
    if rank == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(1)
    began = time.monotonic()
    _train(1, model, monitor, 30, optimizer)
    monitor.close()
    seconds = time.monotonic() - began
    os.kill(int(pid), signal.SIGKILL)
    return seconds, said.messages, monitor.steps


def test_a_store_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    """Its process is frozen, and the connection to it stands: five seconds, once."""
    _, (seconds, messages, steps) = together(_frozen_first, tmp_path)
    assert seconds < 30 and steps == 60
    (message,) = messages
    assert "the store has not answered for 5 s" in message


# --- what only one rank does -----------------------------------------------------------------


def _validating(rank: int, folder: Path) -> Any:
    said = Said()
    inner, model = _wrapped("ddp")
    optimizer = _sgd(model)
    monitor = watch(model, optimizer=optimizer, run=False, every=2)
    rng = torch.Generator().manual_seed(rank)
    saved: list[Any] = []
    for step in range(60):
        loss = model(torch.randn(8, 6, generator=rng)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.step(loss=loss)
        if rank == 0 and step % 10 == 5:
            inner.eval()
            with torch.no_grad():
                for _ in range(12):
                    inner(torch.randn(4, 6, generator=rng))
            inner.train()
            saved.append(monitor.state_dict())
    monitor.close()
    history = monitor.history
    counts = [int(history.summary(i).count[0]) for i in range(len(history))]
    return [s.key for s in history.sites], history.steps.tolist(), counts, said.messages, saved


def test_one_rank_may_evaluate_and_save(tmp_path: Path) -> None:
    """Its windows end where those of the others do, and hold the training of all."""
    (keys, ends, counts, messages, saved), (_, _, _, others, _) = together(_validating, tmp_path)
    assert "5:output@eval" in keys
    assert ends == [14, 30, 46, 58] and counts == [2 * 8 * 8 * 6] * 3 + [2 * 6 * 8 * 6]
    assert not messages and not others
    assert saved[-1]["steps"] == 56


def _strangers(rank: int, folder: Path) -> Any:
    said = Said()
    torch.manual_seed(rank)
    model = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 4))
    optimizer = _sgd(model)
    monitor = watch(model, optimizer=optimizer, run=False)
    dist.barrier()
    _train(rank, model, monitor, 40, optimizer)
    monitor.close()
    history = monitor.history
    return [int(history.summary(i).count[0]) for i in range(len(history))], said.messages


def test_processes_that_train_models_of_their_own_are_not_merged(tmp_path: Path) -> None:
    """A search over seeds in one job: each rank records its own share."""
    for rank, (counts, messages) in enumerate(together(_strangers, tmp_path)):
        assert counts == [8 * 8 * 6] * 5
        (message,) = messages
        assert f"rank {rank} watches its own share alone" in message
