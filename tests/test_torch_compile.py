"""Inside torch.compile: the same sites, the same values, the same bits, nothing compiled twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch._dynamo.utils import counters  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from shiftwatch.integrations.torch import watch  # noqa: E402
from shiftwatch.integrations.torch.slab import Tap  # noqa: E402
from tests.residual import Net  # noqa: E402

# The compiler looks at .grad of what a block is given.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")


class Normed(nn.Module):
    """Convolutions with BatchNorm and an in-place activation, one of them recomputed."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 8)
        self.conv1, self.bn = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.part = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Tanh())
        self.head = nn.Linear(4, 4)

    def forward(self, x: Any) -> Any:
        x = self.act(self.bn(self.conv1(self.stem(x).view(-1, 1, 4, 2))))
        x = checkpoint(self.part, nn.functional.interpolate(x, (4, 4)), use_reentrant=False)
        return self.head(x.mean((2, 3)))


class Nested(nn.Module):
    """A layer with outputs by name, and a layer that is called three times."""

    def __init__(self) -> None:
        super().__init__()
        self.pair, self.again, self.head = Pair(), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Any) -> Any:
        parts = self.pair(x)
        x = parts["one"]
        for _ in range(3):
            x = self.again(x)
        return self.head(x + parts["two"])


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8))

    def forward(self, x: Any) -> Any:
        return {"one": (x @ self.weight).relu(), "two": x.tanh(), "count": torch.arange(3)}


class Outcome(NamedTuple):
    """Of a short training.

    Attributes:
        bits: outputs, gradients and what was trained.
        samples: of the first take, by site.
        parents: of each layer.
        sites: in their order.
        graphs: how many were compiled, and how often one broke.
        said: what is not watched.
    """

    bits: list[Any]
    samples: dict[str, Any]
    parents: dict[str, tuple[str, ...]]
    sites: list[str]
    graphs: tuple[int, int]
    said: list[str]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """No test sees what another has compiled, or finds it on the disk."""
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def train(
    build: Any = Net, how: str = "whole", backend: str = "aot_eager", *, watched: bool = True,
    evaluate: bool = True, sizes: tuple[int, ...] = (6,), half: bool = False, **options: Any,
) -> Outcome:  # fmt: skip
    """Nine steps; ``how`` says what is compiled, and whether before watch, and called."""
    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(0)
    model = build()
    model = model.bfloat16() if half else model
    run = model
    dynamic = True if len(sizes) > 1 else None

    def compile(module: nn.Module) -> Any:
        return torch.compile(module, backend=backend, fullgraph=True, dynamic=dynamic)

    if how in ("whole", "late"):
        run = compile(model)
    if how == "late":
        run(torch.randn(6, 8))
    if how == "blocks":
        for block in model.blocks:
            block.compile(backend=backend, fullgraph=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    monitor: Any = None
    if watched:
        monitor = watch(run, optimizer=optimizer, run=False, rules=(), strict=True, **options)
    if how == "watched first":
        run = compile(model)
    samples: dict[str, Any] = {}
    bits = []
    data, _ = torch.Generator().manual_seed(1), torch.manual_seed(2)
    for step in range(9):
        x = torch.randn(sizes[step % len(sizes)], 8, generator=data)
        out = run(x.bfloat16() if half else x)
        out.float().square().mean().backward()
        bits += [out.detach().clone()] + [p.grad.clone() for p in model.parameters()]
        optimizer.step()
        optimizer.zero_grad()
        if monitor:
            if step == 7:
                for tap in monitor._source.sites.taps:
                    slab, place = tap.slab, tap.place
                    rows = [
                        torch.tensor(slab.stage[call, row, place])
                        for call, fresh in enumerate(slab.fresh)
                        for row, places in enumerate(fresh)
                        if place in places
                    ]
                    if rows:
                        samples[tap.site.key] = torch.stack(rows)
            monitor.step()
        if evaluate and step % 3 == 2:
            model.eval()
            with torch.no_grad():
                bits.append(run(x.bfloat16() if half else x))
            model.train()
    bits += [t.detach().clone() for t in model.state_dict().values()]
    graphs = counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())
    if not monitor:
        return Outcome(bits, {}, {}, [], graphs, [])
    parents = dict(monitor._source.tracing.graph.parents)
    monitor.close()
    said = [e.detail for e in monitor.history.events if e.kind == "dark"]
    sites = [s.key for s in monitor.history.sites]
    return Outcome(bits, samples, parents, sites, graphs, said)


def equal(one: Outcome, other: Outcome) -> bool:
    return len(one.bits) == len(other.bits) and all(
        torch.equal(a, b) for a, b in zip(one.bits, other.bits, strict=True)
    )


@pytest.mark.parametrize("how", ["whole", "watched first", "blocks"])
def test_compiled_layers_show_what_they_show_uncompiled(how: str) -> None:
    """Same sites, same samples of outputs, inputs and gradients; one graph per mode, no break."""
    plain = train(how="whole" if how != "blocks" else how, watched=False)
    eager, compiled = train(how="none"), train(how=how)
    assert equal(plain, compiled)
    assert compiled.graphs == plain.graphs == (2, 0) and not compiled.said
    assert compiled.sites == eager.sites and len(eager.sites) > 40
    assert compiled.samples.keys() == eager.samples.keys()
    assert {"blocks.1.act:output", "blocks.1.act:gradient", "stem:output@eval"} <= (
        compiled.samples.keys()
    )
    for name, expected in eager.samples.items():
        torch.testing.assert_close(compiled.samples[name], expected, atol=1e-4, rtol=1e-3, msg=name)
    if how != "blocks":
        assert compiled.parents == eager.parents
    else:  # what goes around a block is not known where all share its code
        assert compiled.parents["blocks.1.norm"] == ("blocks.0.fc2",)
        assert compiled.parents["blocks.1.fc2"] == ("blocks.1.act",)


@pytest.mark.parametrize("build", [Normed, Nested])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_recomputed_nested_shared_and_in_place_layers_are_seen_as_uncompiled(
    build: Any, backend: str
) -> None:
    """Each call once, each output under its name, and the value before it is overwritten."""
    plain = train(build, backend=backend, watched=False)
    eager, compiled = train(build, how="none"), train(build, backend=backend)
    assert equal(plain, compiled) and compiled.graphs == plain.graphs and not compiled.said
    assert sorted(compiled.sites) == sorted(eager.sites)
    assert compiled.parents == eager.parents
    for name, expected in eager.samples.items():
        torch.testing.assert_close(compiled.samples[name], expected, atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.slow
def test_the_default_compiler_computes_the_same_bits_with_and_without() -> None:
    """Inductor fuses the same operations around what is looked at, and draws the same numbers."""
    plain = train(backend="inductor", evaluate=False, watched=False)
    eager = train(how="none", evaluate=False)
    compiled = train(backend="inductor", evaluate=False)
    assert equal(plain, compiled) and compiled.graphs == plain.graphs == (1, 0)
    assert compiled.sites == eager.sites and compiled.parents == eager.parents
    for name, expected in eager.samples.items():
        if name.endswith(("output", "input")) and not name.startswith(("drop", "head")):
            first = compiled.samples[name][0]  # before the dropout, which Inductor draws its way
            torch.testing.assert_close(first, expected[0], atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.slow
def test_half_precision_keeps_its_bits_and_says_which_layers_are_left_alone() -> None:
    """Only what kernels read and write is looked at; the rest would be rounded by looking."""
    plain = train(backend="inductor", half=True, evaluate=False, watched=False)
    compiled = train(backend="inductor", half=True, evaluate=False)
    assert equal(plain, compiled)
    assert {"blocks.0.fc1:output", "blocks.0.fc2:input", "blocks.0.fc2:gradient"} <= (
        set(compiled.sites)
    )
    assert len(compiled.said) == 1 and "half precision" in compiled.said[0]
    assert compiled.said[0].startswith("blocks.0.norm, blocks.0.act, blocks.1.norm, … (5 layers)")


def test_steps_that_are_not_watched_compile_nothing_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """every=4 arms and disarms outside of the graph; of nine steps three are seen."""
    record, calls = Tap.record, []

    def counted(self: Any, tensor: Any) -> None:
        calls.append(self.site.key)
        record(self, tensor)

    monkeypatch.setattr(Tap, "record", counted)
    compiled = train(every=4, evaluate=False)
    assert compiled.graphs == (1, 0)
    assert calls.count("stem:output") == calls.count("stem:gradient") == 3


def test_changing_batch_sizes_are_sampled_rightly() -> None:
    """dynamic=True compiles once for all sizes, and each tensor is read by its own shape."""
    sizes = (6, 9, 17)
    eager = train(how="none", sizes=sizes, evaluate=False)
    compiled = train(sizes=sizes, evaluate=False)
    assert compiled.graphs == (1, 0)
    for name, expected in eager.samples.items():
        torch.testing.assert_close(compiled.samples[name], expected, atol=1e-4, rtol=1e-3, msg=name)


def test_a_model_compiled_and_called_before_is_named_once_with_the_cure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It goes on as it was, uncompiled by nobody; weights and updates are seen."""
    late = train(how="late", evaluate=False)
    assert late.graphs == (1, 0)
    assert len([r for r in caplog.records if "IT WAS COMPILED BEFORE" in r.getMessage()]) == 1
    assert "head:update" in late.sites and "head:output" not in late.sites


def test_the_cure_works_and_a_closed_watch_leaves_the_compiled_model() -> None:
    """torch._dynamo.reset() after watch() shows the layers; later watches reuse the code."""
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    run, x = torch.compile(model, backend="aot_eager", fullgraph=True), torch.randn(6, 8)
    run(x)
    for again in range(2):
        with watch(run, run=False, rules=(), strict=True) as monitor:
            if not again:
                torch._dynamo.reset()
                counters.clear()
            for _ in range(3):
                run(x).sum().backward()
                monitor.step()
            parents = monitor._source.tracing.graph.parents
            assert parents == {"0": ("<input>",), "1": ("0",), "2": ("1",)}
        seen = {s.key for s in monitor.history.sites}
        assert {"0:output", "1:gradient", "<input>:input"} <= seen
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert counters["stats"]["unique_graphs"] == 1


def test_two_passes_before_their_backward_passes_work() -> None:
    """What a later pass shows does not invalidate what an earlier one keeps."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4))
    with watch(model, run=False, rules=(), strict=True) as monitor:
        run = torch.compile(model, backend="aot_eager", fullgraph=True)
        one, two = run(torch.randn(6, 8)).sum(), run(torch.randn(6, 8)).sum()
        two.backward()
        one.backward()
        monitor.step()
    assert {"0:gradient", "1:gradient"} <= {s.key for s in monitor.history.sites}


class Inner(nn.Module):
    """A layer inside of a transform, of a branch, or after what cannot be compiled."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.head = how, nn.Linear(8, 4)
        self.layer = nn.LSTM(8, 8) if how == "lstm" else nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        if self.how == "vmap":
            return self.head(torch.func.vmap(self.layer)(x))
        if self.how == "cond":
            return self.head(torch.cond(x.sum() > 0, self.layer, lambda x: x + 1, (x,)))
        return self.head(self.layer(x)[0])


@pytest.mark.parametrize("how", ["vmap", "cond", "lstm"])
def test_where_compiled_code_cannot_be_looked_into_it_is_left_as_it_is(how: str) -> None:
    """Transforms and branches stay unseen and whole; what is not compiled is seen as ever."""
    graphs = []
    for watched in (False, True):
        torch._dynamo.reset()
        counters.clear()
        model = Inner(how)
        monitor: Any = watch(model, run=False, rules=(), strict=True) if watched else None
        run = torch.compile(model, backend="aot_eager", fullgraph=how != "lstm")
        for _ in range(3):
            run(torch.randn(6, 8)).sum().backward()
            if watched:
                monitor.step()
        graphs.append(counters["stats"]["unique_graphs"])
    monitor.close()
    seen = {s.key for s in monitor.history.sites}
    assert {"head:output", "head:gradient"} <= seen
    assert ("layer:output" in seen) == (how == "lstm")
    assert graphs[1] <= max(1, graphs[0])


def test_an_exported_program_holds_nothing_of_ours() -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU())
    with watch(model, run=False, rules=(), strict=True):
        for strict in (False, True):
            program = torch.export.export(model, (torch.randn(6, 8),), strict=strict)
            assert "shiftwatch" not in str(program.graph)
