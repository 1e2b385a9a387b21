"""Autoencoders: down to a few numbers and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks.faults.networks.dense import dense
from benchmarks.faults.networks.network import Make, Norm
from benchmarks.faults.networks.parts import Block, groups
from benchmarks.faults.networks.transformer import Attention, stacked, wider


def autoencoder(widths: Sequence[int], activation: Make, norm: Norm | None = None) -> nn.Sequential:
    """Down to the last width and back up to 64 pixels."""
    down = dense((64, *widths[:-1]), activation, norm, outputs=widths[-1])
    up = dense((widths[-1], *reversed(widths[:-1])), activation, norm, outputs=64)
    return nn.Sequential(down, up)


def convolutional_autoencoder(width: int) -> nn.Sequential:
    """Two strided convolutions down to 2 × 2 pixels, two transposed ones back."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, 2, 1), nn.SiLU(), nn.Conv2d(width, 8, 3, 2, 1),
        nn.ConvTranspose2d(8, width, 4, 2, 1), nn.SiLU(), nn.ConvTranspose2d(width, 1, 4, 2, 1),
    )  # fmt: skip


def upsampling_autoencoder(width: int, code: int) -> nn.Sequential:
    """Strided convolutions down to a short code; back by larger images, not by transposition.

    As Odena et al. (2016) advise against a checkerboard.
    """
    return nn.Sequential(
        nn.Conv2d(1, width, 3, 2, 1), nn.BatchNorm2d(width), nn.LeakyReLU(0.1),
        nn.Conv2d(width, 2 * width, 3, 2, 1), nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.1),
        nn.Flatten(), nn.Linear(8 * width, code),
        nn.Linear(code, 8 * width), nn.LeakyReLU(0.1), nn.Unflatten(1, (2 * width, 2, 2)),
        nn.Upsample(scale_factor=2), nn.Conv2d(2 * width, width, 3, 1, 1), nn.LeakyReLU(0.1),
        nn.Upsample(scale_factor=2), nn.Conv2d(width, 1, 3, 1, 1),
    )  # fmt: skip


def denoising_autoencoder(widths: Sequence[int], activation: Make, masked: float) -> nn.Sequential:
    """Some pixels are hidden in training, and have to be guessed (Vincent et al. 2008)."""
    return nn.Sequential(nn.Dropout(masked), *autoencoder(widths, activation))


def subpixel_autoencoder(width: int, code: int) -> nn.Sequential:
    """Convolutions and pools down to a short code; back by channels that become pixels.

    As Shi et al. (2016) enlarge images.
    """
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8 * width, code),
        nn.Linear(code, 8 * width), nn.ReLU(), nn.Unflatten(1, (2 * width, 2, 2)),
        nn.Conv2d(2 * width, 4 * width, 3, padding=1), nn.PixelShuffle(2), nn.ReLU(),
        nn.Sequential(nn.Conv2d(width, 4, 3, padding=1), nn.PixelShuffle(2)),
    )  # fmt: skip


def residual_autoencoder(width: int, code: int) -> nn.Sequential:
    """A strided convolution and a block down to 4 × 4 short codes, and the same back.

    As van den Oord et al. (2017) have it, but with codes that are not quantised.
    """

    def block() -> Block:
        narrow = width // 2
        inner = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, narrow, 3, padding=1),
            nn.ReLU(), nn.Conv2d(narrow, width, 1),
        )  # fmt: skip
        return Block(inner)

    return nn.Sequential(
        nn.Conv2d(1, width, 4, 2, 1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), block(),
        nn.ReLU(), nn.Conv2d(width, code, 1),
        nn.Conv2d(code, width, 3, padding=1), block(),
        nn.ReLU(), nn.ConvTranspose2d(width, 1, 4, 2, 1),
    )  # fmt: skip


class Pixels(nn.Module):
    """Something that takes sequences, given an image, each pixel of it an element."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x.flatten(2).transpose(1, 2)).transpose(1, 2).view_as(x)
        return out


def latent_autoencoder(width: int, code: int) -> nn.Sequential:
    """Blocks of group norms and convolutions, and attention among pixels where these are fewest.

    As Rombach et al. (2022) have it, but with codes without noise.
    """

    def conv(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
        return groups(4)(inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1)

    def block() -> Block:
        return Block(nn.Sequential(*conv(width, width), *conv(width, width)))

    def attention() -> Block:
        return Block(nn.Sequential(groups(4)(width), Pixels(Attention(width, 1, causal=False))))

    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), block(), nn.Conv2d(width, width, 3, 2, 1),
        block(), attention(), *conv(width, code),
        nn.Conv2d(code, width, 3, padding=1), attention(), block(),
        nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1), block(), *conv(width, 1),
    )  # fmt: skip


class Rounded(nn.Module):
    """Each value in one of so many steps from -1 to 1; gradients pass as if it were not (Mentzer et al. 2024).

    Args:
        steps: odd, so that 0 is one of them.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.half = (steps - 1) / 2

    def forward(self, x: Tensor) -> Tensor:
        bounded = self.half * x.tanh()
        return (bounded + (bounded.round() - bounded).detach()) / self.half


def quantised_autoencoder(widths: Sequence[int], activation: Make, steps: int) -> nn.Sequential:
    """A code of few steps."""
    down, up = autoencoder(widths, activation)
    return nn.Sequential(down, Rounded(steps), up)


class UNet(nn.Module):
    """What was seen on the way down is joined on the way up (Ronneberger et al. 2015).

    Some pixels are hidden in training: else there would be nothing to do.
    """

    def __init__(self, width: int, masked: float) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, stride, 1), groups(4)(outputs), nn.SiLU()
            )

        self.mask = nn.Dropout(masked)
        self.first = conv(1, width)
        self.down = conv(width, 2 * width, 2)
        self.middle = conv(2 * width, 2 * width)
        self.up = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.last = conv(2 * width, width)
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.first(self.mask(x))
        up = self.up(self.middle(self.down(wide)))
        out: Tensor = self.head(self.last(torch.cat([wide, up], 1)))
        return out


class SegNet(nn.Module):
    """Pools on the way down; on the way up values return to where they were largest.

    As Badrinarayanan et al. (2017) have it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int) -> nn.Sequential:
            made = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
            return nn.Sequential(made, nn.BatchNorm2d(outputs), nn.ReLU())

        self.first = conv(1, width)
        self.halved = nn.MaxPool2d(2, return_indices=True)
        self.second = conv(width, 2 * width)
        self.quartered = nn.MaxPool2d(2, return_indices=True)
        self.larger = nn.MaxUnpool2d(2)
        self.third = conv(2 * width, width)
        self.largest = nn.MaxUnpool2d(2)
        self.head = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        seen, outer = self.halved(self.first(x))
        seen, inner = self.quartered(self.second(seen))
        seen = self.third(self.larger(seen, inner))
        out: Tensor = self.head(self.largest(seen, outer))
        return out


class Masked(nn.Module):
    """A transformer of 16 patches, of which some are hidden in training behind a learnt token.

    As Xie et al. (2022) have it: patches come back by channels that become pixels.
    """

    def __init__(self, width: int, blocks: int, heads: int, hidden: float) -> None:
        super().__init__()
        self.hidden = hidden
        self.token = nn.Parameter(torch.randn(width) * 0.02)
        self.patches = nn.Conv2d(1, width, 2, 2)
        self.place = nn.Embedding(16, width)
        nn.init.normal_(self.place.weight, std=0.02)
        self.blocks = stacked(
            blocks, width,
            lambda: [Attention(width, heads, causal=False)],
            lambda: wider(width, 4, nn.GELU()),
        )  # fmt: skip
        self.norm = nn.LayerNorm(width)
        self.head = nn.Sequential(nn.Conv2d(width, 4, 1), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        seen = self.patches(x).flatten(2).transpose(1, 2)
        if self.training:
            hidden = torch.rand(*seen.shape[:2], 1) < self.hidden
            seen = torch.where(hidden, self.token, seen)
        seen = self.norm(self.blocks(seen + self.place(torch.arange(16))))
        out: Tensor = self.head(seen.transpose(1, 2).unflatten(2, (4, 4)))
        return out
