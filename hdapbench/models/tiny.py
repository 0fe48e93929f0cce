"""Reference networks of microcontroller benchmarks: ResNet-8, DS-CNN, and ResNet-18 for 64x64 images.

All take ``n_classes``, the outputs of the last layer, and ``in_channels``, the channels of an input image.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hdapbench.models.pooled import PooledNetwork

RESNET8_WIDTHS = (16, 32, 64)
RESNET6_WIDTHS = (16, 32)
DSCNN_WIDTH = 64
DSCNN_BLOCKS = 4


class _SmallResNet(nn.Module):
    """A 3x3 convolution, one residual block per width, global average pooling and a linear layer."""

    def __init__(self, widths: tuple[int, ...], *, n_classes: int, in_channels: int, norm: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        in_widths = (widths[0], *widths[:-1])
        self.blocks = nn.Sequential(*(_Block(*pair, norm=norm) for pair in zip(in_widths, widths, strict=True)))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(widths[-1], n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores, shape (n, n_classes)."""
        x = self.blocks(functional.relu(self.bn1(self.conv1(x))))
        scores: Tensor = self.linear(torch.flatten(self.pool(x), 1))
        return scores


class ResNet8(_SmallResNet):
    """ResNet-8 of MLPerf Tiny's image classification, as arXiv 2407.01054 trains it.

    The second convolution of each block has a bias before its batch norm; projection shortcuts have a bias and no norm.
    """

    def __init__(self, *, n_classes: int, in_channels: int = 3) -> None:
        super().__init__(RESNET8_WIDTHS, n_classes=n_classes, in_channels=in_channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)


class ResNet6(_SmallResNet):
    """Two residual blocks of 16 and 32 channels, for 8x8 digits: 19,408 weights, batch norm after every convolution."""

    def __init__(self, *, n_classes: int, in_channels: int = 1) -> None:
        super().__init__(RESNET6_WIDTHS, n_classes=n_classes, in_channels=in_channels, norm=True)


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut; a change of width halves the map.

    ``norm`` puts a batch norm in place of the biases of the second convolution and of the shortcut.
    """

    def __init__(self, in_channels: int, out_channels: int, *, norm: bool = False) -> None:
        super().__init__()
        widens = in_channels != out_channels
        stride = 2 if widens else 1
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=not norm)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if widens:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=not norm)
            if norm:
                self.shortcut = nn.Sequential(self.shortcut, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class DsCnn(PooledNetwork):
    """DS-CNN for keyword spotting (Zhang et al. 2017, small; MLPerf Tiny): one convolution, four separable blocks.

    Its input is a map of 49 frames by 10 cepstral coefficients.
    """

    def __init__(self, *, n_classes: int, in_channels: int = 1) -> None:
        width = DSCNN_WIDTH
        layers = _normalised(nn.Conv2d(in_channels, width, (10, 4), 2, padding=(5, 1)))
        layers.append(nn.Dropout(0.2))
        for _ in range(DSCNN_BLOCKS):
            layers += _normalised(nn.Conv2d(width, width, 3, padding=1, groups=width))
            layers += _normalised(nn.Conv2d(width, width, 1))
        layers.append(nn.Dropout(0.4))
        super().__init__(layers, width, n_classes)


def _normalised(convolution: nn.Conv2d) -> list[nn.Module]:
    return [convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU()]


def small_resnet18(*, n_classes: int, in_channels: int = 3) -> nn.Module:
    """ResNet-18 for 64x64 images: torchvision's, with a 3x3 stem of stride 1 and no max pooling."""
    from torchvision.models import resnet18

    model: nn.Module = resnet18(num_classes=n_classes)
    model.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
    return model
