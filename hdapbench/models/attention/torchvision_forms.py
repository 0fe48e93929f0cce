"""Forms of torchvision's attention: Swin's windows in both versions, and MaxViT's."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from hdapbench.models.attention.base import Attention, State, linear, position_bias, thirds


class SplitShiftedWindow(Attention):
    """torchvision's ``ShiftedWindowAttention`` (Liu et al. 2021) with separate projections.

    Parameters
    ----------
    block
        The module to take the weights of; it is not changed, but its parameters are shared.
    """

    relative_position_index: Tensor

    def __init__(self, block: Any) -> None:
        width = block.qkv.in_features // block.num_heads
        super().__init__(
            n_heads=block.num_heads, scale=width**-0.5, dropout=block.attention_dropout, out_dropout=block.dropout
        )
        self.take(block.qkv, block.proj, thirds(block.qkv.out_features))
        self.window_size, self.shift_size = list(block.window_size), list(block.shift_size)
        self.register_buffer("relative_position_index", block.relative_position_index)
        self.take_bias(block)

    def take_bias(self, block: Any) -> None:
        """Take what gives the bias by relative position."""
        self.relative_position_bias_table = block.relative_position_bias_table

    def bias(self) -> Tensor:
        """Bias by relative position, shape (n_heads, n_tokens, n_tokens)."""
        n_tokens = self.window_size[0] * self.window_size[1]
        return position_bias(self.relative_position_bias_table, self.relative_position_index, n_tokens)

    def forward(self, x: Tensor) -> Tensor:
        """Activations of the same shape, (n, height, width, channels)."""
        height, width = x.shape[1:3]
        rows, columns = self.window_size
        x = functional.pad(x, (0, 0, 0, -width % columns, 0, -height % rows))
        padded = (x.shape[1], x.shape[2])
        shift = [0 if self.window_size[axis] >= padded[axis] else self.shift_size[axis] for axis in (0, 1)]
        if any(shift):
            x = torch.roll(x, shifts=(-shift[0], -shift[1]), dims=(1, 2))
        x = torch.unflatten(torch.unflatten(x, 2, (-1, columns)), 1, (-1, rows))
        grid = (x.shape[1], x.shape[3])  # of x, shape (n, rows, row, columns, column, channels)
        x = x.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # (n, n_windows, n_tokens, channels)

        bias = self.bias()
        if any(shift):
            bias = bias + shift_mask(padded, self.window_size, shift, x.device)[:, None].to(x.dtype)
        values, _ = self.attend(self.q(x), self.k(x), self.v(x), bias)
        x = self.projected(values)

        x = torch.unflatten(torch.unflatten(x, 2, (rows, columns)), 1, grid).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        if any(shift):
            x = torch.roll(x, shifts=(shift[0], shift[1]), dims=(1, 2))
        return x[:, :height, :width, :].contiguous()


class SplitShiftedWindowV2(SplitShiftedWindow):
    """torchvision's ``ShiftedWindowAttentionV2`` (Liu et al. 2022) with separate projections.

    Keys have no bias: torchvision sets that part of its packed bias to zero whenever it runs.
    """

    def take_bias(self, block: Any) -> None:
        """Take the network over log-spaced positions that gives the bias."""
        self.register_buffer("relative_coords_table", block.relative_coords_table)
        self.cpb_mlp, self.logit_scale = block.cpb_mlp, block.logit_scale
        self.k = linear(self.k.get_parameter("weight"), None)

    def unpacked(self, state: State) -> dict[str, Tensor]:
        """As of all forms, without the bias of keys."""
        return {name: value for name, value in super().unpacked(state).items() if name != "k.bias"}

    def bias(self) -> Tensor:
        """Bias by relative position, shape (n_heads, n_tokens, n_tokens)."""
        table = self.cpb_mlp(self.relative_coords_table).flatten(0, -2)
        n_tokens = self.window_size[0] * self.window_size[1]
        return 16 * position_bias(table, self.relative_position_index, n_tokens).sigmoid()

    def products(self, q: Tensor, k: Tensor) -> Tensor:
        """Cosines, scaled by head."""
        cosines = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).transpose(-2, -1)
        scaled: Tensor = cosines * self.logit_scale.clamp(max=math.log(100.0)).exp()
        return scaled


class SplitRelativeAttention(Attention):
    """torchvision's ``RelativePositionalMultiHeadAttention`` of MaxViT (Tu et al. 2022) with separate projections."""

    relative_position_index: Tensor

    packed = "to_qkv"
    renamed: ClassVar = {"merge": "out"}

    def __init__(self, block: Any) -> None:
        super().__init__(n_heads=block.n_heads, scale=block.scale_factor)
        self.take(block.to_qkv, block.merge, thirds(block.to_qkv.out_features))
        self.n_tokens = block.max_seq_len
        self.register_buffer("relative_position_index", block.relative_position_index)
        self.relative_position_bias_table = block.relative_position_bias_table

    @classmethod
    def fits(cls, block: Any) -> bool:
        """Whether its layers are plain ones."""
        return type(block.to_qkv) is nn.Linear and type(block.merge) is nn.Linear

    def forward(self, x: Tensor) -> Tensor:
        """Tokens of the same shape, (n, n_windows, n_tokens, channels)."""
        bias = position_bias(self.relative_position_bias_table, self.relative_position_index, self.n_tokens)
        values, _ = self.attend(self.q(x), self.k(x), self.v(x), bias)
        return self.projected(values)


def shift_mask(size: tuple[int, int], window: list[int], shift: list[int], device: torch.device) -> Tensor:
    """-100 between tokens of a window that a shift brought together, shape (n_windows, n_tokens, n_tokens)."""
    regions = torch.zeros(size, device=device)
    for axis, weight in ((0, 3), (1, 1)):
        if shift[axis]:
            place = torch.arange(size[axis], device=device)
            region = (place >= size[axis] - window[axis]).float() + (place >= size[axis] - shift[axis]).float()
            regions = regions + weight * (region[:, None] if axis == 0 else region)
    regions = regions.view(size[0] // window[0], window[0], size[1] // window[1], window[1])
    tokens = regions.transpose(1, 2).flatten(2, 3).flatten(0, 1)  # (n_windows, n_tokens)
    return (tokens[:, None, :] != tokens[:, :, None]).float() * -100.0
