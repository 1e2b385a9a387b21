"""The networks that are looked at once, in the end: nothing was ever chosen by what a monitor said of them."""

from __future__ import annotations

from functools import partial

from torch import nn

from benchmarks.faults.data import COPY, FORGERY, IMAGES, ROWS, TEXT
from benchmarks.faults.networks.autoencoder import quantised_autoencoder
from benchmarks.faults.networks.convolution import HyenaText, keras, pointnet, vovnet
from benchmarks.faults.networks.dense import Compared, Subtracting, policy, realmlp, tabm
from benchmarks.faults.networks.encoder import CaiT, FNet
from benchmarks.faults.networks.gan import attentive_forgers
from benchmarks.faults.networks.language import Mixtral
from benchmarks.faults.networks.network import Network
from benchmarks.faults.networks.parts import initialised
from benchmarks.faults.networks.recurrent import BesideConvolutions, Mamba
from benchmarks.faults.networks.residual import resnet_9, sknet

he, glorot, glorot_normal = nn.init.kaiming_normal_, nn.init.xavier_uniform_, nn.init.xavier_normal_

TEST = (
    Network("dense of an agent", "dense", partial(policy, (64, 64)), IMAGES, 2e-3, short=True),
    Network("realmlp", "dense", partial(realmlp, (72, 72, 72)), IMAGES, 0.02, short=True),
    Network("tabm", "dense", partial(tabm, 8, (72, 72), 0.1), IMAGES, 2e-3, decay=0.01),
    Network("n-beats", "dense", partial(Subtracting, 3, (64, 64), 24), IMAGES, 2e-3, short=True),
    Network(
        "dlrm", "dense", partial(initialised, partial(Compared, 12, 64), glorot_normal), IMAGES, 0.05, 0.0, short=True
    ),
    Network(
        "cnn of keras", "convolution", partial(initialised, partial(keras, (12, 20, 20), 40), glorot), IMAGES, 2e-3
    ),
    Network(
        "vovnet", "convolution", partial(initialised, partial(vovnet, 12, (8, 12), (20, 28)), he),
        IMAGES, 0.05, 0.9, decay=1e-4,
    ),
    Network("pointnet", "convolution", partial(pointnet, (24, 24, 64), 40, 0.1), IMAGES, 5e-3),
    Network("hyena of text", "convolution", partial(HyenaText, 32, 2), TEXT, 5e-3),
    Network(
        "resnet-9", "residual", partial(initialised, partial(resnet_9, (8, 16, 32)), he),
        IMAGES, 0.05, 0.9, decay=5e-4,
    ),
    Network(
        "selective kernel network", "residual", partial(initialised, partial(sknet, 20, 16, 2), he),
        IMAGES, 0.05, 0.9, decay=1e-4,
    ),
    Network("mixtral", "transformer", partial(Mixtral, 28, 2, 2, 4), TEXT, 5e-3, decay=0.1),
    Network("cait", "transformer", partial(CaiT, 24, 2, 3), IMAGES, 4e-3, decay=0.05),
    Network("fnet of rows", "transformer", partial(FNet, 32, 2, 0.1), ROWS, 3e-3, decay=0.01),
    Network("mamba of text", "recurrent", partial(Mamba, 40, 1, 4, 3), TEXT, 5e-3, decay=0.1),
    Network("lstm beside convolutions", "recurrent", partial(BesideConvolutions, 24, (20, 32, 20), 0.2), ROWS, 3e-3),
    Network(
        "autoencoder quantised", "autoencoder", partial(quantised_autoencoder, (88, 48, 16), nn.GELU, 7),
        COPY, 2e-3, short=True,
    ),
    Network("gan attentive", "gan", partial(attentive_forgers, 10), FORGERY, 5e-4),
)  # fmt: skip
