"""The networks on which limits and rules are designed: those that may be looked at."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import nn

from benchmarks.faults.data import COPY, FORGERY, IMAGES, ROWS, TEXT
from benchmarks.faults.networks.autoencoder import autoencoder, convolutional_autoencoder
from benchmarks.faults.networks.convolution import convolutions
from benchmarks.faults.networks.dense import Functional, dense
from benchmarks.faults.networks.gan import forgers
from benchmarks.faults.networks.network import Network
from benchmarks.faults.networks.parts import groups
from benchmarks.faults.networks.recurrent import Recurrent
from benchmarks.faults.networks.residual import residual
from benchmarks.faults.networks.transformer import Transformer

DESIGN = (
    Network("dense relu", "dense", partial(dense, (64, 96, 96, 64)), IMAGES, 0.05, 0.9, short=True),
    Network("dense tanh", "dense", partial(dense, (64, 80, 80, 80), nn.Tanh), IMAGES, 2e-3, short=True),
    Network("dense sigmoid", "dense", partial(dense, (64, 96, 64), nn.Sigmoid), IMAGES, 5e-3, short=True),
    Network(
        "dense gelu batchnorm", "dense", partial(dense, (64, 96, 64), nn.GELU, nn.BatchNorm1d), IMAGES, 0.05, 0.9
    ),
    Network("dense dropout", "dense", partial(dense, (64, 128, 64), dropout=0.2), IMAGES, 2e-3),
    Network("functional", "dense", partial(Functional, (64, 96, 64), F.relu), IMAGES, 0.05, 0.9),
    Network("cnn", "convolution", partial(convolutions, (10, 20, 20)), IMAGES, 2e-3),
    Network(
        "cnn batchnorm", "convolution", partial(convolutions, (12, 16, 24), norm=nn.BatchNorm2d), IMAGES, 0.05, 0.9
    ),
    Network("resnet", "residual", partial(residual, 12, 3), IMAGES, 0.03, 0.9),
    Network("gpt", "transformer", partial(Transformer, 32, 2, 4), TEXT, 2e-3),
    Network("lstm", "recurrent", partial(Recurrent, nn.LSTM, 48), ROWS, 3e-3),
    Network("autoencoder", "autoencoder", partial(autoencoder, (48, 8), nn.GELU), COPY, 2e-3, short=True),
    Network("gan", "gan", partial(forgers, 48, nn.ReLU), FORGERY, 1e-3),
    Network("dense silu", "dense", partial(dense, (64, 72, 72, 72, 72), nn.SiLU), IMAGES, 2e-3, short=True),
    Network("dense relu narrow", "dense", partial(dense, (64, 48, 40, 32)), IMAGES, 0.1, 0.0, short=True),
    Network("dense leaky layernorm", "dense", partial(dense, (64, 88, 64), nn.LeakyReLU, nn.LayerNorm), IMAGES, 2e-3),
    Network(
        "dense relu batchnorm deep", "dense",
        partial(dense, (64, 64, 64, 48, 48), nn.ReLU, nn.BatchNorm1d), IMAGES, 0.03, 0.9,
    ),
    Network("dense elu dropout", "dense", partial(dense, (64, 104, 104), nn.ELU, None, 0.25), IMAGES, 0.03, 0.9),
    Network("functional gelu", "dense", partial(Functional, (64, 80, 56), F.gelu), IMAGES, 2e-3),
    Network("cnn silu", "convolution", partial(convolutions, (14, 14, 28), nn.SiLU, stride=2), IMAGES, 2e-3),
    Network(
        "cnn apart", "convolution", partial(convolutions, (16, 24, 24), norm=groups(4), apart=True), IMAGES, 2e-3
    ),
    Network(
        "cnn batchnorm strided", "convolution",
        partial(convolutions, (16, 32), norm=nn.BatchNorm2d, stride=2), IMAGES, 0.05, 0.9,
    ),
    Network("resnet groupnorm", "residual", partial(residual, 16, 4, groups(2), nn.SiLU), IMAGES, 2e-3),
    Network("gpt after", "transformer", partial(Transformer, 40, 1, 4, before=False), TEXT, 2e-3),
    Network("encoder", "transformer", partial(Transformer, 24, 2, 3, symbols=0), ROWS, 2e-3),
    Network("lstm both ways", "recurrent", partial(Recurrent, nn.LSTM, 24, mean=True, bidirectional=True), ROWS, 3e-3),
    Network("autoencoder convolutional", "autoencoder", partial(convolutional_autoencoder, 12), COPY, 2e-3),
    Network("autoencoder relu", "autoencoder", partial(autoencoder, (64, 12), nn.ReLU), COPY, 2e-3, short=True),
    Network("gan tanh", "gan", partial(forgers, 40, nn.Tanh), FORGERY, 1e-3),
)  # fmt: skip
