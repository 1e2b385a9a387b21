"""Who moved: how often a replay names the layer that a fault struck, beside the incident's origin.

    python -m benchmarks.replay [--seeds 3] [--cost]

Multilayer perceptrons of eight layers with and without BatchNorm learn scikit-learn's digits with
``watch(replay=4)``; one layer is struck after 100 to 160 steps. Of the first incident that is raised
afterwards, both answers are compared with the truth, with intervals of 95 % (Clopper and Pearson). Healthy
runs are asked, too: there the answer is that no layer moved by itself. Nothing is saved.
"""

from __future__ import annotations

import argparse
import logging
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product
from time import perf_counter, thread_time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.faults.data import images
from benchmarks.faults.intervals import clopper_pearson
from benchmarks.workloads import NAMES, training
from shiftwatch.integrations.torch import watch
from shiftwatch.records import INPUT, TENSORS

ORIGINS = (1, 3, 5)
#: The first seed; earlier ones chose limits.
FIRST = 40
#: Steps after the fault within which it must be raised.
PATIENCE = 64
#: Blocks of 64 steps before the clock counts: windows are as long as they get.
WARM = 17


class Block(nn.Module):
    """Linear, perhaps BatchNorm, ReLU."""

    def __init__(self, inputs: int, norm: bool) -> None:
        super().__init__()
        self.fc = nn.Linear(inputs, 64)
        self.norm = nn.BatchNorm1d(64) if norm else nn.Identity()
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.act(self.norm(self.fc(x))))


def network(norm: bool) -> nn.Sequential:
    """Eight layers."""
    return nn.Sequential(*[Block(64, norm) for _ in range(7)], nn.Linear(64, 10))


def scaled(block: Block, since: int) -> str:
    """Weights times five."""
    if since == 0:
        block.fc.weight.mul_(5)
    return "fc"


def shuffled(block: Block, since: int) -> str:
    """Units in another order."""
    if since == 0:
        order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
        block.fc.weight.copy_(block.fc.weight[order])
    return "fc"


def replaced(block: Block, since: int) -> str:
    """The activation hands on what it is given."""
    block.act.forward = lambda x: x  # type: ignore[method-assign]
    return "act"


def lowered(block: Block, since: int) -> str:
    """Biases down by 3."""
    if since == 0:
        block.fc.bias.sub_(3)
    return "fc"


def decayed(block: Block, since: int) -> str:
    """Weights shrink by a tenth per step."""
    block.fc.weight.mul_(0.9)
    return "fc"


def forgotten(block: Block, since: int) -> str:
    """Weights as new."""
    if since == 0:
        state = torch.get_rng_state()
        block.fc.reset_parameters()
        torch.set_rng_state(state)
    return "fc"


def noisy(block: Block, since: int) -> str:
    """Noise of the weights' own size."""
    if since == 0:
        noise = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
        block.fc.weight.add_(noise * block.fc.weight.std())
    return "fc"


def flipped(block: Block, since: int) -> str:
    """One weight times 65,536, as if a bit of its exponent had flipped."""
    if since == 0:
        block.fc.weight.view(-1)[100].mul_(2**16)
    return "fc"


KINDS: tuple[Callable[[Block, int], str], ...] = (
    scaled, shuffled, replaced, lowered, decayed, forgotten, noisy, flipped,
)  # fmt: skip


def answers(
    norm: bool, kind: Callable[[Block, int], str] | None, origin: int, seed: int, tensors: Sequence[str],
) -> tuple[str, str, str] | None:  # fmt: skip
    """Truth, origin of the incident, origin by replay; ``None`` where nothing was raised.

    Of a healthy run, and of one whose input is enlarged (an origin of -1), with the same meaning.
    """
    torch.manual_seed(seed)
    model = network(norm)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05 if norm else 0.02, momentum=0.9)
    x, y = images()
    x = x.flatten(1)
    begin = 100 + 7 * seed % 60
    truth = INPUT if kind is None and origin < 0 else ""
    with watch(model, optimizer=optimizer, run=False, replay=4, tensors=tensors) as monitor:
        for step in range(begin + PATIENCE):
            rows = torch.randint(len(x), (64,))
            given = x[rows] * (3 if step >= begin and kind is None and origin < 0 else 1)
            if step >= begin and kind is not None:
                with torch.no_grad():
                    truth = f"{origin}.{kind(model[origin], step - begin)}"  # type: ignore[arg-type]
            optimizer.zero_grad()
            loss = F.cross_entropy(model(given), y[rows])
            loss.backward()
            optimizer.step()
            monitor.step(loss=loss)
            raised = [i for i in monitor.incidents if i.detected >= begin]
            if raised and raised[0].detected < step:
                break
        if kind is None and origin >= 0:
            return "", "", monitor.replay().origin
        if not raised:
            return None
        try:
            return truth, raised[0].origin, monitor.replay(raised[0]).origin
        except LookupError:
            return truth, raised[0].origin, "no reference"


def cost(name: str, blocks: int = 16) -> str:
    """What references add to a step: one without and one with them in turn, after 1,040 of each.

    Processor time of this thread, in blocks of 64 pairs of steps, each of which holds one new reference;
    *paired* is the difference in a block, *passes* what is spent in the replayer alone, in caches as they are.
    """
    numbers = (None, 4)
    trainings = [training(name) for _ in numbers]
    monitors = [
        watch(t.model, optimizer=t.optimizer, run=False, replay=n)
        for t, n in zip(trainings, numbers, strict=True)
    ]
    replayer = monitors[1]._source._replayer  # type: ignore[attr-defined]
    inside = [0.0]

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = thread_time()
            result = function(*args, **kwargs)
            inside[0] += thread_time() - began
            return result

        return call

    replayer.given, replayer.after = timed(replayer.given), timed(replayer.after)
    rows: list[tuple[float, float, float]] = []
    for block in range(-WARM, blocks):
        spent, inside[0] = [0.0, 0.0], 0.0
        for pair in range(64):
            for which in (0, 1) if pair % 2 else (1, 0):
                began = thread_time()
                monitors[which].step(loss=trainings[which]())
                spent[which] += thread_time() - began
        if block >= 0:
            rows.append((spent[0] / 64e-6, (spent[1] - spent[0]) / 64e-6, inside[0] / 64e-6))
    calls = [call for r in replayer._ring for kept in r.calls.values() for call in kept]
    held = sum({id(t): t.nbytes for call in calls for t in (*call.args, *call.outputs)}.values())
    number = len(replayer._ring)
    for monitor in monitors:
        monitor.close()
    off, paired, passes = (statistics.quantiles(column, n=4) for column in zip(*rows, strict=True))

    def said(quartiles: list[float], digits: str = "+,.0f") -> str:
        low, middle, high = (format(q, digits) for q in quartiles)
        return f"{middle} µs [{low}, {high}], {quartiles[1] / off[1]:.2%}"

    return (
        f"{off[1]:,.0f} µs per step without; paired {said(paired)}; passes {said(passes, ',.0f')}; "
        f"{held / 1e6:.2f} MB kept in {number} references"
    )


def share(hits: int, of: int) -> str:
    """Such as ``12 of 15, 80 % [52, 96]``."""
    low, high = clopper_pearson(hits, of)
    return f"{hits} of {of}, {hits / max(of, 1):.0%} [{low:.0%}, {high:.0%}]"


def main() -> None:
    """Run all, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--verbose", action="store_true", help="say each answer that is wrong")
    parser.add_argument("--cost", action="store_true", help="measure what it costs instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    if options.cost:
        for name in ("small", "mlp"):
            print(f"{NAMES[name]}: {cost(name)}", flush=True)
        return
    began = perf_counter()
    seeds = range(FIRST, FIRST + options.seeds)
    for norm, tensors in product((False, True), (TENSORS, ("output", "input"))):
        total: Counter[str] = Counter()
        print(f"{'with BatchNorm' if norm else 'plain'}; watched: {', '.join(tensors)}")
        for kind in KINDS:
            hits: Counter[str] = Counter(raised=0, incident=0, replay=0)
            for origin, seed in product(ORIGINS, seeds):
                found = answers(norm, kind, origin, seed, tensors)
                if found is None:
                    continue
                truth, incident, replay = found
                hits.update(raised=1, incident=incident == truth, replay=replay == truth)
                if options.verbose and replay != truth:
                    print(
                        f"    {kind.__name__} {seed}: {truth}, incident {incident}, replay {replay}"
                    )
            total += hits
            print(f"  {kind.__name__:<10} {dict(hits)}", flush=True)
        print(f"  raised: {total['raised']} of {len(KINDS) * len(ORIGINS) * len(seeds)}")
        print(f"  exact by the incident's origin: {share(total['incident'], total['raised'])}")
        print(f"  exact by replay:                {share(total['replay'], total['raised'])}")
        data = [f for s in seeds if (f := answers(norm, None, -1, s, tensors)) is not None]
        print(f"  input × 3, raised: {len(data)}; <input> by the incident "
              f"{sum(t == i for t, i, _ in data)}, by replay {sum(t == r for t, _, r in data)}")  # fmt: skip
        well = [
            w[2]
            for s in range(FIRST, FIRST + 6 * options.seeds)
            if (w := answers(norm, None, 0, s, tensors)) is not None
        ]
        print(f"  healthy, no layer named: {share(well.count(''), len(well))}", flush=True)
        if options.verbose:
            print(f"    named: {[w for w in well if w]}")
    print(f"{perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
