"""Layers with weights: their channels as functions of widths, and their records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hdapbench.axes.layers import BATCH_NORMS, CONVOLUTIONS, INSTANCE_NORMS, MIXING_NORMS, TRANSPOSED
from hdapbench.cost.channel_axis import extent
from hdapbench.cost.records import ChannelCount, LayerRecord, OperationKind, product

PLAIN = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (*BATCH_NORMS, *INSTANCE_NORMS, *MIXING_NORMS)
LAYERS = (*CONVOLUTIONS, nn.Linear, *NORMS)
Counts = tuple[ChannelCount, ...]


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
    module: nn.Module, weight: Counts, ends: tuple[ChannelCount, ChannelCount], common: dict[str, Any]
) -> LayerRecord:
    """Record of a layer.

    Parameters
    ----------
    weight
        Every dimension of its weight as a function of the widths; empty for a norm without one.
    ends
        Channels that it consumes and produces, which count where the weight does not tell.
    common
        What records of all kinds say.
    """
    if isinstance(module, NORMS):
        kind: OperationKind = "norm" if isinstance(module, BATCH_NORMS) else "layer_norm"
        size = max(norm_size(module), 1)
        constant, varying = product(weight or ends[:1])
        channels = varying[0].scaled(constant) if varying else ChannelCount(size)
        per_channel = sum(parameter.numel() for parameter in own_parameters(module).values()) // size
        return LayerRecord(
            kind=kind, channels_in=channels, channels_out=channels, parameters_per_channel=per_channel, **common
        )
    if isinstance(module, CONVOLUTIONS):
        shape, transposed = weight_shape(module), isinstance(module, TRANSPOSED)
        fields = convolution_fields(shape, weight, ends, module.stride, module.groups, transposed=transposed)
    else:
        fields = {"kind": "linear", "channels_in": weight[1], "channels_out": weight[0]}
    return LayerRecord(bias=module.bias is not None, **fields, **common)


def convolution_fields(
    shape: Sequence[int],
    weight: Counts,
    ends: tuple[ChannelCount, ChannelCount],
    stride: Sequence[int],
    n_conv_groups: int,
    *,
    transposed: bool,
) -> dict[str, Any]:
    """What a record says of a convolution whose weight has a shape, and these counts as functions of the widths."""
    first, second = shape[0], shape[1] * n_conv_groups  # channels on the side that is whole, and on the other
    depthwise = 1 < n_conv_groups == first == second and not transposed
    if depthwise:
        channels = (weight[0], weight[0])
    elif n_conv_groups == 1:
        channels = (weight[0], weight[1]) if transposed else (weight[1], weight[0])
    else:
        channels = (weight[0], ends[1]) if transposed else (ends[0], weight[0])
    return {
        "kind": "transposed" if transposed else "depthwise" if depthwise else "conv",
        "channels_in": channels[0],
        "channels_out": channels[1],
        "kernel_area": math.prod(shape[2:]),
        "stride": int(stride[0]),
        "n_conv_groups": 1 if depthwise else n_conv_groups,
        "dimensions": weight[:2] if n_conv_groups > 1 and not depthwise else (),
    }


def extents(module: nn.Module, x: Tensor, y: Tensor) -> dict[str, int]:
    """Height and width of what a layer reads and writes; positions, as a height, of what is no map."""
    if not isinstance(module, nn.Linear | nn.LayerNorm | nn.RMSNorm):
        return map_extents(x, y)
    sizes = (end.numel() // max(size, 1) for end, size in zip((x, y), dense_channels(module), strict=True))
    return dict(zip(("height_in", "height_out"), sizes, strict=True))


def map_extents(x: Tensor, y: Tensor) -> dict[str, int]:
    """Height and width of maps whose channels are the second dimension."""
    return dict(zip(("height_in", "width_in", "height_out", "width_out"), (*extent(x, 1), *extent(y, 1)), strict=True))


def weight_shape(module: nn.Module) -> tuple[int, ...]:
    """Shape of the weight of a convolution, a linear layer or a norm."""
    if isinstance(module, CONVOLUTIONS):
        ends = (module.in_channels, module.out_channels)
        whole, other = ends if isinstance(module, TRANSPOSED) else ends[::-1]
        return (whole, other // module.groups, *module.kernel_size)
    if isinstance(module, nn.Linear):
        return (module.out_features, module.in_features)
    return (norm_size(module),)
