"""What the samples say of real activations is what the whole tensors say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
datasets = pytest.importorskip("sklearn.datasets")
from torch import nn  # noqa: E402

from shiftwatch.integrations.torch import modules  # noqa: E402
from shiftwatch.integrations.torch.source import TorchSource  # noqa: E402
from shiftwatch.monitor import Monitor  # noqa: E402


def mlp() -> nn.Module:
    parts: list[nn.Module] = [nn.Flatten()]
    for inner, outer in ((64, 256), (256, 256), (256, 128), (128, 64)):
        parts += [nn.Linear(inner, outer), nn.ReLU()]
    return nn.Sequential(*parts, nn.Linear(64, 10))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.GELU(), nn.Dropout(0.2),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip


class Rows(nn.Module):
    """An LSTM that reads the image row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(8, 64, num_layers=2, batch_first=True)
        self.norm, self.fc = nn.LayerNorm(64), nn.Linear(64, 10)

    def forward(self, x: Any) -> Any:
        return self.fc(self.norm(self.rnn(x[:, 0])[0])[:, -1])


@pytest.mark.parametrize("build", [mlp, cnn, Rows])
def test_samples_agree_with_whole_tensors_within_the_stated_error(
    build: Callable[[], nn.Module],
) -> None:
    """Std within 6 %, mean within 0.05 sd, zeros within 0.02, for 95 % of layers and windows."""
    torch.manual_seed(0)
    x, y = datasets.load_digits(return_X_y=True)
    images = torch.tensor(x, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(y)
    model = build()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    monitor = Monitor(run=False, rules=())
    source = TorchSource(
        model, monitor, [optimizer], modules.leaves(model), ("output",), strict=True
    )
    source.hook()
    whole: dict[str, list[Any]] = {}

    def keep(name: str) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output
            whole.setdefault(name, []).append(first.detach().clone().flatten())

        return hook

    for name, module in modules.leaves(model):
        module.register_forward_hook(keep(name))
    errors = []
    for step in range(48):
        at = torch.randint(len(images), (128,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[at]), labels[at]).backward()
        optimizer.step()
        source.end_step(step)
        if step % 8 == 7:
            for group in source.take().groups:
                for i, column in enumerate(group.sites):
                    site = monitor._sites.all[column]
                    if site.part:
                        continue
                    seen = group.values[:, i].ravel()
                    truth = torch.cat(whole[site.layer]).numpy()
                    errors.append(
                        (
                            abs(seen.mean() - truth.mean()) / truth.std(),
                            abs(seen.std() / truth.std() - 1),
                            abs((seen == 0).mean() - (truth == 0).mean()),
                        )
                    )
            whole.clear()
    source.close()
    mean, std, zero = np.quantile(np.array(errors), 0.95, axis=0)
    assert len(errors) >= 6 * 3
    assert mean < 0.05 and std < 0.06 and zero < 0.02
    print(f"\n{build.__name__}: mean {mean:.4f} sd, std {std:.4f}, zeros {zero:.4f} at p95")
