"""Fake quantisation with straight-through gradients: weights of all layers at once, biases, activations.

The backward pass treats rounding as the identity. All functions work on whole networks or whole tensors, because at
small batches the time of a step goes into the number of operations, not into their size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hdapbench.quant.training.ranges import integer_range

LEAST_SCALE = 1e-8


@dataclass(frozen=True)
class ActivationGrid:
    """Grid of activation values at one bit-width: ``q * scale`` with ``low <= q <= high``; zero is always on it."""

    scale: float
    low: int
    high: int

    @classmethod
    def between(cls, ends: Sequence[float], bits: int) -> ActivationGrid:
        """Grid with ``2**bits`` values between two ends; zero is among them."""
        n_steps = (1 << bits) - 1
        least, greatest = min(ends[0], 0.0), ends[1]
        scale = max((greatest - least) / n_steps, LEAST_SCALE)
        low = min(max(round(least / scale), -n_steps), 0)
        return cls(scale, low, low + n_steps)

    def rounded(self, values: Tensor, low: int) -> Tensor:
        """Nearest values of the grid from ``low`` on.

        Bit for bit ``torch.fake_quantize_per_tensor_affine``, whose kernel takes 30 times as long on CPUs (torch 2.15).
        """
        inverse = float(np.float32(1.0) / np.float32(self.scale))
        return values.mul(inverse).round_().clamp_(low, self.high).mul_(self.scale)


class _Mix(torch.autograd.Function):
    """Weights and biases of all layers as mixtures over bit-widths.

    Inputs: shares (n_rows, n_bits), rows in the order of the layers' channels; steps (n_rows, n_bits); bias steps
    (n_rows,); whole-number limits (n_bits, 1); numbers of channels; weights; biases.
    """

    @staticmethod
    def forward(
        ctx: Any, shares: Tensor, steps: Tensor, bias_steps: Tensor, bits: Sequence[int], *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        n_layers = len(parameters) // 2
        weights, biases = parameters[:n_layers], parameters[n_layers:]
        limits = [integer_range(p) for p in bits]
        low = shares.new_tensor([[float(a)] for a, _ in limits])
        high = shares.new_tensor([[float(b)] for _, b in limits])
        inverse = steps.reciprocal()[:, :, None]
        factors = steps[:, :, None]
        mixed, grids, start = [], [], 0
        for weight in weights:
            stop = start + weight.shape[0]
            flat = weight.reshape(weight.shape[0], 1, -1)
            grid = (flat * inverse[start:stop]).round_().clamp_(low, high).mul_(factors[start:stop])
            grids.append(grid)  # (n_channels, n_bits, n_weights)
            mixed.append(torch.bmm(shares[start:stop, None], grid).view_as(weight))
            start = stop
        bias = torch.cat(biases)
        snapped = (bias / bias_steps).round_().mul_(bias_steps)
        kept = shares.sum(1)
        ctx.save_for_backward(shares, kept, snapped, *grids)
        ctx.sizes = [weight.shape[0] for weight in weights]
        return (*mixed, *torch.split(snapped * kept, ctx.sizes))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        shares, kept, snapped, *grids = ctx.saved_tensors
        n_layers = len(grids)
        of_bias = torch.cat(gradients[n_layers:])
        of_shares = torch.empty_like(shares)
        of_weights, start = [], 0
        for gradient, grid in zip(gradients[:n_layers], grids, strict=True):
            stop = start + gradient.shape[0]
            torch.bmm(grid, gradient.reshape(gradient.shape[0], -1, 1), out=of_shares[start:stop, :, None])
            shape = (-1, *[1] * (gradient.dim() - 1))
            of_weights.append(gradient * kept[start:stop].view(shape))
            start = stop
        of_shares += (of_bias * snapped)[:, None]
        return (of_shares, None, None, None, *of_weights, *torch.split(of_bias * kept, ctx.sizes))


def mix_layers(
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    *,
    shares: Tensor,
    steps: Tensor,
    bias_steps: Tensor,
    bits: Sequence[int],
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Effective weights and biases of all layers, mixed over bit-widths (arXiv 2407.01054, our form).

    A channel's weight is ``sum_p share_p * Q_p(w)``, its bias ``sum_p share_p * Q(b)``; 0 bits are the share that is
    missing to one, so that a removed channel yields exactly zero. Gradients: to weights and biases the identity times
    the share that is kept, to shares the exact derivative, to steps none.

    Parameters
    ----------
    weights, biases
        One of each per layer.
    shares : Tensor, shape (n_rows, n_bits)
        Share of each bit-width in each output channel, layers one after another.
    steps : Tensor, shape (n_rows, n_bits)
        Weight steps.
    bias_steps : Tensor, shape (n_rows,)
        Steps of biases: those of the layer's sums.
    bits
        Bit-widths of the columns, without 0.
    """
    outputs: tuple[Tensor, ...] = _Mix.apply(shares, steps, bias_steps, bits, *weights, *biases)
    return outputs[: len(weights)], outputs[len(weights) :]


class _Round(torch.autograd.Function):
    """Weights and biases of all layers, each channel on one grid."""

    @staticmethod
    def forward(
        _: Any, steps: Tensor, low: Tensor, high: Tensor, bias_steps: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        n_layers = len(parameters) // 2
        weights, biases = parameters[:n_layers], parameters[n_layers:]
        inverse, start, rounded = steps.reciprocal(), 0, []
        for weight in weights:
            rows = slice(start, start + weight.shape[0])
            flat = weight.reshape(weight.shape[0], -1)
            grid = (flat * inverse[rows, None]).round_().clamp_(low[rows, None], high[rows, None])
            rounded.append(grid.mul_(steps[rows, None]).view_as(weight))
            start = rows.stop
        bias = torch.cat(biases)
        snapped = (bias / bias_steps).round_().mul_(bias_steps)
        return (*rounded, *torch.split(snapped, [weight.shape[0] for weight in weights]))

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> tuple[Any, ...]:
        return (None, None, None, None, *gradients)


def round_layers(
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    *,
    steps: Tensor,
    low: Tensor,
    high: Tensor,
    bias_steps: Tensor,
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Weights and biases of all layers on their grids; gradients pass through unchanged.

    Parameters
    ----------
    weights, biases
        One of each per layer.
    steps, low, high, bias_steps : Tensor, shape (n_rows,)
        Step, least and greatest whole number, and step of the bias, of each output channel, layers one after another.
    """
    outputs: tuple[Tensor, ...] = _Round.apply(steps, low, high, bias_steps, *weights, *biases)
    return outputs[: len(weights)], outputs[len(weights) :]


class _Clip(torch.autograd.Function):
    """Activations on one grid; ``clip`` holds the least and the greatest value and receives what is cut off."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, clip: Tensor, grid: ActivationGrid, low: int) -> Tensor:
        ctx.save_for_backward(values)
        ctx.shape = clip.shape
        ctx.bounds = (low * grid.scale, grid.high * grid.scale)
        return grid.rounded(values, low)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        (values,) = ctx.saved_tensors
        least, greatest = ctx.bounds
        # The bound itself passes: a removed channel sits at exactly zero, and must feel what its return would bring.
        inside = torch.ops.aten.hardtanh_backward(gradient, values, least - LEAST_SCALE, greatest)
        above = torch.ops.aten.threshold_backward(gradient, values, greatest).sum()
        if least < 0.0:
            outside = gradient.sum() - inside.sum()
            return inside, torch.stack([outside - above, above]).view(ctx.shape), None, None
        return inside, torch.stack([torch.zeros_like(above), above]).view(ctx.shape), None, None


def clip_activations(values: Tensor, clip: Tensor, grid: ActivationGrid, *, relu: bool = False) -> Tensor:
    """Activations on the grid between two learnt clips: PACT (Choi et al. 2018), rounded to nearest.

    Inside the clips the gradient passes; a saturated value passes it to the clip on its side.

    Parameters
    ----------
    values
        Activations.
    clip : Tensor, two values
        Least value (zero or below) and greatest value: what ``grid`` was made of.
    grid
        Grid between them.
    relu
        Whether negative values become zero although the grid reaches below it.
    """
    result: Tensor = _Clip.apply(values, clip, grid, 0 if relu else grid.low)
    return result
