"""Cells: what the seeds of one row measured, as arrays that can be compared with those of other rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from math import log, nan
from statistics import fmean
from typing import Any

import numpy as np

from hdapbench.arrays import Booleans, Floats
from hdapbench.leaderboard.board import MeasuredDevice, Seed
from hdapbench.leaderboard.statistics import Outcomes, medians, variance_of_mean
from hdapbench.store.brief import Brief, Numbers


@dataclass(frozen=True, eq=False)
class Cells:
    """Briefs of one row that have numbers, by seed.

    Attributes
    ----------
    label
        Of the row.
    by_seed
        Seed -> brief.
    """

    label: str
    by_seed: Mapping[int, Brief]
    _outcomes: dict[tuple[int, ...], Outcomes] = field(default_factory=dict, init=False, repr=False)

    @property
    def briefs(self) -> list[Brief]:
        """In the order of the seeds."""
        return list(self.by_seed.values())

    @cached_property
    def numbers(self) -> list[Numbers]:
        """In the order of the seeds."""
        return [_numbers(brief) for brief in self.briefs]

    @cached_property
    def _columns(self) -> dict[str, tuple[Any, ...]]:
        return dict(zip(Numbers._fields, zip(*self.numbers, strict=True), strict=True))

    def column(self, name: str) -> tuple[Any, ...]:
        """One of `Numbers` at each of the row's seeds."""
        return self._columns[name]

    @cached_property
    def accuracy(self) -> float:
        """Mean over seeds, in [0, 1]."""
        return fmean(self.column("accuracy"))

    def outcomes(self, seeds: Sequence[int]) -> Outcomes:
        """Accuracy at each of a table's seeds, with what each image contributed where all results kept that."""
        key = tuple(seeds)
        if key not in self._outcomes:
            self._outcomes[key] = self._outcomes_at(key)
        return self._outcomes[key]

    def _outcomes_at(self, seeds: tuple[int, ...]) -> Outcomes:
        accuracies = self._at(seeds, np.array(self.column("accuracy")))
        n_images = next((brief.n_images for brief in self.briefs if brief.n_images is not None), None)
        parts = _parts(self.briefs)
        if parts is None:
            return Outcomes(accuracies, n_images=n_images)
        if self.order == seeds:
            return Outcomes(accuracies, parts, n_images)
        stacked: Booleans | Floats = np.zeros((len(seeds), parts.shape[1]), parts.dtype)  # type: ignore[assignment]
        places = {seed: place for place, seed in enumerate(self.order)}
        for place, seed in enumerate(seeds):
            if seed in places:
                stacked[place] = parts[places[seed]]
        return Outcomes(accuracies, stacked, n_images)

    def in_every_session(self, seeds: Sequence[int]) -> Outcomes:
        """Accuracy of one network, measured in the session of every seed: that of its own seeds, else of the first."""
        first = next(iter(self.by_seed.values()))
        if all(seed in self.by_seed for seed in seeds):
            return self.outcomes(seeds)
        return Cells(self.label, {seed: self.by_seed.get(seed, first) for seed in seeds}).outcomes(seeds)

    def log_latency_ms(self, seeds: Sequence[int]) -> Floats:
        """Shape (n_seeds,), NaN where a seed is missing."""
        return self._at(seeds, self._log_latencies)

    def measurement_variance(self, seeds: Sequence[int]) -> Floats:
        """Variance of the log of each latency from the repeats on the devices, shape (n_seeds,), NaN where unknown."""
        return self._at(seeds, self._measurement_variances)

    def _at(self, seeds: Sequence[int], values: Floats) -> Floats:
        """Values of this row's seeds at each of a table's seeds, NaN where one is missing."""
        if self.order == tuple(seeds):
            return values
        known = dict(zip(self.order, values.tolist(), strict=True))
        return np.array([known.get(seed, nan) for seed in seeds])

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Seeds, in their order."""
        return tuple(self.by_seed)

    @cached_property
    def _log_latencies(self) -> Floats:
        return np.array([log(latency) for latency in self.column("latency_ms")])

    @cached_property
    def _measurement_variances(self) -> Floats:
        found: dict[int, float] = {}
        for seeds, devices, middles, variances in self._measured:
            of_mean = variance_of_mean(middles, variances, [weight for _, _, weight, _ in devices])
            found |= dict(zip(seeds, of_mean.tolist(), strict=True))
        return np.array([found.get(seed, nan) for seed in self.order])

    @cached_property
    def _measured(self) -> list[tuple[list[int], tuple[tuple[str, int, float, int], ...], Floats, Floats]]:
        """Seeds that measured the same devices as often, with medians and their variances, (n_seeds, n_devices)."""
        alike: dict[str, list[int]] = {}
        for seed, brief in self.by_seed.items():
            alike.setdefault(brief.devices_json, []).append(seed)
        found = []
        for seeds in alike.values():
            devices = self.by_seed[seeds[0]].devices
            if devices:
                joined = b"".join(self.by_seed[seed].samples for seed in seeds)
                repeats = np.frombuffer(joined, "<f8").reshape(len(seeds), -1)
                found.append((seeds, devices, *_medians(repeats, [n for _, _, _, n in devices])))
        return found

    @property
    def seeds(self) -> tuple[Seed, ...]:
        """What each trial gave."""
        return tuple(
            Seed(seed, brief.id, numbers.latency_ms, numbers.accuracy)
            for (seed, brief), numbers in zip(self.by_seed.items(), self.numbers, strict=True)
        )

    @property
    def devices(self) -> tuple[MeasuredDevice, ...]:
        """Devices that every seed measured, with the mean of their medians."""
        found: dict[tuple[str, int, float], list[float]] = {}
        for _, devices, middles, _ in self._measured:
            for (name, cluster, weight, _), of in zip(devices, middles.T.tolist(), strict=True):
                found.setdefault((name, cluster, weight), []).extend(of)
        return tuple(
            MeasuredDevice(*key, latency_ms=fmean(values))
            for key, values in found.items()
            if len(values) == len(self.by_seed)
        )

    @property
    def kept(self) -> dict[str, float]:
        """Group -> channels kept, mean over seeds."""
        plans = [brief for brief in self.briefs if brief.groups_json]
        if len({brief.groups_json for brief in plans}) == 1:
            columns = zip(*(brief.widths for brief in plans), strict=True)
            return {name: fmean(column) for name, column in zip(plans[0].groups, columns, strict=True)}
        kept = [dict(zip(brief.groups, brief.widths, strict=True)) for brief in plans]
        return {name: fmean([of.get(name, 0) for of in kept]) for name in plans[0].groups} if plans else {}

    @cached_property
    def widths(self) -> tuple[tuple[int, tuple[str, ...], tuple[int, ...]], ...]:
        """Seeds, and what decides the latency: channels kept per group; rows of the same widths are ties."""
        return tuple((seed, *brief.by_group) for seed, brief in self.by_seed.items() if brief.groups_json)


def _numbers(brief: Brief) -> Numbers:
    assert brief.numbers is not None  # noqa: S101 - cells hold complete results alone
    return brief.numbers


def _medians(repeats: Floats, counts: Sequence[int]) -> tuple[Floats, Floats]:
    """Medians and their variances, (n_seeds, n_devices), of repeats that stand one device after another."""
    if len(set(counts)) == 1:
        return medians(repeats.reshape(len(repeats), len(counts), -1))
    ends = list(accumulate(counts))
    found = [medians(of) for of in np.split(repeats, ends[:-1], axis=1)]
    return np.array([of[0] for of in found]).T, np.array([of[1] for of in found]).T


def _parts(briefs: Sequence[Brief]) -> Booleans | Floats | None:
    """What each test image, or group of images, contributed, shape (n_seeds, n); None where not all seeds tell it."""
    n_images = briefs[0].n_images
    if n_images and all(brief.bits and brief.n_images == n_images for brief in briefs):
        packed = np.frombuffer(b"".join(brief.bits or b"" for brief in briefs), np.uint8)
        return np.unpackbits(packed.reshape(len(briefs), -1), axis=1, count=n_images).view(bool)
    n_parts = len(briefs[0].parts)
    if n_parts and all(len(brief.parts) == n_parts for brief in briefs):
        return np.array([brief.parts for brief in briefs])
    return None
