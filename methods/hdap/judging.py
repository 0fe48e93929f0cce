"""Accuracies of a few fast plans, compared with each other and with uniform pruning on the search split."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hdapbench.method import Plan, Problem

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Judge:
    """Compares accuracies of fast plans with each other and with uniform pruning.

    Parameters
    ----------
    scores
        Group -> score of each channel: which channels a plan keeps.
    uniform
        Widths of uniform pruning, shape (n_groups,).
    epochs
        Fine-tuning before accuracy is evaluated.
    tolerance
        Accuracy that latency may cost.
    """

    def __init__(
        self, problem: Problem, scores: Mapping[str, Floats], uniform: Integers, *, epochs: float, tolerance: float
    ) -> None:
        self._problem, self._scores, self._uniform = problem, scores, uniform
        self._epochs, self._tolerance = epochs, tolerance
        self._known: dict[tuple[int, ...], float] = {}

    @property
    def compared(self) -> bool:
        """Whether any accuracy was evaluated."""
        return bool(self._known)

    @property
    def accuracies(self) -> list[dict[str, float | str]]:
        """Accuracies so far, uniform pruning's named, in the order in which they were evaluated."""
        uniform = tuple(self._uniform.tolist())
        rows: list[dict[str, float | str]] = []
        for widths, accuracy in self._known.items():
            name = "uniform" if widths == uniform else f"candidate {len(rows) + 1}"
            rows.append({"plan": name, "accuracy": accuracy})
        return rows

    def fastest_accurate(self, shortlist: list[Integers]) -> Plan | None:
        """The first of plans, sorted by latency, whose accuracy is near the best; None when uniform beats them all."""
        plans = [self._problem.plan_by_widths(widths, self._scores) for widths in shortlist]
        accuracy = [self._accuracy(widths, plan) for widths, plan in zip(shortlist, plans, strict=True)]
        rival = self._accuracy(self._uniform, self._problem.plan_by_widths(self._uniform, self._scores))
        self._problem.progress(f"accuracies: {', '.join(f'{a:.2%}' for a in accuracy)}; uniform {rival:.2%}")
        best = max([rival, *accuracy])
        # Differences below a standard error of the search split are no differences.
        least = best - max(self._tolerance, (best * (1 - best) / self._problem.n_search_images) ** 0.5)
        return next((plan for plan, value in zip(plans, accuracy, strict=True) if value >= least), None)

    def _accuracy(self, widths: Integers, plan: Plan) -> float:
        key = tuple(widths.tolist())
        if key not in self._known:
            self._known[key] = self._problem.accuracy(plan, self._epochs)
        return self._known[key]
