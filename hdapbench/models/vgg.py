"""VGG networks with batch norm for small images: convolutions, poolings and one linear layer."""

from __future__ import annotations

from torch import nn

from hdapbench.models.pooled import PooledNetwork

POOL = "pool"
VGG16_LAYERS: tuple[int | str, ...] = (
    *(64, 64, POOL),
    *(128, 128, POOL),
    *(256, 256, 256, POOL),
    *(512, 512, 512, POOL),
    *(512, 512, 512, POOL),
)
VGG7_LAYERS: tuple[int | str, ...] = (*(32, POOL), *(64, POOL), *(128, 128, POOL), *(256, 256))
"""The first six convolutions of configuration A (VGG11), each of half its width."""

MINIMUM_SIDE = {"vgg16": 32, "vgg7": 8}
"""Poolings halve the image, to one pixel at least."""


class CifarVgg(PooledNetwork):
    """VGG with batch norm (Simonyan and Zisserman 2015), global pooling instead of hidden linear layers.

    Parameters
    ----------
    layers
        Output channels of each convolution, and poolings between: configuration D or a smaller one.
    n_classes
        Outputs of the last layer.
    in_channels
        Channels of an input image.
    """

    def __init__(self, layers: tuple[int | str, ...], *, n_classes: int, in_channels: int = 3) -> None:
        modules: list[nn.Module] = []
        channels = in_channels
        for layer in layers:
            if isinstance(layer, str):
                modules.append(nn.MaxPool2d(2))
                continue
            conv = nn.Conv2d(channels, layer, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            modules += [conv, nn.BatchNorm2d(layer), nn.ReLU()]
            channels = layer
        super().__init__(modules, channels, n_classes)
