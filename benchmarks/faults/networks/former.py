"""The networks of former test sets: they have been looked at, so that they are designed on now.

Until then nothing had been chosen by what a monitor said of them.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from benchmarks.faults.data import COPY, FORGERY, IMAGES, ROWS, TEXT
from benchmarks.faults.networks.autoencoder import (
    autoencoder,
    denoising_autoencoder,
    subpixel_autoencoder,
    upsampling_autoencoder,
)
from benchmarks.faults.networks.convolution import (
    GatedText,
    LeNet,
    densenet,
    dilated,
    network_in_network,
    vgg,
)
from benchmarks.faults.networks.dense import dense, mixer, residual_dense
from benchmarks.faults.networks.encoder import Encoder
from benchmarks.faults.networks.gan import convolutional_forgers, spectral_forgers
from benchmarks.faults.networks.language import GPT2, Bloom
from benchmarks.faults.networks.network import Network
from benchmarks.faults.networks.parts import initialised, lecun
from benchmarks.faults.networks.recurrent import Characters, Normed, Stacked
from benchmarks.faults.networks.residual import bottleneck, convnext, excited, inverted
from benchmarks.faults.networks.transformer import Llama, Patches, Shared

he, glorot = nn.init.kaiming_normal_, nn.init.xavier_uniform_

FORMER = (
    # Seeds 401 and 402.
    Network(
        "dense hardswish", "dense", partial(dense, (64, 128, 96, 64, 32), nn.Hardswish), IMAGES, 3e-3,
        short=True, decay=0.01,
    ),
    Network(
        "dense selu deep", "dense",
        partial(initialised, partial(dense, (64, 60, 60, 60, 60, 60, 60), nn.SELU), lecun),
        IMAGES, 0.01, 0.9, short=True,
    ),
    Network(
        "dense prelu", "dense", partial(initialised, partial(dense, (64, 120, 40), nn.PReLU), he),
        IMAGES, 0.1, 0.0, short=True,
    ),
    Network(
        "dense sigmoid batchnorm", "dense",
        partial(initialised, partial(dense, (64, 100, 100, 100), nn.Sigmoid, nn.BatchNorm1d), glorot),
        IMAGES, 0.1, 0.9,
    ),
    Network("dense residual", "dense", partial(residual_dense, 48, 2, 0.15), IMAGES, 2e-3, decay=0.01),
    Network("lenet", "convolution", LeNet, IMAGES, 0.05, 0.9),
    Network("vgg", "convolution", partial(vgg, (8, 16), 40, 0.3), IMAGES, 0.03, 0.9, decay=5e-4),
    Network(
        "network in network", "convolution",
        partial(initialised, partial(network_in_network, (16, 32), nn.ReLU), he), IMAGES, 2e-3,
    ),
    Network("inverted residual", "residual", partial(inverted, 10, 2), IMAGES, 0.05, 0.9),
    Network("convnext", "residual", partial(convnext, 16, 2), IMAGES, 4e-3, decay=0.05),
    Network("llama", "transformer", partial(Llama, 24, 2, 3), TEXT, 4e-3, decay=0.1),
    Network("vit", "transformer", partial(Patches, 28, 2, 4), IMAGES, 3e-3, decay=0.05),
    Network("encoder shared", "transformer", partial(Shared, 32, 3, 4, 0.1), ROWS, 3e-3),
    Network("lstm of characters", "recurrent", partial(Characters, nn.LSTM, 40, 1), TEXT, 5e-3),
    Network("gru normed", "recurrent", partial(Normed, 24, 0.2), ROWS, 3e-3),
    Network(
        "autoencoder layernorm", "autoencoder", partial(autoencoder, (72, 40, 24, 10), nn.Mish, nn.LayerNorm),
        COPY, 2e-3, short=True,
    ),
    Network("autoencoder upsampling", "autoencoder", partial(upsampling_autoencoder, 8, 10), COPY, 3e-3),
    Network("gan convolutional", "gan", partial(convolutional_forgers, 12), FORGERY, 1e-3),
    # Seeds 501 and 502.
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
