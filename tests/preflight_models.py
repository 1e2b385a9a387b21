"""Healthy and broken models for the preflight, each a function that returns (model, batch, loss)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

Case = tuple[nn.Module, Any, Any]
CE = nn.CrossEntropyLoss()


def flat(samples: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(samples, 64), torch.randint(10, (samples,))


def images(samples: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(samples, 3, 16, 16), torch.randint(10, (samples,))


def tokens(samples: int = 8, length: int = 16) -> torch.Tensor:
    return torch.randint(100, (samples, length))


def mlp(
    activation: Callable[[], nn.Module], hidden: int = 3, width: int = 64, norm: Any = None
) -> nn.Sequential:
    model = nn.Sequential()
    for i in range(hidden):
        model.add_module(f"fc{i}", nn.Linear(64 if i == 0 else width, width))
        if norm is not None:
            model.add_module(f"norm{i}", norm(width))
        model.add_module(f"act{i}", activation())
    model.add_module("head", nn.Linear(width, 10))
    return model


def he(model: nn.Module, factor: float) -> nn.Module:
    for p in model.parameters():
        if p.dim() > 1:
            nn.init.normal_(p, 0, factor * (2 / p[0].numel()) ** 0.5)
        else:
            nn.init.zeros_(p)
    return model


def cnn(norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, o in ((3, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(i, o, 3, padding=1, bias=not norm)]
        layers += [nn.BatchNorm2d(o)] if norm else []
        layers += [nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 10))


class Functional(nn.Module):
    """Activations called as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3)
        self.fc1 = nn.Linear(784, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x: Any) -> Any:
        x = F.max_pool2d(F.relu(self.conv(x)), 2).flatten(1)
        return self.fc2(F.relu(self.fc1(x)))


class Residual(nn.Module):
    """A basic block of a ResNet; its last BatchNorm starts at zero, its activation is shared."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        nn.init.zeros_(self.bn2.weight)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Any) -> Any:
        return self.relu(x + self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))


def resnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        *(Residual(16) for _ in range(4)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip


class Block(nn.Module):
    """A pre-LN transformer block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Any) -> Any:
        n, t, c = x.shape
        q, k, v = self.qkv(self.ln1(x)).view(n, t, 3, 4, c // 4).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(n, t, c))
        return x + self.down(F.gelu(self.up(self.ln2(x))))


class Gpt(nn.Module):
    """Four blocks, head tied to the embedding."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(100, width), nn.Embedding(16, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(4))
        self.ln = nn.LayerNorm(width)
        self.head = nn.Linear(width, 100, bias=False)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, 0, 0.02)
        self.head.weight = self.wte.weight

    def forward(self, x: Any) -> Any:
        h = self.wte(x) + self.wpe(torch.arange(x.shape[1]))
        for block in self.blocks:
            h = block(h)
        return self.head(self.ln(h))


def next_token(output: Any, y: Any) -> Any:
    return F.cross_entropy(output.flatten(0, 1), y.flatten())


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 32)
        self.rnn = nn.LSTM(32, 64, num_layers=2, batch_first=True)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Any) -> Any:
        return self.head(self.rnn(self.embed(x))[0][:, -1])


class Lora(nn.Module):
    """A frozen linear map and a pair of matrices beside it, of which the second is zero."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a = nn.Linear(base.in_features, 4, bias=False)
        self.b = nn.Linear(4, base.out_features, bias=False)
        nn.init.zeros_(self.b.weight)

    def forward(self, x: Any) -> Any:
        return self.base(x) + self.b(self.a(x))


def lora() -> nn.Module:
    return nn.Sequential(
        Lora(nn.Linear(64, 64)), nn.ReLU(), Lora(nn.Linear(64, 64)), nn.ReLU(), Lora(nn.Linear(64, 10))
    )  # fmt: skip


class Dit(nn.Module):
    """A block whose scale, shift and gate start at zero, and a last layer that does, too."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.into, self.time = nn.Linear(8, width), nn.Linear(16, width)
        self.ln = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(3))
        self.ada = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(3))
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width)) for _ in range(3)
        )
        self.last = nn.Linear(width, 8)
        for module in (*self.ada, self.last):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)

    def forward(self, x: Any, t: Any) -> Any:
        frequency = torch.exp(torch.linspace(0, -6, 8))
        angle = t[:, None] * frequency
        c = F.silu(self.time(torch.cat([angle.sin(), angle.cos()], 1)))
        h = self.into(x)
        for ln, ada, net in zip(self.ln, self.ada, self.mlp, strict=True):
            shift, scale, gate = ada(c)[:, None].chunk(3, -1)
            h = h + gate * net(ln(h) * (1 + scale) + shift)
        return self.last(h)


class ReZero(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.into, self.head = nn.Linear(64, 64), nn.Linear(64, 10)
        self.fc = nn.ModuleList(nn.Linear(64, 64) for _ in range(6))
        self.alpha = nn.Parameter(torch.zeros(6))

    def forward(self, x: Any) -> Any:
        x = self.into(x)
        for alpha, fc in zip(self.alpha, self.fc, strict=True):
            x = x + alpha * torch.relu(fc(x))
        return self.head(x)


class Gated(nn.Module):
    """Squeeze-and-excitation, and a highway whose gates start nearly closed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.down, self.up = nn.Linear(16, 8), nn.Linear(8, 16)
        self.gate, self.way = nn.Linear(16, 16), nn.Linear(16, 16)
        nn.init.constant_(self.gate.bias, -6.0)
        self.sigmoid, self.head = nn.Sigmoid(), nn.Linear(16, 10)

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.conv(x))
        s = self.sigmoid(self.up(torch.relu(self.down(x.mean((2, 3))))))
        h = (x * s[:, :, None, None]).mean((2, 3))
        t = torch.sigmoid(self.gate(h))
        return self.head(h * (1 - t) + torch.relu(self.way(h)) * t)


def discriminator() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Conv2d(16, 32, 4, 2, 1, bias=False), nn.BatchNorm2d(32), nn.LeakyReLU(0.2),
        nn.Conv2d(32, 64, 4, 2, 1, bias=False), nn.BatchNorm2d(64), nn.LeakyReLU(0.2),
        nn.Conv2d(64, 1, 2), nn.Flatten(), nn.Sigmoid(),
    )  # fmt: skip


def autoencoder() -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8), nn.ReLU(), nn.Linear(8, 32), nn.ReLU(),
        nn.Linear(32, 64), nn.Sigmoid(),
    )  # fmt: skip


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    return nn.Sequential(
        nn.Embedding(100, 32), nn.TransformerEncoder(layer, 3), nn.Flatten(), nn.Linear(512, 10)
    )


def gpt2() -> Case:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=100, n_positions=16, n_embd=64, n_layer=4, n_head=4)
    x = tokens()
    return GPT2LMHeadModel(config).train(), {"input_ids": x, "labels": x}, None


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    chosen = torch.randperm(len(y))[:64]
    return torch.tensor(x, dtype=torch.float32)[chosen], torch.tensor(y)[chosen]


HEALTHY: dict[str, Callable[[], Case]] = {
    "mlp relu": lambda: (mlp(nn.ReLU), flat(), CE),
    "mlp gelu": lambda: (mlp(nn.GELU), flat(), CE),
    "mlp tanh": lambda: (mlp(nn.Tanh), flat(), CE),
    "mlp sigmoid, one hidden": lambda: (mlp(nn.Sigmoid, 1), flat(), CE),
    "mlp relu, batch of 16": lambda: (mlp(nn.ReLU), flat(16), CE),
    "mlp he, ten hidden": lambda: (he(mlp(nn.ReLU, 10, 128), 1.0), flat(), CE),
    "mlp batchnorm, ten hidden": lambda: (mlp(nn.ReLU, 10, norm=nn.BatchNorm1d), flat(), CE),
    "mlp layernorm, ten hidden": lambda: (mlp(nn.GELU, 10, norm=nn.LayerNorm), flat(), CE),
    "mlp on raw digits": lambda: (mlp(nn.ReLU), digits(), CE),
    "mlp, no loss": lambda: (mlp(nn.ReLU), flat(), None),
    "cnn": lambda: (cnn(False), images(), CE),
    "cnn batchnorm": lambda: (cnn(True), images(), CE),
    "cnn functional": lambda: (Functional(), images(), CE),
    "resnet": lambda: (resnet(), images(), CE),
    "resnet on 0-255": lambda: (resnet(), (images()[0] * 255, images()[1]), CE),
    "gpt": lambda: (Gpt(), (tokens(), tokens()), next_token),
    "gpt, no loss": lambda: (Gpt(), tokens(), None),
    "gpt2 of transformers": gpt2,
    "encoder post-ln": lambda: (encoder(), (tokens(), torch.randint(10, (8,))), CE),
    "lstm": lambda: (Lstm(), (tokens(16), torch.randint(10, (16,))), CE),
    "lora": lambda: (lora(), flat(), CE),
    "dit": lambda: (
        Dit(),
        ((torch.randn(16, 4, 8), torch.rand(16) * 1000), torch.randn(16, 4, 8)),
        nn.MSELoss(),
    ),
    "rezero": lambda: (ReZero(), flat(), CE),
    "gates": lambda: (Gated(), images(), CE),
    "discriminator": lambda: (
        discriminator(),
        (images()[0] * 2 - 1, torch.ones(32, 1)),
        nn.BCELoss(),
    ),
    "autoencoder": lambda: (autoencoder(), (x := torch.rand(64, 64), x), nn.BCELoss()),
}


def constant(value: float) -> nn.Module:
    model = mlp(nn.ReLU)
    for p in model.parameters():
        nn.init.constant_(p, value)
    return model


def biased() -> nn.Module:
    model = mlp(nn.ReLU)
    nn.init.constant_(model.fc1.bias, -10.0)  # type: ignore[union-attr]
    return model


def saturated() -> nn.Module:
    model = mlp(nn.Tanh)
    nn.init.normal_(model.fc1.weight, 0, 5.0)  # type: ignore[union-attr]
    return model


def still(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return model


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.spare, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x: Any) -> Any:
        return self.head(torch.relu(self.used(x)))


class Detached(Unused):
    def forward(self, x: Any) -> Any:
        return self.head(self.spare(torch.relu(self.used(x)).detach()))


class Root(nn.Module):
    """A square root of zero: its value is finite, its gradient is not."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x: Any) -> Any:
        return self.head(torch.relu(self.fc(x)).sqrt())


class Logarithm(Root):
    def forward(self, x: Any) -> Any:
        return self.head(torch.log(torch.relu(self.fc(x))) * 0)


class Bare(nn.Module):
    """Residual blocks without normalisation: each doubles the variance."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.head = nn.Linear(64, 64), nn.Linear(64, 10)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)) for _ in range(12)
        )
        he(self, 1.0)

    def forward(self, x: Any) -> Any:
        x = self.into(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def one_small() -> nn.Module:
    model = he(mlp(nn.ReLU, 5), 1.0)
    model.fc2.weight.data.mul_(1e-5)  # type: ignore[union-attr,operator]
    return model


def deaf() -> nn.Module:
    model = mlp(nn.Tanh)
    nn.init.zeros_(model.fc1.weight)  # type: ignore[union-attr,arg-type]
    return model


def spoiled(x: Any) -> Any:
    x[3, 5] = float("nan")
    return x


#: Name to case, and what must be found: severity, kind, layer.
BROKEN: dict[str, tuple[Callable[[], Case], tuple[str, str, str]]] = {
    "he x 3, ten hidden": (
        lambda: (he(mlp(nn.ReLU, 10), 3.0), flat(), CE), ("critical", "exploding", "fc1")),
    "he x 3, ten hidden, back": (
        lambda: (he(mlp(nn.ReLU, 10), 3.0), flat(), None), ("critical", "exploding", "fc1")),
    "he x 3, three hidden": (
        lambda: (he(mlp(nn.ReLU), 3.0), flat(), CE), ("warning", "loss", "head")),
    "he x 0.3, ten hidden": (
        lambda: (he(mlp(nn.ReLU, 10), 0.3), flat(), CE), ("warning", "vanishing", "fc1")),
    "one weight x 1e-5": (lambda: (one_small(), flat(), CE), ("warning", "vanishing", "fc2")),
    "residual, not normalised": (
        lambda: (Bare(), flat(), CE), ("warning", "exploding", "blocks.0.0")),
    "zeros": (lambda: (constant(0.0), flat(), CE), ("critical", "collapse", "fc0")),
    "constant": (lambda: (constant(0.01), flat(), CE), ("critical", "collapse", "fc0")),
    "no input": (lambda: (deaf(), flat(), CE), ("critical", "collapse", "fc1")),
    "sigmoid, eight hidden": (
        lambda: (mlp(nn.Sigmoid, 8), flat(), CE), ("warning", "vanishing", "fc1")),
    "input 0-255": (
        lambda: (cnn(False), (images()[0] * 255, images()[1]), CE), ("warning", "input", "<input>")),
    "input nan": (
        lambda: (mlp(nn.ReLU), (spoiled(flat()[0]), flat()[1]), CE),
        ("critical", "nonfinite", "<input>")),
    "input the same": (
        lambda: (mlp(nn.ReLU), (torch.ones(64, 64), flat()[1]), CE),
        ("warning", "collapse", "<input>")),
    "batchnorm in eval": (
        lambda: (still(cnn(True)), images(), CE), ("warning", "batchnorm", "1")),
    "batchnorm, batch of 2": (
        lambda: (mlp(nn.ReLU, norm=nn.BatchNorm1d), flat(2), CE), ("warning", "batchnorm", "norm0")),
    "narrow and deep": (
        lambda: (mlp(nn.ReLU, 10, 3), flat(), CE), ("warning", "dead", "act0")),
    "biases at -10": (lambda: (biased(), flat(), CE), ("critical", "dead", "act1")),
    "tanh saturated": (lambda: (saturated(), flat(), CE), ("warning", "saturation", "act1")),
    "double softmax": (
        lambda: (nn.Sequential(mlp(nn.ReLU), nn.Softmax(1)), flat(), CE), ("warning", "loss", "1")),
    "double sigmoid": (
        lambda: (discriminator(), (images()[0], torch.ones(32, 1)), nn.BCEWithLogitsLoss()),
        ("warning", "loss", "10")),
    "logits too large": (
        lambda: (nn.Sequential(nn.Embedding(100, 64), nn.Linear(64, 100)), (tokens(), tokens()),
                 lambda o, y: next_token(o * 10, y)), ("warning", "loss", "1")),
    "normalised twice": (
        lambda: (nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.LayerNorm(32), nn.ReLU(),
                               nn.Linear(32, 10)), flat(), CE), ("warning", "normalisation", "2")),
    "never called": (lambda: (Unused(), flat(), CE), ("warning", "frozen", "spare")),
    "detached": (lambda: (Detached(), flat(), CE), ("warning", "frozen", "used")),
    "gradient of a root": (lambda: (Root(), flat(), CE), ("critical", "nonfinite", "fc")),
    "logarithm of zero": (lambda: (Logarithm(), flat(), CE), ("critical", "nonfinite", "head")),
}  # fmt: skip
