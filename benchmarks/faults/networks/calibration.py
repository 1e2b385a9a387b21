"""The networks on which the tail of healthy scores is fitted, see ``tail.py``."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from benchmarks.faults.data import COPY, FORGERY, IMAGES, ROWS, TEXT
from benchmarks.faults.networks.autoencoder import autoencoder
from benchmarks.faults.networks.convolution import convolutions
from benchmarks.faults.networks.dense import Functional, dense
from benchmarks.faults.networks.gan import forgers
from benchmarks.faults.networks.network import Network
from benchmarks.faults.networks.recurrent import Recurrent
from benchmarks.faults.networks.residual import residual
from benchmarks.faults.networks.transformer import Transformer

CALIBRATION = (
    Network("dense deep", "dense", partial(dense, (64, 64, 64, 64, 64, 64)), IMAGES, 1e-3, short=True),
    Network("dense gelu", "dense", partial(dense, (64, 112, 112, 56), nn.GELU), IMAGES, 0.05, 0.9, short=True),
    Network(
        "dense tanh layernorm", "dense", partial(dense, (64, 72, 72), nn.Tanh, nn.LayerNorm), IMAGES, 2e-3
    ),
    Network(
        "dense batchnorm dropout", "dense",
        partial(dense, (64, 128, 96), nn.ReLU, nn.BatchNorm1d, 0.3), IMAGES, 2e-3,
    ),
    Network("functional tanh", "dense", partial(Functional, (64, 64, 64, 48), torch.tanh), IMAGES, 0.05, 0.9),
    Network("cnn tanh", "convolution", partial(convolutions, (8, 16), nn.Tanh), IMAGES, 0.05, 0.9),
    Network(
        "cnn batchnorm gelu", "convolution",
        partial(convolutions, (12, 24, 24, 24), nn.GELU, nn.BatchNorm2d, pool=partial(nn.MaxPool2d, 2)),
        IMAGES, 2e-3,
    ),
    Network("resnet after", "residual", partial(residual, 14, 2, before=False), IMAGES, 2e-3),
    Network("gpt tied", "transformer", partial(Transformer, 24, 3, 2, tied=True, dropout=0.1), TEXT, 2e-3),
    Network("gru", "recurrent", partial(Recurrent, nn.GRU, 40, num_layers=2), ROWS, 3e-3),
    Network("autoencoder tanh", "autoencoder", partial(autoencoder, (56, 32, 6), nn.Tanh), COPY, 2e-3, short=True),
    Network("gan elu", "gan", partial(forgers, 64, nn.ELU), FORGERY, 5e-4),
)  # fmt: skip
