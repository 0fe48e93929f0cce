"""First clips of activation quantisers, from activations of the float network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from hdapbench.quant.graph.graph import Operation, QuantGraph
from hdapbench.quant.graph.walk import LayerShape, float_rectify, run_graph
from hdapbench.quant.training.quantizers import ActivationGrid

SAMPLES = 20_000
"""Values of each place and batch that are looked at."""

SHARES = torch.linspace(0.2, 1.0, 33)
"""Clips that are tried, relative to the extremes."""


@torch.no_grad()
def calibrate_clips(
    model: nn.Module, graph: QuantGraph, batches: Iterable[Tensor], *, bits: Sequence[int] = (8,)
) -> Tensor:
    """Clips of least squared error, shape (n_quantizers, n_bits, 2): least and greatest value.

    Parameters
    ----------
    model
        The float network that ``graph`` was traced from.
    batches
        Inputs, each of shape (n, channels, height, width).
    bits
        Bit-widths of activations.
    """
    modules = dict(model.named_modules())
    shapes = {name: LayerShape.of(modules[name]) for name in graph.layers}
    seen: list[list[Tensor]] = [[] for _ in graph.quantizers]

    def layer(name: str, x: Tensor) -> Tensor:
        module = modules[name]
        bias = module.get_parameter("bias") if module.bias is not None else None
        return shapes[name].apply(x, module.get_parameter("weight"), bias)

    def collect(operation: Operation, value: Tensor) -> Tensor:
        value = float_rectify(operation, value)
        flat = value.flatten()
        assert operation.quantizer is not None  # noqa: S101 - the walk asks for quantised operations alone
        extremes = torch.stack([flat.min(), flat.max()])
        seen[operation.quantizer].append(torch.cat([flat[:: max(1, len(flat) // SAMPLES)], extremes]))
        return value

    for batch in batches:
        run_graph(graph, batch, layer=layer, quantize=collect)
    return torch.stack([torch.stack([_best_clip(torch.cat(values), b) for b in bits]) for values in seen])


def _best_clip(values: Tensor, bits: int) -> Tensor:
    """Least and greatest value of the grid with the least squared error."""
    least, greatest = min(float(values.min()), 0.0), max(float(values.max()), 1e-3)
    best, error = (least, greatest), float("inf")
    for share in SHARES.tolist():
        grid = ActivationGrid.between((share * least, share * greatest), bits)
        rounded = grid.rounded(values, grid.low)
        candidate = float((rounded - values).square().sum())
        if candidate < error:
            best, error = (share * least, share * greatest), candidate
    return torch.tensor(best)
