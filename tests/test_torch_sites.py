"""What is seen, under which name, and what is said about the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from shiftwatch.integrations.torch import modules, watch  # noqa: E402
from shiftwatch.integrations.torch.source import TorchSource  # noqa: E402
from shiftwatch.monitor import Monitor  # noqa: E402
from shiftwatch.records import TENSORS, Layer, Site  # noqa: E402
from shiftwatch.source import Batch  # noqa: E402


@dataclass
class Bench:
    """A source without the judging: its monitor, and what came out of it."""

    source: TorchSource
    monitor: Monitor
    steps: int = 0

    def step(self) -> None:
        self.source.end_step(self.steps)
        self.steps += 1

    @property
    def sites(self) -> list[str]:
        return [s.key for s in self.monitor._sites.all]

    @property
    def layers(self) -> dict[str, Layer]:
        return self.monitor._sites.layers

    @property
    def dark(self) -> dict[str, str]:
        return self.monitor._dark

    def take(self) -> tuple[Batch, dict[str, np.ndarray]]:
        """The batch, and the filled rows of every site, [rows, positions, units]."""
        batch = self.source.take()
        found = {}
        for group in batch.groups:
            for i, column in enumerate(group.sites):
                filled = group.steps[:, i] >= 0
                found[self.sites[column]] = np.array(group.values[filled, i])
        return batch, found


@contextmanager
def attached(model: nn.Module, optimizer: Any = None, tensors: Any = TENSORS) -> Iterator[Bench]:
    monitor = Monitor(run=False, rules=())
    listed = [optimizer] if optimizer else []
    source = TorchSource(model, monitor, listed, modules.leaves(model), tensors, strict=True)
    source.hook()
    try:
        yield Bench(source, monitor)
    finally:
        source.close()


class Block(nn.Module):
    """A residual block with a functional activation and one shared, stateless module."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.fc1, self.fc2, self.act = nn.Linear(8, 8), nn.Linear(8, 8), act

    def forward(self, x: Any) -> Any:
        return x + self.fc2(F.relu(self.act(self.fc1(x)) - 0.1))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.act = nn.Linear(4, 8), nn.Tanh()
        self.a, self.b = Block(self.act), Block(self.act)
        self.head, self.spare = nn.Linear(8, 2), nn.Linear(3, 3)
        self.scale = nn.Parameter(torch.ones(8))

    def forward(self, x: Any, extra: Any = None) -> Any:
        y = self.b(self.a(self.act(self.stem(x)))) * self.scale
        return self.head(y if extra is None else y + extra)


@pytest.mark.parametrize("grad", [True, False])
def test_parents_are_read_off_the_forward_pass_through_residuals_and_shared_modules(
    grad: bool,
) -> None:
    """With a graph they are exact; without one, a functional step points at the layer before."""
    model = Net()
    with attached(model) as bench, torch.set_grad_enabled(grad):
        model(torch.randn(5, 4))
        bench.step()
        parents = {n: set(v.parents) for n, v in bench.layers.items()}
    assert list(bench.layers)[:3] == ["<input>", "stem", "act"]
    assert parents["stem"] == {"<input>"} and parents["act"] == {"stem"}
    assert parents["a.fc2"] == {"a.fc1"}  # over the shared Tanh and the functional ReLU
    assert parents["a.fc1"] == {"stem"}
    if grad:
        assert parents["b.fc1"] == {"stem", "a.fc2"}
        assert parents["head"] == {"stem", "a.fc2", "b.fc2"}


def test_inputs_are_watched_where_no_watched_layer_put_them_out() -> None:
    """A functional activation and a residual sum show at the next layer with weights."""
    model = Net()
    with attached(model) as bench:
        model(torch.randn(5, 4), extra=torch.ones(5, 8))
        bench.step()
        inputs = [k for k in bench.sites if ":input" in k]
    assert inputs == [
        "<input>:input", "<input>:input[extra]",
        "a.fc2:input", "b.fc1:input", "b.fc2:input", "head:input",
    ]  # fmt: skip


def test_parameters_are_named_after_their_layer_and_part() -> None:
    """weight is the layer's own, others by name; a container's parameter is a layer by itself."""
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with attached(model, optimizer) as bench:
        model(torch.randn(5, 4)).sum().backward()
        optimizer.step()
        bench.step()
    assert {
        "stem:weight",
        "stem:weight[bias]",
        "stem:update",
        "scale:weight",
        "scale:update",
    } <= set(bench.sites)
    assert "spare:weight" in bench.sites and "spare:output" not in bench.sites
    assert bench.layers["stem"] == Layer("stem", "Linear", "", True, ("<input>",), shape=(8, 4))
    assert bench.layers["act"].activation == "tanh" and not bench.layers["act"].parameters


class Odd(nn.Module):
    """A leaf whose output is whatever it is told to be."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: Any) -> Any:
        return self.make(x)


@dataclass
class Pair:
    ids: Any
    hidden: Any


NESTED = {
    "tuple": (lambda x: (x, [x * 2, {"k": x}]), ["", "1.0", "1.1.k"]),
    "dict": (lambda x: {"ids": x.long(), "h": x, "g": x}, ["", "g"]),
    "dataclass": (lambda x: Pair(x.long(), (x, x)), ["", "hidden.1"]),
    "many": (lambda x: tuple(x for _ in range(20)), ["", *map(str, range(1, 8))]),
}


@pytest.mark.parametrize("kind", NESTED)
def test_parts_of_nested_outputs_are_sites_of_their_own(kind: str) -> None:
    make, parts = NESTED[kind]
    model = nn.Sequential(Odd(make))
    with attached(model, tensors=("output",)) as bench:
        model(torch.randn(4, 6))
        bench.step()
    assert bench.sites == [Site("0", "output", p).key for p in parts]


ODD = {
    "complex": lambda x: torch.complex(x, x),
    "integer": lambda x: x.long(),
    "sparse": lambda x: x.to_sparse(),
    "meta": lambda x: x.to("meta"),
    "scalar": lambda x: x.sum(),
    "nothing": lambda x: None,
    "text": lambda x: "hello",
}


@pytest.mark.parametrize("kind", ODD)
def test_what_cannot_be_sampled_is_said_once_and_by_name(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = nn.Sequential(Odd(ODD[kind]))
    with attached(model, tensors=("output",)) as bench:
        for _ in range(4):
            model(torch.randn(4, 6))
            bench.step()
    assert list(bench.dark) == ["0"] and bench.sites == []
    assert len([r for r in caplog.records if r.name == "shiftwatch"]) == 1


def test_modules_that_are_never_called_are_named() -> None:
    """An unused layer after three steps; out_proj of attention at once."""

    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mha, self.unused = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(2, 2)

        def forward(self, x: Any) -> Any:
            return self.mha(x, x, x)[0]

    model = Attending()
    with attached(model) as bench:
        assert list(bench.dark) == ["mha.out_proj"]
        for _ in range(3):
            assert "unused" not in bench.dark
            model(torch.randn(2, 5, 8)).sum().backward()
            bench.step()
        assert set(bench.dark) == {"mha.out_proj", "unused"}
    assert {"mha:output", "mha:output[1]", "mha:weight", "mha:weight[out_proj.weight]"} <= set(
        bench.sites
    )


def test_training_and_evaluation_never_share_a_row() -> None:
    """Evaluation between two steps opens its own sites and leaves the training rows alone."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    with attached(model, tensors=("output",)) as bench:
        for step in range(4):
            model.train()
            model(torch.full((8, 4), float(step)))
            bench.step()
            model.eval()
            with torch.no_grad():
                for _ in range(9):
                    model(torch.full((8, 4), -100.0))
        bench.step()
        _, rows = bench.take()
    assert bench.sites == ["0:output", "1:output", "0:output@eval", "1:output@eval"]
    assert len(rows["0:output"]) == 4 and np.abs(rows["0:output"]).max() < 20
    assert len(rows["0:output@eval"]) == 16 and np.abs(rows["0:output@eval"]).max() > 20


def test_fine_tuning_in_eval_mode_counts_as_training() -> None:
    """Steps whose only passes ran in eval mode are training; passes without gradients are not."""
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with attached(model, optimizer) as bench:
        for _ in range(3):
            model(torch.randn(8, 4)).sum().backward()
            optimizer.step()
            bench.step()
            with torch.no_grad():
                model(torch.randn(8, 4))
        bench.step()
        batch, rows = bench.take()
    assert len(rows["0:output"]) == 3 and len(rows["0:output@eval"]) == 3
    assert len(rows["1:gradient"]) == 2  # from the step after the first, where it was noticed
    assert [e.kind for e in batch.events] == ["mode"]


def test_rows_of_one_step_add_up_to_four_and_then_are_a_fair_choice() -> None:
    """Twenty calls in a step leave four rows, drawn evenly from all of them."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False))
    nn.init.ones_(model[0].weight)
    seen = []
    with attached(model, tensors=("output",)) as bench:
        for _ in range(40):
            for call in range(20):
                model(torch.full((4, 1), float(call)))
            bench.step()
            if bench.source.full or bench.steps % 8 == 0:
                _, rows = bench.take()
                assert len(rows["0:output"]) == 32
                seen += rows["0:output"].mean((1, 2)).tolist()
    assert set(seen) <= set(range(20)) and abs(np.mean(seen) - 9.5) < 2


def test_batch_and_sequence_sizes_may_change_at_every_step() -> None:
    """Whatever the shape, a row has the same geometry and holds that step's values."""
    model = nn.Sequential(nn.Linear(4, 6), nn.GELU())
    with attached(model, tensors=("output",)) as bench:
        for step, shape in enumerate([(8, 5, 4), (3, 9, 4), (1, 1, 4), (16, 2, 4), (8, 4), (0, 4)]):
            model[0].weight.data.zero_()
            model[0].bias.data.fill_(float(step + 1))
            model(torch.randn(shape))
            bench.step()
        _, rows = bench.take()
    assert rows["0:output"].shape[0] == 5  # the empty batch has nothing to see
    assert [set(r.ravel()) for r in rows["0:output"]] == [{1.0}, {2.0}, {3.0}, {4.0}, {5.0}]


def test_a_site_that_started_small_gets_room_after_the_next_take() -> None:
    model = nn.Sequential(nn.Linear(4, 6))
    with attached(model, tensors=("output",)) as bench:
        for n in (1, 512, 512, 1, 1):
            model(torch.randn(n, 4))
            bench.step()
            if n == 512:
                _, rows = bench.take()
        assert rows["0:output"].shape[1:] == (341, 6)
        _, rows = bench.take()
        assert rows["0:output"].shape == (2, 341, 6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_are_watched_with_their_own_smallest_number(dtype: Any) -> None:
    model = nn.Sequential(nn.Linear(4, 6)).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with attached(model, optimizer) as bench:
        for _ in range(2):
            out = model(torch.randn(64, 4, dtype=dtype))
            out.float().sum().backward()
            optimizer.step()
            bench.step()
        batch, rows = bench.take()
    group = next(g for g in batch.groups if bench.sites[g.sites[0]] == "0:output")
    assert group.values.dtype == (np.float64 if dtype == torch.float64 else np.float32)
    if dtype == torch.float16:
        assert group.tiny is not None and group.tiny[0] == torch.finfo(dtype).tiny
    assert set(rows["0:output"][1].ravel()) <= set(out.detach().double().numpy().ravel())
    assert np.isfinite(rows["0:update"]).all()


def test_a_type_that_changes_between_steps_is_followed() -> None:
    """Autocast switched on later: no row is lost."""
    model = nn.Sequential(nn.Linear(4, 6))
    with attached(model, tensors=("output",)) as bench:
        for step in range(6):
            with torch.autocast("cpu", torch.bfloat16, enabled=step >= 3):
                model(torch.randn(64, 4))
            bench.step()
        _, rows = bench.take()
        assert len(rows["0:output"]) == 6 and not bench.dark


def test_inference_mode_leaves_slots_that_training_can_write_to() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU())
    with attached(model) as bench:
        model.eval()
        with torch.inference_mode():
            model(torch.randn(5, 4))
        model.train()
        model(torch.randn(5, 4)).sum().backward()
        bench.step()
        with torch.inference_mode():
            model(torch.randn(5, 4))
        model(torch.randn(5, 4)).sum().backward()
        bench.step()
        _, rows = bench.take()
        assert len(rows["0:output"]) == 3 and len(rows["0:output@eval"]) == 1


UNITS = {
    "conv": (nn.Conv2d(3, 5, 3), (2, 3, 8, 8), 5),
    "conv unbatched": (nn.Conv2d(3, 5, 3), (3, 8, 8), 5),
    "conv1d": (nn.Sequential(nn.Conv1d(3, 5, 3), nn.ReLU()), (2, 3, 9), 5),
    "batchnorm1d": (nn.BatchNorm1d(3), (4, 3, 9), 3),
    "pool": (nn.MaxPool1d(2), (2, 3, 9), 3),
    "linear on images": (nn.Sequential(nn.Linear(7, 6), nn.GELU()), (2, 4, 4, 7), 6),
    "layernorm": (nn.LayerNorm(7), (2, 4, 4, 7), 7),
    "rnn": (nn.GRU(7, 6, batch_first=True), (2, 5, 7), 6),
    "wide": (nn.Linear(7, 3000), (4, 7), 512),
}


@pytest.mark.parametrize("kind", UNITS)
def test_units_lie_where_the_module_says(kind: str) -> None:
    """By type where it is known, by the producer for elementwise modules."""
    module, shape, units = UNITS[kind]
    model = nn.Sequential(module)
    with attached(model, tensors=("output",)) as bench:
        model(torch.randn(shape))
        bench.step()
        _, rows = bench.take()
    firsts = {k: v.shape[-1] for k, v in rows.items() if "[" not in k}
    assert set(firsts.values()) == {units}, firsts


LAYOUTS = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3),
    "sliced": lambda x: x[:, :, ::2, 1:],
    "expanded": lambda x: x[:, :, :1].expand(x.shape),
    "offset": lambda x: x[3:],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_torch_gather_equals_the_numpy_sampler(layout: str) -> None:
    """Same values in the same places, whatever the strides."""
    from shiftwatch.sampling import BLOCK, fractions, sample

    x = LAYOUTS[layout](torch.randn(6, 5, 8, 10))
    model = nn.Sequential(Odd(lambda _: x))
    with attached(model, tensors=("output",)) as bench:
        model(torch.zeros(1))
        bench.step()
        _, rows = bench.take()
    (row,) = rows["0:output"]
    rng = np.random.default_rng((*row.shape, 0))  # the first turn
    block = BLOCK if x.stride(1) == 1 else 1
    expected = sample(x.numpy(), 1, fractions(*row.shape, rng, block))
    assert np.array_equal(row, expected)


def test_gradients_are_those_of_the_outputs() -> None:
    """Also in place of an expanded gradient, and each site every eighth step."""
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    with attached(model, tensors=("output", "gradient")) as bench:
        for _ in range(16):
            out = model(torch.randn(8, 4))
            (out.sum() * 3).backward()
            bench.step()
            if bench.steps % 8 == 0:
                _, rows = bench.take()
                counts = {k: len(v) for k, v in rows.items() if "gradient" in k}
                assert set(counts.values()) == {8 if bench.steps == 8 else 1}
                assert set(rows["2:gradient"].ravel()) == {3.0}


def test_gradients_whose_scale_is_not_known_are_left_out_and_others_divided_by_theirs() -> None:
    """A scaler is met at the first step it lets pass; of those it skipped before, nothing is kept."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12, growth_interval=1)
    with attached(model, optimizer, ("output", "gradient")) as bench:
        for step in range(6):
            optimizer.zero_grad()
            loss = model(torch.randn(8, 4)).sum() * 3
            if step == 5:  # a step without the scaler
                loss.backward()
                optimizer.step()
            else:
                scaler.scale(loss * (float("inf") if step < 2 else 1.0)).backward()
                scaler.step(optimizer)
                scaler.update()
            bench.step()
        _, rows = bench.take()
    assert len(rows["2:output"]) == 6 and len(rows["2:gradient"]) == 4
    assert set(rows["2:gradient"].ravel()) == {3.0}


def test_a_gradient_scaler_that_is_disabled_scales_nothing() -> None:
    """As in ``GradScaler(enabled=use_amp)``; it has no scale at all, not even 1."""
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    with attached(model, optimizer, ("gradient", "weight")) as bench:
        for _ in range(3):
            optimizer.zero_grad()
            scaler.scale(model(torch.randn(8, 4)).sum() * 3).backward()
            scaler.step(optimizer)
            scaler.update()
            bench.step()
        _, rows = bench.take()
    assert set(rows["2:gradient"].ravel()) == {3.0}
    assert "2:weight" in rows and not bench.dark


def test_what_only_evaluation_cannot_show_stays_seen_in_training() -> None:
    """Each mode goes dark by itself, and the message says which."""

    class Head(nn.Module):
        def forward(self, x: Any) -> Any:
            return x if self.training else x.argmax(1)

    model = nn.Sequential(nn.Linear(4, 6), Head())
    with attached(model, tensors=("output",)) as bench:
        for _ in range(3):
            model.eval()(torch.randn(8, 4))
            model.train()(torch.randn(8, 4))
            bench.step()
        _, rows = bench.take()
    assert len(rows["1:output"]) == 3 and list(bench.dark) == ["1@eval"]


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_evaluation_keeps_pytorchs_fast_path(nested: bool) -> None:
    """Its outputs differ in the last bits from those of the path that a hook would force."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested)).eval()
    x, mask = torch.randn(8, 9, 16), torch.arange(9)[None] > torch.arange(8)[:, None]
    with torch.no_grad():
        fast = model[0](x, src_key_padding_mask=mask)
        with attached(model) as bench:
            assert torch.equal(model[0](x, src_key_padding_mask=mask), fast)
            assert not any(m._forward_hooks for m in model[0].layers.modules())
            torch.backends.mha.set_fastpath_enabled(False)
            try:
                slow = nn.TransformerEncoder.forward(model[0], x, src_key_padding_mask=mask)
            finally:
                torch.backends.mha.set_fastpath_enabled(True)
            assert not torch.equal(slow, fast)
            bench.step()
            assert "0.layers.0.linear1:output@eval" in bench.sites
            assert "0.layers.0@eval" in bench.dark


def test_wrappers_are_no_part_of_a_name() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    for wrapped in (nn.DataParallel(model), torch.compile(model, backend="eager")):
        assert [w.name for w in modules.leaves(modules.unwrap(wrapped))] == ["0", "1"]


def test_patterns_choose_layers_and_a_wrong_one_names_the_nearest() -> None:
    found = modules.leaves(Net())
    assert [w.name for w in modules.choose(found, "a.*")] == ["a.fc1", "a.fc2"]
    assert [w.name for w in modules.choose(found, ["a", "head"])] == ["a.fc1", "a.fc2", "head"]
    assert [w.name for w in modules.choose(found, lambda n, m: isinstance(m, nn.Tanh))] == ["act"]
    with pytest.raises(ValueError, match=r"'hed' matches none .* Nearest: head"):
        watch(Net(), run=False, layers="hed")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"model": 3}, TypeError, "torch.nn.Module"),
        ({"model": nn.Identity()}, TypeError, "at least one layer"),
        ({"probe": 1}, TypeError, "what the model is called with"),
        ({"tensors": ("outputs",)}, ValueError, "tensors must be some of"),
        ({"optimizer": "sgd"}, TypeError, "optimizer must be"),
        ({"layers": 3}, TypeError, "glob pattern"),
        ({"layers": lambda n, m: False}, ValueError, "said no to all"),
        ({"every": 0}, ValueError, "every"),
    ],
)
def test_wrong_arguments_raise_at_once_with_the_cure(
    arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    model = arguments.pop("model", nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(error, match=words):
        watch(model, run=False, **arguments)
    assert not isinstance(model, nn.Module) or not any(m._forward_hooks for m in model.modules())


def test_a_root_that_is_never_called_still_has_an_input() -> None:
    """A trainer calls submodules: the first layer's input stands for the model's."""

    class Module(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))

    model = Module()
    with attached(model) as bench:
        for _ in range(2):
            for _ in range(2):  # two micro-batches
                model.net(torch.randn(8, 4)).sum().backward()
            bench.step()
    assert bench.sites[0] == "<input>:input"
    assert bench.layers["net.0"].parents == ("<input>",)
    assert bench.layers["net.2"].parents == ("net.1",)
