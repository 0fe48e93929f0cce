"""MobileNetV1 (Howard et al. 2017, table 1): depthwise separable convolutions."""

from __future__ import annotations

from torch import nn

from hdapbench.models.pooled import PooledNetwork

STEM_WIDTH = 32
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)
"""Output channels and stride of every depthwise separable block."""


class MobileNetV1(PooledNetwork):
    """MobileNetV1 of width 1.

    Parameters
    ----------
    n_classes
        Outputs of the last layer.
    in_channels
        Channels of an input image.
    small_input
        Stride 1 instead of 2 in the first layer, for images of 16 to 64 pixels.
    """

    def __init__(self, *, n_classes: int, in_channels: int = 3, small_input: bool = False) -> None:
        layers = _convolution(in_channels, STEM_WIDTH, kernel=3, stride=1 if small_input else 2)
        channels = STEM_WIDTH
        for width, stride in BLOCKS:
            layers += _convolution(channels, channels, kernel=3, stride=stride, groups=channels)
            layers += _convolution(channels, width, kernel=1)
            channels = width
        super().__init__(layers, channels, n_classes)


def _convolution(
    in_channels: int, out_channels: int, *, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return [conv, nn.BatchNorm2d(out_channels), nn.ReLU()]
