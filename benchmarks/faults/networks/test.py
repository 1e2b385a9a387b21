"""The networks that are looked at once, in the end: nothing was ever chosen by what a monitor said of them."""

from __future__ import annotations

from functools import partial

from torch import nn

from benchmarks.faults.data import COPY, FORGERY, IMAGES, ROWS, TEXT
from benchmarks.faults.networks.autoencoder import autoencoder, residual_autoencoder
from benchmarks.faults.networks.convolution import WaveNet, convolutions, inception
from benchmarks.faults.networks.dense import dense, highway
from benchmarks.faults.networks.encoder import Compact
from benchmarks.faults.networks.gan import pixelnorm_forgers
from benchmarks.faults.networks.language import DeepNet, Nemotron
from benchmarks.faults.networks.network import Network
from benchmarks.faults.networks.parts import groups, initialised, lecun
from benchmarks.faults.networks.recurrent import Added, Recurrent
from benchmarks.faults.networks.residual import convmixer, preactivation

he, glorot = nn.init.kaiming_normal_, nn.init.xavier_normal_

TEST = (
    Network(
        "dense gelu layernorm dropout", "dense",
        partial(dense, (64, 104, 76, 52), nn.GELU, nn.LayerNorm, 0.1), IMAGES, 3e-3, decay=0.05,
    ),
    Network(
        "dense tanh glorot deep", "dense",
        partial(initialised, partial(dense, (64, 68, 68, 68, 52, 52), nn.Tanh), glorot),
        IMAGES, 0.02, 0.9, short=True, decay=1e-4,
    ),
    Network(
        "dense leaky he", "dense",
        partial(initialised, partial(dense, (64, 144, 72, 36), nn.LeakyReLU), he), IMAGES, 0.1, 0.0, short=True,
    ),
    Network(
        "dense elu batchnorm", "dense", partial(dense, (64, 92, 92, 46), nn.ELU, nn.BatchNorm1d),
        IMAGES, 0.05, 0.9, short=True, decay=5e-4,
    ),
    Network("dense highway", "dense", partial(highway, 56, 3, nn.ReLU), IMAGES, 3e-3),
    Network(
        "cnn mish groupnorm", "convolution",
        partial(convolutions, (14, 18, 26), nn.Mish, groups(2), stride=2), IMAGES, 4e-3, decay=0.01,
    ),
    Network("inception", "convolution", partial(inception, 10, 6, 0.1), IMAGES, 0.05, 0.9, decay=1e-4),
    Network("wavenet of text", "convolution", partial(WaveNet, 28, (1, 2)), TEXT, 6e-3),
    Network(
        "wide resnet", "residual", partial(initialised, partial(preactivation, (12, 20), 0.1), he),
        IMAGES, 0.05, 0.9, decay=5e-4,
    ),
    Network("convmixer", "residual", partial(convmixer, 20, 2), IMAGES, 5e-3, decay=0.05),
    Network("nemotron", "transformer", partial(Nemotron, 28, 2, 2), TEXT, 4e-3, decay=0.1),
    Network("deepnet", "transformer", partial(DeepNet, 32, 2, 4, 0.05), TEXT, 1.2e-2),
    Network(
        "compact convolutional transformer", "transformer", partial(Compact, 24, 2, 3, 0.1),
        IMAGES, 3e-3, decay=0.03,
    ),
    Network(
        "rnn both ways", "recurrent", partial(Recurrent, nn.RNN, 28, mean=True, num_layers=2, bidirectional=True),
        ROWS, 5e-3,
    ),
    Network("gru added", "recurrent", partial(Added, 32, 2, 0.1), TEXT, 5e-3, decay=0.01),
    Network(
        "autoencoder selu", "autoencoder",
        partial(initialised, partial(autoencoder, (68, 36, 11), nn.SELU), lecun), COPY, 2e-3, short=True,
    ),
    Network(
        "autoencoder residual", "autoencoder", partial(residual_autoencoder, 16, 2), COPY, 3e-3, decay=0.01
    ),
    Network("gan pixelnorm", "gan", partial(pixelnorm_forgers, 10), FORGERY, 2e-3),
)  # fmt: skip
