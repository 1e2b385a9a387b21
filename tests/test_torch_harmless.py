"""Watching changes nothing: bit-identical training, clean exits, copies that are not watched."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from shiftwatch.integrations.torch import watch  # noqa: E402


class Recurrent(nn.Module):
    """An LSTM with a head on its last output."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(8, 12, num_layers=2, batch_first=True, dropout=0.2)
        self.fc = nn.Linear(12, 4)

    def forward(self, x: Any) -> Any:
        y, _ = self.rnn(x)
        return self.fc(nn.functional.relu(y[:, -1]))


class Encoder(nn.Module):
    """A transformer encoder with dropout, and a mean over time."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Any) -> Any:
        return self.fc(self.encoder(x).mean(1))


class Checkpointed(nn.Module):
    """Three blocks of which the first two are recomputed in the backward pass."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.2), nn.Tanh())
        self.second = nn.Sequential(nn.Linear(16, 16), nn.ReLU())
        self.fc = nn.Linear(16, 4)
        self.reentrant = reentrant

    def forward(self, x: Any) -> Any:
        x = x.requires_grad_(self.reentrant)
        for part in (self.first, self.second):
            again = torch.is_grad_enabled()
            x = checkpoint(part, x, use_reentrant=self.reentrant) if again else part(x)
        return self.fc(x)


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(8, 32), nn.ReLU(inplace=True), nn.Dropout(0.1), nn.Linear(32, 32), nn.Tanh(),
        nn.Linear(32, 4),
    )  # fmt: skip


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Dropout2d(0.2), nn.Conv2d(8, 8, 3), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 4),
    )  # fmt: skip


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, (8,)),
    "cnn": (cnn, (1, 8, 8)),
    "lstm": (Recurrent, (6, 8)),
    "transformer": (Encoder, (5, 16)),
    "checkpoint": (lambda: Checkpointed(False), (8,)),
    "reentrant": (lambda: Checkpointed(True), (8,)),
}


def train(name: str, watched: bool, steps: int = 12) -> list[Any]:
    """All that training leaves behind: losses, gradients, weights, the state of the generator."""
    build, shape = MODELS[name]
    torch.manual_seed(0)
    model = build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    monitor = (
        watch(model, optimizer=optimizer, run=False, rules=(), strict=True) if watched else None
    )
    left = []
    for step in range(steps):
        x = torch.randn(7 if step % 4 == 3 else 16, *shape)
        y = torch.randint(4, (len(x),))
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        left += [loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]
        optimizer.step()
        optimizer.zero_grad()
        if monitor:
            monitor.step(loss=loss)
        if step % 5 == 4:
            model.eval()
            with torch.no_grad():
                left.append(model(torch.randn(9, *shape)))
            model.train()
    if monitor:
        monitor.close()
        assert monitor.steps == steps and len(monitor.history.sites) > 5
    return [*left, *model.state_dict().values(), torch.get_rng_state()]


@pytest.mark.parametrize("name", MODELS)
def test_training_is_the_same_to_the_last_bit(name: str) -> None:
    """Losses, gradients, weights, buffers, evaluation and the random state agree exactly."""
    plain, watched = train(name, False), train(name, True)
    assert len(plain) == len(watched)
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))


def hooks(model: nn.Module) -> int:
    """Hooks of any kind on a model, its optimizer classes included."""
    from torch.optim import optimizer as module

    own = sum(
        len(getattr(m, kind))
        for m in model.modules()
        for kind in (
            "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks",
            "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs",
        )
    )  # fmt: skip
    own += len(nn.modules.module._global_forward_hooks)
    return own + len(module._global_optimizer_pre_hooks) + len(module._global_optimizer_post_hooks)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_no_hook_stays_after_an_exception(error: type[BaseException]) -> None:
    """Whatever leaves the with statement, the model is as it was."""
    model = mlp()
    before = hooks(model)  # another monitor may be open
    keys = {n: set(m.__dict__) for n, m in model.named_modules()}
    with pytest.raises(error), watch(model, run=False, rules=()) as monitor:
        model(torch.randn(4, 8)).sum().backward()
        monitor.step()
        assert hooks(model) > 5
        raise error
    assert hooks(model) <= before
    assert keys == {n: set(m.__dict__) for n, m in model.named_modules()}
    model(torch.randn(4, 8)).sum().backward()


def test_two_monitors_two_models_and_a_second_fit_all_work() -> None:
    """Each monitor sees its own model, and a later one takes over from a closed one."""
    one, two = mlp(), mlp()
    before = hooks(one)
    first, second = watch(one, run=False, rules=()), watch(one, run=False, rules=())
    other = watch(two, run=False, rules=())
    optimizer = torch.optim.SGD([*one.parameters(), *two.parameters()], lr=0.1)
    for _ in range(3):
        (one(torch.randn(4, 8)) + two(torch.randn(4, 8))).sum().backward()
        optimizer.step()
        for monitor in (first, second, other):
            monitor.step()
    first.close()
    first.close()
    one(torch.randn(4, 8)).sum().backward()
    for monitor in (second, other):
        monitor.close()
    assert hooks(one) == hooks(two) <= before
    with watch(one, run=False, rules=()) as again:
        one(torch.randn(4, 8)).sum().backward()
        again.step()
    keys = [[s.key for s in m.history.sites] for m in (first, second, other)]
    assert keys[0] == keys[1] == keys[2] and len(again.history.sites) > 5


def test_a_monitor_that_was_never_closed_goes_with_its_model() -> None:
    """As where a cell of a notebook is run again: what was watched before costs nothing any more."""
    model = mlp()
    monitor = watch(model, run=False, rules=())
    model(torch.randn(4, 8)).sum().backward()
    monitor.step()
    gone = weakref.ref(monitor), weakref.ref(model)
    del monitor, model
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_a_copied_model_is_not_watched() -> None:
    """A deep copy made while watching runs, holds inert hooks, and adds nothing to the record."""
    model = mlp()
    with watch(model, run=False, rules=(), strict=True) as monitor:
        source: Any = monitor._source
        model(torch.randn(4, 8)).sum().backward()
        average = copy.deepcopy(model)
        monitor.step()
        spent = source.spent
        twice = copy.deepcopy(average)
        for copied in (average, twice, pickle.loads(pickle.dumps(model))):
            assert torch.equal(copied(torch.ones(2, 8)).isnan(), torch.zeros(2, 4, dtype=bool))
            copied(torch.ones(2, 8)).sum().backward()
        assert source.spent == spent
        assert [p.shape for p in average.parameters()] == [p.shape for p in model.parameters()]


def test_a_hook_leaves_nothing_on_the_users_tensors() -> None:
    """No hook dictionary, no kept gradient, and the graph goes when the user lets go of it."""
    import gc
    import weakref

    model = mlp()
    with watch(model, run=False, rules=(), strict=True) as monitor:
        out = model(torch.randn(4, 8))
        assert out._backward_hooks is None and not out.retains_grad
        gone, node = weakref.ref(out), out.grad_fn
        out.sum().backward()
        monitor.step()
        del out, node
        gc.collect()
        assert gone() is None


def test_a_closed_monitor_lets_go_of_the_model() -> None:
    """The record can be read for as long as one likes; the model's memory is the user's again."""
    import gc
    import weakref

    model = mlp()
    with watch(model, run=False, rules=()) as monitor:
        model(torch.randn(4, 8)).sum().backward()
        monitor.step()
    gone = weakref.ref(model[0].weight)
    del model
    gc.collect()
    assert gone() is None and len(monitor.history.sites) > 5


def test_an_error_in_a_hook_darkens_the_site_and_not_the_training(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Said once, by name; strict=True raises instead."""
    from shiftwatch.integrations.torch.slab import Tap

    record = Tap.record

    def broken(self: Any, tensor: Any) -> None:
        if self.site.layer == "3":
            raise ZeroDivisionError("of all things")
        record(self, tensor)

    monkeypatch.setattr(Tap, "record", broken)
    model = mlp()
    with watch(model, run=False, rules=()) as monitor:
        for _ in range(3):
            model(torch.randn(4, 8)).sum().backward()
            monitor.step()
    said = [r for r in caplog.records if "of all things" in r.getMessage()]
    assert len(said) == 1 and said[0].getMessage().startswith("3 ")
    with watch(model, run=False, rules=(), strict=True), pytest.raises(ZeroDivisionError):
        model(torch.randn(4, 8))


@pytest.mark.filterwarnings("ignore:.torch.jit.trace:DeprecationWarning")
def test_tracing_does_not_record_the_hooks() -> None:
    """torch.jit.trace of a watched model holds the user's operations only."""
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    with watch(model, run=False, rules=(), strict=True):
        traced = torch.jit.trace(model, torch.ones(1, 3))
    assert "index_select" not in str(traced.inlined_graph)


def test_vmap_and_functional_calls_pass_through() -> None:
    """Inside torch.func transforms nothing is seen, nothing breaks, and no site goes dark."""
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    with watch(model, run=False, rules=(), strict=True) as monitor:
        out = torch.func.vmap(model)(torch.ones(5, 4, 3))
        assert out.shape == (5, 4, 2)
        torch.func.functional_call(model, dict(model.named_parameters()), torch.ones(4, 3))
        monitor.step()
        assert not any("dark" in e.kind for e in monitor.history.events)
