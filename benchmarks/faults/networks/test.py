"""The networks that are looked at once, in the end: nothing was ever chosen by what a monitor said of them."""

from __future__ import annotations

from functools import partial

from torch import nn

from benchmarks.faults.data import COPY, FORGERY, IMAGES, ROWS, TEXT
from benchmarks.faults.networks.autoencoder import Masked, autoencoder
from benchmarks.faults.networks.convolution import alexnet, ghostnet, slicenet
from benchmarks.faults.networks.dense import Experts, ScaledTanh, dense, independent, kan, simba
from benchmarks.faults.networks.encoder import GTrXL
from benchmarks.faults.networks.gan import patch_forgers
from benchmarks.faults.networks.language import Gemma2, Palm
from benchmarks.faults.networks.network import Network
from benchmarks.faults.networks.parts import initialised, lecun
from benchmarks.faults.networks.recurrent import MixedSoftmaxes, ReNet
from benchmarks.faults.networks.residual import cspnet, nfnet

he, glorot = nn.init.kaiming_normal_, nn.init.xavier_uniform_

TEST = (
    Network(
        "dense scaled tanh", "dense",
        partial(initialised, partial(dense, (64, 94, 62), ScaledTanh), lecun), IMAGES, 0.05, 0.0, short=True,
    ),
    Network(
        "independent components", "dense", partial(independent, (64, 96, 72, 48), 0.05),
        IMAGES, 0.05, 0.9, short=True, decay=5e-4,
    ),
    Network(
        "mixture of experts", "dense", partial(initialised, partial(Experts, 4, (40, 24)), he),
        IMAGES, 2e-3, short=True,
    ),
    Network(
        "simba", "dense", partial(initialised, partial(simba, 36, 2), he), IMAGES, 2e-3, decay=0.01
    ),
    Network("kan", "dense", partial(kan, (64, 32, 24), 5), IMAGES, 2e-3, decay=0.01),
    Network(
        "alexnet", "convolution", partial(initialised, partial(alexnet, (12, 20, 24), 48, 0.1), glorot),
        IMAGES, 0.02, 0.9, decay=5e-4,
    ),
    Network(
        "ghostnet", "convolution", partial(initialised, partial(ghostnet, 16, 32, 2), he),
        IMAGES, 0.05, 0.9, decay=1e-4,
    ),
    Network("slicenet of text", "convolution", partial(slicenet, 32, (1, 2)), TEXT, 5e-3),
    Network("cspnet", "residual", partial(cspnet, 12, 2), IMAGES, 0.05, 0.9, decay=5e-4),
    Network("nfnet", "residual", partial(nfnet, 20, 10, 2, 0.2), IMAGES, 0.05, 0.9, decay=1e-4),
    Network("palm", "transformer", partial(Palm, 28, 2, 2), TEXT, 8e-3, decay=0.1),
    Network("gemma 2", "transformer", partial(Gemma2, 28, 2, 2), TEXT, 5e-3),
    Network("gated transformer of rows", "transformer", partial(GTrXL, 24, 2, 3), ROWS, 3e-3),
    Network("renet", "recurrent", partial(ReNet, 14, 32), ROWS, 8e-3),
    Network("lstm of mixed softmaxes", "recurrent", partial(MixedSoftmaxes, 32, 3, 0.05), TEXT, 8e-3),
    Network(
        "autoencoder silu deep", "autoencoder", partial(autoencoder, (84, 56, 28, 12), nn.SiLU), COPY, 3e-3, short=True
    ),
    Network("autoencoder of masked patches", "autoencoder", partial(Masked, 24, 2, 3, 0.25), COPY, 3e-3, decay=0.05),
    Network("gan patches", "gan", partial(patch_forgers, 12), FORGERY, 1e-3),
)  # fmt: skip
