"""The head of most networks of the zoo: global average pooling and one linear layer."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class PooledNetwork(nn.Module):
    """Layers one after another, then global average pooling and one linear layer.

    Parameters
    ----------
    layers
        Compute maps of shape (n, n_channels, h, w) from images.
    n_channels
        Channels of the maps.
    n_classes
        Outputs of the linear layer.
    """

    def __init__(self, layers: Iterable[nn.Module], n_channels: int, n_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(n_channels, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores, shape (n, n_classes)."""
        scores: Tensor = self.linear(torch.flatten(self.pool(self.features(x)), 1))
        return scores
