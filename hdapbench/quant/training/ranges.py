"""Weight grids: the step of each output channel at each bit-width, by the largest weight or by least squared error.

At p bits a weight becomes ``q * step`` with a whole number q from ``-2**(p - 1)`` to ``2**(p - 1) - 1``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hdapbench.quant.training.choices import RangeRule

_SHARES = torch.cat([torch.linspace(0.25, 1.0, 16), torch.linspace(1.08, 1.4, 5)])
"""Steps that are tried, relative to the step of the largest weight; above one the larger side is clipped less."""

_FINE_SHARES = torch.tensor([0.94, 0.97, 1.0, 1.01])
"""The same for 8 bits, where clipping a tenth of the range already costs more than it gains."""

_CHUNK = 1 << 22
"""Products of weights and candidates that are held in memory at once."""

_POLISH = 2
"""Least-squares refinements of the best one: steps for fixed whole numbers have a closed form."""


def integer_range(bits: int) -> tuple[int, int]:
    """Least and greatest whole number of a signed grid."""
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def weight_steps(weight: Tensor, bits: Sequence[int], rule: RangeRule) -> Tensor:
    """Steps of every output channel, shape (n_channels, n_bits), without gradient.

    Parameters
    ----------
    weight : Tensor, shape (n_channels, ...)
        Filters.
    bits
        Bit-widths of two or more.
    rule
        ``minmax``: ``2 max|w| / (2**p - 1)``, as published in arXiv 2407.01054. ``mse``: the step of least squared
        error, found among a few and refined; at 2 bits and Gaussian weights it halves the error.
    """
    flat = weight.detach().flatten(1)
    largest = flat.abs().amax(1)
    # A channel of zeros has no range; any positive step represents it.
    largest = torch.where(largest > 0, largest, torch.ones_like(largest))
    levels = flat.new_tensor([float(2**p - 1) for p in bits])
    steps = 2.0 * largest[:, None] / levels  # (n_channels, n_bits)
    if rule == "minmax":
        return steps
    return torch.stack([_least_error(flat, steps[:, k], p) for k, p in enumerate(bits)], 1)


def _least_error(flat: Tensor, minmax: Tensor, bits: int) -> Tensor:
    """Step of least squared error for each row, shape (n_channels,)."""
    shares = _SHARES if bits < 8 else _FINE_SHARES
    n_rows = max(1, _CHUNK // (flat.shape[1] * len(shares)))
    parts = zip(torch.split(flat, n_rows), torch.split(minmax, n_rows), strict=True)
    return torch.cat([_least_error_of(rows, steps, shares.to(flat), bits) for rows, steps in parts])


def _least_error_of(flat: Tensor, minmax: Tensor, shares: Tensor, bits: int) -> Tensor:
    low, high = integer_range(bits)
    candidates = minmax[:, None] * shares  # (n_channels, n_candidates)
    errors, _ = _round(flat, candidates, low, high)
    error, position = errors.min(1, keepdim=True)
    best = candidates.gather(1, position)  # (n_channels, 1)
    for _ in range(_POLISH):
        _, whole = _round(flat, best, low, high)
        power = whole.square().sum(2)
        refined = (whole * flat[:, None]).sum(2) / power.clamp_min(1.0)
        refined = torch.where(refined > 0, refined, best)
        candidate, _ = _round(flat, refined, low, high)
        best, error = torch.where(candidate < error, refined, best), torch.minimum(candidate, error)
    return best[:, 0]


def _round(flat: Tensor, steps: Tensor, low: int, high: int) -> tuple[Tensor, Tensor]:
    """Squared errors, shape (n_channels, n_steps), and whole numbers, shape (n_channels, n_steps, n_weights)."""
    whole = (flat[:, None] * steps.reciprocal()[:, :, None]).round_().clamp_(low, high)
    return (whole * steps[:, :, None]).sub_(flat[:, None]).square_().sum(2), whole
