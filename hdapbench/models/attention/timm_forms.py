"""Forms of timm's attention over tokens: that of ViT and its kin, windows, BEiT's, CaiT's and MaxViT's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hdapbench.models.attention.base import Attention, State, by_head, linear, position_bias, thirds


class SplitTimmAttention(Attention):
    """timm's ``Attention`` of ViT with separate projections, without gate and without a norm of its values."""

    def __init__(self, block: Any) -> None:
        super().__init__(
            n_heads=block.num_heads, scale=block.scale, dropout=block.attn_drop.p, out_dropout=block.proj_drop.p
        )
        self.take(block.qkv, block.proj, thirds(block.qkv.out_features))
        self.q_norm, self.k_norm = block.q_norm, block.k_norm

    @classmethod
    def fits(cls, block: Any) -> bool:
        """Whether its layers are plain ones, and there are no others."""
        return super().fits(block) and block.gate is None and isinstance(block.norm, nn.Identity)

    def products(self, q: Tensor, k: Tensor) -> Tensor:
        """Scaled products of normed queries and keys."""
        return super().products(self.q_norm(q), self.k_norm(k))

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """Tokens of the same shape, (n, n_tokens, channels)."""
        mask = attn_mask
        if is_causal:
            mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        if mask is not None and mask.dtype == torch.bool:  # True takes part
            mask = torch.zeros(mask.shape, dtype=x.dtype, device=x.device).masked_fill(~mask, -torch.inf)
        values, _ = self.attend(self.q(x), self.k(x), self.v(x), mask)
        return self.projected(values)


class SplitTimmMap(Attention):
    """timm's attention of FastViT with separate projections: tokens are the places of a map."""

    def __init__(self, block: Any) -> None:
        super().__init__(
            n_heads=block.num_heads, scale=block.scale, dropout=block.attn_drop.p, out_dropout=block.proj_drop.p
        )
        self.take(block.qkv, block.proj, thirds(block.qkv.out_features))

    def forward(self, x: Tensor) -> Tensor:
        """Activations of the same shape, (n, channels, height, width)."""
        tokens = x.flatten(2).transpose(-2, -1)
        values, _ = self.attend(self.q(tokens), self.k(tokens), self.v(tokens))
        return torch.unflatten(self.projected(values).transpose(-2, -1), -1, x.shape[2:])


class SplitTimmPlainWindow(Attention):
    """timm's ``WindowAttention`` of DaViT with separate projections."""

    def __init__(self, block: Any) -> None:
        super().__init__(n_heads=block.num_heads, scale=block.scale)
        self.take(block.qkv, block.proj, thirds(block.qkv.out_features))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens of the same shape, (n * n_windows, n_tokens, channels)."""
        values, _ = self.attend(self.q(x), self.k(x), self.v(x))
        return self.projected(values)


class SplitChannelAttention(Attention):
    """timm's ``ChannelAttention`` of DaViT (Ding et al. 2022) with separate projections: a head mixes its channels."""

    def __init__(self, block: Any) -> None:
        super().__init__(n_heads=block.num_heads, scale=block.scale)
        self.take(block.qkv, block.proj, thirds(block.qkv.out_features))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens of the same shape, (n, n_tokens, channels)."""
        parts = (self.q(x), self.k(x), self.v(x))
        q, k, v = (torch.unflatten(tokens, -1, (self.n_heads, -1)).transpose(1, 2) for tokens in parts)
        weights = ((k * self.scale).transpose(-1, -2) @ v).softmax(dim=-1)
        values = (weights @ q.transpose(-1, -2)).permute(0, 3, 1, 2)
        return self.projected(values.flatten(2))


class SplitTimmWindow(Attention):
    """timm's ``WindowAttention`` of Swin with separate projections."""

    relative_position_index: Tensor

    def __init__(self, block: Any) -> None:
        super().__init__(
            n_heads=block.num_heads, scale=block.scale, dropout=block.attn_drop.p, out_dropout=block.proj_drop.p
        )
        self.take(block.qkv, block.proj, thirds(block.qkv.out_features))
        self.n_tokens = block.window_area
        self.register_buffer("relative_position_index", block.relative_position_index, persistent=False)
        self.relative_position_bias_table = block.relative_position_bias_table

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens of the same shape, (n * n_windows, n_tokens, channels)."""
        bias = position_bias(self.relative_position_bias_table, self.relative_position_index, self.n_tokens)
        if mask is not None:
            x = torch.unflatten(x, 0, (-1, len(mask)))
            bias = bias + mask[:, None]
        values, _ = self.attend(self.q(x), self.k(x), self.v(x), bias)
        tokens = self.projected(values)
        return tokens if mask is None else tokens.flatten(0, 1)


class SplitBeit(Attention):
    """timm's ``Attention`` of BEiT with separate projections; keys have no bias, as there."""

    relative_position_index: Tensor

    def __init__(self, block: Any) -> None:
        super().__init__(
            n_heads=block.num_heads, scale=block.scale, dropout=block.attn_drop.p, out_dropout=block.proj_drop.p
        )
        self.take(block.qkv, block.proj, thirds(block.qkv.out_features))
        if block.q_bias is not None:
            self.q = linear(self.q.get_parameter("weight"), block.q_bias)
            self.v = linear(self.v.get_parameter("weight"), block.v_bias)
        self.relative_position_bias_table = block.relative_position_bias_table
        index = block.relative_position_index
        self.n_tokens = 0 if index is None else len(index)
        self.register_buffer("relative_position_index", index, persistent=False)

    def unpacked(self, state: State) -> dict[str, Tensor]:
        """As of all forms; biases lie in the module itself."""
        biases = {"q_bias": "q.bias", "v_bias": "v.bias"}
        return super().unpacked({biases.get(name, name): value for name, value in state.items()})

    def forward(self, x: Tensor, shared_rel_pos_bias: Tensor | None = None) -> Tensor:
        """Tokens of the same shape, (n, n_tokens, channels)."""
        bias = shared_rel_pos_bias
        if self.relative_position_bias_table is not None:
            own = position_bias(self.relative_position_bias_table, self.relative_position_index, self.n_tokens)
            bias = own if bias is None else own + bias
        values, _ = self.attend(self.q(x), self.k(x), self.v(x), bias)
        return self.projected(values)


class SplitClassAttention(Attention):
    """timm's ``ClassAttn`` of CaiT: the first token looks at all."""

    def __init__(self, block: Any) -> None:
        super().__init__(
            n_heads=block.num_heads, scale=block.scale, dropout=block.attn_drop.p, out_dropout=block.proj_drop.p
        )
        self.q, self.k, self.v, self.out = block.q, block.k, block.v, block.proj

    @classmethod
    def fits(cls, block: Any) -> bool:
        """Whether its layers are plain ones."""
        return all(type(layer) is nn.Linear for layer in (block.q, block.k, block.v, block.proj))

    def forward(self, x: Tensor) -> Tensor:
        """The first token, shape (n, 1, channels)."""
        values, _ = self.attend(self.q(x[:, :1]), self.k(x), self.v(x))
        return self.projected(values)


class SplitTalkingHeads(Attention):
    """timm's ``TalkingHeadAttn`` of CaiT (Shazeer et al. 2020) with separate projections: heads are mixed."""

    def __init__(self, block: Any) -> None:
        super().__init__(
            n_heads=block.num_heads, scale=block.scale, dropout=block.attn_drop.p, out_dropout=block.proj_drop.p
        )
        self.take(block.qkv, block.proj, thirds(block.qkv.out_features))
        self.proj_l, self.proj_w = block.proj_l, block.proj_w

    def products(self, q: Tensor, k: Tensor) -> Tensor:
        """Scaled products, mixed over heads."""
        return _over_heads(self.proj_l, super().products(q, k))

    def mixed(self, weights: Tensor) -> Tensor:
        """Weights of tokens, mixed over heads."""
        return _over_heads(self.proj_w, weights)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens of the same shape, (n, n_tokens, channels)."""
        values, _ = self.attend(self.q(x), self.k(x), self.v(x))
        return self.projected(values)


class SplitMaxxvit(Attention):
    """timm's ``AttentionCl`` of MaxViT (Tu et al. 2022) with separate projections, and a table of positions or none."""

    def __init__(self, block: Any) -> None:
        super().__init__(
            n_heads=block.num_heads, scale=block.scale, dropout=block.attn_drop.p, out_dropout=block.proj_drop.p
        )
        width = block.dim_head
        rows = by_head(block.num_heads, width, width, width) if block.head_first else thirds(block.qkv.out_features)
        self.take(block.qkv, block.proj, rows)
        self.rel_pos = block.rel_pos

    @classmethod
    def fits(cls, block: Any) -> bool:
        """Whether its layers are plain ones, and its positions have a table."""
        return super().fits(block) and (block.rel_pos is None or type(block.rel_pos).__name__ == "RelPosBias")

    def forward(self, x: Tensor, shared_rel_pos: Tensor | None = None) -> Tensor:
        """Tokens of the same shape, (n, ..., channels)."""
        bias = shared_rel_pos
        if self.rel_pos is not None:
            place: Any = self.rel_pos
            n_tokens = place.window_area + place.prefix_tokens
            bias = position_bias(place.relative_position_bias_table, place.relative_position_index, n_tokens)
        tokens = x.flatten(1, -2)
        values, _ = self.attend(self.q(tokens), self.k(tokens), self.v(tokens), bias)
        return torch.unflatten(self.projected(values), 1, x.shape[1:-1])


def _over_heads(layer: nn.Module, weights: Tensor) -> Tensor:
    """A layer over heads, of weights of shape (..., n_heads, n_tokens, n_tokens)."""
    mixed: Tensor = layer(weights.movedim(-3, -1)).movedim(-1, -3)
    return mixed
