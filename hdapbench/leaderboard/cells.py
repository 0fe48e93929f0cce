"""Cells: what the seeds of one row measured, as arrays that can be compared with those of other rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log, nan
from statistics import fmean, median

import numpy as np

from hdapbench.arrays import Booleans, Floats
from hdapbench.leaderboard.board import MeasuredDevice, Seed
from hdapbench.leaderboard.statistics import Outcomes, measurement_variance_of
from hdapbench.trial import Metrics, Result


@dataclass(frozen=True)
class Cells:
    """Results of one row that have numbers, by seed.

    Attributes
    ----------
    label
        Of the row.
    by_seed
        Seed -> result.
    """

    label: str
    by_seed: Mapping[int, Result]

    @property
    def results(self) -> list[Result]:
        """In the order of the seeds."""
        return list(self.by_seed.values())

    @property
    def metrics(self) -> list[Metrics]:
        """In the order of the seeds."""
        return [_metrics(result) for result in self.results]

    @property
    def accuracy(self) -> float:
        """Mean over seeds, in [0, 1]."""
        return fmean(metrics.accuracy for metrics in self.metrics)

    @cached_property
    def _contributions(self) -> dict[int, Booleans | Floats | None]:
        """Seed -> what each image contributed."""
        return {seed: _parts(result) for seed, result in self.by_seed.items()}

    def outcomes(self, seeds: Sequence[int]) -> Outcomes:
        """Accuracy at each of a table's seeds, with what each image contributed where all results kept that."""
        accuracies = np.array([_metrics(self.by_seed[s]).accuracy if s in self.by_seed else nan for s in seeds])
        kept = {seed: result.outcomes for seed, result in self.by_seed.items()}
        n_images = next((outcomes.n_images for outcomes in kept.values() if outcomes is not None), None)
        parts = self._contributions
        shapes = {None if part is None else part.shape for part in parts.values()}
        first = next(iter(parts.values()))
        if len(shapes) > 1 or first is None:
            return Outcomes(accuracies, n_images=n_images)
        stacked = np.zeros((len(seeds), *first.shape), first.dtype)
        for place, seed in enumerate(seeds):
            stacked[place] = parts.get(seed, 0)
        return Outcomes(accuracies, stacked, n_images)

    def log_latency_ms(self, seeds: Sequence[int]) -> Floats:
        """Shape (n_seeds,), NaN where a seed is missing."""
        return np.array([log(_metrics(self.by_seed[s]).latency_ms) if s in self.by_seed else nan for s in seeds])

    def measurement_variance(self, seeds: Sequence[int]) -> Floats:
        """Variance of the log of each latency from the repeats on the devices, shape (n_seeds,), NaN where unknown."""
        return np.array([self._measurement_variances.get(seed, nan) for seed in seeds])

    @cached_property
    def _measurement_variances(self) -> dict[int, float]:
        return {seed: _measurement_variance(result) for seed, result in self.by_seed.items()}

    @property
    def seeds(self) -> tuple[Seed, ...]:
        """What each trial gave."""
        return tuple(
            Seed(seed, result.trial.id, _metrics(result).latency_ms, _metrics(result).accuracy)
            for seed, result in self.by_seed.items()
        )

    @property
    def devices(self) -> tuple[MeasuredDevice, ...]:
        """Devices that every seed measured, with the mean of their medians."""
        found: dict[tuple[str, int, float], list[float]] = {}
        for result in self.results:
            for device in result.devices:
                key = (device.device, device.cluster, device.weight)
                found.setdefault(key, []).append(median(device.samples_ms))
        return tuple(
            MeasuredDevice(*key, latency_ms=fmean(medians))
            for key, medians in found.items()
            if len(medians) == len(self.by_seed)
        )

    @property
    def kept(self) -> dict[str, float]:
        """Group -> channels kept, mean over seeds."""
        plans = [result.plan for result in self.results if result.plan is not None]
        return {name: fmean(len(plan.kept.get(name, ())) for plan in plans) for name in plans[0].kept} if plans else {}

    @property
    def widths(self) -> dict[int, tuple[object, ...]]:
        """Seed -> what decides its latency: channels kept per group; rows of the same widths are ties."""
        return {
            seed: tuple(sorted((name, len(kept)) for name, kept in result.plan.kept.items()))
            for seed, result in self.by_seed.items()
            if result.plan is not None
        }


def _metrics(result: Result) -> Metrics:
    assert result.metrics is not None  # noqa: S101 - cells hold complete results alone
    return result.metrics


def _parts(result: Result) -> Booleans | Floats | None:
    """What each test image, or group of images, contributed; None where that was not stored."""
    outcomes = result.outcomes
    if outcomes is None or not (outcomes.right or outcomes.parts):
        return None
    by_image = outcomes.by_image
    return np.array(outcomes.parts) if by_image is None else by_image


def _measurement_variance(result: Result) -> float:
    if not result.devices:
        return nan
    return measurement_variance_of(
        [device.samples_ms for device in result.devices], [device.weight for device in result.devices]
    )
