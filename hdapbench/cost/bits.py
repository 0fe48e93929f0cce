"""Costs that depend on bit-widths: the layers they are summed over, what is stored in bits, and bit operations.

A *selector* is a set of channels whose bit-widths are chosen one by one: every prunable channel group is one, and so
are the frozen output channels of every other layer, which cannot be removed. All costs are functions of two arrays: how
many channels of each selector take each bit-width, and which activation bit-width each layer reads. Both may be soft
(probabilities summed over channels); then the costs are differentiable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from hdapbench.cost.memory import Memory
from hdapbench.cost.records import WEIGHTED, LayerRecord
from hdapbench.cost.trace import record_layers
from hdapbench.errors import UnknownLayerError
from hdapbench.groups import GroupSet

CHANNEL_BYTES = 9
"""What an output channel stores beside its weights: a bias and a multiplier of four bytes each, and a shift of one."""

PLACE_BITS = 2
"""Number of the part, of one bit-width, that a channel's filter lies in: where channels cannot be sorted by bits."""


@dataclass(frozen=True)
class Selector:
    """Channels whose bit-widths are chosen one by one.

    Attributes
    ----------
    name
        Name of the channel group, or of the layer whose frozen output channels these are.
    n_channels
        Channels in the dense model.
    prunable
        Whether a channel may take 0 bits.
    """

    name: str
    n_channels: int
    prunable: bool


@dataclass(frozen=True)
class ChannelBitCounts:
    """What the costs of one assignment are computed from; float64, gradients flow through.

    Attributes
    ----------
    out_channels : Tensor, shape (n_layers, n_weight_bits)
        Output channels of each layer at each weight bit-width, without the removed ones.
    in_channels : Tensor, shape (n_layers,)
        Input channels that each filter reads, without the removed ones; 1 for depthwise layers.
    kept : Tensor, shape (n_selectors,)
        Channels of each selector, without the removed ones.
    activation : Tensor, shape (n_layers, n_activation_bits)
        Share of each activation bit-width at the layer's input; rows sum to one.
    weight_bits, activation_bits
        What the columns stand for; ``weight_bits`` holds no 0.
    """

    out_channels: Tensor
    in_channels: Tensor
    kept: Tensor
    activation: Tensor
    weight_bits: tuple[int, ...]
    activation_bits: tuple[int, ...]


@dataclass(frozen=True)
class BitLayers:
    """Convolution and linear layers of a model, with their channels as functions of the selectors.

    Attributes
    ----------
    names
        Layer names in order of execution; a layer that is called twice stands twice.
    selectors
        All selectors, prunable groups first.
    out_channels : Tensor, shape (n_layers, n_selectors)
        Output channels per channel of the selector.
    in_channels : Tensor, shape (n_layers, n_selectors)
        Input channels per kept channel of the selector: above one after flattening.
    in_channels_constant : Tensor, shape (n_layers,)
        Input channels that never go away.
    kernels, extents : ndarray, shape (n_layers, 2)
        Height and width of the kernel, and of the output map.
    depthwise : ndarray of bool, shape (n_layers,)
        Layers with one filter per channel.
    grouped : ndarray of int, shape (n_layers,)
        Groups of a convolution that is not depthwise; 1 otherwise.
    stored : ndarray of bool, shape (n_layers,)
        False for repeated calls, whose weights count once.
    constant_bytes
        What operations without weights store: multipliers of sums and averages, tables of functions.
    memory
        Values of the network by the channels that are left; None where they are not known.
    """

    names: tuple[str, ...]
    selectors: tuple[Selector, ...]
    out_channels: Tensor
    in_channels: Tensor
    in_channels_constant: Tensor
    kernels: np.ndarray
    extents: np.ndarray
    depthwise: np.ndarray
    grouped: np.ndarray
    stored: np.ndarray
    constant_bytes: int = 0
    memory: Memory | None = None

    @classmethod
    def from_model(cls, model: nn.Module, group_set: GroupSet, input_shape: tuple[int, int, int]) -> BitLayers:
        """Layers of a model.

        Parameters
        ----------
        group_set
            Channel groups of the model.
        input_shape
            Channels, height and width of one input.

        Raises
        ------
        UnknownLayerError
            When a layer has parameters or arithmetic that no rule covers.
        """
        noted = record_layers(model, group_set, input_shape)
        modules = dict(model.named_modules())
        _refuse_others(noted, modules)
        records = [record for record in noted if record.kind in WEIGHTED and record.executed]
        frozen = [Selector(r.name, r.channels_out.constant, False) for r in records if r.channels_out.constant]
        prunable = [Selector(group.name, group.n_channels, True) for group in group_set]
        selectors = tuple(dict.fromkeys([*prunable, *frozen]))
        position = {selector.name: number for number, selector in enumerate(selectors)}
        out_channels = torch.zeros(len(records), len(selectors), dtype=torch.float64)
        in_channels = torch.zeros_like(out_channels)
        constant = torch.zeros(len(records), dtype=torch.float64)
        for row, record in enumerate(records):
            for name, times in record.channels_out.multiplicity.items():
                out_channels[row, position[name]] = times
            if record.channels_out.constant:
                out_channels[row, position[record.name]] = 1.0
            if record.kind == "depthwise":
                constant[row] = 1.0
                continue
            constant[row] = record.channels_in.constant / record.n_conv_groups
            for name, times in record.channels_in.multiplicity.items():
                in_channels[row, position[name]] = times / record.n_conv_groups
        return cls(
            names=tuple(record.name for record in records),
            selectors=selectors,
            out_channels=out_channels,
            in_channels=in_channels,
            in_channels_constant=constant,
            kernels=np.array([_kernel(modules[record.name]) for record in records]),
            extents=np.array([(record.height_out, record.width_out) for record in records]),
            depthwise=np.array([record.kind == "depthwise" for record in records]),
            grouped=np.array([record.n_conv_groups for record in records]),
            stored=np.array([record.first for record in records]),
        )

    @cached_property
    def kernel_area(self) -> Tensor:
        """Kernel height times width, shape (n_layers,)."""
        return torch.as_tensor(self.kernels.prod(1), dtype=torch.float64)

    @cached_property
    def stored_kernel_area(self) -> Tensor:
        """Kernel area of layers whose weights count, 0 for repeated calls, shape (n_layers,)."""
        return self.kernel_area * torch.as_tensor(self.stored, dtype=torch.float64)

    @cached_property
    def unsorted(self) -> Tensor:
        """1.0 for layers whose output channels sorting does not bring in order by bits, shape (n_layers,).

        Those that cannot be removed keep their places, and so do channels of several selectors or of several places.
        """
        of_frozen = torch.tensor([not selector.prunable for selector in self.selectors])
        is_frozen = (self.out_channels[:, of_frozen] > 0).any(1)
        return (is_frozen | ((self.out_channels > 0).sum(1) > 1) | (self.out_channels > 1).any(1)).double()

    @cached_property
    def output_area(self) -> Tensor:
        """Output height times width, shape (n_layers,)."""
        return torch.as_tensor(self.extents.prod(1), dtype=torch.float64)

    def counts(
        self,
        channels: Tensor,
        weight_bits: Sequence[int],
        activation: Tensor | None = None,
        activation_bits: Sequence[int] = (8,),
    ) -> ChannelBitCounts:
        """Counts of an assignment, hard or soft.

        Parameters
        ----------
        channels : Tensor, shape (n_selectors, n_weight_bits)
            Channels of each selector at each bit-width, 0 bits included where it is a choice.
        weight_bits
            What the columns stand for.
        activation : Tensor, shape (n_layers, n_activation_bits)
            Share of each activation bit-width at each layer's input; None means the last of ``activation_bits``.
        activation_bits
            What its columns stand for.
        """
        kept = [column for column, bits in enumerate(weight_bits) if bits]
        channels = channels.double()
        if len(kept) < len(weight_bits):
            channels = channels[:, kept]
        if activation is None:
            activation = torch.zeros(len(self.names), len(activation_bits), dtype=torch.float64)
            activation[:, -1] = 1.0
        left = channels.sum(1)
        return ChannelBitCounts(
            out_channels=self.out_channels @ channels,
            in_channels=self.in_channels_constant + self.in_channels @ left,
            kept=left,
            activation=activation.double(),
            weight_bits=tuple(weight_bits[column] for column in kept),
            activation_bits=tuple(activation_bits),
        )

    def uniform_counts(self, weight_bits: int, activation_bits: int = 8) -> ChannelBitCounts:
        """Counts with every channel at one bit-width, none removed."""
        channels = torch.tensor([[float(selector.n_channels)] for selector in self.selectors])
        return self.counts(channels, (weight_bits,), activation_bits=(activation_bits,))

    def counts_of_layers(
        self, weight_bits: Mapping[str, Sequence[int]], activation_bits: Mapping[str, int] | None = None
    ) -> ChannelBitCounts:
        """Counts of this model as it is, from which nothing is removed.

        Parameters
        ----------
        weight_bits
            Layer -> bits of each of its output channels.
        activation_bits
            Layer -> bits of its input; 8 where absent.
        """
        columns = sorted({value for bits in weight_bits.values() for value in bits})
        chosen = [(activation_bits or {}).get(name, 8) for name in self.names]
        input_bits = sorted(set(chosen))
        n_channels = torch.tensor([[float(selector.n_channels)] for selector in self.selectors])
        whole = self.counts(n_channels, (8,))
        return ChannelBitCounts(
            out_channels=torch.tensor(
                [[float(list(weight_bits[name]).count(value)) for value in columns] for name in self.names]
            ).double(),
            in_channels=whole.in_channels,
            kept=whole.kept,
            activation=torch.tensor([[float(value == bits) for bits in input_bits] for value in chosen]).double(),
            weight_bits=tuple(columns),
            activation_bits=tuple(input_bits),
        )


def size_bits(layers: BitLayers, counts: ChannelBitCounts) -> Tensor:
    """Bits of all weights: the sum over layers of inputs times kernel area times the bits of every filter.

    Biases, scales and tags are not counted, as in arXiv 2407.01054; `stored_bits` counts all.
    """
    per_filter = counts.in_channels * layers.stored_kernel_area
    return (per_filter * (counts.out_channels @ _as_tensor(counts.weight_bits))).sum()


def smooth_stored_bits(layers: BitLayers, counts: ChannelBitCounts) -> Tensor:
    """Bits that a device stores, before weights are filled up to whole bytes: differentiable everywhere."""
    stored = torch.as_tensor(layers.stored, dtype=torch.float64)
    channels = (stored * counts.out_channels.sum(1)).sum()
    return size_bits(layers, counts) + 8.0 * (CHANNEL_BYTES * channels + layers.constant_bytes)


def stored_bits(layers: BitLayers, counts: ChannelBitCounts) -> Tensor:
    """Bits that a device stores: weights, biases, multipliers, shifts, and what operations without weights need.

    Exact for whole counts: what a packed file holds beside its header. Weights of one layer and bit-width fill whole
    bytes; channels that cannot be sorted by bits store their places. The gradient is that of `smooth_stored_bits`.
    """
    smooth = smooth_stored_bits(layers, counts)
    with torch.no_grad():
        of_parts = (counts.in_channels * layers.stored_kernel_area)[:, None] * counts.out_channels
        of_parts = of_parts * _as_tensor(counts.weight_bits)  # (n_layers, n_weight_bits)
        padding = (8.0 * torch.ceil(of_parts / 8.0 - 1e-9) - of_parts).clamp_min(0.0).sum()
        is_mixed = (counts.out_channels > 0).sum(1) > 1
        of_layers = torch.ceil(PLACE_BITS * counts.out_channels.sum(1) / 8.0)  # bytes
        places = 8.0 * (layers.unsorted * is_mixed * of_layers).sum()
    return smooth + padding + places


def multiply_accumulates(layers: BitLayers, counts: ChannelBitCounts) -> Tensor:
    """Multiply-accumulates, whatever the bits: what a FLOPs target counts."""
    return (counts.in_channels * layers.kernel_area * layers.output_area * counts.out_channels.sum(1)).sum()


def bit_operations(layers: BitLayers, counts: ChannelBitCounts) -> Tensor:
    """Multiply-accumulates weighted by weight bits times input activation bits."""
    per_filter = counts.in_channels * layers.kernel_area * layers.output_area
    weight = counts.out_channels @ _as_tensor(counts.weight_bits)
    return (per_filter * weight * (counts.activation @ _as_tensor(counts.activation_bits))).sum()


def _as_tensor(bits: tuple[int, ...]) -> Tensor:
    return torch.tensor(bits, dtype=torch.float64)


def _refuse_others(records: Iterable[LayerRecord], modules: Mapping[str, nn.Module]) -> None:
    """Refuse, by name, what multiplies or holds parameters and is no layer whose bit-widths are chosen."""
    odd = [
        record.name
        for record in records
        if record.kind in {"matmul", "parameter"}
        or (record.kind == "linear" and record.dimensions)
        or (record.kind in WEIGHTED and not isinstance(modules.get(record.name), nn.Conv2d | nn.Linear))
    ]
    if odd:
        raise UnknownLayerError(
            f"no cost of bit-widths for {', '.join(dict.fromkeys(odd[:5]))}{' and others' if len(odd) > 5 else ''}; "
            "known layers: Conv2d, Linear, and norms"
        )


def _kernel(module: nn.Module) -> tuple[int, int]:
    return (module.kernel_size[0], module.kernel_size[1]) if isinstance(module, nn.Conv2d) else (1, 1)
