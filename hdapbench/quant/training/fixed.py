"""FixedNetwork: a fake-quantised network with a bit-width per channel, for fine-tuning and as the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from hdapbench.errors import PlanError
from hdapbench.quant.graph.graph import Operation, QuantGraph
from hdapbench.quant.training.choices import RangeRule
from hdapbench.quant.training.network import Layers, QuantNetwork
from hdapbench.quant.training.quantizers import ActivationGrid, clip_activations, round_layers
from hdapbench.quant.training.ranges import integer_range, weight_steps

MOST_UNITS = 2**30
"""What a channel's sums may reach, in their own unit: half of what 32 bits hold, the other half is for rounding."""


class FixedNetwork(QuantNetwork):
    """Network whose bit-widths are decided. Removed channels are not in it.

    Parameters
    ----------
    model
        The folded float network that ``graph`` was traced from, without the removed channels; copied.
    clips : Tensor, shape (n_quantizers, 2)
        Least and greatest value of each quantiser.
    weight_bits
        Layer -> bits of each output channel, 2 or more.
    activation_bits
        Bits of each quantiser.
    rule
        See `weight_steps`.

    Raises
    ------
    PlanError
        When the bits do not fit the layers.
    """

    def __init__(
        self,
        model: nn.Module,
        graph: QuantGraph,
        clips: Tensor,
        *,
        weight_bits: Mapping[str, Sequence[int]],
        activation_bits: Sequence[int],
        rule: RangeRule = "mse",
    ) -> None:
        super().__init__(model, graph, clips[:, None], rule=rule)
        wrong = [
            name
            for name, weight in zip(graph.layers, self.weights, strict=True)
            if len(weight_bits.get(name, ())) != len(weight) or min(weight_bits[name]) < 2
        ]
        if wrong or len(activation_bits) != len(graph.quantizers):
            raise PlanError(f"bit-widths do not fit the layers {wrong[:5]} or the {len(graph.quantizers)} quantisers")
        self.weight_bits = {name: tuple(weight_bits[name]) for name in graph.layers}
        self.activation_bits = tuple(activation_bits)
        rows = [bits for name in graph.layers for bits in self.weight_bits[name]]
        ranges = torch.tensor([integer_range(bits) for bits in rows], dtype=torch.float32)
        self.register_buffer("bits_of_row", torch.tensor(rows), persistent=False)
        self.register_buffer("low", ranges[:, 0].clone(), persistent=False)
        self.register_buffer("high", ranges[:, 1].clone(), persistent=False)
        self.bits_of_row: Tensor
        self.low: Tensor
        self.high: Tensor

    def find_steps(self) -> Tensor:
        """Weight step of each output channel, shape (n_rows,), no finer than 32-bit sums allow."""
        found: list[Tensor] = []
        of_layers = torch.split(self.bits_of_row, [len(weight) for weight in self.weights])
        for name, weight, bits in zip(self.graph.layers, self.weights, of_layers, strict=True):
            steps = weight.new_empty(len(weight))
            for p in set(self.weight_bits[name]):
                chosen = bits == p
                steps[chosen] = weight_steps(weight[chosen], [p], self.rule)[:, 0]
            found.append(steps)
        return torch.maximum(torch.cat(found), self._least_steps())

    def _least_steps(self) -> Tensor:
        """Least weight steps, shape (n_rows,): the bias and the largest sum of a channel are `MOST_UNITS` of them.

        Only filters that a batch norm all but switched off, with a bias left, and those of tens of thousands of inputs
        come near.
        """
        found, grids = [], self.grids()
        for weight, bias, quantizer in zip(self.weights, self.biases, self._inputs, strict=True):
            grid = grids[quantizer][0]
            reach = max(-grid.low, grid.high)
            found.append(weight.detach().flatten(1).abs().sum(1) * reach + bias.detach().abs() / grid.scale)
        return torch.cat(found) / MOST_UNITS

    def grids(self) -> list[list[ActivationGrid]]:
        """The grid of each quantiser, in a list of its own."""
        return [
            [ActivationGrid.between(clip[0], bits)]
            for clip, bits in zip(self.ends(), self.activation_bits, strict=True)
        ]

    def layer_tensors(self, grids: list[list[ActivationGrid]]) -> Layers:
        """Weights and biases on their grids."""
        steps = self.current_steps()
        return round_layers(
            list(self.weights),
            list(self.biases),
            steps=steps,
            low=self.low,
            high=self.high,
            bias_steps=self.bias_steps(steps, [grid[0].scale for grid in grids]),
        )

    def quantize(self, operation: Operation, value: Tensor, grids: list[ActivationGrid]) -> Tensor:
        """Activations on their grid."""
        assert operation.quantizer is not None  # noqa: S101 - the walk asks for quantised operations alone
        clip = self.clips[operation.quantizer]
        return clip_activations(value, clip, grids[0], relu=operation.relu)
