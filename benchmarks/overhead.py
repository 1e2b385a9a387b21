"""What watching costs: monitored against plain steps, interleaved in one process.

    python benchmarks/overhead.py [--quick] [--processor] [--only mlp,cnn] [--steps 80]

Two figures per workload. *paired*: the ratio of a monitored step to the plain step beside
it (order A B / B A), median and quartiles; it holds everything, cache pollution and noise
included, and noise is ±2 % or more. *direct*: 1 + (time in hooks, their dispatch by torch
and ``monitor.step``, of which *core* is the judging) / plain step; the figure to hold against a goal below 1.02.
On a machine that others use too, ``--processor`` counts this thread's processor time, with one
thread: preemption falls out, the pollution of caches stays in. Results go to ``benchmarks/results/overhead.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shiftwatch.integrations.torch import hooks as torch_hooks
from shiftwatch.integrations.torch import source as torch_source
from shiftwatch.integrations.torch import watch

RESULTS = Path(__file__).parent / "results" / "overhead.json"


@dataclass
class Result:
    """One workload's figures; times in milliseconds per step."""

    workload: str
    plain: float
    paired: float
    paired_low: float
    paired_high: float
    direct: float
    hooks: float
    dispatch: float
    step: float
    core: float
    sites: int
    alerts: int


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


Batches = list[tuple[Tensor, Tensor]]


def mlp(quick: bool) -> tuple[nn.Module, Batches]:
    """Ten layers of 512 units, batch 256."""
    parts: list[nn.Module] = []
    for _ in range(10):
        parts += [nn.Linear(512, 512), nn.ReLU()]
        nn.init.kaiming_normal_(parts[-2].weight)  # type: ignore[arg-type]
    return nn.Sequential(*parts, nn.Linear(512, 10)), [
        (torch.randn(256, 512) + y[:, None] / 5, y) for y in torch.randint(10, (4, 256))
    ]


def cnn(quick: bool) -> tuple[nn.Module, Batches]:
    """ResNet-18 at 32 x 32, batch 64; a quarter as wide if quick."""
    w = 16 if quick else 64
    parts: list[nn.Module] = [nn.Conv2d(3, w, 3, 1, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU()]
    inner = w
    for outer, stride in ((w, 1), (2 * w, 2), (4 * w, 2), (8 * w, 2)):
        parts += [Residual(inner, outer, stride), Residual(outer, outer, 1)]
        inner = outer
    parts += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inner, 10)]
    return nn.Sequential(*parts), [
        (torch.randn(64, 3, 32, 32) + y[:, None, None, None] / 5, y)
        for y in torch.randint(10, (4, 64))
    ]


def gpt(quick: bool) -> tuple[nn.Module, Batches]:
    """Six layers of width 384, 8 x 256 tokens; two layers, 8 x 64 if quick."""
    layers, context = (2, 64) if quick else (6, 256)
    tokens = torch.multinomial(1 / torch.arange(1, 1001).float(), 4 * 8 * (context + 1), True)
    tokens = tokens.view(4, 8, context + 1)
    return GPT(layers, 384, context), [(t[:, :-1], t[:, 1:]) for t in tokens]


WORKLOADS: dict[str, Callable[[bool], tuple[nn.Module, Batches]]] = {
    "mlp": mlp,
    "cnn": cnn,
    "gpt": gpt,
}


class Training:
    """A model and its optimizer; a call is a step."""

    def __init__(self, build: Callable[[bool], tuple[nn.Module, Batches]], quick: bool) -> None:
        torch.manual_seed(0)
        self.model, self.batches = build(quick)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
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


def compare(
    name: str, steps: int, quick: bool, clock: Callable[[], float], options: dict[str, Any]
) -> Result:
    """Plain and monitored steps in turn."""
    plain, watched = Training(WORKLOADS[name], quick), Training(WORKLOADS[name], quick)
    monitor = watch(watched.model, optimizer=watched.optimizer, run=False, **options)
    source: Any = monitor._source
    calls = sum(1 for _ in source._hooks)
    times: dict[str, list[float]] = {
        "plain": [],
        "watched": [],
        "hooks": [],
        "step": [],
        "source": [],
    }

    for part in ("end_step", "energy", "take"):
        setattr(source, part, _timed(getattr(source, part), clock, times["source"]))

    def run_plain() -> None:
        began = clock()
        plain()
        times["plain"].append(clock() - began)

    def run_watched() -> None:
        source.seconds()
        began = clock()
        loss = watched()
        times["source"].append(0.0)
        hooks, between = source.spent * 1e-9, clock()
        monitor.step(loss=loss)
        ended = clock()
        times["watched"].append(ended - began)
        times["hooks"].append(hooks)
        times["step"].append(ended - between)

    warm = 10
    for i in range(warm + steps):
        for run in (run_plain, run_watched) if i % 2 else (run_watched, run_plain):
            run()
    alerts = len(monitor.alerts)
    monitor.close()
    kept = {k: v[warm:] for k, v in times.items()}
    ratios = sorted(b / a for a, b in zip(kept["plain"], kept["watched"], strict=True))
    base = statistics.median(kept["plain"])
    # Steps that analyse a ring are few and dear: their mean, without the machine's hiccups.
    step = _trimmed_mean(kept["step"])
    hooks = statistics.median(kept["hooks"])
    dispatch = calls * _dispatch()
    return Result(
        workload=name,
        plain=base * 1e3,
        paired=statistics.median(ratios),
        paired_low=ratios[len(ratios) // 4],
        paired_high=ratios[3 * len(ratios) // 4],
        direct=1 + (hooks + dispatch + step) / base,
        hooks=hooks * 1e3,
        dispatch=dispatch * 1e3,
        step=step * 1e3,
        core=(step - _trimmed_mean(kept["source"])) * 1e3,
        sites=len(source.energy()),
        alerts=alerts,
    )


def _timed(
    method: Callable[..., Any], clock: Callable[[], float], total: list[float]
) -> Callable[..., Any]:
    """The method, its time added to the last of ``total``."""

    def call(*args: Any) -> Any:
        began = clock()
        try:
            return method(*args)
        finally:
            if total:
                total[-1] += clock() - began

    return call


def _trimmed_mean(values: list[float]) -> float:
    """Mean over blocks of one ring each, median over the blocks."""
    blocks = [values[i : i + 8] for i in range(0, len(values) - 7, 8)] or [values]
    return statistics.median(sum(b) / len(b) for b in blocks)


def _dispatch() -> float:
    """Seconds that torch needs to call an empty hook."""
    module, x = nn.Identity(), torch.zeros(1)

    def timed() -> float:
        began = time.perf_counter()
        for _ in range(2000):
            module(x)
        return (time.perf_counter() - began) / 2000

    bare = min(timed() for _ in range(5))
    module.register_forward_hook(lambda m, a, k, o: None, with_kwargs=True)
    return max(0.0, min(timed() for _ in range(5)) - bare)


def main() -> None:
    """Run, print the table, save the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(WORKLOADS), help="workloads, comma-separated")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--quick", action="store_true", help="smaller networks")
    parser.add_argument("--tensors", help="of those watched, comma-separated")
    parser.add_argument("--processor", action="store_true", help="processor time, one thread")
    given = parser.parse_args()
    clock: Callable[[], float] = time.perf_counter
    if given.processor:
        torch.set_num_threads(1)
        clock = time.thread_time
        for module in (torch_hooks, torch_source):
            vars(module)["clock"] = time.thread_time_ns
    torch.set_flush_denormal(True)
    options = {"tensors": given.tensors.split(",")} if given.tensors else {}
    print(
        "workload   plain ms   paired [quartiles]      direct   hooks  dispatch  step ms (core)  sites"
    )
    results = []
    for name in given.only.split(","):
        r = compare(name, given.steps, given.quick, clock, options)
        results.append(r)
        print(
            f"{r.workload:8} {r.plain:10.2f}   {r.paired:.3f} [{r.paired_low:.3f}, "
            f"{r.paired_high:.3f}]   {r.direct:7.4f} {r.hooks:7.3f} {r.dispatch:9.3f} "
            f"{r.step:8.3f} {r.core:7.3f} {r.sites:6}",
            flush=True,
        )
    RESULTS.parent.mkdir(exist_ok=True)
    saved = {
        "date": date.today().isoformat(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "clock": "processor" if given.processor else "wall",
        "steps": given.steps,
        "quick": given.quick,
        "tensors": given.tensors or "all",
        "results": [asdict(r) for r in results],
    }
    RESULTS.write_text(json.dumps(saved, indent=1) + "\n")


if __name__ == "__main__":
    main()
