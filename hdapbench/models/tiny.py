"""Reference networks of microcontroller benchmarks: ResNet-8, DS-CNN, and ResNet-18 for 64x64 images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

RESNET8_WIDTHS = (16, 32, 64)
DSCNN_WIDTH = 64
DSCNN_BLOCKS = 4


class ResNet8(nn.Module):
    """ResNet-8 of MLPerf Tiny's image classification, as arXiv 2407.01054 trains it.

    The second convolution of each block has a bias before its batch norm; projection shortcuts have a bias and no norm.

    Parameters
    ----------
    n_classes
        Outputs of the last layer.
    in_channels
        Channels of an input image.
    """

    def __init__(self, *, n_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        first = RESNET8_WIDTHS[0]
        self.conv1 = nn.Conv2d(in_channels, first, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        taken = (first, *RESNET8_WIDTHS[:-1])
        self.blocks = nn.Sequential(*(_Block(a, b) for a, b in zip(taken, RESNET8_WIDTHS, strict=True)))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(RESNET8_WIDTHS[-1], n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores, shape (n, n_classes)."""
        x = self.blocks(functional.relu(self.bn1(self.conv1(x))))
        scores: Tensor = self.linear(torch.flatten(self.pool(x), 1))
        return scores


class ResNet6(nn.Module):
    """Two residual blocks of 16 and 32 channels, for 8x8 digits: 19,408 weights, a batch norm after every convolution.

    Parameters
    ----------
    n_classes
        Outputs of the last layer.
    in_channels
        Channels of an input image.
    """

    def __init__(self, *, n_classes: int, in_channels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(_Block(16, 16, norm=True), _Block(16, 32, norm=True))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(32, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores, shape (n, n_classes)."""
        x = self.blocks(functional.relu(self.bn1(self.conv1(x))))
        scores: Tensor = self.linear(torch.flatten(self.pool(x), 1))
        return scores


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


class DsCnn(nn.Module):
    """DS-CNN for keyword spotting (Zhang et al. 2017, small; MLPerf Tiny): one convolution, four separable blocks.

    Parameters
    ----------
    n_classes
        Outputs of the last layer.
    in_channels
        Channels of the input: 1, a map of 49 frames by 10 cepstral coefficients.
    """

    def __init__(self, *, n_classes: int, in_channels: int = 1) -> None:
        super().__init__()
        width = DSCNN_WIDTH
        layers = _normalised(nn.Conv2d(in_channels, width, (10, 4), 2, padding=(5, 1)))
        layers.append(nn.Dropout(0.2))
        for _ in range(DSCNN_BLOCKS):
            layers += _normalised(nn.Conv2d(width, width, 3, padding=1, groups=width))
            layers += _normalised(nn.Conv2d(width, width, 1))
        layers.append(nn.Dropout(0.4))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores, shape (n, n_classes)."""
        scores: Tensor = self.linear(torch.flatten(self.pool(self.features(x)), 1))
        return scores


def _normalised(convolution: nn.Conv2d) -> list[nn.Module]:
    return [convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU()]


def small_resnet18(*, n_classes: int, in_channels: int = 3) -> nn.Module:
    """ResNet-18 for 64x64 images: torchvision's, with a 3x3 stem of stride 1 and no max pooling.

    Parameters
    ----------
    n_classes
        Outputs of the last layer.
    in_channels
        Channels of an input image.
    """
    from torchvision.models import resnet18

    model: nn.Module = resnet18(num_classes=n_classes)
    model.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
    return model
