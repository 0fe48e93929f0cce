"""Layers with weights: their channels as functions of widths, and their records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hdapbench.cost.channels import Channels
from hdapbench.cost.records import ChannelCount, LayerRecord, OperationKind
from hdapbench.groups import GroupMember, GroupSet

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
PLAIN = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
CONVOLUTIONS = (*PLAIN, *TRANSPOSED)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
NORMS = (*BATCH_NORMS, *INSTANCE_NORMS, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)
LAYERS = (*CONVOLUTIONS, nn.Linear, *NORMS)


def dense_channels(module: nn.Module) -> tuple[int, int]:
    """Channels that one of `LAYERS` consumes and produces."""
    if isinstance(module, CONVOLUTIONS):
        return module.in_channels, module.out_channels
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    return (norm_size(module),) * 2


def norm_size(module: nn.Module) -> int:
    """Values that a norm has a scale for."""
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return int(torch.Size(module.normalized_shape).numel())
    if isinstance(module, nn.GroupNorm):
        return module.num_channels
    assert isinstance(module, (*BATCH_NORMS, *INSTANCE_NORMS))  # noqa: S101 - the only kinds left
    return module.num_features


def own_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Weight and bias of a layer, where they are parameters of its own and not computed from some."""
    held = dict(module.named_parameters(recurse=False, remove_duplicate=False))
    return {key: held[key] for key in ("weight", "bias") if key in held}


def layer_record(
    name: str,
    module: nn.Module,
    channels: LayerChannels,
    extents: dict[str, int],
    *,
    inputs: tuple[int, ...],
    first: bool,
) -> LayerRecord:
    """Record of a call of a layer, or, without extents, of one that is never called."""
    common: dict[str, Any] = {
        "name": name,
        "inputs": inputs,
        "channels_in": channels.consumed[name],
        "channels_out": channels.produced[name],
        "first": first,
        "executed": bool(extents),
        **extents,
    }
    if isinstance(module, NORMS):
        n_values = sum(parameter.numel() for parameter in own_parameters(module).values())
        per_channel = n_values // max(norm_size(module), 1)
        kind: OperationKind = "norm" if isinstance(module, BATCH_NORMS) else "layer_norm"
        return LayerRecord(kind=kind, parameters_per_channel=per_channel, **common)
    if isinstance(module, CONVOLUTIONS):
        common |= convolution_fields(
            module.kernel_size,
            module.stride,
            module.groups,
            channels=(module.in_channels, module.out_channels),
            read=channels.read.get(name),
            transposed=isinstance(module, TRANSPOSED),
        )
    else:
        common["kind"] = "linear"
    return LayerRecord(bias=module.bias is not None, **common)


def convolution_fields(
    kernel: Sequence[int],
    stride: Sequence[int],
    n_conv_groups: int,
    *,
    channels: tuple[int, int],
    read: ChannelCount | None,
    transposed: bool,
) -> dict[str, Any]:
    """What a record says of a convolution of so many channels in and out."""
    depthwise = 1 < n_conv_groups == channels[0] == channels[1] and not transposed
    return {
        "kind": "transposed" if transposed else "depthwise" if depthwise else "conv",
        "kernel_area": math.prod(kernel),
        "stride": int(stride[0]),
        "n_conv_groups": 1 if depthwise else n_conv_groups,
        "channels_read": None if depthwise or n_conv_groups == 1 else read,
    }


def extents(module: nn.Module, x: Tensor, y: Tensor) -> dict[str, int]:
    """Height and width of what a layer reads and writes; positions, as a height, of what is no map."""
    if not isinstance(module, nn.Linear | nn.LayerNorm | nn.RMSNorm):
        return map_extents(x, y)
    sizes = (end.numel() // max(size, 1) for end, size in zip((x, y), dense_channels(module), strict=True))
    return dict(zip(("height_in", "height_out"), sizes, strict=True))


def map_extents(x: Tensor, y: Tensor) -> dict[str, int]:
    """Height and width of maps whose channels are the second dimension."""
    sizes = (*Channels(ChannelCount(1)).extent(x), *Channels(ChannelCount(1)).extent(y))
    return dict(zip(("height_in", "width_in", "height_out", "width_out"), sizes, strict=True))


def n_weights(module: nn.Module) -> int:
    """Weights of a convolution or linear layer."""
    if isinstance(module, CONVOLUTIONS):
        return module.in_channels * module.out_channels // module.groups * math.prod(module.kernel_size)
    return module.in_features * module.out_features if isinstance(module, nn.Linear) else 0


class LayerChannels:
    """Channels that every layer consumes and produces, as functions of the groups' widths."""

    def __init__(self, model: nn.Module, group_set: GroupSet) -> None:
        self._members: dict[tuple[str, str], list[tuple[str, int, GroupMember]]] = {}
        for group in group_set:
            for member in group.members:
                for side in ("in", "out") if member.side == "both" else (member.side,):
                    found = self._members.setdefault((member.layer, side), [])
                    found.append((group.name, group.n_channels, member))
        self.consumed: dict[str, ChannelCount] = {}
        self.produced: dict[str, ChannelCount] = {}
        self.read: dict[str, ChannelCount] = {}
        for name, module in model.named_modules():
            if not isinstance(module, LAYERS):
                continue
            dense_in, dense_out = dense_channels(module)
            self.consumed[name] = self._count(name, "in", dense_in)
            self.produced[name] = self._count(name, "out", dense_out)
            if isinstance(module, CONVOLUTIONS) and module.groups > 1:
                self.read[name] = self._read(name, module.groups, dense_in)

    def _count(self, name: str, side: str, dense: int) -> ChannelCount:
        members = self._members.get((name, side), [])
        multiplicity = {group: len(member.indices) // size for group, size, member in members}
        return ChannelCount(dense - sum(len(member.indices) for _, _, member in members), multiplicity)

    def _read(self, name: str, n_conv_groups: int, dense_in: int) -> ChannelCount:
        """Channels that each filter of a grouped convolution reads: fewer of each group's, or whole groups less."""
        each = dense_in // n_conv_groups
        members = [member for _, _, member in self._members.get((name, "in"), [])]
        if members and all(_lies_in(member, each) == n_conv_groups for member in members):
            return self.consumed[name].divided(n_conv_groups)
        return ChannelCount(each)


def _lies_in(member: GroupMember, each: int) -> int:
    """Groups of a convolution, of so many channels each, that hold the first channel of a member."""
    pairs = zip(member.indices, member.channels, strict=True)
    return len({index // each for index, channel in pairs if channel == member.channels[0]})
