"""The networks that are looked at once, in the end: nothing was ever chosen by what a monitor said of them."""

from __future__ import annotations

from functools import partial

from torch import nn

from benchmarks.faults.data import COPY, FORGERY, IMAGES, ROWS, TEXT
from benchmarks.faults.networks.autoencoder import autoencoder, latent_autoencoder
from benchmarks.faults.networks.convolution import LightText, Turning, repvgg
from benchmarks.faults.networks.dense import Crossed, Reminded, gated_ends, gated_norms, opposed
from benchmarks.faults.networks.encoder import Conformer
from benchmarks.faults.networks.gan import styled_forgers
from benchmarks.faults.networks.language import T5, Primer
from benchmarks.faults.networks.network import Network
from benchmarks.faults.networks.parts import initialised
from benchmarks.faults.networks.recurrent import Pyramid, Skipping
from benchmarks.faults.networks.residual import van, xception

he, glorot = nn.init.kaiming_normal_, nn.init.xavier_uniform_

TEST = (
    Network("gated residual network", "dense", partial(gated_ends, 44, 2, 0.1), IMAGES, 3e-3, decay=0.01),
    Network(
        "d2rl", "dense",
        partial(initialised, partial(Reminded, 48, 5, nn.ReLU), he),
        IMAGES, 0.01, 0.9, short=True, decay=1e-4,
    ),
    Network(
        "dense crelu", "dense", partial(initialised, partial(opposed, (80, 60, 30)), he),
        IMAGES, 0.03, 0.0, short=True,
    ),
    Network(
        "tabnet", "dense", partial(gated_norms, 44, 3), IMAGES, 0.05, 0.9, short=True, decay=5e-4
    ),
    Network("deep and cross", "dense", partial(Crossed, 2, (72, 48)), IMAGES, 2e-3, decay=0.01),
    Network("spatial transformer", "convolution", partial(Turning, (16, 24), 24, 0.1), IMAGES, 3e-3),
    Network(
        "repvgg", "convolution", partial(initialised, partial(repvgg, (12, 20)), he),
        IMAGES, 0.05, 0.9, decay=1e-4,
    ),
    Network("light convolutions of text", "convolution", partial(LightText, 32, 2, 8, 3), TEXT, 5e-3),
    Network(
        "xception", "residual", partial(initialised, partial(xception, 20, 32, 2), he),
        IMAGES, 0.05, 0.9, decay=1e-4,
    ),
    Network("visual attention network", "residual", partial(van, 16, 2), IMAGES, 4e-3, decay=0.05),
    Network("t5", "transformer", partial(T5, 32, 2, 4, 0.05), TEXT, 8e-3),
    Network("primer", "transformer", partial(Primer, 28, 2, 2), TEXT, 4e-3, decay=0.1),
    Network("conformer of rows", "transformer", partial(Conformer, 24, 2, 3, 0.1), ROWS, 3e-3, decay=0.01),
    Network("lstm in a pyramid", "recurrent", partial(Pyramid, 16, 3), ROWS, 6e-3),
    Network("lstm with skips", "recurrent", partial(Skipping, 32, 2, 0.1), TEXT, 8e-3),
    Network(
        "autoencoder sigmoid", "autoencoder",
        partial(initialised, partial(autoencoder, (96, 16), nn.Sigmoid), glorot), COPY, 5e-3, short=True,
    ),
    Network("autoencoder latent", "autoencoder", partial(latent_autoencoder, 12, 2), COPY, 3e-3, decay=0.01),
    Network("gan styled", "gan", partial(styled_forgers, 16), FORGERY, 5e-4),
)  # fmt: skip
