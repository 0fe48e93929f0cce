"""VGG16 with batch norm for 32x32 images: thirteen convolutions and one linear layer."""

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
MINIMUM_SIDE = 32
"""Five poolings halve the image to one pixel."""


class CifarVgg(PooledNetwork):
    """VGG16-BN (Simonyan and Zisserman 2015, configuration D) with global pooling instead of hidden linear layers.

    Parameters
    ----------
    n_classes
        Outputs of the last layer.
    in_channels
        Channels of an input image.
    """

    def __init__(self, *, n_classes: int, in_channels: int = 3) -> None:
        layers: list[nn.Module] = []
        channels = in_channels
        for layer in VGG16_LAYERS:
            if isinstance(layer, str):
                layers.append(nn.MaxPool2d(2))
                continue
            conv = nn.Conv2d(channels, layer, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            layers += [conv, nn.BatchNorm2d(layer), nn.ReLU()]
            channels = layer
        super().__init__(layers, channels, n_classes)
