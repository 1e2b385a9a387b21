"""The networks that are looked at once, in the end: nothing was ever chosen by what a monitor said of them."""

from __future__ import annotations

from functools import partial

from torch import nn

from benchmarks.faults.data import COPY, FORGERY, IMAGES, ROWS, TEXT
from benchmarks.faults.networks.autoencoder import autoencoder
from benchmarks.faults.networks.convolution import attended, darknet, qrnn, tutorial
from benchmarks.faults.networks.dense import dense, factored, periodic, resmlp, wide_and_deep
from benchmarks.faults.networks.gan import leaky_forgers
from benchmarks.faults.networks.language import Qwen3
from benchmarks.faults.networks.network import Network
from benchmarks.faults.networks.parts import initialised
from benchmarks.faults.networks.recurrent import Asked, Spelt
from benchmarks.faults.networks.residual import efficientnet, resnext
from benchmarks.faults.networks.transformer import Swin, Tokens

he, glorot = nn.init.kaiming_normal_, nn.init.xavier_uniform_

TEST = (
    Network(
        "dense relu glorot dropout", "dense",
        partial(initialised, partial(dense, (64, 128, 128), nn.ReLU, None, 0.1), glorot),
        IMAGES, 0.1, 0.0, short=True,
    ),
    Network(
        "wide and deep", "dense", partial(initialised, partial(wide_and_deep, (96, 64, 32)), glorot),
        IMAGES, 0.02, 0.9, short=True, decay=1e-4,
    ),
    Network("neural factorization machine", "dense", partial(factored, 48, 48, 0.1), IMAGES, 2e-3, short=True),
    Network(
        "periodic embeddings", "dense", partial(initialised, partial(periodic, 4, 4, (80, 48), 0.1), glorot),
        IMAGES, 2e-3, decay=0.01,
    ),
    Network(
        "resmlp", "dense", partial(initialised, partial(resmlp, 24, 2), glorot), IMAGES, 8e-3, decay=0.05
    ),
    Network("cnn of a tutorial", "convolution", partial(tutorial, (10, 20), 48, 0.1), IMAGES, 3e-3),
    Network(
        "darknet", "convolution", partial(initialised, partial(darknet, 10), he), IMAGES, 0.05, 0.9, decay=5e-4
    ),
    Network("cbam", "convolution", partial(attended, (12, 20, 28), 6), IMAGES, 0.05, 0.9, decay=1e-4),
    Network("qrnn of text", "convolution", partial(qrnn, 40, 2, 0.05), TEXT, 8e-3),
    Network(
        "efficientnet", "residual", partial(initialised, partial(efficientnet, (8, 12), 0.1), he),
        IMAGES, 0.05, 0.9, decay=1e-4,
    ),
    Network(
        "resnext", "residual", partial(initialised, partial(resnext, 16, 4, 1), he), IMAGES, 0.05, 0.9, decay=1e-4
    ),
    Network("qwen 3", "transformer", partial(Qwen3, 28, 2, 2), TEXT, 5e-3, decay=0.1),
    Network("swin", "transformer", partial(Swin, 20, 2), IMAGES, 3e-3, decay=0.05),
    Network(
        "ft-transformer", "transformer", partial(initialised, partial(Tokens, 16, 2, 2, 0.05), glorot),
        IMAGES, 4e-3, decay=0.01,
    ),
    Network("gru with additive attention", "recurrent", partial(Asked, 24, 32, 0.1), ROWS, 5e-3),
    Network("lstm of spelt symbols", "recurrent", partial(Spelt, 36, 3, 0.05), TEXT, 8e-3),
    Network(
        "autoencoder relu glorot deep", "autoencoder",
        partial(initialised, partial(autoencoder, (112, 56, 20), nn.ReLU), glorot), COPY, 2e-3, short=True,
    ),
    Network("gan leaky batchnorm", "gan", partial(leaky_forgers, 32), FORGERY, 2e-4),
)  # fmt: skip
