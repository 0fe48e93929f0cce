"""Known layers: along which dimensions of which tensors the channels lie that they consume and produce."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

from torch import Tensor, nn

from hdapbench.groups import Side

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
MIXING_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
"""Norms whose statistics run over channels."""
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
PER_CHANNEL = (*BATCH_NORMS, *INSTANCE_NORMS, *MIXING_NORMS, nn.PReLU)


@dataclass(frozen=True)
class LayerSide:
    """Channels along one dimension of a layer's tensor.

    Attributes
    ----------
    side
        Whether they are consumed, produced, or both.
    name
        Attribute that holds the tensor.
    repeats
        How many channels of the layer share an index: conv groups, for what a grouped convolution consumes.
    """

    side: Side
    name: str
    tensor: Tensor
    dimension: int
    repeats: int = 1

    def placed(self, indices: Sequence[int], labels: Sequence[int]) -> tuple[list[int], list[int]]:
        """Places in the tensor of channels of the layer, and their labels."""
        if self.repeats == 1:
            return list(indices), list(labels)
        size = self.tensor.shape[self.dimension]
        found = {index % size: label for index, label in zip(indices, labels, strict=True)}
        return list(found), list(found.values())


def sides_of(module: nn.Module) -> list[LayerSide]:
    """Tensors of a known layer that hold its channels; none of other modules.

    What a depthwise convolution consumes lies along no dimension.
    """
    found: list[tuple[Side, str, int, int]] = []
    if isinstance(module, CONVOLUTIONS):
        transposed = isinstance(module, TRANSPOSED)
        n_groups = module.groups
        if is_depthwise(module):
            found = [("both" if module.in_channels == module.out_channels else "out", "weight", 0, 1)]
        elif transposed:
            # Both kinds of weights hold the groups one after another, in dimension 0.
            found = [("in", "weight", 0, 1), ("out", "weight", 1, n_groups)]
        else:
            found = [("out", "weight", 0, 1), ("in", "weight", 1, n_groups)]
        found.append((found[0][0] if is_depthwise(module) else "out", "bias", 0, 1))
    elif isinstance(module, nn.Linear):
        found = [("out", "weight", 0, 1), ("in", "weight", 1, 1), ("out", "bias", 0, 1)]
    elif isinstance(module, PER_CHANNEL):
        found = [("both", name, 0, 1) for name in ("weight", "bias", "running_mean", "running_var")]
    sides = []
    for side, name, dimension, repeats in found:
        tensor = getattr(module, name, None)
        if isinstance(tensor, Tensor):
            sides.append(LayerSide(side, name, tensor, dimension, repeats))
    return sides


def is_depthwise(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether a module is a convolution, of any number of dimensions, every filter of which sees one channel."""
    return isinstance(module, CONVOLUTIONS) and 1 < module.groups == module.in_channels


def n_channels(module: nn.Module, side: Side) -> int:
    """Channels that a known layer consumes or produces."""
    if isinstance(module, CONVOLUTIONS):
        return module.in_channels if side == "in" else module.out_channels
    if isinstance(module, nn.Linear):
        return module.in_features if side == "in" else module.out_features
    if isinstance(module, nn.GroupNorm):
        return module.num_channels
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return int(module.normalized_shape[-1])
    if isinstance(module, nn.PReLU):
        return module.num_parameters
    if isinstance(module, (*BATCH_NORMS, *INSTANCE_NORMS)):
        return module.num_features
    raise TypeError(f"{type(module).__name__} is no known layer")
