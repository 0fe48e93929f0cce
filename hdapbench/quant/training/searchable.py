"""SearchNetwork: every channel a mixture over weight bit-widths, every activation one over activation bit-widths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from hdapbench.cost.bits import ChannelBitCounts, Selector
from hdapbench.quant.graph.folded import FoldedModel
from hdapbench.quant.graph.graph import Operation
from hdapbench.quant.training.choices import Granularity, RangeRule, Sampling
from hdapbench.quant.training.network import Layers, QuantNetwork
from hdapbench.quant.training.quantizers import ActivationGrid, clip_activations, mix_layers
from hdapbench.quant.training.ranges import weight_steps
from hdapbench.quant.training.selection import SelectionLogits


@dataclass(frozen=True)
class SearchOptions:
    """What a search may choose from, and how it samples.

    Attributes
    ----------
    weight_bits, activation_bits
        Bit-widths, ascending. 0 prunes. The network's input always takes the greatest activation bit-width.
    rule
        How weight steps are found, see `weight_steps`.
    sampling, granularity, least_channels
        See `SelectionLogits`.
    """

    weight_bits: Sequence[int] = (0, 2, 4, 8)
    activation_bits: Sequence[int] = (8,)
    rule: RangeRule = "mse"
    sampling: Sampling = "softmax"
    granularity: Granularity = "channel"
    least_channels: int = 1


class SearchNetwork(QuantNetwork):
    """Network whose bit-widths are being searched; all of them quantise one shared float weight.

    Attributes
    ----------
    selection
        Logits over weight bit-widths, for all channel groups.
    activation_selection
        Logits over activation bit-widths, one row per quantiser; None when there is nothing to choose.
    penalty
        Counts -> scalar. When set, its gradient joins that of the loss in every backward pass of a training step.
    watch
        When set, receives 0 and the gradient of the loss by the shares of weight bits, shape (n_channels, n_bits), in
        every backward pass of a training step, and 1 and that by the shares of activation bits where these are chosen.

    Parameters
    ----------
    folded
        The float network; copied.
    clips : Tensor, shape (n_quantizers, n_activation_bits, 2)
        From `calibrate_clips` with ``options.activation_bits``.
    options
        What may be chosen, and how.
    """

    def __init__(self, folded: FoldedModel, clips: Tensor, options: SearchOptions) -> None:
        super().__init__(folded.model, folded.graph, clips, rule=options.rule)
        self.layers, self.activation_bits = folded.layers, tuple(options.activation_bits)
        weight_bits = options.weight_bits
        self.selection = SelectionLogits(
            self.layers.selectors,
            weight_bits,
            sampling=options.sampling,
            granularity=options.granularity,
            least_channels=options.least_channels,
        )
        self.activation_selection: SelectionLogits | None = None
        if len(self.activation_bits) > 1:
            places = [Selector(name, 1, False) for name in self.graph.quantizers]
            self.activation_selection = SelectionLogits(places, self.activation_bits, sampling=options.sampling)
        self.penalty: Callable[[ChannelBitCounts], Tensor] | None = None
        self.watch: Callable[[int, Tensor], None] | None = None
        self.register_buffer("channel_of_row", channel_of_row(folded), persistent=False)
        self.channel_of_row: Tensor
        self._inputs_of_layers = channels_of_inputs(folded)
        self._kept_columns = [column for column, bits in enumerate(weight_bits) if bits]
        self._weight_bits = tuple(weight_bits[column] for column in self._kept_columns)
        self._shares: Tensor | None = None
        self._activation_shares: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Output of the network; bit-widths are sampled anew, and `counts` speaks of the same sample."""
        self._shares = self.selection()
        self._activation_shares = self._sample_activations()
        if self.penalty is not None and self.training and torch.is_grad_enabled():
            self._add_penalty()
        if self.watch is not None and self.training and torch.is_grad_enabled():
            self._let_watch(self.watch)
        return super().forward(x)

    def counts(self) -> ChannelBitCounts:
        """Counts of the last forward pass, for the hardware costs; gradients flow to the logits."""
        if self._shares is None:
            return self.counts_of(self.selection(), self._sample_activations())
        return self.counts_of(self._shares, self._activation_shares)

    def counts_of(self, shares: Tensor, activation: Tensor | None = None) -> ChannelBitCounts:
        """Counts of shares of weight bits (n_channels, n_bits), and of activation bits (n_quantizers, n_bits)."""
        channels = self.selection.counts(shares)
        if activation is not None:
            activation = activation.cpu()[self._inputs_by_layer()]
        return self.layers.counts(channels, self.selection.bits, activation, self.activation_bits)

    def _add_penalty(self) -> None:
        """Let the penalty's gradient enter where the loss's passes: at the sampled shares, so that both go on as one.

        A second backward pass through the sampling would cost as much again as the penalty itself.
        """
        assert self.penalty is not None  # noqa: S101 - the caller made sure
        sampled = [shares for shares in (self._shares, self._activation_shares) if shares is not None]
        leaves = [shares.detach().requires_grad_() for shares in sampled]
        value = self.penalty(self.counts_of(leaves[0], leaves[1] if len(leaves) > 1 else None))
        gradients = torch.autograd.grad(value, leaves, allow_unused=True)
        for shares, gradient in zip(sampled, gradients, strict=True):
            if gradient is not None:
                shares.register_hook(lambda upstream, own=gradient: upstream + own)  # type: ignore[no-untyped-call]

    def _let_watch(self, watch: Callable[[int, Tensor], None]) -> None:
        for place, shares in enumerate((self._shares, self._activation_shares)):
            if shares is not None and shares.requires_grad:
                shares.register_hook(partial(watch, place))  # type: ignore[no-untyped-call]

    def counts_at(self, channels: Tensor) -> ChannelBitCounts:
        """Counts of an assignment, with the likeliest activation bits.

        Parameters
        ----------
        channels : Tensor, shape (n_selectors, n_weight_bits)
            Channels of each selector at each bit-width.
        """
        activation = None
        if self.activation_selection is not None:
            chosen = torch.tensor([self.activation_bits.index(bits) for bits in self.activation_choices()])
            activation = torch.nn.functional.one_hot(chosen, len(self.activation_bits))[self._inputs_by_layer()]
        return self.layers.counts(channels, self.selection.bits, activation, self.activation_bits)

    def choices(self) -> dict[str, tuple[int, ...]]:
        """Selector -> likeliest bits of each channel."""
        return self.selection.choices()

    def activation_choices(self) -> tuple[int, ...]:
        """Likeliest activation bits of each quantiser."""
        if self.activation_selection is None:
            return self.activation_bits * len(self.graph.quantizers)
        with torch.no_grad():
            shares = self._sample_activations()
        assert shares is not None  # noqa: S101 - there is a choice
        return tuple(self.activation_bits[int(column)] for column in shares.argmax(1))

    def find_steps(self) -> Tensor:
        """Weight steps, shape (n_rows, n_bits), of the weights that meet inputs that stay.

        Those of removed inputs are no longer trained and will be gone: they must not widen the steps of the others.
        """
        removed = self._removed()
        return torch.cat(
            [
                weight_steps(_without(weight, rows, removed), self._weight_bits, self.rule)
                for weight, rows in zip(self.weights, self._inputs_of_layers, strict=True)
            ]
        )

    def _removed(self) -> Tensor:
        """Whether each channel of the selectors mostly has 0 bits, shape (n_channels,)."""
        shares = self.selection() if self._shares is None else self._shares
        return torch.cat([1.0 - shares[:, self._kept_columns[0] :].sum(1), shares.new_zeros(1)]) > 0.5

    def grids(self) -> list[list[ActivationGrid]]:
        """One grid per quantiser and activation bit-width."""
        return [
            [ActivationGrid.between(ends, bits) for ends, bits in zip(clip, self.activation_bits, strict=True)]
            for clip in self.ends()
        ]

    def layer_tensors(self, grids: list[list[ActivationGrid]]) -> Layers:
        """Weights and biases mixed over bit-widths."""
        assert self._shares is not None  # noqa: S101 - forward sampled them
        shares = self._shares[:, self._kept_columns[0] :][self.channel_of_row]
        steps = self.current_steps()
        scales = self._scales(grids)
        with torch.no_grad():
            bias_steps = self.bias_steps((shares * steps).sum(1), scales)
        return mix_layers(
            list(self.weights),
            list(self.biases),
            shares=shares,
            steps=steps,
            bias_steps=bias_steps,
            bits=self._weight_bits,
        )

    def quantize(self, operation: Operation, value: Tensor, grids: list[ActivationGrid]) -> Tensor:
        """Activations mixed over bit-widths."""
        assert operation.quantizer is not None  # noqa: S101 - the walk asks for quantised operations alone
        clip = self.clips[operation.quantizer]
        if self._activation_shares is None:
            return clip_activations(value, clip, grids[0], relu=operation.relu)
        shares = self._activation_shares[operation.quantizer]
        parts = [
            shares[column] * clip_activations(value, clip[column], grid, relu=operation.relu)
            for column, grid in enumerate(grids)
        ]
        return torch.stack(parts).sum(0)

    def _scales(self, grids: list[list[ActivationGrid]]) -> list[float]:
        """Scale of each quantiser, mixed like its values."""
        if self._activation_shares is None:
            return [grid[0].scale for grid in grids]
        shares = self._activation_shares.tolist()
        return [
            sum(share * grid.scale for share, grid in zip(row, found, strict=True))
            for row, found in zip(shares, grids, strict=True)
        ]

    def _sample_activations(self) -> Tensor | None:
        """Share of each activation bit-width at each quantiser, or None when there is nothing to choose."""
        if self.activation_selection is None:
            return None
        shares = self.activation_selection()
        finest = torch.zeros_like(shares[:1])
        finest[0, -1] = 1.0
        first = self.graph.operations[0].quantizer
        return torch.cat([finest if row == first else shares[row : row + 1] for row in range(len(shares))])

    def _inputs_by_layer(self) -> list[int]:
        """Quantiser at the input of each row of the cost table, which may list a layer twice."""
        return [self.graph.input_quantizers[name] for name in self.layers.names]


def _without(weight: Tensor, inputs: Tensor | None, removed: Tensor) -> Tensor:
    """Weight with zeros where its inputs are removed; zeros lie on every grid."""
    if inputs is None:
        return weight
    gone = removed[inputs.to(removed.device)]
    return weight.masked_fill(gone.view(1, -1, *[1] * (weight.dim() - 2)), 0.0) if bool(gone.any()) else weight


def channels_of_inputs(folded: FoldedModel) -> list[Tensor | None]:
    """For each layer: the position of its inputs among the channels of all selectors, one past the last for others.

    Returns
    -------
    list of Tensor of int64, shape (n_inputs,), or None where no input can be removed on its own, as in depthwise layers
    """
    graph = folded.graph
    first = _first_positions(folded)
    others = sum(selector.n_channels for selector in folded.layers.selectors)
    known: dict[str, Tensor] = {}
    for group in folded.group_set:
        for member in group.members:
            if member.side == "in" and member.layer in graph.layers:
                n_inputs = folded.model.get_submodule(member.layer).get_parameter("weight").shape[1]
                rows = known.setdefault(member.layer, torch.full((n_inputs,), others))
                # Groups of a convolution lose the same channels, and share the columns of its weight.
                columns = [index % n_inputs for index in member.indices]
                rows[columns] = torch.tensor(member.channels) + first[group.name]
    return [known.get(name) for name in graph.layers]


def _first_positions(folded: FoldedModel) -> dict[str, int]:
    """Position of each selector's first channel among the channels of all."""
    first, start = {}, 0
    for selector in folded.layers.selectors:
        first[selector.name] = start
        start += selector.n_channels
    return first


def channel_of_row(folded: FoldedModel) -> Tensor:
    """For each output channel, layers one after another: its position among the channels of all selectors.

    Returns
    -------
    Tensor of int64, shape (n_rows,)
    """
    graph = folded.graph
    first = _first_positions(folded)
    known: dict[str, dict[int, int]] = {name: {} for name in graph.layers}
    for group in folded.group_set:
        for member in group.members:
            if member.side in {"out", "both"} and member.layer in known:
                for index, channel in zip(member.indices, member.channels, strict=True):
                    known[member.layer][index] = first[group.name] + channel
    rows: list[int] = []
    for name in graph.layers:
        n_out = graph.by_name[name].shape[0]
        frozen = iter(range(first.get(name, 0), first.get(name, 0) + n_out))
        rows += [known[name][index] if index in known[name] else next(frozen) for index in range(n_out)]
    return torch.tensor(rows)
