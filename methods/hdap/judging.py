"""The choice among fast plans by what they cost in accuracy, on training and search images only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hdapbench.arrays import Integers
from hdapbench.errors import BudgetExceededError
from hdapbench.method import Plan, Problem
from hdapbench.method.decisions import ComparedPlan

from .stage import Stage

N_REFERENCES = 2
"""References that are fine-tuned, those of least loss."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A plan that may be chosen.

    Attributes
    ----------
    stage
        Whose channels it keeps.
    widths
        Shape (n_groups,).
    latency
        Average clustered latency in ms, all candidates' measured in one session; FLOPs where no device is asked.
    name
        What accounts call it.
    is_reference
        Whether it was known without a search.
    """

    stage: Stage
    widths: Integers
    latency: float
    name: str
    is_reference: bool = False


@dataclass
class Judge:
    """Chooses the fastest of some plans that is as accurate as the best plan that needs no search.

    Attributes
    ----------
    problem
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
        Name of a plan -> what was seen of it, for the trial's account.
    """

    problem: Problem
    epochs: float
    tolerance: float
    loss_tolerance: float
    quantity: str = "latency_ms"
    record: dict[str, ComparedPlan] = field(default_factory=dict)

    def affordable(self, candidates: Sequence[Candidate], spare: int) -> list[Candidate]:
        """Candidates as many as the budget allows to evaluate, with some evaluations to spare; references stay.

        Where not all can be, first those go that are slower than every reference, then others, evenly over latency.
        """
        most = (self.problem.budget.remaining("accuracy_evals") - spare) / self.problem.training.loss_evaluations
        references = [candidate for candidate in candidates if candidate.is_reference]
        if most >= len(candidates) or most <= len(references):
            return list(candidates)
        slowest = max(candidate.latency for candidate in references)
        found = [candidate for candidate in candidates if not candidate.is_reference and candidate.latency < slowest]
        found.sort(key=lambda candidate: candidate.latency)
        places = np.unique(
            np.linspace(0, len(found) - 1, min(int(most) - len(references), len(found))).round().astype(int)
        )
        self.problem.progress(
            f"the budget allows to compare {len(references) + len(places)} of {len(candidates)} plans"
        )
        return references + [found[place] for place in places]

    def losses(self, candidates: Sequence[Candidate]) -> list[float]:
        """Recalibrated loss of each candidate.

        Raises
        ------
        BudgetExceededError
            When the evaluations cannot be paid.
        """
        found = []
        for candidate in candidates:
            found.append(candidate.stage.loss(candidate.widths))
            self._note(candidate, recalibrated_loss=found[-1])
        return found

    def by_loss(self, candidates: Sequence[Candidate], losses: Sequence[float]) -> tuple[list[Candidate], Candidate]:
        """Those, fastest first, that beat the reference of least loss in latency and in loss; and that reference."""
        known = sorted(zip(losses, candidates, strict=True), key=lambda pair: pair[0])
        loss, rival = next(pair for pair in known if pair[1].is_reference)
        most = (1.0 + self.loss_tolerance) * loss
        better = [candidate for loss, candidate in known if candidate.latency < rival.latency and loss <= most]
        self.problem.progress(
            f"{len(better)} of {len(candidates)} plans are faster than '{rival.name}' and lose no more"
        )
        return sorted(better, key=lambda candidate: candidate.latency), rival

    def by_accuracy(
        self, candidates: Sequence[Candidate], losses: Sequence[float], most: int
    ) -> tuple[Candidate, Candidate]:
        """The fastest plan found that is as accurate, after fine-tuning, as the best reference; and that reference.

        Only plans are tried than which no faster one has a lower recalibrated loss. Along them accuracy is taken to
        rise with latency, so that the fastest accurate one is found by halving, begun at the fastest whose loss is
        within ``loss_tolerance`` of the least of a reference. Differences below a standard error of the search split
        are no differences.

        Parameters
        ----------
        losses
            Recalibrated, of each candidate.
        most
            Plans that are fine-tuned at most, besides the two references of least loss.

        Raises
        ------
        BudgetExceededError
            When the references' evaluations cannot be paid.
        """
        likely, _ = self.by_loss(candidates, losses)
        order = sorted(zip(losses, range(len(candidates)), strict=True))
        references = [candidates[number] for _, number in order if candidates[number].is_reference][:N_REFERENCES]
        known = {candidate.name: self._accuracy(candidate) for candidate in references}
        rival = max(references, key=lambda candidate: (known[candidate.name], -candidate.latency))
        best = known[rival.name]
        least = best - max(self.tolerance, (best * (1 - best) / self.problem.training.n_search_images) ** 0.5)
        faster = [candidate for candidate in _front(candidates, losses) if candidate.latency < rival.latency]
        first = next((faster.index(candidate) for candidate in likely if candidate in faster), None)
        low, high, chosen = 0, len(faster), rival  # faster[:low] are not accurate enough, faster[high] is
        for tried in range(most):
            if low == high:
                break
            position = first if first is not None and not tried else (low + high) // 2
            candidate = faster[position]
            if candidate.name not in known:
                try:
                    known[candidate.name] = self._accuracy(candidate)
                except BudgetExceededError as error:
                    self.problem.progress(f"no more plans are fine-tuned: {error}")
                    break
            if known[candidate.name] >= least:
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
        problem = self.problem
        dense = problem.accuracy(
            Plan(kept={name: tuple(range(group.n_channels)) for name, group in problem.groups.items()})
        )
        alpha = (dense - limit) / dense
        values = []
        for candidate in candidates:
            accuracy = problem.accuracy(candidate.stage.plan(candidate.widths))
            self._note(candidate, accuracy_at_once=accuracy)
            penalty = 0.0 if accuracy >= alpha * dense else (1.0 - accuracy) / (1.0 - alpha)
            values.append(candidate.latency / dense_ms + penalty)
        return candidates[int(np.argmin(values))]

    def _accuracy(self, candidate: Candidate) -> float:
        accuracy = candidate.stage.accuracy(candidate.widths, self.epochs)
        self.problem.progress(f"{candidate.name}: {accuracy:.2%} on the search split")
        self._note(candidate, accuracy=accuracy)
        return accuracy

    def _note(self, candidate: Candidate, **seen: float) -> None:
        known = self.record.get(candidate.name, ComparedPlan(plan=candidate.name))
        self.record[candidate.name] = known.model_copy(update={self.quantity: candidate.latency, **seen})


def _front(candidates: Sequence[Candidate], losses: Sequence[float]) -> list[Candidate]:
    """Candidates than which no faster one has as low a loss, fastest first: their losses fall."""
    found: list[Candidate] = []
    least = float("inf")
    for loss, candidate in sorted(zip(losses, candidates, strict=True), key=lambda pair: (pair[1].latency, pair[0])):
        if loss < least:
            found.append(candidate)
            least = loss
    return found
