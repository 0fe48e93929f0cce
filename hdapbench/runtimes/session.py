"""Session: all samples of models that were timed against each other, and what they say."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hdapbench.arrays import Booleans, Floats, Integers
from hdapbench.runtimes.interval import FEWEST, Interval, median_interval

SLOWDOWN = 0.05
"""Common change of all models' times from the first to the last third of a session that is flagged."""

OUTLIER_SHARE = 0.05
OUTLIER_REACH = 3.0
"""Samples beyond the upper quartile by so many interquartile ranges are outliers (Tukey's far out)."""


@dataclass(frozen=True)
class WarmUp:
    """How a model came to be warm: runs, the time it settled at in ms, and whether it did."""

    key: str
    n_runs: int
    ms: float
    is_stable: bool


@dataclass(frozen=True)
class Session:
    """Models that were timed in the same rounds.

    The unit of all statistics is the round: samples within one share its state of the machine and are no independent
    evidence. Each round gives one median per model.

    Attributes
    ----------
    keys
        Models; ratios are to the first.
    samples_ms
        Raw times, shape (n_rounds, n_models, n_turns * runs), of all rounds, turn after turn.
    orders
        Positions of the models in the order in which they ran, shape (n_rounds, n_turns, n_models).
    foreign_cores
        Load of others during each round, shape (n_rounds,); NaN where unknown.
    kept
        Rounds that count, shape (n_rounds,); others were disturbed and repeated.
    warm_ups
        One per model.
    foreign_limit
        Load above which a round counts as disturbed.
    """

    keys: tuple[str, ...]
    samples_ms: Floats
    orders: Integers
    foreign_cores: Floats
    kept: Booleans
    warm_ups: tuple[WarmUp, ...]
    foreign_limit: float

    @property
    def medians_ms(self) -> Floats:
        """Median of each model in each round that counts, shape (n_kept, n_models)."""
        return np.asarray(np.median(self.samples_ms[self.kept], axis=2))

    def latency(self, key: str) -> Interval:
        """Median over rounds in ms. Its interval is about this session: another day's drift is not in it."""
        return median_interval(self.medians_ms[:, self._place(key)])

    def ratio(self, key: str, to: str | None = None) -> Interval:
        """Latency as a multiple of another model's, by default the first's, from their ratio in each round.

        Drift that both share cancels: the interval is narrower than those of the two latencies, and the one to compare.
        """
        medians = self.medians_ms
        return median_interval(medians[:, self._place(key)] / medians[:, self._place(to or self.keys[0])])

    @property
    def n_disturbed(self) -> int:
        """Rounds that count although others took more than the limit."""
        return int((self.foreign_cores[self.kept] > self.foreign_limit).sum())

    def outlier_share(self, key: str) -> float:
        """Share of a model's samples that lie far above the rest of their round's level, in [0, 1]."""
        samples = self.samples_ms[self.kept][:, self._place(key)]
        relative = samples / np.median(samples, axis=1, keepdims=True)
        lower, upper = np.quantile(relative, [0.25, 0.75])
        return float((relative > upper + OUTLIER_REACH * max(upper - lower, 1e-3)).mean())

    @property
    def drift(self) -> float:
        """Common change of all models' times from the first to the last third of the session: 0.1 is 10 % slower."""
        medians = np.log(self.medians_ms)
        common = np.median(medians - np.median(medians, axis=0), axis=1)  # (n_kept,)
        third = max(1, len(common) // 3)
        return float(np.exp(np.median(common[-third:]) - np.median(common[:third])) - 1)

    def flags(self, key: str | None = None) -> list[str]:
        """Reasons to doubt a model's numbers or, without a name, the session's. Empty is good."""
        found = []
        if key is not None:
            warm = self.warm_ups[self._place(key)]
            if not warm.is_stable:
                found.append(f"not stable after {warm.n_runs} runs of warming up")
            share = self.outlier_share(key)
            if share > OUTLIER_SHARE:
                found.append(f"{share:.0%} outliers")
            return found
        n_kept = int(self.kept.sum())
        if n_kept < FEWEST:
            found.append(f"{n_kept} rounds are too few for an interval of 95 %; {FEWEST} are the least")
        if self.n_disturbed:
            found.append(
                f"{self.n_disturbed} of {n_kept} rounds had more than {self.foreign_limit:g} cores of foreign load"
            )
        if np.isnan(self.foreign_cores).all():
            found.append("foreign load unknown")
        if n_kept >= FEWEST and abs(self.drift) > SLOWDOWN:
            change = "slower: throttled, or others came" if self.drift > 0 else "faster: others left, or it was cold"
            found.append(f"all models became {abs(self.drift):.0%} {change}")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values with every raw sample, for JSON."""
        return {
            "models": [
                {
                    "key": key,
                    "latency_ms": self.latency(key).to_dict(),
                    "ratio": self.ratio(key).to_dict(),
                    "outlier_share": self.outlier_share(key),
                    "warm_up": asdict(self.warm_ups[place]),
                    "flags": self.flags(key),
                }
                for place, key in enumerate(self.keys)
            ],
            "rounds": [
                {
                    "order": [[self.keys[place] for place in turn] for turn in order],
                    "foreign_cores": None if np.isnan(cores) else float(cores),
                    "counts": bool(counts),
                    "samples_ms": {key: samples[place].tolist() for place, key in enumerate(self.keys)},
                }
                for order, cores, counts, samples in zip(
                    self.orders, self.foreign_cores, self.kept, self.samples_ms, strict=True
                )
            ],
            "drift": self.drift,
            "flags": self.flags(),
        }

    def _place(self, key: str) -> int:
        return self.keys.index(key)
