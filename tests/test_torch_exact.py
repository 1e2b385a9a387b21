"""Exact when asked: one NaN among many values is named, and what is counted is counted in full."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from shiftwatch import Monitor  # noqa: E402
from shiftwatch.integrations.torch import (  # noqa: E402
    Exact,
    exact,
    full_step,
    gradients,
    looks,
    sweep,
    watch,
)
from shiftwatch.integrations.torch.census import Tally  # noqa: E402

NAN, INF = math.nan, math.inf
SICK = 10  # the step at which something happens


class Sqrt(nn.Module):
    """The square root, whose derivative at zero is infinite."""

    def forward(self, x: Any) -> Any:
        return x.sqrt()


class Mask(nn.Module):
    """Hides the later positions, as causal attention does."""

    def forward(self, x: Any) -> Any:
        hidden = torch.ones(x.shape[-2:], dtype=torch.bool).triu(1)
        return x.masked_fill(hidden, -INF)


class Attention(nn.Module):
    """Attention whose masked logits are a watched module's output; its own output is masked too."""

    def __init__(self) -> None:
        super().__init__()
        self.key, self.query, self.value = (nn.Linear(16, 16) for _ in range(3))
        self.mask, self.softmax = Mask(), nn.Softmax(-1)
        self.own = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 6)

    def forward(self, x: Any) -> Any:
        scores = self.mask(self.query(x) @ self.key(x).transpose(1, 2))
        x = self.softmax(scores) @ self.value(x)
        hidden = torch.full((x.shape[1], x.shape[1]), -INF).triu(1)
        x, _ = self.own(x, x, x, attn_mask=hidden)
        logits = self.head(x.mean(1))
        return logits.masked_fill(torch.arange(6) >= 4, -INF)


def mlp(second: Callable[[], nn.Module] = nn.ReLU, width: int = 512) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            fc1=nn.Linear(32, width), act1=nn.Tanh(), fc2=nn.Linear(width, width), act2=second(),
            fc3=nn.Linear(width, width), act3=nn.ReLU(), head=nn.Linear(width, 4),
        )
    )  # fmt: skip


class Parts(nn.Module):
    """The same layers, of a model whose own forward is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()

    def loss(self, x: Any, y: Any) -> Any:
        return nn.functional.cross_entropy(self.body(x), y)


def plant(
    layer: nn.Module, value: float, where: Any = (5, 17), once: bool = False
) -> dict[str, int]:
    """Have a layer put out ``value`` somewhere from step ``SICK`` on, or then only."""
    now = {"step": 0}

    def hook(module: Any, args: Any, output: Any) -> Any:
        if now["step"] == SICK or (now["step"] > SICK and not once):
            output = output.clone()
            output[where] = value
            return output
        return None

    layer.register_forward_hook(hook)
    return now


def train(
    model: nn.Module,
    *,
    steps: int = SICK + 4,
    now: dict[str, int] | None = None,
    data: Callable[[int, Any], Any] = lambda step, x: x,
    loss_of: Callable[[int, Any], Any] = lambda step, loss: loss,
    before: Callable[[int], Any] = lambda step: None,
    moving: Callable[[int], bool] = lambda step: True,
    shape: tuple[int, ...] = (32,),
    **options: Any,
) -> Monitor:
    """A short training; ``now`` is told the step, the functions may spoil it."""
    random = torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    monitor = watch(model, optimizer=optimizer, run=False, strict=True, **options)
    for step in range(steps):
        if now is not None:
            now["step"] = step
        before(step)
        x = data(step, torch.randn(256, *shape, generator=random))
        y = torch.randint(4, (256,), generator=random)
        if isinstance(model, Parts):
            loss = model.loss(x, y)
        else:
            loss = nn.functional.cross_entropy(model(x), y)
        loss = loss_of(step, loss)
        loss.backward()
        if moving(step):
            optimizer.step()
        optimizer.zero_grad()
        monitor.step(loss=loss)
    monitor.close()
    return monitor


def the_alert(monitor: Monitor) -> Any:
    """The one alert on what is not finite."""
    (alert,) = [a for a in monitor.alerts if a.kind == "nonfinite"]
    return alert


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a device: nothing is looked at within the step of the sign."""
    monkeypatch.setattr(sweep.Sweeper, "ended", lambda self, output: None)
    monkeypatch.setattr(sweep.Sweeper, "before", lambda self: None)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def until_sick(step: int) -> bool:
    return step < SICK


# --- one NaN --------------------------------------------------------------------------------


@pytest.mark.parametrize("once", [False, True])
def test_one_nan_of_131072_is_named_with_its_unit_in_its_own_step(once: bool) -> None:
    """Before the optimizer spreads it into every weight, what is alive is looked at in full."""
    model = mlp()
    alert = the_alert(train(model, now=plant(model.fc2, NAN, once=once)))
    assert (alert.step, alert.detected) == (SICK, SICK)
    assert (alert.layer, alert.tensor, alert.origin) == ("fc2", "output", "fc2")
    assert "1 NaN of 131,072 values, first in unit 17" in alert.message
    assert "its inputs and weights are finite" in alert.message
    assert alert.value == pytest.approx(1 / 131072)


def test_a_model_whose_own_forward_is_never_called_is_looked_at_too() -> None:
    """The layer that comes last stands for the model's output."""
    model = Parts()
    alert = the_alert(train(model, now=plant(model.body.fc2, NAN)))
    assert (alert.step, alert.origin) == (SICK, "body.fc2")
    assert "1 NaN of 131,072 values, first in unit 17" in alert.message


def test_one_nan_in_the_batch_is_a_data_fault() -> None:
    """The model's input is looked at first."""

    def data(step: int, x: Any) -> Any:
        if step == SICK:
            x[3, 7] = NAN
        return x

    alert = the_alert(train(mlp(), data=data))
    assert (alert.step, alert.origin, alert.tensor) == (SICK, "<input>", "input")
    assert "1 NaN of 8,192 values, first in unit 7" in alert.message


@pytest.mark.parametrize("late", [False, True])
def test_one_nan_in_a_weight_is_named_as_such(late: bool, request: Any) -> None:
    """Whether it is found in its own step or, where no step moved the weights, in the next."""
    if late:
        request.getfixturevalue("blind")
    model = mlp()

    def before(step: int) -> None:
        if step == SICK:
            model.fc2.weight.data[17, 3] = NAN

    monitor = train(model, before=before, moving=until_sick if late else lambda step: True)
    alert = the_alert(monitor)
    assert (alert.step, alert.detected - late) == (SICK, SICK)
    assert (alert.layer, alert.tensor, alert.origin) == ("fc2", "weight", "fc2")
    assert "1 NaN of 262,144 values, first in unit 17" in alert.message
    assert "its output holds 256 NaN of 131,072" in alert.message


def test_without_a_look_in_the_same_step_the_next_one_names_it(blind: None) -> None:
    """The alert waits one step for it, and says since when."""
    model = mlp()
    alert = the_alert(train(model, now=plant(model.fc2, NAN), moving=until_sick))
    assert (alert.step, alert.detected) == (SICK, SICK + 1)
    assert (alert.layer, alert.origin) == ("fc2", "fc2")
    assert "1 NaN of 131,072 values, first in unit 17" in alert.message


def test_flags_that_are_read_late_tell_the_same(
    blind: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a device, where no verdict is read before the step has ended."""
    monkeypatch.setattr(looks, "finite", lambda tensor: False)
    model = mlp()
    alert = the_alert(train(model, now=plant(model.fc2, NAN), moving=until_sick))
    assert (alert.step, alert.detected, alert.origin) == (SICK, SICK + 1, "fc2")
    assert "1 NaN of 131,072 values, first in unit 17; its inputs and weights" in alert.message


def test_weights_that_the_optimizer_ruined_since_are_not_taken_for_the_cause(blind: None) -> None:
    """What the samples of the step itself showed stands, and the message says why."""
    model = mlp()
    alert = the_alert(train(model, now=plant(model.fc2, NAN, where=(slice(None), 17))))
    assert (alert.step, alert.detected, alert.origin) == (SICK, SICK + 1, "fc2")
    assert "the weights of 4 layers are not finite by now" in alert.message


def test_an_infinity_that_tanh_swallows_is_found_in_the_next_step() -> None:
    """The loss stays finite; a sample gives the sign, and the next step is looked at."""
    model = mlp()
    alert = the_alert(train(model, now=plant(model.fc1, INF, where=(slice(None), 17))))
    assert (alert.step, alert.detected, alert.origin) == (SICK, SICK + 1, "fc1")
    assert "256 Inf of 131,072 values, first in unit 17" in alert.message


def test_what_arises_between_two_layers_is_said_to(blind: None) -> None:
    """All outputs are finite, and yet what enters the next layer is not."""
    model = mlp()
    now = {"step": 0}

    def divide(module: Any, args: Any) -> Any:
        return (args[0] / (0.0 if now["step"] >= SICK else 1.0),)

    model.fc2.register_forward_pre_hook(divide)
    alert = the_alert(train(model, now=now, moving=until_sick))
    assert (alert.step, alert.origin) == (SICK, "fc2")
    assert "outside of any layer" in alert.message


def test_a_nan_of_the_backward_pass_alone_is_named_by_its_layer() -> None:
    """The derivative of a square root at zero: all outputs are finite, and so is the loss."""
    model = nn.Sequential(
        OrderedDict(fc1=nn.Linear(32, 64), root=Sqrt(), fc2=nn.Linear(64, 64), act=nn.ReLU(),
                    head=nn.Linear(64, 4))
    )  # fmt: skip
    now = {"step": 0}

    def positive(module: Any, args: Any, output: Any) -> Any:
        zero = (torch.arange(64) == 9) & (now["step"] == SICK)
        return (output.abs() + 1.0) * ~zero

    model.fc1.register_forward_hook(positive)
    alert = the_alert(train(model, now=now))
    assert (alert.step, alert.detected, alert.tensor) == (SICK, SICK, "gradient")
    assert (alert.layer, alert.origin) == ("fc1", "root")
    assert "first in unit 9" in alert.message
    assert "those of fc2, next towards the loss, are finite" in alert.message


def test_a_loss_that_is_nan_by_itself_is_said_to_be() -> None:
    """All that the model put out is finite."""
    alert = the_alert(train(mlp(), loss_of=lambda step, loss: loss * (NAN if step == SICK else 1)))
    assert (alert.step, alert.detected, alert.metric) == (SICK, SICK, "loss")
    assert "it comes from the loss itself" in alert.message


def test_a_gradient_that_comes_bad_from_a_finite_loss_is_said_to() -> None:
    """The derivative of the loss itself is infinite."""

    def loss_of(step: int, loss: Any) -> Any:
        return loss + (loss - loss.detach()).sqrt() if step == SICK else loss

    alert = the_alert(train(mlp(), loss_of=loss_of))
    assert (alert.step, alert.origin, alert.tensor) == (SICK, "head", "gradient")
    assert "so it comes from the loss" in alert.message


class Square(nn.Module):
    """The square, which overflows at 2e19."""

    def forward(self, x: Any) -> Any:
        return x * x


def test_a_weight_that_a_bit_made_absurd_is_named_before_what_overflows() -> None:
    """1e38 is finite, and so is what it makes: a square further on is not."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), Square(), nn.Linear(64, 4))

    def before(step: int) -> None:
        if step == SICK:
            model[0].weight.data[17, 3] = 1e38  # type: ignore[index]

    alert = the_alert(train(model, before=before))
    assert (alert.layer, alert.origin, alert.step) == ("2", "0", SICK)
    assert "its weight holds 1e+38; further on, in 2: " in alert.message


def test_weights_of_a_usual_size_are_not_blamed_for_what_overflows() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), Square(), nn.Linear(64, 4))
    now = plant(model[2], INF)
    alert = the_alert(train(model, now=now))
    assert (alert.layer, alert.origin, alert.step) == ("2", "2", SICK)


def test_an_infinity_in_the_batch_that_shows_in_the_gradients_is_a_data_fault() -> None:
    """Tanh makes a finite number of it; backward, 0 times Inf is NaN."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 16, bias=False), nn.Tanh(), nn.Linear(16, 4))

    def data(step: int, x: Any) -> Any:
        if step == SICK:
            x[9, 5] = INF
        return x

    alert = the_alert(train(model, data=data))
    assert (alert.layer, alert.tensor, alert.origin) == ("<input>", "input", "<input>")
    assert (alert.step, alert.detected) == (SICK, SICK)
    assert alert.message.endswith(
        "1 Inf of 8,192 values, first in unit 5, seen in the gradients first"
    )


def test_a_gradient_that_another_reason_ruined_is_no_fault_of_a_finite_input() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 16, bias=False), nn.Tanh(), nn.Linear(16, 4))

    def loss_of(step: int, loss: Any) -> Any:
        return loss * NAN if step == SICK else loss

    alert = the_alert(train(model, loss_of=loss_of))
    assert alert.origin != "<input>" and alert.step == SICK


def test_what_does_not_come_again_is_said_not_to() -> None:
    """One bad batch whose infinity a tanh swallows: the samples are all there is."""
    model = mlp()
    now = plant(model.fc1, INF, where=(slice(None), 17), once=True)
    monitor = train(model, now=now)
    alert = the_alert(monitor)
    assert (alert.step, alert.detected, alert.origin) == (SICK, SICK + 1, "fc1")
    assert "not seen again in step 11, where every value was looked at" in alert.message


def test_an_alert_that_waits_is_raised_when_the_run_ends() -> None:
    """The training stops at the first NaN, as many do."""
    model = mlp()
    now = plant(model.fc1, INF, where=(slice(None), 17))
    alert = the_alert(train(model, now=now, steps=SICK + 1))
    assert (alert.step, alert.origin) == (SICK, "fc1")


@pytest.mark.parametrize("every", [1, 3])
def test_the_steps_before_the_sign_are_in_the_history(every: int) -> None:
    """The ring is drained at once, and the step after is watched whatever ``every`` says."""
    model = mlp()
    sick = 12 if every == 3 else SICK
    now = plant(model.fc1, INF, where=(slice(None), 17))
    monitor = train(model, now=now, every=every, steps=sick + 4)
    run = monitor.history
    assert the_alert(monitor).detected == sick + 1
    assert {sick, sick + 1} <= set(run.steps.tolist())
    before = int(np.flatnonzero(run.steps == sick)[0])
    assert run.first[0] == 0 and (every > 1 or run.first[before] == 8)
    column = [s.key for s in run.sites].index("fc1:output")
    assert run.metric("nonfinite")[before, column] > 0


# --- quiet ----------------------------------------------------------------------------------


def test_nothing_is_looked_at_where_nothing_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """The full look is never called in a healthy training."""
    calls = []
    for module in (full_step, gradients, sweep):
        monkeypatch.setattr(module, "flags", lambda *given: calls.append(given))
    monitor = train(mlp(), steps=30)
    assert monitor.alerts == [] and calls == []


def test_masks_of_minus_infinity_are_no_alarm_and_are_not_looked_at_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Masked logits in a module's output, in an argument and in the model's output."""
    looks = []
    counted = sweep.Sweeper._looked
    monkeypatch.setattr(
        sweep.Sweeper, "_looked", lambda self: (looks.append(1), counted(self)) and None
    )
    monitor = train(Attention(), steps=100, shape=(5, 16))
    assert monitor.alerts == []
    assert 0 < len(looks) <= 8


@pytest.mark.parametrize("late", [False, True])
def test_a_nan_behind_a_mask_is_named_all_the_same(late: bool, request: Any) -> None:
    """-Inf that was harmless until now is not the origin."""
    if late:
        request.getfixturevalue("blind")
    model = Attention()
    now = plant(model.value, NAN, where=(5, 2, 3))
    moving = until_sick if late else lambda step: True
    alert = the_alert(train(model, now=now, shape=(5, 16), moving=moving))
    assert (alert.step, alert.detected - late, alert.origin) == (SICK, SICK, "value")
    assert late or "1 NaN of 20,480 values, first in unit 3" in alert.message


def test_an_overflow_that_the_scaler_skips_is_no_sign() -> None:
    """Gradients in half precision overflow now and then; nobody steps with them."""
    model = mlp()
    looks: list[int] = []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with watch(model, optimizer=optimizer, run=False, strict=True) as monitor:
        source: Any = monitor._source
        for step in range(30):
            loss = nn.functional.cross_entropy(model(torch.randn(64, 32)), torch.randint(4, (64,)))
            (loss * (INF if step % 7 == 6 else 1.0)).backward()
            if step % 7 != 6:
                optimizer.step()
            optimizer.zero_grad()
            monitor.step(loss=loss)
        looks.append(source.sweeper.looks)
    assert monitor.alerts == [] and looks == [0]


def test_a_model_that_stays_broken_is_looked_at_ever_more_rarely(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After the weights are NaN there is nothing new to find."""
    looks = []
    counted = sweep.Sweeper._looked
    monkeypatch.setattr(
        sweep.Sweeper, "_looked", lambda self: (looks.append(1), counted(self)) and None
    )
    model = mlp()
    monitor = train(model, now=plant(model.fc2, NAN), steps=120)
    assert len(monitor.alerts) == 1 and len(looks) <= 8


@pytest.mark.parametrize("name", ["sweep", "back", "count"])
def test_looking_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses, gradients and weights are the same to the last bit, and no hook is left."""

    def trained(watched: bool) -> list[Any]:
        torch.manual_seed(0)
        model = mlp()
        model.drop = nn.Dropout(0.2)
        where = (slice(None), 17)
        now = plant(model.fc1, INF if name == "sweep" else NAN, where=where)
        if name == "count":
            now["step"] = -1
        hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        options: dict[str, Any] = {"exact": "fc*"} if name == "count" else {}
        monitor = watch(model, run=False, strict=True, **options) if watched else None
        left = []
        for step in range(SICK + 4):
            if name != "count":
                now["step"] = step
            if monitor is not None and name == "count" and step == SICK:
                exact(monitor)
            loss = nn.functional.cross_entropy(model(torch.randn(32, 32)), torch.randint(4, (32,)))
            loss.backward()
            left += [loss.detach(), *(p.grad.clone() for p in model.parameters())]
            optimizer.step()
            optimizer.zero_grad()
            if monitor is not None:
                monitor.step(loss=loss)
        if monitor is not None:
            source: Any = monitor._source
            assert (source.sweeper.looks > 0) == (name != "count")
            monitor.close()
        after = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
        assert after == hooks
        return [*left, *model.state_dict().values(), torch.get_rng_state()]

    for one, other in zip(trained(False), trained(True), strict=True):
        assert torch.equal(one.nan_to_num(), other.nan_to_num())


# --- what a look sees -----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7,), (6, 5), (4, 3, 2, 5), (1, 1), ()])
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.float64])
@pytest.mark.parametrize("piece", [4, 1 << 24])
def test_what_is_counted_is_what_is_there(
    shape: tuple[int, ...], kind: Any, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers of NaN and Inf and the first unit, against NumPy, in one piece or several."""
    monkeypatch.setattr(looks, "PIECE", piece)
    rng = np.random.default_rng(len(shape))
    values = rng.choice([0.0, 1.0, NAN, INF, -INF], size=shape, p=[0.4, 0.4, 0.1, 0.05, 0.05])
    values = np.array(values)
    values.reshape(-1)[-1] = NAN
    tensor = torch.tensor(values, dtype=kind)
    for axis in (None, *range(len(shape))):
        found = looks.flags(tensor, axis)
        assert found is not None
        count = looks.Count(*found.tolist())
        assert count.nan == np.isnan(values).sum()
        assert (count.high, count.low) == ((values == INF).sum(), (values == -INF).sum())
        if axis is not None:
            others = tuple(d for d in range(values.ndim) if d != axis)
            assert count.unit == int(np.argmax((~np.isfinite(values)).any(others)))


def test_large_finite_values_are_no_finding() -> None:
    """The sum of finite values may overflow; they are looked at once more."""
    assert looks.flags(torch.full((64, 64), 3e38), 1) is None
    assert looks.flags(torch.full((64, 64), 6e4, dtype=torch.float16), 1) is None


# --- exact statistics -----------------------------------------------------------------------


def test_dead_units_are_counted_exactly_where_a_sample_cannot_see_them() -> None:
    """A layer wider than what is sampled, units that live in one row of 256 only."""
    model = nn.Sequential(
        OrderedDict(fc=nn.Linear(8, 1500), act=nn.ReLU(), head=nn.Linear(1500, 4))
    )
    with torch.no_grad():
        model.fc.bias[:400] = -1000.0
        model.fc.bias[100:200] = -95.0
        model.fc.weight[100:200] = 1.0
    alive = torch.zeros(1500, dtype=torch.bool)

    def see(module: Any, args: Any, output: Any) -> None:
        alive.logical_or_((output > 0).any(0))

    model.act.register_forward_hook(see)

    def data(step: int, x: Any) -> Any:
        x[5] = 100.0 / 8
        return x

    monitor = train(model, data=data, steps=8, shape=(8,), exact="act", rules=())
    run = monitor.history
    column = [s.key for s in run.sites].index("act:output")
    dead = int((~alive).sum())
    assert 300 <= dead < 1500
    assert run.metric("dead_fraction")[-1, column] == dead / 1500
    assert run.metric("exact_count")[-1, column] == 8 * 256 * 1500
    assert np.isnan(run.metric("exact_count")[-1, column - 1])
    assert any(e.kind == "exact" for e in run.events)


def test_dead_units_can_be_asked_for_once() -> None:
    """The answer is there when the step ends, and the window that ends with it holds it."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with watch(model, optimizer=optimizer, run=False, every=4, strict=True) as monitor:
        for step in range(6):
            if step == 5:
                found = exact(monitor, "act*")
                assert found == {}
                with torch.no_grad():
                    model.fc2.bias[[3, 400]] = -1000.0
            x = torch.randn(64, 32)
            nn.functional.cross_entropy(model(x), torch.randint(4, (64,))).backward()
            with torch.no_grad():
                full = model.act2(model.fc2(model.act1(model.fc1(x)))) if step == 5 else None
            if step < 5:
                optimizer.step()
            optimizer.zero_grad()
            monitor.step()
    assert sorted(found) == ["act1", "act2", "act3"]
    assert full is not None
    # The pass without gradients is a training pass by the model's mode, and is counted too.
    assert found["act2"].dead.tolist() == torch.nonzero((full == 0).all(0)).flatten().tolist()
    assert {3, 400} <= set(found["act2"].dead.tolist())
    assert found["act2"].zero == 2 * int((full == 0).sum())
    assert monitor.history.steps.tolist()[-1] == 5


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("dirty", [False, True])
@pytest.mark.parametrize(("shape", "axis"), [((300, 7), 1), ((6, 5, 9, 9), 1), ((40,), None)])
def test_exact_statistics_are_those_of_all_finite_values(
    kind: Any, dirty: bool, shape: tuple[int, ...], axis: int | None, monkeypatch: Any
) -> None:
    """Against NumPy in float64, over several tensors, also where half precision would overflow."""
    monkeypatch.setattr("shiftwatch.integrations.torch.census.PIECE", 100)
    rng = np.random.default_rng(0)
    tally = Tally(None)
    seen = []
    for generation in range(3):
        x = torch.tensor(rng.normal(300, 60, size=shape) * 100, dtype=kind)
        x[..., 0] = 0.0
        if dirty:
            x.view(-1)[[1, 3, 4]] = torch.tensor([NAN, INF, -INF], dtype=kind)
        tally.add(x, axis, generation)
        seen.append(x.double().numpy())
    census = tally.read(4)
    assert census is not None and tally.read(4) is None
    values = np.stack(seen)
    good = values[np.isfinite(values)]
    assert (census.column, census.steps) == (4, 3)
    assert (census.count, census.nonfinite) == (good.size, values.size - good.size)
    assert census.zero == (good == 0).sum()
    assert census.mean == pytest.approx(good.mean(), rel=1e-12)
    assert census.std == pytest.approx(good.std(), rel=1e-9)
    assert (census.low, census.high) == (good.min(), good.max())
    works = np.isfinite(values) & (values != 0)
    if axis is None:
        assert census.active.tolist() == [works.sum()]
    else:
        others = tuple(d for d in range(values.ndim) if d != axis + 1)
        assert census.active.tolist() == works.sum(others).tolist()


def test_exact_values_stand_in_the_history_and_not_in_the_alerts() -> None:
    """Mean, std and shares of the window are those of all its values; alarms stay as they were."""
    torch.manual_seed(0)
    plain = train(mlp(nn.Tanh), steps=16)
    torch.manual_seed(0)
    total = []
    model = mlp(nn.Tanh)
    model.act2.register_forward_hook(lambda m, a, o: total.append(o.detach().double()))
    counted = train(model, steps=16, exact=["act2"])
    assert [str(a) for a in counted.alerts] == [str(a) for a in plain.alerts]
    run = counted.history
    column = [s.key for s in run.sites].index("act2:output")
    last = torch.stack(total[8:])
    assert run.steps.tolist() == [7, 15]
    assert run.metric("mean")[-1, column] == pytest.approx(float(last.mean()), rel=1e-9)
    assert run.metric("std")[-1, column] == pytest.approx(float(last.std(correction=0)), rel=1e-9)
    flat = float((last.abs() >= 0.974679).double().mean())
    assert run.metric("saturation")[-1, column] == pytest.approx(flat, abs=1e-6)
    assert run.metric("nonfinite")[-1, column] == 0.0
    other = [s.key for s in run.sites].index("act1:output")
    assert run.metric("mean")[-1, other] == plain.history.metric("mean")[-1, other]


def test_every_counts_some_steps_only(tmp_path: Any) -> None:
    """And a run folder keeps what was counted."""
    import shiftwatch

    torch.manual_seed(0)
    model = mlp()
    with watch(model, run=tmp_path / "run", exact=Exact("act1", every=16)) as monitor:
        for _ in range(32):
            model(torch.randn(8, 32)).sum().backward()
            monitor.step()
    run = shiftwatch.open(tmp_path / "run")
    column = [s.key for s in run.sites].index("act1:output")
    counts = run.metric("exact_count")[:, column]
    assert counts[[0, 2]].tolist() == [8 * 512] * 2 and np.isnan(counts[[1, 3]]).all()


def test_what_cannot_be_counted_is_refused_with_the_cure() -> None:
    """At once, and not in a hook."""
    with pytest.raises(ValueError, match="matches none"):
        watch(mlp(), run=False, exact="nothing*")
    with pytest.raises(ValueError, match="every must be"):
        Exact("fc*", every=0)
    with pytest.raises(TypeError, match="has no model"):
        exact(Monitor(run=False))
    monitor = watch(mlp(), run=False)
    monitor.close()
    with pytest.raises(ValueError, match="closed"):
        exact(monitor)


def test_a_healthy_step_looks_at_the_models_output_once() -> None:
    """The model's own forward is noticed, so its last layer need not stand in for it."""
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with watch(model, run=False, rules=(), strict=True) as monitor:
        sweeper: Any = monitor._source.sweeper  # type: ignore[attr-defined]
        ended, seen = sweeper.ended, []
        sweeper.ended = lambda output: (seen.append(output), ended(output))
        for _ in range(12):
            model(torch.randn(5, 4)).sum().backward()
            monitor.step()
    assert len(seen) == 12 and sweeper.looks == 0
