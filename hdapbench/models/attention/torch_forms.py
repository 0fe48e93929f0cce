"""Form of ``torch.nn.MultiheadAttention``."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from hdapbench.models.attention.base import Attention, State, linear, thirds


class SplitMultiheadAttention(Attention):
    """`torch.nn.MultiheadAttention` with separate projections: of itself, or of other tokens.

    Parameters
    ----------
    block
        The module to take the weights of; it is not changed.
    """

    renamed: ClassVar = {"out_proj": "out"}

    def __init__(self, block: nn.MultiheadAttention) -> None:
        width = block.embed_dim // block.num_heads
        super().__init__(n_heads=block.num_heads, scale=width**-0.5, dropout=block.dropout)
        self.rows = thirds(3 * block.embed_dim)
        state = self.unpacked(block.state_dict())
        for name in (*self.parts, "out"):
            setattr(self, name, linear(state[f"{name}.weight"], state.get(f"{name}.bias")))
        self.embed_dim, self.batch_first = block.embed_dim, block.batch_first
        # torch's encoder layers read these to see whether a kernel may stand in for all of their forward: it may not.
        self._qkv_same_embed_dim = False
        self.in_proj_weight, self.in_proj_bias = None, None

    @classmethod
    def fits(cls, block: Any) -> bool:
        """Whether no token is added to keys and values."""
        plain = torch.nn.modules.linear.NonDynamicallyQuantizableLinear
        return block.bias_k is None and not block.add_zero_attn and type(block.out_proj) is plain

    def unpacked(self, state: State) -> dict[str, Tensor]:
        """As of all forms; the packed weights lie in the module itself."""
        found: dict[str, Tensor] = {}
        for key, value in state.items():
            part, _, kind = key.partition("_proj_")
            if part == "in" and kind in ("weight", "bias") and len(value) == sum(map(len, self.rows)):
                found |= {f"{name}.{kind}": value[index] for name, index in zip(self.parts, self.rows, strict=True)}
            elif part in self.parts and kind == "weight":
                found[f"{part}.{kind}"] = value
            else:
                found |= super().unpacked({key: value})
        return found

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,  # noqa: ARG002 - a hint on what the mask is
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens as ``torch.nn.MultiheadAttention`` returns them, and the weights of tokens if they are needed."""
        batched = query.ndim == 3
        turned = batched and not self.batch_first
        if turned:
            query, key, value = (tokens.transpose(0, 1) for tokens in (query, key, value))
        q, k, v = self.q(query), self.k(key), self.v(value)
        values, weights = self.attend(q, k, v, self._bias(attn_mask, key_padding_mask, q))
        tokens = self.projected(values)
        if turned:
            tokens = tokens.transpose(0, 1)
        if not need_weights:
            return tokens, None
        return tokens, weights.mean(dim=-3) if average_attn_weights else weights

    def _bias(self, attention: Tensor | None, padding: Tensor | None, like: Tensor) -> Tensor | None:
        """What masks add to products, shape broadcastable to (n, n_heads, n_tokens, n_tokens); True is masked."""
        mask = functional._canonical_mask(attention, "attn_mask", None, "", like.dtype)
        if mask is not None and mask.ndim == 3:
            mask = torch.unflatten(mask, 0, (-1, self.n_heads)) if like.ndim == 3 else mask
        padded = functional._canonical_mask(padding, "key_padding_mask", None, "", like.dtype)
        if padded is None:
            return mask
        padded = padded[..., None, None, :]
        return padded if mask is None else mask + padded
