"""The networks of former test sets: they have been looked at, so that they are designed on now.

Until then nothing had been chosen by what a monitor said of them.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from benchmarks.faults.data import COPY, FORGERY, IMAGES, ROWS, TEXT
from benchmarks.faults.networks.autoencoder import (
    Masked,
    SegNet,
    UNet,
    autoencoder,
    denoising_autoencoder,
    latent_autoencoder,
    residual_autoencoder,
    subpixel_autoencoder,
    upsampling_autoencoder,
)
from benchmarks.faults.networks.convolution import (
    GatedText,
    LeNet,
    LightText,
    TemporalText,
    Turning,
    WaveNet,
    alexnet,
    attended,
    bytenet,
    convolutions,
    darknet,
    densenet,
    dilated,
    ghostnet,
    inception,
    mobilenet,
    network_in_network,
    qrnn,
    repvgg,
    shufflenet,
    slicenet,
    squeezenet,
    tutorial,
    vgg,
)
from benchmarks.faults.networks.dense import (
    Crossed,
    Experts,
    Reminded,
    ScaledTanh,
    dense,
    dropped,
    factored,
    gated_dense,
    gated_ends,
    gated_norms,
    gmlp,
    highway,
    independent,
    kan,
    maxout,
    mixer,
    opposed,
    periodic,
    residual_dense,
    resmlp,
    simba,
    wide_and_deep,
)
from benchmarks.faults.networks.encoder import Bert, Compact, Conformer, Encoder, GTrXL, Series
from benchmarks.faults.networks.gan import (
    convolutional_forgers,
    leaky_forgers,
    patch_forgers,
    pixelnorm_forgers,
    residual_forgers,
    spectral_forgers,
    styled_forgers,
    upsampling_forgers,
)
from benchmarks.faults.networks.language import (
    GPT2,
    GPTJ,
    T5,
    Bloom,
    DeepNet,
    Gemma,
    Gemma2,
    Nemotron,
    NormFormer,
    Olmo2,
    Palm,
    Primer,
    Qwen3,
)
from benchmarks.faults.networks.network import Network
from benchmarks.faults.networks.parts import groups, initialised, lecun
from benchmarks.faults.networks.recurrent import (
    Added,
    Asked,
    Characters,
    Filtered,
    MixedSoftmaxes,
    Normed,
    Pyramid,
    Recurrent,
    ReNet,
    SingleHead,
    Skipping,
    Spelt,
    Stacked,
    Tied,
    irnn,
)
from benchmarks.faults.networks.residual import (
    bottleneck,
    convmixer,
    convnext,
    cspnet,
    efficientnet,
    excited,
    inverted,
    nfnet,
    poolformer,
    preactivation,
    regnet,
    res2net,
    resnext,
    van,
    xception,
)
from benchmarks.faults.networks.transformer import Llama, Patches, Shared, Swin, Tokens

he, orthogonal = nn.init.kaiming_normal_, nn.init.orthogonal_
glorot, glorot_normal = nn.init.xavier_uniform_, nn.init.xavier_normal_

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
    # Seeds 611 and 612.
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
    # Seeds 711 and 712.
    Network(
        "dense gelu layernorm dropout", "dense",
        partial(dense, (64, 104, 76, 52), nn.GELU, nn.LayerNorm, 0.1), IMAGES, 3e-3, decay=0.05,
    ),
    Network(
        "dense tanh glorot deep", "dense",
        partial(initialised, partial(dense, (64, 68, 68, 68, 52, 52), nn.Tanh), glorot_normal),
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
    # Seeds 811 and 812.
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
    # Seeds 911 and 912.
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
    # Seeds 1011 and 1012.
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
    # Seeds 1111 and 1112.
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
