"""Generator and discriminator."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.faults.data import LATENT
from benchmarks.faults.networks.autoencoder import Pixels
from benchmarks.faults.networks.dense import dense
from benchmarks.faults.networks.network import Make
from benchmarks.faults.networks.parts import Block, Mean, Scale, Times
from benchmarks.faults.networks.transformer import Attention


class Forgers(nn.Module):
    """Generator and discriminator under one roof; a call of it generates."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator

    def forward(self, noise: Tensor) -> Tensor:
        out: Tensor = self.generator(noise)
        return out


def forgers(width: int, activation: Make) -> Forgers:
    """Dense generator and dense discriminator."""
    generator = dense((LATENT, width, width), activation, outputs=64)
    discriminator = dense((64, width, width // 2), partial(nn.LeakyReLU, 0.2), outputs=1)
    return Forgers(generator, discriminator)


def convolutional_forgers(width: int) -> Forgers:
    """Transposed convolutions with batch norms against strided ones (Radford et al. 2016)."""
    generator = nn.Sequential(
        nn.Linear(LATENT, 8 * width), nn.Unflatten(1, (2 * width, 2, 2)),
        nn.BatchNorm2d(2 * width), nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.ConvTranspose2d(width, 1, 4, 2, 1), nn.Flatten(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(8 * width, 1),
    )  # fmt: skip
    return Forgers(generator, discriminator)


class Spectral(nn.Linear):
    """A dense layer whose weights are used with a largest singular value of 1 (Miyato et al. 2018).

    One power iteration per call in training, from where the last one ended.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("left", F.normalize(torch.randn(outputs), dim=0))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            right = F.normalize(self.weight.T @ self.left, dim=0)
            left = F.normalize(self.weight @ right, dim=0)
            if self.training:
                self.left.copy_(left)
        return F.linear(x, self.weight / (left @ self.weight @ right), self.bias)


def spectral_forgers(width: int) -> Forgers:
    """Layer norms in the generator, a discriminator that cannot be steep."""
    generator = dense((LATENT, width, 2 * width), nn.ReLU, nn.LayerNorm, outputs=64)
    discriminator = nn.Sequential(
        nn.Flatten(), Spectral(64, 2 * width), nn.LeakyReLU(0.1),
        Spectral(2 * width, width), nn.LeakyReLU(0.1), Spectral(width, 1),
    )  # fmt: skip
    return Forgers(generator, discriminator)


def upsampling_forgers(width: int, dropout: float) -> Forgers:
    """Larger images and convolutions against strided ones with dropout."""
    generator = nn.Sequential(
        nn.Linear(LATENT, 8 * width), nn.Unflatten(1, (2 * width, 2, 2)), nn.LeakyReLU(0.2),
        nn.Upsample(scale_factor=2), nn.Conv2d(2 * width, 2 * width, 3, padding=1),
        nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2),
        nn.Upsample(scale_factor=2), nn.Conv2d(2 * width, width, 3, padding=1),
        nn.BatchNorm2d(width), nn.LeakyReLU(0.2),
        nn.Conv2d(width, 1, 3, padding=1), nn.Flatten(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, width, 3, 2, 1), nn.LeakyReLU(0.2), nn.Dropout(dropout),
        nn.Conv2d(width, 2 * width, 3, 2, 1), nn.LeakyReLU(0.2), nn.Dropout(dropout),
        nn.Flatten(), nn.Linear(8 * width, 1),
    )  # fmt: skip
    return Forgers(generator, discriminator)


class PixelNorm(nn.Module):
    """Each pixel's channels over the root of their mean square (Karras et al. 2018)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class Spread(nn.Module):
    """A channel more: how far the samples of a batch differ, one number (Karras et al. 2018)."""

    def forward(self, x: Tensor) -> Tensor:
        spread = (x.var(0, correction=0) + 1e-8).sqrt().mean()
        return torch.cat([x, spread.expand(len(x), 1, *x.shape[2:])], 1)


def pixelnorm_forgers(width: int) -> Forgers:
    """Larger images, convolutions and norms of pixels against convolutions and smaller images.

    These are told how far samples differ, lest all become one.
    """

    def conv(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
        return nn.Conv2d(inputs, outputs, 3, padding=1), nn.LeakyReLU(0.2)

    generator = nn.Sequential(
        nn.Linear(LATENT, 8 * width), nn.Unflatten(1, (2 * width, 2, 2)), nn.LeakyReLU(0.2),
        PixelNorm(), nn.Upsample(scale_factor=2), *conv(2 * width, 2 * width),
        PixelNorm(), nn.Upsample(scale_factor=2), *conv(2 * width, width),
        PixelNorm(), nn.Conv2d(width, 1, 1), nn.Flatten(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), *conv(1, width), nn.AvgPool2d(2),
        Spread(), *conv(width + 1, 2 * width), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8 * width, 1),
    )  # fmt: skip
    return Forgers(generator, discriminator)


def residual_forgers(width: int) -> Forgers:
    """Blocks of two convolutions on both sides, norms in the generator alone (Gulrajani et al. 2017)."""

    def conv(normed: bool) -> tuple[nn.Module, ...]:
        norm = [nn.BatchNorm2d(width)] if normed else []
        return *norm, nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)

    def block(normed: bool) -> Block:
        return Block(nn.Sequential(*conv(normed), *conv(normed)))

    generator = nn.Sequential(
        nn.Linear(LATENT, 4 * width), nn.Unflatten(1, (width, 2, 2)),
        nn.Upsample(scale_factor=2), block(True), nn.Upsample(scale_factor=2), block(True),
        nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 1, 3, padding=1), nn.Flatten(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, width, 3, padding=1),
        block(False), nn.AvgPool2d(2), block(False), nn.ReLU(), Mean(2, 3), nn.Linear(width, 1),
    )  # fmt: skip
    return Forgers(generator, discriminator)


class Styled(nn.Module):
    """A convolution whose channels get new means and deviations, as a style says (Karras et al. 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.activation = nn.LeakyReLU(0.2)
        self.norm = nn.InstanceNorm2d(width)
        self.style = nn.Linear(width, 2 * width)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        seen = self.norm(self.activation(self.conv(x)))
        scale, shift = self.style(style)[:, :, None, None].chunk(2, 1)
        out: Tensor = seen * (1 + scale) + shift
        return out


class Stylist(nn.Module):
    """Dense layers make a style of the noise, which works on what is always the same at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map = nn.Sequential(
            PixelNorm(), nn.Linear(LATENT, width), nn.LeakyReLU(0.2),
            nn.Linear(width, width), nn.LeakyReLU(0.2),
        )  # fmt: skip
        self.start = nn.Parameter(torch.randn(1, width, 2, 2))
        self.styled = nn.ModuleList(Styled(width) for _ in range(3))
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, noise: Tensor) -> Tensor:
        style = self.map(noise)
        seen = self.start.expand(len(noise), -1, -1, -1)
        for i, styled in enumerate(self.styled):
            seen = styled(F.interpolate(seen, scale_factor=2) if i else seen, style)
        out: Tensor = self.head(seen).flatten(1)
        return out


def styled_forgers(width: int) -> Forgers:
    """A generator that is told a style at every size against residual blocks (Karras et al. 2020)."""

    def conv() -> tuple[nn.Module, ...]:
        return nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(0.2)

    def block() -> Block:
        return Block(nn.Sequential(*conv(), *conv()), Times(0.5**0.5))

    discriminator = nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, width, 1), nn.LeakyReLU(0.2),
        block(), nn.AvgPool2d(2), block(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(4 * width, width), nn.LeakyReLU(0.2), nn.Linear(width, 1),
    )  # fmt: skip
    return Forgers(Stylist(width), discriminator)


def patch_forgers(width: int) -> Forgers:
    """Norms of each image by itself, a block, and a discriminator that judges each part of an image.

    As Isola et al. (2017) and Zhu et al. (2017) have it, here from noise.
    """

    def conv(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
        norm = nn.InstanceNorm2d(outputs, affine=True)
        return nn.Conv2d(inputs, outputs, 3, padding=1), norm

    block = Block(nn.Sequential(*conv(width, width), nn.ReLU(), *conv(width, width)))
    generator = nn.Sequential(
        nn.Linear(LATENT, 8 * width), nn.Unflatten(1, (2 * width, 2, 2)), nn.ReLU(),
        nn.Upsample(scale_factor=2), *conv(2 * width, width), nn.ReLU(), block,
        nn.Upsample(scale_factor=2), *conv(width, width), nn.ReLU(),
        nn.Conv2d(width, 1, 3, padding=1), nn.Flatten(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2),
        *conv(width, 2 * width), nn.LeakyReLU(0.2), nn.Conv2d(2 * width, 1, 3, padding=1),
    )  # fmt: skip
    return Forgers(generator, discriminator)


def leaky_forgers(width: int) -> Forgers:
    """Dense layers that become wider, with batch norms, against ones that become narrower."""
    leaky = partial(nn.LeakyReLU, 0.2)
    widths = (width, 2 * width, 3 * width)
    generator = dense((LATENT, *widths), leaky, nn.BatchNorm1d, outputs=64)
    discriminator = dense((64, *reversed(widths)), leaky, outputs=1)
    return Forgers(generator, discriminator)


def attentive_forgers(width: int) -> Forgers:
    """Convolutions, and attention among pixels at half the size, on both sides (Zhang et al. 2019)."""

    def attention(channels: int) -> Block:
        mix = Pixels(Attention(channels, 1, causal=False))
        return Block(nn.Sequential(mix, Scale(channels)))

    generator = nn.Sequential(
        nn.Linear(LATENT, 8 * width), nn.Unflatten(1, (2 * width, 2, 2)),
        nn.BatchNorm2d(2 * width), nn.ReLU(),
        nn.ConvTranspose2d(2 * width, 2 * width, 4, 2, 1), nn.BatchNorm2d(2 * width), nn.ReLU(),
        attention(2 * width),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, 1, 3, padding=1), nn.Flatten(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.1),
        attention(width), nn.Conv2d(width, 2 * width, 4, 2, 1), nn.LeakyReLU(0.1),
        nn.Flatten(), nn.Linear(8 * width, 1),
    )  # fmt: skip
    return Forgers(generator, discriminator)
