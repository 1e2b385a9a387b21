"""What watching costs on a GPU: two trainings of the sizes that GPUs are bought for.

    python benchmarks/gpu.py [--device cuda] [--only resnet50,gpt] [--compile off,on]
                             [--blocks 24] [--quick] [--results FILE]

``resnet50``: 224 x 224, batch 256, channels last, autocast to bfloat16. ``gpt``: a transformer of
1.4 billion parameters in bfloat16, 4 x 1,024 tokens; ``gpt3b``: 2.7 billion. Weights are random
and data are drawn. Variants: nothing (the noise), an empty hook on every leaf module, shiftwatch
with its defaults and the loss given to it.

Plain and watched blocks of eight steps take turns (A B, B A, …) in one process. A block is timed
by two events on the device, with a synchronisation before the first and after the second, in
both arms alike and outside of what is timed; within a block nobody waits. *ratio*: median and
quartiles over pairs of blocks; *mean*: of sums, which has all that happens seldom in it. *host*:
what the host needs to launch a block, as a ratio: it is hidden where the device is the slower
of the two. *waits*: synchronisations that PyTorch knows of in 16 watched steps, beyond the plain
ones. *held*: bytes on the device at the end that were not there before it watched.

Saved in ``benchmarks/results/gpu.json``, those of ``--quick`` only into a file named by
``--results``. Quick sizes also run on a CPU, within seconds, to see whether this works at all.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import measure
import torch
import torch.nn.functional as F
from measure import RESULTS
from peers import Attached, Variant, empty_hook, nothing, shiftwatch
from torch import Tensor, nn
from workloads import GPT

from shiftwatch.monitor import RING

BATCHES = 4  # of data, used in turn


class Bottleneck(nn.Module):
    """Three convolutions and a way around them."""

    def __init__(self, inner: int, width: int, stride: int) -> None:
        super().__init__()
        outer = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2, self.relu2 = nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        self.conv3, self.bn3 = nn.Conv2d(width, outer, 1, bias=False), nn.BatchNorm2d(outer)
        self.relu3 = nn.ReLU(inplace=True)
        self.short: nn.Module = nn.Identity()
        if stride > 1 or inner != outer:
            self.short = nn.Sequential(
                nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.relu2(self.bn2(self.conv2(y)))))
        return self.relu3(y + self.short(x))


def resnet50(width: int, classes: int) -> nn.Sequential:
    """The network of He et al. (2016), its first stage so many channels wide (64)."""
    parts: list[nn.Module] = [
        nn.Conv2d(3, width, 7, 2, 3, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    ]
    inner = width
    for stage, number in enumerate((3, 4, 6, 3)):
        for i in range(number):
            w = width << stage
            parts.append(Bottleneck(inner, w, 2 if stage and not i else 1))
            inner = 4 * w
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inner, classes))


class Training:
    """A model, its optimizer and data on a device; a call is a step."""

    def __init__(self, name: str, device: torch.device, quick: bool) -> None:
        torch.manual_seed(0)
        self.device = device
        build = {"resnet50": self._resnet, "gpt": self._gpt, "gpt3b": self._gpt3b}[name]
        with torch.device(device):
            build(quick)
        self.run: Callable[[Tensor], Tensor] = self.model
        self.steps = 0

    def _resnet(self, quick: bool) -> None:
        width, side, batch, classes = (8, 32, 4, 10) if quick else (64, 224, 256, 1000)
        self.model: nn.Module = resnet50(width, classes).to(memory_format=torch.channels_last)
        self.data = [
            (
                torch.randn(batch, 3, side, side).to(memory_format=torch.channels_last),
                torch.randint(classes, (batch,)),
            )
            for _ in range(BATCHES)
        ]
        self.half = True
        self.optimizer: torch.optim.Optimizer = torch.optim.SGD(
            self.model.parameters(), lr=0.01, momentum=0.9
        )

    def _gpt(self, quick: bool, layers: int = 24, width: int = 2048) -> None:
        context, batch, words = 1024, 4, 50_304
        if quick:
            layers, width, context, batch, words = 2, 64, 32, 2, 100
        kind = torch.float32 if self.device.type == "cpu" else torch.bfloat16
        self.model = GPT(layers, width, context, words).to(kind)
        tokens = torch.randint(words, (BATCHES, batch, context + 1))
        self.data = [(t[:, :-1].contiguous(), t[:, 1:].contiguous()) for t in tokens]
        self.half = False
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=1e-4, fused=self.device.type == "cuda"
        )

    def _gpt3b(self, quick: bool) -> None:
        self._gpt(quick, layers=32, width=2560)

    def __call__(self) -> Tensor:
        x, y = self.data[self.steps % BATCHES]
        self.steps += 1
        half: AbstractContextManager[Any] = nullcontext()
        if self.half:
            half = torch.autocast(self.device.type, torch.bfloat16)
        with half:
            out = self.run(x)
        loss = F.cross_entropy(out.float().reshape(-1, out.shape[-1]), y.reshape(-1))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()


class Timer:
    """Seconds that a block of steps takes on a device, and on the host."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.events = getattr(torch, device.type) if device.type in ("cuda", "xpu") else None

    def wait(self) -> None:
        """For all that was launched."""
        if self.device.type != "cpu":
            getattr(torch, self.device.type).synchronize()

    def __call__(self, block: Callable[[], None]) -> tuple[float, float]:
        self.wait()
        if self.events is None:
            began = time.perf_counter()
            block()
            launched = time.perf_counter() - began
            self.wait()
            return time.perf_counter() - began, launched
        first, last = (self.events.Event(enable_timing=True) for _ in range(2))
        began = time.perf_counter()
        first.record()
        block()
        last.record()
        launched = time.perf_counter() - began
        self.wait()
        return first.elapsed_time(last) / 1e3, launched


VARIANTS = [
    Variant("nothing", nothing, "nothing"),
    Variant("empty hook", empty_hook, "nothing"),
    Variant("shiftwatch", shiftwatch(), "outputs, inputs, gradients, weights, updates, loss"),
]


def block(training: Training, attached: Attached, steps: int = RING) -> Callable[[], None]:
    """So many steps."""

    def run() -> None:
        for _ in range(steps):
            attached.after_step(training())

    return run


def waits(device: torch.device, run: Callable[[], None]) -> int | None:
    """Synchronisations that PyTorch notes; ``None`` where it notes none."""
    if device.type != "cuda":
        return None
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(w.message) for w in found)


def allocated(device: torch.device) -> int:
    """Bytes on the device."""
    if device.type not in ("cuda", "xpu"):
        return 0
    return int(getattr(torch, device.type).memory_allocated())


def compare(
    name: str, variant: Variant, device: torch.device, compiled: bool, pairs: int, quick: bool
) -> dict[str, Any]:
    """One row."""
    plain, watched = (Training(name, device, quick) for _ in range(2))
    for _ in range(3):  # memory of gradients and of the optimizer, and cuDNN's choices
        plain()
        watched()
    before = allocated(device)
    attached = variant.attach(watched.model, watched.optimizer)
    if compiled:
        plain.run, watched.run = torch.compile(plain.model), torch.compile(watched.model)
    arms = block(plain, Attached()), block(watched, attached)
    timer = Timer(device)
    for _ in range(2):
        for arm in arms:
            timer(arm)
    held = allocated(device) - before
    times: tuple[list[float], list[float]] = ([], [])
    host: tuple[list[float], list[float]] = ([], [])
    for pair in range(pairs):
        for which in (1, 0) if pair % 2 else (0, 1):
            seconds, launched = timer(arms[which])
            times[which].append(seconds)
            host[which].append(launched)
    ratios = sorted(b / a for a, b in zip(*times, strict=True))
    known = [
        waits(device, block(*arm, 2 * RING)) for arm in ((plain, Attached()), (watched, attached))
    ]
    row: dict[str, Any] = {
        "pairs": pairs,
        "plain": statistics.median(times[0]) / RING * 1e3,
        "ratio": statistics.median(ratios),
        "low": ratios[len(ratios) // 4],
        "high": ratios[3 * len(ratios) // 4],
        "mean": sum(times[1]) / sum(times[0]),
        "host": statistics.median(b / a for a, b in zip(*host, strict=True)),
        "launch": statistics.median(host[0]) / RING * 1e3,
        "waits": None if known[0] is None or known[1] is None else known[1] - known[0],
        "held": held,
        "parameters": sum(p.numel() for p in watched.model.parameters()),
    }
    if attached.monitor is not None:
        row |= {
            "overhead": attached.monitor.overhead,
            "steps": attached.monitor.steps,
            "sites": len(attached.monitor.history.sites),
        }
    attached.close()
    return row


def machine(device: torch.device) -> str:
    """The device by its name."""
    if device.type in ("cuda", "xpu"):
        return str(getattr(torch, device.type).get_device_name(device))
    return device.type


HEAD = "                      ms/step   ratio [quartiles]        mean    host  waits  held MB"


def line(row: dict[str, Any]) -> str:
    """A row as it is printed."""
    return (
        f"{row['variant']:18}{row['plain']:11.2f}{row['ratio']:8.4f} [{row['low']:.4f}, "
        f"{row['high']:.4f}]{row['mean']:8.4f}{row['host']:8.3f}"
        f"{'-' if row['waits'] is None else row['waits']:>7}{row['held'] / 1e6:9.1f}"
    )


def main() -> None:
    """Run, print the tables, save the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", default="resnet50,gpt", help="workloads, comma-separated")
    parser.add_argument("--compile", default="off,on", help="off, on, or both")
    parser.add_argument("--variants", help="those whose names begin like one of these")
    parser.add_argument("--blocks", type=int, default=24, help="pairs of eight steps each")
    parser.add_argument("--quick", action="store_true", help="smaller networks")
    parser.add_argument("--results", type=Path, help="file to merge the figures into")
    given = parser.parse_args()
    path = given.results
    if path is None and not given.quick:
        path = RESULTS / "gpu.json"
    device = torch.device(given.device)
    names = given.variants.split(",") if given.variants else [""]
    for name in given.only.split(","):
        for compiled in (word == "on" for word in given.compile.split(",")):
            print(f"\n{name}{', compiled' if compiled else ''}\n{HEAD}", flush=True)
            for variant in VARIANTS:
                if not variant.name.startswith(tuple(names)):
                    continue
                torch.compiler.reset()
                row = {"workload": name, "variant": variant.name, "compiled": compiled}
                row |= {"device": machine(device), "sees": variant.sees}
                row |= measure.conditions(False, given.quick)
                row |= compare(name, variant, device, compiled, given.blocks, given.quick)
                if path is not None:
                    measure.save(path, [row], "workload", "variant", "compiled", "device")
                print(line(row), flush=True)
                if device.type == "cuda":
                    torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
