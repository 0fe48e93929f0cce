"""The choice among fast plans by what they cost in accuracy, on training and search images only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hdapbench.method import Plan
from methods.hdap.stage import Stage

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A plan that may be chosen.

    Attributes
    ----------
    widths
        Shape (n_groups,).
    latency
        Average clustered latency in ms, all candidates' measured in one session; FLOPs where no device is asked.
    name
        ``uniform`` or ``ranking`` for the references that need no search, else ``candidate N``.
    """

    widths: Integers
    latency: float
    name: str

    @property
    def is_reference(self) -> bool:
        """Whether it was known without a search."""
        return not self.name.startswith("candidate")


@dataclass
class Judge:
    """Chooses the fastest of some plans that is as accurate as the best plan that needs no search.

    Attributes
    ----------
    stage
        Whose plans these are.
    epochs
        Fine-tuning before accuracy is evaluated.
    tolerance
        Accuracy that latency may cost; one standard error of the search split where that is more.
    loss_tolerance
        Relative recalibrated loss that latency may cost.
    quantity
        What candidates are ordered by: ``latency_ms`` or ``flops``.
    record
        What was seen of each plan, for the trial's account.
    """

    stage: Stage
    epochs: float
    tolerance: float
    loss_tolerance: float
    quantity: str = "latency_ms"
    record: list[dict[str, Any]] = field(default_factory=list)

    def by_loss(self, candidates: Sequence[Candidate]) -> tuple[list[Candidate], Candidate]:
        """Those, fastest first, that beat the best reference in latency and in recalibrated loss; and that reference.

        Raises
        ------
        BudgetExceededError
            When the evaluations cannot be paid.
        """
        losses = {}
        for candidate in candidates:
            losses[candidate.name] = self.stage.problem.recalibrated_loss(self.stage.plan(candidate.widths))
            self._note(candidate, recalibrated_loss=losses[candidate.name])
        rival = min((c for c in candidates if c.is_reference), key=lambda candidate: losses[candidate.name])
        most = (1.0 + self.loss_tolerance) * losses[rival.name]
        better = [c for c in candidates if c.latency < rival.latency and losses[c.name] <= most]
        self.stage.problem.progress(
            f"{len(better)} of {len(candidates)} plans are faster than '{rival.name}' and lose no more"
        )
        return sorted(better, key=lambda candidate: candidate.latency), rival

    def by_accuracy(
        self, candidates: Sequence[Candidate], likely: Sequence[Candidate], most: int
    ) -> tuple[Candidate, Candidate]:
        """The fastest candidate found that is as accurate, after fine-tuning, as the best reference; and that one.

        Accuracy is taken to rise with latency, so that the fastest accurate one is found by halving. Differences below
        a standard error of the search split are no differences.

        Parameters
        ----------
        likely
            Candidates that are expected to be accurate, fastest first: the first is tried first.
        most
            Candidates that are fine-tuned at most, besides the references.

        Raises
        ------
        BudgetExceededError
            When the evaluations cannot be paid.
        """
        references = {candidate.name: self._accuracy(candidate) for candidate in candidates if candidate.is_reference}
        rival = max(
            (candidate for candidate in candidates if candidate.is_reference),
            key=lambda candidate: (references[candidate.name], -candidate.latency),
        )
        best = references[rival.name]
        least = best - max(self.tolerance, (best * (1 - best) / self.stage.problem.n_search_images) ** 0.5)
        faster = sorted((c for c in candidates if c.latency < rival.latency), key=lambda c: c.latency)
        first = next((candidate for candidate in likely if candidate in faster), None)
        low, high, chosen = 0, len(faster), rival  # faster[:low] are not accurate enough, faster[high] is
        for tried in range(most):
            if low == high:
                break
            position = faster.index(first) if first and not tried else (low + high) // 2
            candidate = faster[position]
            accuracy = references.get(candidate.name)
            if (self._accuracy(candidate) if accuracy is None else accuracy) >= least:
                high, chosen = position, candidate
            else:
                low = position + 1
        return chosen, rival

    def by_penalty(self, candidates: Sequence[Candidate], dense_ms: float, limit: float) -> Candidate:
        """The one of least relative latency plus penalty: our reading of the objective in the public descriptions.

        Latency relative to the dense model's; plans below ``alpha`` times the dense accuracy add (1 - accuracy) /
        (1 - alpha), with alpha = (dense accuracy - limit) / dense accuracy. Accuracy is that right after pruning.

        Parameters
        ----------
        dense_ms
            Latency of the dense model.
        limit
            Accuracy that may be lost, in (0, 1).
        """
        problem = self.stage.problem
        dense = problem.accuracy(
            Plan(kept={name: tuple(range(group.n_channels)) for name, group in problem.groups.items()})
        )
        alpha = (dense - limit) / dense
        values = []
        for candidate in candidates:
            accuracy = problem.accuracy(self.stage.plan(candidate.widths))
            self._note(candidate, accuracy_at_once=accuracy)
            penalty = 0.0 if accuracy >= alpha * dense else (1.0 - accuracy) / (1.0 - alpha)
            values.append(candidate.latency / dense_ms + penalty)
        return candidates[int(np.argmin(values))]

    def _accuracy(self, candidate: Candidate) -> float:
        accuracy = self.stage.problem.accuracy(self.stage.plan(candidate.widths), self.epochs)
        self.stage.problem.progress(f"{candidate.name}: {accuracy:.2%} on the search split")
        self._note(candidate, accuracy=accuracy)
        return accuracy

    def _note(self, candidate: Candidate, **seen: float) -> None:
        entry = next((entry for entry in self.record if entry["plan"] == candidate.name), None)
        if entry is None:
            entry = {"plan": candidate.name, self.quantity: candidate.latency}
            self.record.append(entry)
        entry.update(seen)
