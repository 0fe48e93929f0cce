"""Attention with separate projections, which takes the width of its heads from its weights."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

State = Mapping[str, Tensor]


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017) over tokens, shape (..., n_tokens, width).

    Attributes
    ----------
    n_heads
        Heads. Surgery lowers it when it removes whole heads from ``q``, ``k``, ``v`` and ``out``.
    scale
        What products of queries and keys are multiplied by: that of the dense model, whatever is cut.
    q, k, v
        Projections to heads one after the other, shape (n_heads * width, in_features). Queries and keys share a width,
        values have one of their own.
    out
        Projection of the heads' values.
    """

    packed = "qkv"
    """Name of the packed layer in the module that this stands for; its ``q``, ``k`` and ``v`` are rows of it."""

    renamed: ClassVar[Mapping[str, str]] = {"proj": "out"}
    """Layers that have another name in the module that this stands for."""

    parts: tuple[str, ...] = ("q", "k", "v")
    """What the rows of the packed layer become."""

    rows: tuple[Tensor, ...] = ()
    """Rows of the packed layer for each of `parts`."""

    def __init__(self, *, n_heads: int, scale: float, dropout: float = 0.0, out_dropout: float = 0.0) -> None:
        super().__init__()
        self.n_heads, self.scale, self.dropout, self.out_dropout = n_heads, scale, dropout, out_dropout
        self.q: nn.Module
        self.k: nn.Module
        self.v: nn.Module
        self.out: nn.Module

    @property
    def num_heads(self) -> int:
        """`n_heads`, under the name by which code of others reads it."""
        return self.n_heads

    @classmethod
    def fits(cls, block: Any) -> bool:
        """Whether a module of the class that this stands for is of the kind that this computes."""
        return type(block.qkv) is nn.Linear and type(block.proj) is nn.Linear

    def take(self, packed: nn.Module, out: nn.Module, rows: tuple[Tensor, ...]) -> None:
        """Take the projections out of a packed layer, whose rows for each of `parts` are given."""
        self.rows, self.out = rows, out
        for name, index in zip(self.parts, rows, strict=True):
            setattr(self, name, of_rows(packed, index, sum(map(len, rows))))

    def unpacked(self, state: State) -> dict[str, Tensor]:
        """State of the module that this stands for, under the names of this one; other entries stay as they are."""
        found: dict[str, Tensor] = {}
        for key, value in state.items():
            layer, _, rest = key.partition(".")
            if layer == self.packed and value.ndim and len(value) == sum(map(len, self.rows)):
                found |= {f"{part}.{rest}": value[index] for part, index in zip(self.parts, self.rows, strict=True)}
            elif layer == self.packed and not value.ndim:  # the batch count of a norm
                found |= {f"{part}.{rest}": value.clone() for part in self.parts}
            else:
                found[f"{self.renamed[layer]}.{rest}" if layer in self.renamed else key] = value
        return found

    def attend(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Values of all heads, shape (..., n_tokens, n_heads * width), and the weights of tokens in them.

        Parameters
        ----------
        query, key, value
            Projected tokens, shape (..., n_tokens, n_heads * width).
        bias
            What is added to products of queries and keys, shape (..., n_heads, n_tokens, n_tokens).
        """
        q, k, v = (torch.unflatten(tokens, -1, (self.n_heads, -1)).transpose(-3, -2) for tokens in (query, key, value))
        products = self.products(q, k)
        weights = self.mixed((products if bias is None else products + bias).softmax(dim=-1))
        weights = functional.dropout(weights, self.dropout, self.training)
        return (weights @ v).transpose(-3, -2).flatten(-2), weights

    def products(self, q: Tensor, k: Tensor) -> Tensor:
        """Scaled products of queries and keys, shape (..., n_heads, n_tokens, n_tokens)."""
        return (q * self.scale) @ k.transpose(-2, -1)

    def mixed(self, weights: Tensor) -> Tensor:
        """Weights of tokens, for those that mix heads."""
        return weights

    def projected(self, values: Tensor) -> Tensor:
        """Output for values of all heads."""
        return functional.dropout(self.out(values), self.out_dropout, self.training)


def thirds(n_rows: int) -> tuple[Tensor, ...]:
    """Rows of queries, keys and values where all queries come first, then all keys, then all values."""
    return torch.arange(n_rows).chunk(3)


def by_head(n_heads: int, *widths: int) -> tuple[Tensor, ...]:
    """Rows of parts of some widths where each head has its own in a row, such as queries, keys and values."""
    every = torch.arange(n_heads * sum(widths)).view(n_heads, -1)
    return tuple(part.flatten() for part in every.split_with_sizes(list(widths), dim=1))


def of_rows(layer: nn.Module, rows: Tensor, n_rows: int) -> nn.Module:
    """Copy of a layer, alone or with its norm, that has some of its rows; nothing is drawn from torch's generator."""
    part = deepcopy(layer)
    for module in part.modules():
        tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        for name, tensor in tensors:
            if tensor.ndim and len(tensor) == n_rows:
                chosen = tensor.detach()[rows]
                learned = isinstance(tensor, nn.Parameter)
                setattr(module, name, nn.Parameter(chosen, tensor.requires_grad) if learned else chosen)
        if isinstance(module, nn.Linear):
            module.out_features = len(rows)
        elif isinstance(module, nn.Conv2d):
            module.out_channels = len(rows)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.num_features = len(rows)
    return part


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Layer of these weights; nothing is drawn from torch's generator."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer


def position_bias(table: Tensor, index: Tensor, n_tokens: int) -> Tensor:
    """Bias by relative position, shape (n_heads, n_tokens, n_tokens), of a table of shape (n_positions, n_heads)."""
    return torch.unflatten(table[index.flatten()], 0, (n_tokens, n_tokens)).permute(2, 0, 1)
