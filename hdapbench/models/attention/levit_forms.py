"""Forms of timm's attention of LeViT and EfficientFormer: keys are narrower than values, biases go by distance."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from hdapbench.models.attention.base import Attention, by_head


class SplitLevit(Attention):
    """timm's ``Attention`` of LeViT (Graham et al. 2021) and EfficientFormer with separate projections."""

    def __init__(self, block: Any) -> None:
        super().__init__(n_heads=block.num_heads, scale=block.scale)
        self.take(block.qkv, block.proj, by_head(block.num_heads, block.key_dim, block.key_dim, block.val_dim))
        self.take_biases(block)

    @classmethod
    def fits(cls, block: Any) -> bool:
        """Whether it works on tokens, not on maps."""
        projects = any(isinstance(layer, nn.Linear) for layer in block.qkv.modules())
        return projects and not any(isinstance(layer, nn.Conv2d) for layer in block.modules())

    def take_biases(self, block: Any) -> None:
        """Take the biases by head and distance, and the distances of tokens."""
        self.attention_biases = block.attention_biases
        persistent = "attention_bias_idxs" not in block._non_persistent_buffers_set
        self.register_buffer("attention_bias_idxs", block.attention_bias_idxs, persistent=persistent)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens of the same shape, (n, n_tokens, channels)."""
        bias = self.attention_biases[:, self.attention_bias_idxs]
        values, _ = self.attend(self.q(x), self.k(x), self.v(x), bias)
        return self.projected(values)


class SplitLevitDown(SplitLevit):
    """timm's ``AttentionDownsample`` of LeViT: queries come from every other place."""

    packed = "kv"
    parts = ("k", "v")

    def __init__(self, block: Any) -> None:
        Attention.__init__(self, n_heads=block.num_heads, scale=block.scale)
        self.take(block.kv, block.proj, by_head(block.num_heads, block.key_dim, block.val_dim))
        self.q = block.q
        self.take_biases(block)

    @classmethod
    def fits(cls, block: Any) -> bool:
        """Whether it works on tokens, not on maps."""
        return not any(isinstance(layer, nn.Conv2d) for layer in block.modules())
