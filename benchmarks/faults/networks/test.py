"""The networks that are looked at once, in the end: nothing was ever chosen by what a monitor said of them."""

from __future__ import annotations

from functools import partial

from torch import nn

from benchmarks.faults.data import COPY, FORGERY, IMAGES, ROWS, TEXT
from benchmarks.faults.networks.autoencoder import denoising_autoencoder, subpixel_autoencoder
from benchmarks.faults.networks.convolution import GatedText, densenet, dilated
from benchmarks.faults.networks.dense import dense, mixer
from benchmarks.faults.networks.encoder import Encoder
from benchmarks.faults.networks.gan import spectral_forgers
from benchmarks.faults.networks.language import GPT2, Bloom
from benchmarks.faults.networks.network import Network
from benchmarks.faults.networks.parts import initialised
from benchmarks.faults.networks.recurrent import Characters, Stacked
from benchmarks.faults.networks.residual import bottleneck, excited

he, glorot = nn.init.kaiming_normal_, nn.init.xavier_uniform_

TEST = (
    Network(
        "dense softplus", "dense", partial(dense, (64, 100, 72, 48), nn.Softplus), IMAGES, 3e-3, short=True
    ),
    Network(
        "dense celu deep", "dense",
        partial(initialised, partial(dense, (64, 84, 84, 64, 64, 48), nn.CELU), he),
        IMAGES, 0.02, 0.9, short=True, decay=1e-4,
    ),
    Network(
        "dense softsign", "dense", partial(initialised, partial(dense, (64, 110, 60), nn.Softsign), glorot),
        IMAGES, 0.2, 0.0, short=True,
    ),
    Network(
        "dense relu6 batchnorm dropout", "dense",
        partial(dense, (64, 112, 80, 56), nn.ReLU6, nn.BatchNorm1d, 0.15), IMAGES, 0.05, 0.9, decay=5e-4,
    ),
    Network("mixer", "dense", partial(mixer, 24, 2), IMAGES, 4e-3, decay=0.05),
    Network(
        "densenet", "convolution", partial(initialised, partial(densenet, 12, 6, (2, 2)), he),
        IMAGES, 0.05, 0.9, decay=1e-4,
    ),
    Network(
        "cnn dilated instancenorm", "convolution", partial(dilated, 12, (1, 2, 3), nn.LeakyReLU), IMAGES, 3e-3
    ),
    Network("gated convolutions of text", "convolution", partial(GatedText, 24, (1, 2)), TEXT, 5e-3),
    Network("bottleneck", "residual", partial(bottleneck, 16, 8, 2), IMAGES, 0.2, 0.9),
    Network("excited residual", "residual", partial(excited, (8, 12)), IMAGES, 0.05, 0.9, decay=1e-4),
    Network("gpt-2", "transformer", partial(GPT2, 24, 2, 3, 0.05), TEXT, 1e-2, decay=0.1),
    Network("bloom", "transformer", partial(Bloom, 24, 2, 4), TEXT, 8e-3),
    Network("encoder pooled", "transformer", partial(Encoder, 28, 2, 4, 0.1), ROWS, 2e-3),
    Network("gru of characters", "recurrent", partial(Characters, nn.GRU, 36, 1), TEXT, 5e-3),
    Network("lstm stacked", "recurrent", partial(Stacked, 20, 0.2), ROWS, 5e-3),
    Network(
        "autoencoder denoising", "autoencoder",
        partial(denoising_autoencoder, (80, 48, 12), nn.ELU, 0.1), COPY, 2e-3, short=True,
    ),
    Network("autoencoder subpixel", "autoencoder", partial(subpixel_autoencoder, 8, 12), COPY, 3e-3),
    Network("gan spectral", "gan", partial(spectral_forgers, 40), FORGERY, 2e-4),
)  # fmt: skip
