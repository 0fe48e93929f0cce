"""Small networks, each with one structure that pruning has to get right, or has to leave alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hdapbench.groups import GroupSet
from hdapbench.prune.trace import find_groups
from tests.zoo import with_statistics

SHAPE = (3, 8, 8)


class Plain(nn.Module):
    """Two convolutions, batch norm after the first only, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 4, 3, padding=1)
        self.classifier = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.first(x)))
        return self.classifier(functional.relu(self.second(x)).mean((2, 3)))


class Residual(nn.Module):
    """A stem whose output is added to what two convolutions make of it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.outer = (nn.Conv2d(*sizes, 3, padding=1) for sizes in ((3, 6), (6, 5), (5, 6)))
        self.classifier = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        x = x + self.outer(functional.relu(self.inner(x)))
        return self.classifier(x.mean((2, 3)))


class Depthwise(nn.Module):
    """A depthwise convolution, with bias, between two ordinary ones."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.last = nn.Conv2d(8, 6, 1)
        self.classifier = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.depthwise(functional.relu(self.first(x))))
        return self.classifier(functional.relu(self.last(x)).mean((2, 3)))


class Concat(nn.Module):
    """Two branches side by side, normalised together, read by one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(9)
        self.tail = nn.Conv2d(9, 6, 3, padding=1)
        self.classifier = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm(torch.cat([self.left(x), self.right(x)], 1)))
        return self.classifier(functional.relu(self.tail(x)).mean((2, 3)))


class Flatten(nn.Module):
    """A convolution whose maps are flattened into a linear layer, 16 inputs for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.hidden = nn.Linear(6 * 16, 7)
        self.classifier = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.conv(x)).flatten(1)
        return self.classifier(functional.relu(self.hidden(x)))


class Chunk(nn.Module):
    """Halves of a convolution's channels, one of them refined, concatenated: the C2f block of YOLOv8."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.split = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 1)
        self.inner = nn.Conv2d(8, 8, 3, padding=1)
        self.tail = nn.Conv2d(24, 6, 1)
        self.classifier = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(functional.relu(self.split(functional.relu(self.stem(x)))).chunk(2, 1))
        parts.append(functional.relu(self.inner(parts[-1])))
        return self.classifier(functional.relu(self.tail(torch.cat(parts, 1))).mean((2, 3)))


class _PaddedBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.margin, self.stride = (out_channels - in_channels) // 2, stride

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        return functional.relu(out + functional.pad(shortcut, (0, 0, 0, 0, self.margin, self.margin)))


class ZeroPadded(nn.Module):
    """A residual network with zero-padded shortcuts: option A of the ResNet paper."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        blocks = [_PaddedBlock(8, 8, 1), _PaddedBlock(8, 16, 2), _PaddedBlock(16, 16, 1), _PaddedBlock(16, 32, 2)]
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.blocks(functional.relu(self.stem(x))).mean((2, 3)))


class OverChannels(nn.Module):
    """A softmax over channels, which sees how many there are."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 8, 3)
        self.classifier = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.softmax(self.first(x), 1)
        return self.classifier(functional.relu(self.second(x)).mean((2, 3)))


class Hushed(nn.Module):
    """A zero-padded shortcut whose influence no output shows: a zero batch norm scale after it.

    Fresh networks look like this ("zero-init residual"), and so do saturated detection heads.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = nn.Conv2d(3, 8, 3, padding=1), _PaddedBlock(8, 16, 1)
        self.quiet, self.norm = nn.Conv2d(16, 8, 1), nn.BatchNorm2d(8)
        self.loud = nn.Conv2d(3, 8, 1)
        self.classifier = nn.Linear(8, 5)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        quiet = self.norm(self.quiet(self.block(functional.relu(self.stem(x)))))
        return self.classifier((self.loud(x) + quiet).mean((2, 3)))


class Grouped(nn.Module):
    """A convolution in two groups between two ordinary ones."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.grouped = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=2)
        self.last = nn.Conv2d(8, 6, 1)
        self.tail = nn.Conv2d(6, 6, 1)
        self.classifier = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.grouped(functional.relu(self.first(x)))
        return self.classifier(self.tail(functional.relu(self.last(x))).mean((2, 3)))


class Narrow(nn.Module):
    """A bottleneck of a single channel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 1, 3), nn.Conv2d(1, 6, 3)
        self.classifier = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(functional.relu(self.second(self.first(x))).mean((2, 3)))


def seeded(network: type[nn.Module]) -> nn.Module:
    """Network with fixed weights and batch norms that are not the identity, in eval mode."""
    torch.manual_seed(0)
    model = network()
    return model.eval() if isinstance(model, Hushed) else with_statistics(model, deviation=0.5)


def grouped(network: type[nn.Module]) -> tuple[nn.Module, GroupSet]:
    """The same, and its channel groups."""
    model = seeded(network)
    return model, find_groups(model, SHAPE)
