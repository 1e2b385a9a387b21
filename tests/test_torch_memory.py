"""No read at a wrong address: tensors without memory of their own, and memory that goes away.

Samples are read at addresses, where a mistake is a crash or silent garbage. So each attack
runs in a process of its own, forked off one that has PyTorch loaded; the test reports what
became of it.
"""

from __future__ import annotations

import copy
import gc
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from shiftwatch.course import Course  # noqa: E402
from shiftwatch.integrations.torch import watch  # noqa: E402
from shiftwatch.integrations.torch.census import exact  # noqa: E402
from shiftwatch.integrations.torch.modules import Watched  # noqa: E402
from shiftwatch.integrations.torch.slab import RING, Shop, Tap, Unseeable  # noqa: E402
from shiftwatch.integrations.torch.source import TorchSource  # noqa: E402
from shiftwatch.integrations.torch.weights import Weights, owned  # noqa: E402
from shiftwatch.records import Site  # noqa: E402
from shiftwatch.sampling import WEIGHTS  # noqa: E402

# Each attack by its name; it fails by an exception or by its death.
ATTACKS: dict[str, Callable[[], None]] = {}


def attack(function: Callable[[], None]) -> Callable[[], None]:
    ATTACKS[function.__name__] = function
    return function


# --- means ---------------------------------------------------------------------------------------


def sampled(*tensors: Tensor, axis: int | str = 1) -> np.ndarray | None:
    """What one site samples of the last of these, float[values]; ``None`` where nothing."""
    shop = Shop()
    tap = Tap(shop, Site("layer", "output"), axis)
    row = 0
    for tensor in tensors:
        row = shop.row
        tap.record(tensor)
        shop.close(0, True)
    fresh = bool(tap.fresh) and tap.place in tap.fresh[row]
    return tap.first[row].copy() if fresh else None


def refused(*tensors: Tensor) -> bool:
    try:
        sampled(*tensors)
    except Unseeable:
        return True
    return False


def weights_of(model: nn.Module) -> Weights:
    found = [Watched(n, m) for n, m in model.named_modules() if not list(m.children())]
    weights = Weights(owned(found, [], False), update=True)
    weights.end(None)
    return weights


def read(weights: Weights) -> dict[int, np.ndarray]:
    """The weights as they are read now: member to float[values]."""
    weights.begin()
    weights.end(True)
    row = len(weights.steps) - 1
    shelves = weights.shelves
    found = {int(m): s.after[row, i].copy() for s in shelves for i, m in enumerate(s.members)}
    weights.settle(range(len(weights.steps)), None)
    return found


def truthful(weights: Weights) -> None:
    """What is read of every parameter are values that it holds now."""
    for i, values in read(weights).items():
        p = weights.listed[i].parameter
        assert p is not None
        held = p.detach().double().numpy()
        assert np.isin(values, held).all(), weights.listed[i].key


class Put(nn.Module):
    """A layer that puts out what a function makes of its input."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: Any) -> Any:
        return self.make(x)


def train(
    model: nn.Module, steps: int = 20, between: Callable[[int], Any] | None = None, **options: Any
) -> dict[str, str]:
    """Train under watch, with something done in the middle of a step; returns what is dark."""
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    with watch(model, run=False, rules=(), **options) as monitor:
        for step in range(steps):
            optimizer.zero_grad()
            model(torch.randn(8, 16)).square().mean().backward()
            if between is not None:
                between(step)
            optimizer.step()
            monitor.step()
    return monitor._dark


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 16))


# --- outputs and gradients -----------------------------------------------------------------------


@attack
def memory_that_was_let_go_of_is_not_read() -> None:
    """Storages resized to nothing leave null, or for a view an address counted from null."""
    for view in (
        lambda x: x, lambda x: x[500:], lambda x: x.t(), lambda x: x[3:, ::2],
        lambda x: torch._neg_view(x), lambda x: x[:, :1].expand(-1, 9), lambda x: x[-1:, -9:],
    ):  # fmt: skip
        x = view(torch.randn(1000, 30))
        x.untyped_storage().resize_(0)
        assert refused(x)
        fine = view(torch.randn(1000, 30))
        assert refused(fine, x)  # also where the plan is made, and fits
        assert np.isin(sampled(fine), fine.resolve_neg().numpy()).all()


@attack
def memory_that_shrank_is_not_read_at_first_sight() -> None:
    x = torch.randn(1 << 20, 8)
    x.untyped_storage().resize_(64)
    assert refused(x)


@attack
def zeros_without_memory_are_zeros() -> None:
    """Also their views, whose address is counted from null."""
    nothing = torch._efficientzerotensor((1000, 30))
    for view in (lambda x: x, lambda x: x[500:], lambda x: x[3:, ::2]):
        for tensors in ([view(nothing)], [view(torch.randn(1000, 30)), view(nothing)]):
            values = sampled(*tensors)
            assert values is not None and not values.any()


@attack
def what_only_poses_as_a_tensor_is_refused() -> None:
    """Subclasses, wrappers that call themselves parameters, and layouts without addresses."""
    plain = torch.randn(64, 16)

    class Wrapper(Tensor):
        @staticmethod
        def __new__(cls: Any, like: Tensor) -> Any:
            return Tensor._make_wrapper_subclass(cls, like.shape, dtype=like.dtype)

        @classmethod
        def __torch_dispatch__(cls, f: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            raise NotImplementedError

    class Named(Tensor):
        pass

    class Special(nn.Parameter):
        pass

    wrapper, posing = Wrapper(plain), Wrapper(plain)
    posing._is_param = True
    assert isinstance(posing, nn.Parameter)
    ragged = torch.nested.nested_tensor([plain, plain[:2]])
    for odd in (
        wrapper, posing, Tensor._make_subclass(Named, plain), Special(plain),
        plain.to("meta"), plain.to_sparse(), plain.to_sparse_csr(), plain.to_mkldnn(), ragged,
        torch.nested.nested_tensor([plain], layout=torch.jagged),
        torch.quantize_per_tensor(plain, 0.1, 0, torch.quint8), torch.complex(plain, plain),
        plain > 0, plain.int(), plain.to(torch.float8_e4m3fn), plain.sum(),
        torch._to_functional_tensor(plain),
    ):  # fmt: skip
        for before in ([], [plain]):
            try:
                assert sampled(*before, odd) is None, (type(odd), odd.dtype)
            except (Unseeable, RuntimeError):
                pass


@attack
def stand_ins_for_tensors_are_refused() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode() as mode:
        fakes = [torch.randn(64, 16), torch.empty(64, 16, device="cuda")]
        fakes.append(mode.from_tensor(torch.ones(1)).expand(64, 16))
    for fake in fakes:
        assert refused(fake) and refused(torch.randn(64, 16), fake)


@attack
def transforms_of_functions_are_seen_through() -> None:
    """vmap, grad, jvp and functionalize run hooks on wrappers; what they wrap is read, or nothing."""
    model = network()
    x = torch.randn(8, 16)
    with watch(model, run=False, rules=(), strict=True) as monitor:
        source: Any = monitor._source
        for _ in range(3):
            model(x).sum().backward()
            monitor.step()
        taps = [t for t in source.sites.taps if t.site.tensor != "gradient"]
        functions = (
            lambda: torch.func.vmap(model)(x), lambda: torch.func.functionalize(model)(x),
            lambda: torch.func.grad(lambda a: model(a).sum())(x),
            lambda: torch.func.jvp(model, (x,), (x,)),
            lambda: torch.func.jacrev(model)(x[0]),
            lambda: torch.func.hessian(lambda a: model(a).sum())(x[0]),
        )  # fmt: skip
        for function in functions:
            function()
            assert not monitor._dark
        model(x).sum().backward()
        assert all(t.place in t.fresh[source._shop.row] for t in taps)
        assert not monitor._dark


@attack
def dual_numbers_are_seen_by_their_values() -> None:
    import torch.autograd.forward_ad as forward

    with forward.dual_level():
        x = torch.randn(64, 16)
        dual = forward.make_dual(x, torch.randn(64, 16))
        assert np.isin(sampled(dual), x.numpy()).all()


@attack
def odd_memory_is_read_in_place() -> None:
    """Mapped files, shared memory, NumPy's, bytes at odd addresses, clones that are not made yet."""
    x = torch.randn(64, 16)
    folder = Path(tempfile.mkdtemp())
    x.numpy().tofile(folder / "raw")
    torch.save({"x": x}, folder / "saved")
    odd = bytearray(1) + bytearray(x.numpy().tobytes())
    lazy = torch._lazy_clone(x)
    frozen = np.array(x.numpy())
    for same in (
        torch.from_file(str(folder / "raw"), shared=True, size=1024).view(64, 16),
        torch.load(folder / "saved", mmap=True)["x"],
        x.clone().share_memory_(),
        torch.from_numpy(frozen),
        torch.frombuffer(odd, dtype=torch.float32, offset=1).view(64, 16),
        lazy,
        torch.utils.dlpack.from_dlpack(torch.utils.dlpack.to_dlpack(x)),
        x.to_mkldnn().to_dense(),
        torch.complex(x, x).real,
        -torch.complex(x, x).conj().imag,
    ):
        assert same.data_ptr() % 4 or torch.equal(same.detach(), x)
        assert np.isin(sampled(same), x.numpy()).all()
    assert torch.equal(lazy, x)


@attack
def aliases_are_read_where_they_are() -> None:
    """The input itself, a view of a parameter, an output that a later hook frees or changes."""
    weight = nn.Parameter(torch.randn(64, 16))
    held: list[Any] = []

    def freed(x: Any) -> Any:
        y = x * 2
        held.append(y)
        return y

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = weight

        def forward(self, x: Any) -> Any:
            return self.weight[8:, 2:]

    model = nn.Sequential(
        nn.Linear(16, 16), Put(lambda x: x), Put(freed), Put(lambda x: x.mul_(2)), nn.Identity(),
        nn.ReLU(inplace=True), nn.Linear(16, 16),
    )  # fmt: skip
    assert not train(nn.ModuleDict({"m": model})["m"])
    model = nn.Sequential(Tied())
    assert not train(model)


@attack
def what_is_settled_later_was_read_before() -> None:
    """Tensors let go of after their hook, and their memory written to by others."""
    shop = Shop()
    tap = Tap(shop, Site("layer", "output"), 1)
    for step in range(8):
        x = torch.full((64, 64), float(step))
        tap.record(x)
        x.fill_(-1.0)
        x.untyped_storage().resize_(0)
        shop.close(step, True)
    course = Course()
    course.begin(8, 1)
    shop.settle(course)
    assert tap.slab is not None
    assert tap.slab.ring[:8, tap.place].mean(1).tolist() == list(range(8))


@attack
def outputs_freed_by_an_earlier_hook_are_said_by_name() -> None:
    """A hook that comes before ours lets go of the output; the sweeps do not read it either."""
    model = network()

    def let_go(module: Any, args: Any, output: Any) -> None:
        output.untyped_storage().resize_(0)

    layer = Put(lambda x: x.detach()[1:] * 1.0)
    layer.register_forward_hook(let_go)
    model.append(Put(lambda x: (layer(x), x)[1]))
    model[3].inner = layer
    dark = train(model, exact="*")
    assert list(dark) == ["3.inner"] and "let go" in dark["3.inner"]


@attack
def sweeps_do_not_read_what_was_let_go_of() -> None:
    """A look at all that is alive, and one at a whole step, with freed outputs and gradients."""
    kept: list[Tensor] = []

    def spoil(x: Tensor) -> Tensor:
        y = x * float("nan")
        with torch.no_grad():
            kept[-1].untyped_storage().resize_(0)
        return y

    def keep(x: Tensor) -> Tensor:
        kept.append(x.detach() * 2)
        return kept[-1]

    class Ends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.keep, self.spoil = nn.Linear(16, 16), Put(keep), Put(spoil)

        def forward(self, x: Any) -> Any:
            y = self.fc(x)
            self.keep(y)
            return self.spoil(y)

    model = Ends()
    with watch(model, run=False) as monitor:
        for _ in range(12):
            x = torch.randn(8, 16)
            model(x).sum().backward()
            for p in model.parameters():
                assert p.grad is not None
                p.grad.untyped_storage().resize_(0)
            monitor._source.sweeper.before()
            monitor.step(loss=float("nan"))
            model.zero_grad()
    assert monitor._source.sweeper.looks

    def gone(x: Tensor) -> Tensor:
        y = x.detach()[2:] * 2
        return y

    class Freed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.put = nn.Linear(16, 16), Put(gone)

        def forward(self, x: Any) -> Any:
            y = self.put(self.fc(x))
            y.untyped_storage().resize_(0)
            return y

    model = Freed()
    with watch(model, run=False) as monitor:
        for _ in range(12):
            model(torch.randn(8, 16))
            exact(monitor)
            monitor.step(loss=float("nan"))


@attack
def gradients_may_be_anything() -> None:
    """Expanded, none, zero without memory, freed or replaced between backward and step."""
    model = network()

    def between(step: int) -> None:
        kinds: list[Callable[[nn.Parameter], Any]] = [
            lambda p: None,
            lambda p: torch.zeros_like(p),
            lambda p: torch.ones(()).expand(p.shape),
            lambda p: torch.randn(*p.shape, 2)[..., 0],
            lambda p: p.grad,
        ]
        for p in model.parameters():
            p.grad = kinds[step % len(kinds)](p)

    assert not train(model, between=between)
    x = torch.randn(8, 16, requires_grad=True)
    with watch(model, run=False, rules=(), strict=True) as monitor:
        for _ in range(8):
            y = model(x)
            (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
            first.square().sum().backward()
            y = model(x)
            y.backward(torch.ones(1, 1).expand(y.shape))
            monitor.step()


# --- parameters ----------------------------------------------------------------------------------


@attack
def parameters_without_memory_are_not_read() -> None:
    """Views of one flat buffer that is freed, shrunk, and made anew, as sharded training does."""
    model = network()
    shapes = [p.shape for p in model.parameters()]
    flat = torch.randn(sum(s.numel() for s in shapes))
    size = flat.untyped_storage().nbytes()

    def views() -> None:
        parts = flat.split([s.numel() for s in shapes])
        for p, part, shape in zip(model.parameters(), parts, shapes, strict=True):
            p.data = part.view(shape)

    views()
    weights = weights_of(model)
    truthful(weights)
    for _ in range(3):
        flat.untyped_storage().resize_(0)
        assert read(weights) == {} and len(weights.dark) == 4
        flat.untyped_storage().resize_(size)
        flat.normal_()
        read(weights)  # notices when it is settled that they are back
        assert len(read(weights)) == 4
        truthful(weights)
        flat.untyped_storage().resize_(size // 4)
        assert len(read(weights)) < 4
        flat.untyped_storage().resize_(size)
        flat.normal_()
        truthful(weights)
    flat = torch.randn(flat.shape)  # made anew, elsewhere
    views()
    truthful(weights)
    weights.begin()
    flat.untyped_storage().resize_(0)  # within the optimizer's step
    weights.stepped()
    weights.end(True)
    assert len(weights.dark) == 4


@attack
def parameters_freed_in_a_training_are_said_and_come_back() -> None:
    """Freed at every step's end and back before its start, or before the optimizer's step only."""
    for late in (False, True):
        model = network()
        flat = model[0].weight
        kept = flat.detach().clone()

        def between(step: int, late: bool = late, flat: Any = flat, kept: Any = kept) -> None:
            if late and step % 3 == 2:
                return
            kept.copy_(flat.detach())
            flat.untyped_storage().resize_(0)
            gc.collect()
            flat.untyped_storage().resize_(kept.numel() * 4)
            flat.detach().copy_(kept)

        dark = train(model, between=between)
        assert not dark


@attack
def parameters_may_change_in_every_way() -> None:
    """Other memory, size, type, strides, identity; each time what is read is what is there."""
    layer = nn.Linear(64, 32)
    model = nn.Sequential(layer, nn.Linear(8, 8))
    weights = weights_of(model)

    def data(make: Callable[[Tensor], Tensor]) -> Callable[[], None]:
        def change() -> None:
            layer.weight.data = make(layer.weight.data)

        return change

    def assign(tensor: Tensor) -> Callable[[], None]:
        def change() -> None:
            layer.weight = nn.Parameter(tensor)

        return change

    def still(change: Callable[[Tensor], Any]) -> Callable[[], Any]:
        return lambda: change(layer.weight.requires_grad_(False))

    numbers = torch.randn(12)

    def load() -> None:
        state = {k: torch.randn(v.shape) for k, v in model.state_dict().items()}
        model.load_state_dict(state, assign=True)

    def reload_mapped() -> None:
        path = Path(tempfile.mkdtemp()) / "saved"
        torch.save(model.state_dict(), path)
        model.load_state_dict(torch.load(path, mmap=True), assign=True)

    def swap() -> None:
        torch.utils.swap_tensors(layer.weight, nn.Parameter(torch.randn(5, 7)))

    changes: list[Callable[[], Any]] = [
        data(lambda w: torch.randn(300, 200)), data(lambda w: torch.randn(2, 3)),
        data(lambda w: w[:1]), data(lambda w: torch.randn(32, 64).t()),
        data(lambda w: torch.randn(9, 64).double()), data(lambda w: w.float()),
        data(lambda w: torch.randn(64, 64)[1:, :]), data(lambda w: torch.randn(9, 9)[:, 1:]),
        data(lambda w: torch.randn(1, 9).expand(400, 9)), data(lambda w: torch.randn(16, 8)),
        data(lambda w: torch.empty(0)), data(lambda w: torch.randn(16, 8)),
        data(lambda w: w[::2]), data(lambda w: w.clone()), data(lambda w: torch.randn(())),
        assign(torch.randn(8, 8)), model.half, model.bfloat16, model.double, model.float,
        load, reload_mapped, swap, model.share_memory, model.share_memory,
        assign(torch.randn(8, 8)), lambda: layer.weight.data.resize_(64, 65).normal_(),
        still(lambda w: w.set_(numbers.untyped_storage(), 3, (3, 3), (3, 1))),
        still(lambda w: w.resize_(64, 65).normal_()), still(lambda w: w.resize_(2)),
        assign(torch.frombuffer(bytearray(4 * 64 + 1), dtype=torch.float32, offset=1, count=64)),
        lambda: setattr(layer, "weight", None), assign(torch.randn(4, 4)),
        lambda: delattr(layer, "weight"), assign(torch.randn(4, 4)),
        assign(torch._neg_view(torch.rand(4, 4))), assign(torch.randn(4, 4)),
        lambda: model.to("meta"), lambda: model.to_empty(device="cpu"),
        lambda: [p.data.normal_() for p in model.parameters()],
        assign(torch.randn(4, 4).to_sparse()), assign(torch.randn(4, 4)),
    ]  # fmt: skip
    for change in changes:
        change()
        gc.collect()
        truthful(weights)
        truthful(weights)
    odd = nn.Parameter(torch.nested.nested_tensor([torch.randn(2, 3), torch.randn(4, 3)]))
    layer.weight = odd
    assert 0 in (read(weights) or {0: 0}) or 0 in weights.dark
    assert len(read(weights)) == 3, weights.dark  # the others are still seen


@attack
def another_parameter_at_the_same_address_is_taken_for_another() -> None:
    """Smaller, or of another type, at the very address that was read before."""
    room = torch.randn(4096)
    layer = nn.Linear(32, 64, bias=False)
    weights = weights_of(layer)
    bits = torch.full((2048,), 1.5, dtype=torch.float16)
    for data in (
        room.view(64, 64), room[:6].view(2, 3), room[:64].view(8, 8), room.view(32, 128)[:8],
    ):  # fmt: skip
        layer.weight.data = data
        truthful(weights)
    layer.weight.data = bits
    truthful(weights)
    bits.view(torch.bfloat16).fill_(2.5)
    layer.weight.data = bits.view(torch.bfloat16)
    truthful(weights)
    layer.weight.data = bits.view(torch.float32)
    truthful(weights)


@attack
def an_interrupted_layout_is_made_anew() -> None:
    """A KeyboardInterrupt in the middle leaves no addresses behind that are trusted."""
    from shiftwatch.integrations.torch import weights as module

    class Interrupted(module.Shelf):
        def _reach(self, held: list[Tensor]) -> None:
            if held[0].dtype == torch.float64:
                raise KeyboardInterrupt
            super()._reach(held)

    model = network()
    model[2].double()
    weights = weights_of(model)
    before = model[0].weight.data
    usual, module.Shelf = module.Shelf, Interrupted
    model[0].weight.data = before.clone()
    try:
        weights.begin()
        raise AssertionError
    except KeyboardInterrupt:
        module.Shelf = usual
    other = model[0].weight.data
    model[0].weight.data = before
    other.untyped_storage().resize_(0)
    truthful(weights)
    assert len(read(weights)) == 4


@attack
def optimizers_may_replace_memory_at_every_step() -> None:
    class Replacing(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            for group in self.param_groups:
                for p in group["params"]:
                    p.data = p.data - 0.01 * p.grad
            gc.collect()

    model = network()
    optimizer = Replacing(model.parameters(), lr=0.01)
    with watch(model, run=False, rules=(), strict=True) as monitor:
        for step in range(20):
            model(torch.randn(8, 16)).square().mean().backward()
            optimizer.step()
            if step == 9:
                optimizer.param_groups.pop()
                optimizer.add_param_group({"params": list(model[2].parameters())})
            model.zero_grad()
            monitor.step()
            truthful(monitor._source._weights)


# --- threads, forks, interruptions ---------------------------------------------------------------


@attack
def one_model_called_in_many_threads_is_seen_in_good_order() -> None:
    """No sample is entered twice, and none of another tensor's."""
    sys.setswitchinterval(1e-6)
    shop = Shop()
    taps = [Tap(shop, Site(str(i), "output"), 1) for i in range(4)]
    tensors = [torch.full((256, 256 + i), float(i)) for i in range(4)]
    failures: list[str] = []

    def forward(_: int) -> None:
        try:
            for tap, tensor in zip(taps, tensors, strict=True):
                tap.record(tensor)
        except BaseException:
            failures.append(traceback.format_exc())

    for tap, tensor in zip(taps, tensors, strict=True):
        tap.record(tensor)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(300):
            row = shop.row
            list(pool.map(forward, range(8)))
            assert not failures, failures[0]
            for i, tap in enumerate(taps):
                assert tap.fresh[row].count(tap.place) == 1
                assert (tap.first[row] == i).all()
            shop.close(0, False)
            for slab in shop.slabs.values():
                for call in slab.fresh:
                    call[shop.row].clear()
            shop._closed.clear()


@attack
def two_models_are_watched_in_two_threads() -> None:
    sys.setswitchinterval(1e-5)
    results: list[dict[str, str]] = []
    threads = [
        threading.Thread(target=lambda: results.append(train(network(), 40))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [{}, {}, {}], results


@attack
def watches_may_begin_and_end_while_another_threads_optimizer_steps() -> None:
    """PyTorch's table of hooks is walked through as it is, and must not change meanwhile."""
    from torch.optim import optimizer as table

    model = network()
    failures: list[str] = []
    entered, go = threading.Event(), threading.Event()
    usual = TorchSource.before

    def slow(*arguments: Any) -> None:
        entered.set()
        go.wait(10)
        usual(*arguments)

    TorchSource.before = slow
    monitors = [watch(network(), run=False, rules=()) for _ in range(2)]

    def stepping() -> None:
        try:
            torch.optim.SGD(model.parameters(), lr=0.01).step()
        except BaseException:
            failures.append(traceback.format_exc())

    thread = threading.Thread(target=stepping)
    thread.start()
    assert entered.wait(10)
    monitors.append(watch(network(), run=False, rules=()))
    monitors.pop(0).close()
    go.set()
    thread.join()
    for monitor in monitors:
        monitor.close()
    assert not failures, failures
    assert not table._global_optimizer_pre_hooks and not table._global_optimizer_post_hooks


@attack
def a_watch_may_be_closed_at_any_moment() -> None:
    """Between forward and backward, inside of a forward, and from another thread."""
    model = network()
    monitor = watch(model, run=False, rules=())
    loss = model(torch.randn(8, 16)).square().mean()
    monitor.close()
    loss.backward()
    model = network()
    monitor = watch(model, run=False, rules=())
    handle = model[1].register_forward_hook(lambda *_: monitor.close())
    model(torch.randn(8, 16)).square().mean().backward()
    handle.remove()
    sys.setswitchinterval(1e-6)
    for _ in range(30):
        monitor = watch(model, run=False, rules=())
        thread = threading.Thread(target=monitor.close)
        model(torch.randn(8, 16))
        thread.start()
        for _ in range(20):
            model(torch.randn(8, 16)).sum().backward()
        thread.join()


@attack
def a_step_may_be_broken_off_anywhere() -> None:
    """By an exception or an interrupt in a forward, a backward, or one of our own reads."""
    from shiftwatch.integrations.torch.slab import Plan

    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    usual, count = Plan.read, [0]

    def broken(x: Any) -> Any:
        raise ValueError

    def interrupted(*arguments: Any) -> None:
        count[0] += 1
        if count[0] % 7 == 0:
            raise KeyboardInterrupt
        usual(*arguments)

    with watch(model, run=False, rules=()) as monitor:
        for step in range(40):
            try:
                if step % 4 == 1:
                    model(torch.randn(8, 17))
                if step % 4 == 2:
                    Plan.read = interrupted
                y = model(torch.randn(8, 16))
                if step % 4 == 3:
                    y.register_hook(broken)
                y.square().mean().backward()
                optimizer.step()
            except (ValueError, RuntimeError, KeyboardInterrupt):
                pass
            finally:
                Plan.read = usual
                model.zero_grad()
            monitor.step()
    assert not monitor._dark


@attack
def a_fork_and_copies_in_mid_step_do_no_harm() -> None:
    model = network()
    with watch(model, run=False, rules=(), strict=True) as monitor:
        for _ in range(10):
            y = model(torch.randn(8, 16))
            child = os.fork()
            if not child:
                with torch.no_grad():
                    for _ in range(20):
                        model(torch.randn(8, 16))
                        monitor.step()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            pickle.loads(pickle.dumps(model))(torch.randn(8, 16))
            copy.deepcopy(model)(torch.randn(8, 16))
            torch.save(model, io.BytesIO())
            y.sum().backward()
            monitor.step()
    assert not monitor._dark


@attack
def a_model_that_is_gone_leaves_nothing_that_is_read() -> None:
    """The graph outlives the model and the watch; what is left of both is not touched."""
    model = network()
    monitor = watch(model, run=False, rules=())
    for _ in range(3):
        y = model(torch.randn(8, 16))
        y.sum().backward()
        monitor.step()
    y = model(torch.randn(8, 16))
    model[0] = nn.Linear(16, 64)
    del model[2]
    gc.collect()
    y.sum().backward()
    monitor.step()
    y = model(torch.randn(8, 16))
    del model
    monitor.close()
    gc.collect()
    y.sum().backward()
    monitor.step()


# --- whatever the layout -------------------------------------------------------------------------

TYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
OUTSIDE = -1.0


@st.composite
def layouts(draw: Any) -> Tensor:
    """A view into memory that holds 0, 1, 2, … (up to 255) in the view and -1 around it.

    Axes in any order, with gaps, expanded, or overlapping; at any offset.
    """
    shape = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    if draw(st.booleans()):
        shape[draw(st.integers(0, len(shape) - 1))] = draw(st.sampled_from([64, 513, 1030]))
    step, strides = draw(st.integers(1, 3)), [0] * len(shape)
    for axis in draw(st.permutations(range(len(shape)))):
        kind = draw(st.sampled_from(["dense", "dense", "gap", "expanded", "overlapping"]))
        strides[axis] = {"expanded": 0, "overlapping": draw(st.integers(0, 5))}.get(kind, step)
        step = max(step, strides[axis] * shape[axis] + (kind == "gap"))
    if np.prod(shape) > 100_000:
        shape = shape[:2]
        strides = strides[:2]
    offset = draw(st.integers(0, 70))
    span = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    memory = torch.full((offset + span + 70,), OUTSIDE, dtype=draw(st.sampled_from(TYPES)))
    places = torch.arange(len(memory)).as_strided(shape, strides, offset).unique()
    memory[places] = (torch.arange(len(places)) % 256).to(memory.dtype)
    return memory.as_strided(shape, strides, offset)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.lists(layouts(), min_size=1, max_size=5), st.integers(1, 6))
def test_samples_are_values_of_the_tensor_whatever_its_layout(
    tensors: list[Tensor], calls: int
) -> None:
    """Each site's, in every step and call; where a sample has room for all values it is those."""
    shop = Shop()
    taps = [Tap(shop, Site(str(i), "output"), "rank") for i in range(len(tensors))]
    for step in range(RING):
        for _ in range(calls):
            for tap, tensor in zip(taps, tensors, strict=True):
                tap.record(tensor)
        for tap, tensor in zip(taps, tensors, strict=True):
            held = tensor.double().numpy().ravel()
            for slots in tap.slots[:calls]:
                assert np.isin(slots[shop.row], held).all()
            if tap.geometry[0] * tap.geometry[1] == held.size:
                assert np.array_equal(np.sort(tap.first[shop.row]), np.sort(held))
        shop.close(step, True)
        if step == RING - 1:
            course = Course()
            course.begin(RING, 0)
            shop.settle(course)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(st.lists(layouts(), min_size=1, max_size=6))
def test_weights_are_read_inside_of_their_parameters(tensors: list[Tensor]) -> None:
    """Those that lie together, of all types at once; all values where there are no more than 256."""
    model = nn.ParameterList([nn.Parameter(t) for t in tensors])
    weights = Weights(owned([Watched("all", model)], [], False), update=True)
    weights.end(None)
    weights.begin()
    weights.end(True)
    for shelf in weights.shelves:
        for i, values in zip(shelf.members, shelf.after[1], strict=True):
            held = tensors[i].detach().double().numpy().ravel()
            assert np.isin(values, held).all()
            assert held.size > WEIGHTS or np.array_equal(np.unique(values), np.unique(held))
    dense = {i for i, t in enumerate(tensors) if t.numel() == 1 or t.is_contiguous()}
    assert not dense & weights.dark.keys()


# --- running them --------------------------------------------------------------------------------


def in_a_child(function: Callable[[], None]) -> str:
    """What became of it, in a process of its own: ``""`` if all went well."""
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        text = b""
        signal.alarm(60)
        try:
            function()
        except BaseException:
            text = traceback.format_exc().encode()
        os.write(send, text[-4000:] or b"\0")
        os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if status:
        return f"died of {signal.Signals(status & 127).name}"
    return text.strip(b"\0").decode()


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    """Of every attack; one process forks them all, for only a fresh one has no threads."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_on_memory_succeeds(name: str, outcomes: dict[str, str]) -> None:
    """Each runs to its end, and holds what it asserts; what it is stands in its docstring."""
    assert outcomes[name] == ""


def main(wanted: list[str]) -> None:
    torch.set_num_threads(1)
    gc.freeze()  # what was imported need not be searched
    names = wanted or list(ATTACKS)
    print(json.dumps({name: in_a_child(ATTACKS[name]) for name in names}))


if __name__ == "__main__":
    main(sys.argv[1:])
