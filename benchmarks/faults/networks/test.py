"""The networks that are looked at once, in the end: nothing was ever chosen by what a monitor said of them."""

from __future__ import annotations

from functools import partial

from torch import nn

from benchmarks.faults.data import COPY, FORGERY, IMAGES, ROWS, TEXT
from benchmarks.faults.networks.autoencoder import SegNet, autoencoder
from benchmarks.faults.networks.convolution import bytenet, shufflenet, squeezenet
from benchmarks.faults.networks.dense import dense, dropped, gmlp, maxout
from benchmarks.faults.networks.encoder import Series
from benchmarks.faults.networks.gan import residual_forgers
from benchmarks.faults.networks.language import GPTJ, NormFormer
from benchmarks.faults.networks.network import Network
from benchmarks.faults.networks.parts import initialised
from benchmarks.faults.networks.recurrent import SingleHead, irnn
from benchmarks.faults.networks.residual import poolformer, res2net

he, glorot = nn.init.kaiming_normal_, nn.init.xavier_uniform_

TEST = (
    Network(
        "dense relu dropout layernorm", "dense",
        partial(dense, (64, 108, 84, 60), nn.ReLU, dropped(0.1)), IMAGES, 3e-3, decay=0.01,
    ),
    Network(
        "dense elu he deep", "dense",
        partial(initialised, partial(dense, (64, 70, 70, 70, 70, 50), nn.ELU), he),
        IMAGES, 0.01, 0.9, short=True, decay=1e-4,
    ),
    Network("maxout", "dense", partial(maxout, (64, 72, 48), 0.1), IMAGES, 0.1, 0.0, short=True),
    Network(
        "dense silu batchnorm", "dense", partial(dense, (64, 100, 80, 40), nn.SiLU, nn.BatchNorm1d),
        IMAGES, 0.05, 0.9, short=True, decay=5e-4,
    ),
    Network("gmlp", "dense", partial(gmlp, 20, 2), IMAGES, 4e-3, decay=0.05),
    Network(
        "squeezenet", "convolution",
        partial(initialised, partial(squeezenet, 20, 10, (16, 20), 0.1), glorot), IMAGES, 4e-3,
    ),
    Network("shufflenet", "convolution", partial(shufflenet, 14, 3), IMAGES, 0.05, 0.9, decay=1e-4),
    Network("bytenet of text", "convolution", partial(bytenet, 48, (1, 2)), TEXT, 5e-3),
    Network(
        "res2net", "residual", partial(initialised, partial(res2net, 16, 4, 2), he),
        IMAGES, 0.05, 0.9, decay=1e-4,
    ),
    Network("poolformer", "residual", partial(poolformer, 24, 2), IMAGES, 8e-3, decay=0.05),
    Network("gpt-j", "transformer", partial(GPTJ, 28, 2, 2), TEXT, 5e-3, decay=0.1),
    Network("normformer", "transformer", partial(NormFormer, 28, 2, 2, 0.05), TEXT, 5e-3, decay=0.01),
    Network("transformer of series", "transformer", partial(Series, 24, 2, 3, 0.1), ROWS, 3e-3),
    Network("irnn", "recurrent", partial(irnn, 40), ROWS, 2e-3),
    Network("lstm single head", "recurrent", partial(SingleHead, 32, 0.05), TEXT, 8e-3),
    Network(
        "autoencoder prelu", "autoencoder", partial(autoencoder, (76, 42, 13), nn.PReLU), COPY, 2e-3, short=True
    ),
    Network("segnet", "autoencoder", partial(SegNet, 8), COPY, 5e-3, decay=0.01),
    Network("gan residual", "gan", partial(residual_forgers, 14), FORGERY, 5e-4),
)  # fmt: skip
