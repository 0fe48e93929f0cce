"""Forms of ultralytics' attention over maps: that of YOLOv10 and YOLO11, and YOLO12's over areas."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hdapbench.models.attention.base import Attention, by_head


class SplitMapAttention(Attention):
    """ultralytics' ``Attention`` (Wang et al. 2024) with separate projections: tokens are the places of a map."""

    def __init__(self, block: Any) -> None:
        super().__init__(n_heads=block.num_heads, scale=block.scale)
        self.take(block.qkv, block.proj, by_head(block.num_heads, block.key_dim, block.key_dim, block.head_dim))
        self.pe, self.area = block.pe, 1

    @classmethod
    def fits(cls, block: Any) -> bool:
        """Whether its projections are plain ones."""
        return type(block.qkv.conv) is nn.Conv2d

    def forward(self, x: Tensor) -> Tensor:
        """Activations of the same shape, (n, channels, height, width)."""
        v = self.v(x)
        tokens = (self._tokens(part) for part in (self.q(x), self.k(x), v))
        values, _ = self.attend(*tokens)
        maps = torch.unflatten(values.flatten(1, 2).transpose(1, 2), -1, x.shape[2:])
        out: Tensor = self.out(maps + self.pe(v))
        return out

    def _tokens(self, maps: Tensor) -> Tensor:
        """Places of maps by area, shape (n, n_areas, n_tokens, channels)."""
        return torch.unflatten(maps.flatten(2).transpose(1, 2), 1, (self.area, -1))


class SplitAreaAttention(SplitMapAttention):
    """ultralytics' ``AAttn`` (Tian et al. 2025) with separate projections: places look at those of their own area."""

    def __init__(self, block: Any) -> None:
        Attention.__init__(self, n_heads=block.num_heads, scale=block.head_dim**-0.5)
        self.take(block.qkv, block.proj, by_head(block.num_heads, *[block.head_dim] * 3))
        self.pe, self.area = block.pe, block.area
