"""The networks that are looked at once, in the end: nothing was ever chosen by what a monitor said of them."""

from __future__ import annotations

from functools import partial

from torch import nn

from benchmarks.faults.data import COPY, FORGERY, IMAGES, ROWS, TEXT
from benchmarks.faults.networks.autoencoder import UNet, autoencoder
from benchmarks.faults.networks.convolution import TemporalText, convolutions, mobilenet
from benchmarks.faults.networks.dense import dense, gated_dense
from benchmarks.faults.networks.encoder import Bert
from benchmarks.faults.networks.gan import upsampling_forgers
from benchmarks.faults.networks.language import Gemma, Olmo2
from benchmarks.faults.networks.network import Network
from benchmarks.faults.networks.parts import initialised
from benchmarks.faults.networks.recurrent import Filtered, Tied
from benchmarks.faults.networks.residual import preactivation, regnet

he, orthogonal = nn.init.kaiming_normal_, nn.init.orthogonal_

TEST = (
    Network(
        "dense silu rmsnorm", "dense", partial(dense, (64, 96, 80, 64), nn.SiLU, nn.RMSNorm), IMAGES, 3e-3,
        decay=0.01,
    ),
    Network(
        "dense mish deep", "dense",
        partial(initialised, partial(dense, (64, 76, 76, 76, 56, 56), nn.Mish), he),
        IMAGES, 0.01, 0.9, short=True, decay=1e-4,
    ),
    Network(
        "dense relu orthogonal", "dense",
        partial(initialised, partial(dense, (64, 90, 60, 30)), orthogonal), IMAGES, 0.1, 0.0, short=True,
    ),
    Network(
        "dense leaky batchnorm dropout", "dense",
        partial(dense, (64, 120, 88, 60), partial(nn.LeakyReLU, 0.1), nn.BatchNorm1d, 0.2), IMAGES, 3e-3,
        short=True, decay=0.05,
    ),
    Network("dense gated residual", "dense", partial(gated_dense, 40, 3, 0.1), IMAGES, 2e-3, decay=0.01),
    Network(
        "cnn elu batchnorm", "convolution",
        partial(convolutions, (12, 20, 28), nn.ELU, nn.BatchNorm2d, pool=partial(nn.MaxPool2d, 2)),
        IMAGES, 0.03, 0.9, decay=5e-4,
    ),
    Network(
        "mobilenet", "convolution", partial(initialised, partial(mobilenet, (10, 20, 32, 32)), he),
        IMAGES, 0.1, 0.9, decay=1e-4,
    ),
    Network("temporal convolutions of text", "convolution", partial(TemporalText, 32, (1, 2), 0.05), TEXT, 8e-3),
    Network(
        "resnet preactivation", "residual", partial(initialised, partial(preactivation, (8, 16)), he),
        IMAGES, 0.05, 0.9, decay=1e-4,
    ),
    Network("regnet", "residual", partial(regnet, 16, 16, 2), IMAGES, 0.1, 0.9, decay=1e-4),
    Network("olmo 2", "transformer", partial(Olmo2, 24, 2, 2), TEXT, 5e-3, decay=0.1),
    Network("gemma", "transformer", partial(Gemma, 32, 2, 4), TEXT, 5e-3),
    Network("bert of rows", "transformer", partial(Bert, 24, 2, 4, 0.1), ROWS, 3e-3, decay=0.01),
    Network("lstm tied", "recurrent", partial(Tied, 48, 0.1), TEXT, 1e-2),
    Network("lstm of convolutions", "recurrent", partial(Filtered, 20, 24, 0.2), ROWS, 3e-3, decay=0.01),
    Network(
        "autoencoder leaky batchnorm", "autoencoder",
        partial(autoencoder, (88, 44, 14), partial(nn.LeakyReLU, 0.1), nn.BatchNorm1d), COPY, 3e-3, short=True,
    ),
    Network("unet denoising", "autoencoder", partial(UNet, 8, 0.25), COPY, 3e-3, decay=0.01),
    Network("gan upsampling", "gan", partial(upsampling_forgers, 10, 0.25), FORGERY, 1e-3),
)  # fmt: skip
