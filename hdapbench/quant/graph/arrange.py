"""Channels picked and put in another order: chains of views, transpositions, chunks and the like, found by doing them.

Such a chain is carried out on the numbers of its input's values. Where the result is whole channels of the input, each
in its place, it is one operation, ``take``, whatever it is made of.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

MOVES = frozenset(
    {
        *("view", "reshape", "transpose", "permute", "swapaxes", "movedim", "contiguous", "flatten", "unflatten"),
        *("chunk", "split", "tensor_split", "unbind", "getitem", "narrow", "flip", "roll", "unsqueeze", "squeeze"),
        "channel_shuffle",
    }
)
"""Functions and methods that move values and compute none."""

NUMBER = "number"
"""Key of a node's meta data for what it yields where that is no tensor."""


class Shapes(ShapeProp):
    """Notes the shapes of tensors, and sizes and other numbers as they are."""

    def run_node(self, n: fx.Node) -> Any:
        """What the node yields."""
        found = super().run_node(n)
        if "tensor_meta" not in n.meta:
            n.meta[NUMBER] = found
        return found


@dataclass(frozen=True)
class Arrangement:
    """Values of an operation in another arrangement.

    Attributes
    ----------
    origin
        Name of the operation.
    shape
        Of its output, batch included.
    places : Tensor of int64, or several of them
        Position of each value among the operation's.
    """

    origin: str
    shape: tuple[int, ...]
    places: Any

    @classmethod
    def of(cls, origin: str, node: fx.Node) -> Arrangement:
        """An operation's own output."""
        shape = tuple(node.meta["tensor_meta"].shape)
        return cls(origin, shape, torch.arange(math.prod(shape)).view(shape))

    def moved(self, node: fx.Node, source: fx.Node, modules: dict[str, nn.Module]) -> Arrangement | None:
        """What a node makes of it; None if it may do more than move values."""
        arguments, named = fx.map_arg(
            (node.args, node.kwargs), lambda n: self.places if n is source else n.meta.get(NUMBER)
        )
        if node.op == "call_module":
            module = modules[str(node.target)]
            is_move = isinstance(module, nn.ChannelShuffle | nn.Flatten | nn.Unflatten)
            return Arrangement(self.origin, self.shape, module(*arguments)) if is_move else None
        name = str(getattr(node.target, "__name__", node.target))
        if name not in MOVES:
            return None
        if node.op == "call_method":
            first, *rest = arguments
            return Arrangement(self.origin, self.shape, getattr(first, name)(*rest, **named))
        function: Any = node.target
        return Arrangement(self.origin, self.shape, function(*arguments, **named))

    @property
    def channels(self) -> tuple[int, ...] | None:
        """Channels of the operation that this is, in order; None if it is anything else."""
        places, whole = self.places, torch.arange(math.prod(self.shape)).view(self.shape)
        if not isinstance(places, Tensor) or places.dim() != 4 or len(self.shape) != 4:
            return None
        if places.shape[0] != self.shape[0] or places.shape[2:] != self.shape[2:]:
            return None
        found = places[0, :, 0, 0] // math.prod(self.shape[2:])
        return tuple(found.tolist()) if torch.equal(whole[:, found % self.shape[1]], places) else None
