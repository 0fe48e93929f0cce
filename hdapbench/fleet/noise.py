"""Noise: how far the median of a few repeats is off, as the repeats themselves tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import floor, pi, sqrt

import numpy as np
from numpy.typing import NDArray

from hdapbench.arrays import Floats

_MOST_SIMULATED = 40
_SIMULATED = 20_000


@dataclass(frozen=True)
class Noise:
    """Noise of the medians of measurements.

    Attributes
    ----------
    variance
        Relative variance of the median of each workload on each device, shape (n_workloads, n_devices).
    freedom
        Degrees of freedom of each of these estimates, same shape; infinite where nothing was estimated.
    known
        Whether repeats tell the noise of each workload, shape (n_workloads,); it is taken for zero where they do not.
    """

    variance: Floats
    freedom: Floats
    known: NDArray[np.bool_]

    @classmethod
    def of(cls, samples: Sequence[Sequence[Floats]], *, runs: int) -> Noise:
        """Noise of the medians of at most ``runs`` of some samples.

        A single sample says nothing of its noise: it is given the typical one of the workload's other devices.

        Parameters
        ----------
        samples
            Per workload and device, repeats in ms of any number, at least one.
        """
        found = [_of_workload(devices, runs) for devices in samples]
        variance, freedom, known = (np.array(part) for part in zip(*found, strict=True))
        return cls(variance, freedom, known)

    def of_sum(self, shares: Floats) -> tuple[Floats, Floats]:
        """Variance of sums of medians, and its degrees of freedom, both of shape (n_workloads,).

        The freedom is Satterthwaite's, with fourth moments estimated without bias: few repeats on many devices are
        many degrees of freedom together.

        Parameters
        ----------
        shares
            What each median adds to the sum, shape (n_workloads, n_devices).
        """
        parts = shares**2 * self.variance
        total = parts.sum(axis=1)
        uneven = (parts**2 / (self.freedom + 2)).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            freedom = np.where(uneven > 0, total**2 / uneven - 2, np.inf)
        least = self.freedom.min(axis=1)
        return total, np.maximum(freedom, least)


def _of_workload(devices: Sequence[Floats], runs: int) -> tuple[Floats, Floats, bool]:
    """Relative variance of each device's median, its degrees of freedom, and whether repeats tell them."""
    numbers = np.array([len(values) for values in devices])
    one, freedom = np.zeros(len(devices)), np.full(len(devices), np.inf)
    repeated = numbers > 1
    for n in np.unique(numbers[repeated]).tolist():
        rows, first = np.flatnonzero(numbers == n), _first(n)
        values = np.sort(np.stack([devices[row] for row in rows.tolist()]), axis=1)
        square, freedom[rows], _ = _gap(n)
        one[rows] = ((values[:, -first] - values[:, first - 1]) / np.median(values, axis=1)) ** 2 / square
    if repeated.any():
        weight = freedom[repeated]
        one[~repeated] = weight @ one[repeated] / weight.sum()
        freedom[~repeated] = weight.sum()
    of_median = [_gap(min(int(number), runs))[2] for number in numbers]
    return one * of_median, freedom, bool(repeated.any())


def _first(n: int) -> int:
    """The order statistic that stands about one standard error of the median below it, counted from one."""
    return max(1, floor((n + 1) / 2 - sqrt(n / 4) + 0.5))


@cache
def _gap(n: int) -> tuple[float, float, float]:
    """Of ``n`` normal samples of variance one: mean square gap, its degrees of freedom, variance of the median.

    The gap lies between the order statistics about one standard error of the median below and above it (McKean and
    Schrader, "A comparison of methods for studentizing the sample median", 1984): of five samples and more, a single
    spike does not enter it.
    """
    if n == 1:
        return 1.0, 0.0, 1.0
    if n > _MOST_SIMULATED:
        width = n + 1 - 2 * _first(n)
        square = 2 * pi * width * (width + 1) / ((n + 1) * (n + 2))
        return square, 2 / ((width + 2) * (width + 3) / (width * (width + 1)) - 1), pi / 2 / (n + pi / 2 - 1)
    samples = np.sort(np.random.default_rng(n).standard_normal((_SIMULATED, n)), axis=1)
    squares = (samples[:, n - _first(n)] - samples[:, _first(n) - 1]) ** 2
    mean = float(squares.mean())
    return mean, 2 * mean**2 / float(squares.var()), float(np.median(samples, axis=1).var())
