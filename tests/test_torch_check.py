"""check(): healthy models raise nothing, broken ones are named, and nothing is left behind."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.nn.utils.rnn import pack_sequence  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from shiftwatch.integrations.torch import check, watch  # noqa: E402
from tests.preflight_models import (  # noqa: E402
    BROKEN,
    CE,
    HEALTHY,
    Gpt,
    Lstm,
    cnn,
    flat,
    gpt2,
    images,
    lora,
    mlp,
    tokens,
)  # fmt: skip

#: Limits were chosen on seeds 0 to 9.
SEEDS = range(100, 110)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_model_raises_no_warning(name: str) -> None:
    """None in ten initialisations; an info may be there."""
    if name == "gpt2 of transformers":
        pytest.importorskip("transformers")
    if name == "mlp on raw digits":
        pytest.importorskip("sklearn")
    raised = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        model, batch, loss = HEALTHY[name]()
        result = check(model, batch, loss=loss)
        assert result.verdicts
        raised += [(seed, f) for f in result.findings if f.severity != "info"]
    assert raised == []


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_model_is_named_with_its_layer(name: str) -> None:
    """In each of ten initialisations, at least as severe as stated."""
    build, (severity, kind, layer) = BROKEN[name]
    severities = {"warning": ("warning", "critical"), "critical": ("critical",)}[severity]
    missed = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        model, batch, loss = build()
        result = check(model, batch, loss=loss)
        named = [
            f for f in result.findings
            if f.severity in severities and (f.kind, f.layer) == (kind, layer)
        ]  # fmt: skip
        if not named or result.ok:
            missed.append((seed, result.findings))
    assert missed == []


class Dirty(nn.Module):
    """Does in its forward all that a forward should not do."""

    def __init__(self, error: bool = False) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 64)
        self.norm = nn.BatchNorm1d(64)
        self.head = nn.Linear(64, 10)
        self.dropout = nn.Dropout(0.3)
        self.calls, self.seen, self.cache = 0, [0], {"a": 1}
        self.memory = torch.zeros(3)
        self.dice = torch.Generator().manual_seed(1)
        self.random = np.random.default_rng(2)
        self.error = error

    def forward(self, x: Any) -> Any:
        self.calls += 1
        self.seen.append(self.calls)
        self.cache[self.calls] = x
        self.extra = x
        self.memory.add_(1)
        self.head.weight.data.mul_(1.5)
        self.fc.bias.requires_grad_(False)
        self.dropout.eval()
        x += random.random() + np.random.rand() + torch.rand(())  # noqa: NPY002
        x = x + torch.rand((), generator=self.dice) + self.random.normal()
        x = self.head(self.dropout(self.norm(self.fc(x))))
        if self.error:
            raise RuntimeError("broken forward")
        return x


def state(model: nn.Module, batch: Any) -> list[Any]:
    """All that check() could touch: bits, identities, and what lies in plain attributes."""
    found: list[Any] = [random.getstate(), np.random.get_state()[1].tolist()]  # noqa: NPY002
    found += [torch.get_rng_state().tolist()]
    for name, module in model.named_modules():
        plain = {
            k: copy.copy(v) for k, v in module.__dict__.items()
            if not isinstance(v, (torch.Tensor, torch.Generator, np.random.Generator))
        }  # fmt: skip
        found += [name, str({k: v for k, v in plain.items() if k[0] != "_"}), sorted(plain)]
        found += [{k: list(v) for k, v in plain.items() if "_hooks" in k and v is not None}]
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        grad = tensor.grad if tensor.is_leaf else None
        found += [name, id(tensor), tensor.detach().numpy().tobytes(), tensor.requires_grad]
        found += [tensor._version, id(grad), None if grad is None else grad.numpy().tobytes()]
    found += [t.numpy().tobytes() for t in batch]
    if isinstance(model, Dirty):
        found += [model.memory.tolist(), model.dice.get_state().tolist()]
        found += [model.random.bit_generator.state]
    return found


@pytest.mark.parametrize("error", [False, True])
def test_nothing_is_left_behind(error: bool) -> None:
    """Bits, gradients, modes, hooks, attributes, generators, batch: also when the model raises."""
    model, batch = Dirty(error), flat()
    model.fc.weight.grad = torch.randn(64, 64)
    before = state(model, batch)
    if error:
        with pytest.raises(RuntimeError, match="broken forward"):
            check(model, batch, loss=CE)
    else:
        check(model, batch, loss=CE)
    after = state(model, batch)
    # The forward wrote into head.weight: same bits, another version.
    assert [
        a for a, b in zip(after, before, strict=True) if a != b and not isinstance(a, int)
    ] == []


@pytest.mark.parametrize("name", ["cnn batchnorm", "gpt", "lstm", "lora", "dit", "rezero"])
def test_models_are_the_same_to_the_last_bit(name: str) -> None:
    """Among them those for which steps are taken to see whether a gradient arrives."""
    model, batch, loss = HEALTHY[name]()
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    tensors = [t for t in (batch if isinstance(batch, tuple) else [batch]) if hasattr(t, "numpy")]
    before = state(model, tensors)
    check(model, batch, loss=loss)
    changed = [a for a, b in zip(state(model, tensors), before, strict=True) if a != b]
    assert all(isinstance(a, int) for a in changed)  # versions, where steps were undone


def test_an_optimizer_that_steps_in_the_backward_pass_does_not_step() -> None:
    model = mlp(nn.ReLU)
    stepped: list[int] = []
    for p in model.parameters():
        p.register_post_accumulate_grad_hook(lambda p: stepped.append(1))
    check(model, flat(), loss=CE)
    assert stepped == [] and all(p.grad is None for p in model.parameters())


def test_a_monitor_does_not_see_the_check() -> None:
    """Its hooks are off meanwhile, and see the next step as ever."""
    model, (x, y) = mlp(nn.ReLU), flat()
    with watch(model, run=False) as monitor:
        CE(model(x), y).backward()
        monitor.step()
        check(model, (x * 1e6, y), loss=CE)
        CE(model(x), y).backward()
        monitor.step()
    assert monitor.alerts == [] and monitor.steps == 2
    assert float(monitor.history.series("std", "fc0")[1].max()) < 1e3


def test_user_hooks_run_and_stay() -> None:
    model, calls = mlp(nn.ReLU), []
    handle = model.fc0.register_forward_hook(lambda *_: calls.append(1))
    check(model, flat(), loss=CE)
    assert calls == [1] and handle.id in model.fc0._forward_hooks


def test_every_form_of_a_batch_is_understood() -> None:
    model, (x, y) = mlp(nn.ReLU), flat()
    same = [
        check(model, batch, loss=CE)
        for batch in ((x, y), [x, y], {"x": x, "labels": y}, [(x, y)], [[x, y]])
    ]
    assert {r.loss for r in same} == {same[0].loss} and same[0].samples == 64
    two = check(model, [(x[:32], y[:32]), (x[32:], y[32:])], loss=CE)
    assert (two.batches, two.samples) == (2, 64)
    assert two.loss == pytest.approx(same[0].loss, abs=1e-5)
    assert two.layers[0].rms == pytest.approx(same[0].layers[0].rms)
    assert all(np.isnan(check(model, batch).loss) for batch in (x, (x, y), [x]))


def test_models_of_several_inputs_take_them_from_a_tuple_or_a_dict() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(64, 10), nn.Linear(64, 10)

        def forward(self, x: Any, z: Any) -> Any:
            return self.a(x) + self.b(z)

    (x, y), z = flat(), torch.randn(64, 64)
    ways = [(x, z, y), ((x, z), y), ({"x": x, "z": z}, y), {"x": x, "z": z, "y": y}]
    assert len({check(Two(), way, loss=CE).ok for way in ways}) == 1
    assert check(Two(), (x, z)).ok


def test_the_models_own_loss_is_taken() -> None:
    pytest.importorskip("transformers")
    model, batch, _ = gpt2()
    assert check(model, batch).loss == pytest.approx(np.log(100), abs=0.2)
    scalar = check(
        Gpt(), tokens(), forward=lambda m, x: F.cross_entropy(m(x).flatten(0, 1), x.flatten())
    )
    assert scalar.loss == pytest.approx(np.log(100), abs=0.2)


def test_packed_sequences_pass() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.LSTM(8, 16), nn.Linear(16, 10)

        def forward(self, x: Any) -> Any:
            return self.head(self.rnn(x)[1][0][-1])

    x = pack_sequence([torch.randn(n, 8) for n in (7, 5, 3, 2)])
    assert check(Packed(), (x, torch.arange(4)), loss=CE).ok


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_taken_also_where_they_are_off(mode: Any) -> None:
    model = mlp(nn.ReLU)
    with mode():
        result = check(model, flat()[0])
    assert result.ok and np.isfinite(result.layers[0].gradient)


def test_wrapped_and_compiled_models_are_looked_through() -> None:
    model, batch = cnn(True), images()
    plain = check(model, batch, loss=CE)
    compiled = torch.compile(model, backend="eager")
    compiled(batch[0])
    for wrapped in (nn.DataParallel(model), compiled):
        result = check(wrapped, batch, loss=CE)
        assert [s.layer for s in result.layers] == [s.layer for s in plain.layers]


def test_the_surrogate_shows_the_same_gradient_profile_as_the_loss() -> None:
    """A random projection: its gradient is 1 at the output, and fades over depth likewise."""
    torch.manual_seed(3)
    model, batch = mlp(nn.Tanh, 6), flat(256)
    with_loss, without = check(model, batch, loss=CE).layers, check(model, batch[0]).layers
    assert without[-1].gradient == pytest.approx(1, abs=1e-5)
    a, b = ([s.gradient / rows[-1].gradient for s in rows] for rows in (with_loss, without))
    np.testing.assert_allclose(np.log(a), np.log(b), atol=0.3)


def test_checkpointed_blocks_are_counted_once() -> None:
    class Block(nn.Module):
        def __init__(self, reentrant: bool) -> None:
            super().__init__()
            self.body, self.head = nn.Sequential(nn.Linear(64, 64), nn.ReLU()), nn.Linear(64, 10)
            self.reentrant = reentrant

        def forward(self, x: Any) -> Any:
            if self.reentrant:
                x.requires_grad_()
            return self.head(checkpoint(self.body, x, use_reentrant=self.reentrant))

    fine, batch = Block(False), flat()
    result = check(fine, batch, loss=CE)
    assert result.ok and result.layers[0].rms == pytest.approx(
        float(fine.body[0](batch[0]).detach().square().mean().sqrt()), rel=1e-5
    )
    torch.manual_seed(5)
    other, kept = Block(True), torch.randn(64, 64)
    other.body[0].weight.grad = kept
    before = kept.clone()
    result = check(other, batch, loss=CE)
    assert result.ok and "gradients of 4 parameters" in result.table()
    assert other.body[0].weight.grad is kept and torch.equal(kept, before)
    other.head.weight.register_post_accumulate_grad_hook(lambda p: pytest.fail("stepped"))
    assert any("do not go together" in f.message for f in check(other, batch, loss=CE).findings)


def test_numbers_are_those_of_whole_tensors() -> None:
    """Against PyTorch, on one layer with its activation as a function."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.head = nn.Linear(64, 32), nn.Linear(32, 10)

        def forward(self, x: Any) -> Any:
            return self.head(F.relu(self.fc(x)))

    model, (x, y) = Net(), flat()
    with torch.no_grad():
        model.fc.bias[:8] = -50.0
    rows = {s.layer: s for s in check(model, (x, y), loss=CE).layers}
    hidden = model.fc(x)
    hidden.retain_grad()
    CE(model.head(hidden.relu()), y).backward()
    assert set(rows) == {"fc", "fc · relu", "head"}
    assert rows["fc · relu"].dead == 0.25
    assert rows["fc"].gradient == pytest.approx(float(hidden.grad.norm()), rel=1e-5)
    spread = float(hidden.detach().var(0, correction=0).mean().sqrt())
    assert rows["fc"].spread == pytest.approx(spread, rel=1e-5)


@pytest.mark.parametrize(
    ("model", "batch", "words"),
    [
        (nn.Sequential(nn.Linear(64, 32), nn.Dropout(0.2), nn.BatchNorm1d(32), nn.Linear(32, 10)),
         flat(), "Li et al. 2019"),
        (nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10)),
         flat(), "bias=False saves it"),
        (nn.Sequential(mlp(nn.ReLU), nn.LogSoftmax(1)).eval(), flat(), ""),
        (cnn(True).eval(), images(), "call model.train()"),
        (lora(), flat(), "no gradient is asked for 6 parameters"),
        (lora(), flat(), "zero now, arriving a step later"),
        (mlp(nn.ReLU), flat(1), "one sample only"),
        (mlp(nn.Tanh, 5), flat(), "no normalisation before"),
        (mlp(nn.ReLU).requires_grad_(False), flat(), "no output asks for a gradient"),
        (nn.Sequential(nn.Linear(64, 64), nn.Softmax(1), nn.Linear(64, 10)),
         (flat()[0] * 12, flat()[1]), "starts peaked"),
    ],
)  # fmt: skip
def test_what_is_only_worth_knowing_is_an_info(model: Any, batch: Any, words: str) -> None:
    result = check(model, batch, loss=CE)
    assert result.ok, str(result)
    assert any(words in f.message for f in result.findings) or not words


def test_images_that_the_model_scales_itself_are_normalised() -> None:
    """What counts is what enters the first layer."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = cnn(False)

        def forward(self, x: Any) -> Any:
            return self.body(x.float() / 255)

    x = torch.randint(256, (32, 3, 16, 16), dtype=torch.uint8)
    assert check(Scaled(), (x, images()[1]), loss=CE).ok


def test_an_activation_shared_by_layers_is_judged_at_each() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2, self.head = nn.Linear(64, 32), nn.Linear(32, 64), nn.Linear(64, 10)
            self.relu = nn.ReLU()

        def forward(self, x: Any) -> Any:
            return self.head(self.relu(self.fc2(self.relu(self.fc1(x)))))

    model = Shared()
    nn.init.constant_(model.fc2.bias, -20.0)
    found = [f for f in check(model, flat(), loss=CE).findings if f.kind == "dead"]
    assert [(f.severity, f.layer) for f in found] == [("critical", "fc2")]


def test_regressions_are_told_of_outputs_and_targets_out_of_size() -> None:
    x, y = torch.randn(64, 64), torch.randn(64, 10)
    model = mlp(nn.ReLU)
    model.head.weight.data.mul_(500)
    result = check(model, (x, y), loss=nn.MSELoss())
    assert ("loss", "head") in [(f.kind, f.layer) for f in result.findings]
    large = check(mlp(nn.ReLU), (x, y * 1000), loss=nn.MSELoss())
    assert large.ok and any("target is not normalised" in f.message for f in large.findings)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: check(lambda x: x, flat()), TypeError, "takes a torch.nn.Module; got function"),  # type: ignore[arg-type,return-value]
        (lambda: check(mlp(nn.ReLU), flat(), loss=3), TypeError, "loss must be a function"),  # type: ignore[arg-type]
        (lambda: check(mlp(nn.ReLU), "x"), ValueError, "batch must hold tensors; got str"),
        (lambda: check(mlp(nn.ReLU), []), ValueError, "batch must hold tensors; got list"),
        (lambda: check(mlp(nn.ReLU), flat()[0], loss=CE), ValueError, "loss needs a target"),
        (lambda: check(mlp(nn.ReLU), flat(), loss=nn.CrossEntropyLoss(reduction="none")),
         ValueError, r"one number; CrossEntropyLoss returned \(64,\)"),
        (lambda: check(nn.Sequential(nn.LazyLinear(3)), flat()[0]), ValueError, "lazy ones"),
        (lambda: check(nn.Sequential(), flat()[0]), TypeError, "at least one layer"),
    ],
)  # fmt: skip
def test_an_argument_that_cannot_work_says_what_to_do(call: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_an_error_of_the_model_names_the_layer() -> None:
    with pytest.raises(RuntimeError, match="cannot be multiplied") as caught:
        check(mlp(nn.ReLU), torch.randn(8, 3))
    notes = getattr(caught.value, "__notes__", None)  # from Python 3.11 on
    assert notes is None or notes == ["shiftwatch.check: raised in layer fc0"]


def test_lstm_layers_are_one_line_and_a_table_fits_a_page() -> None:
    result = check(Lstm(), (tokens(16), torch.randint(10, (16,))), loss=CE)
    assert [s.module for s in result.layers] == ["Embedding", "LSTM", "Linear"]
    assert max(map(len, str(result).splitlines())) <= 100
    assert result._repr_html_().startswith("<pre>Lstm · 16 samples")
