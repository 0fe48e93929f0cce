"""The method: measure, fit, search, measure the optimum, and choose the fastest plan that is accurate enough.

Devices are clustered; plans are measured on each cluster's representatives; a surrogate predicts any plan; a search
finds the widths of least average clustered latency under the exact FLOPs target and a limit on lost importance. The
optimum is measured, the surrogate is refitted, and the search runs again. Several limits give several fastest plans;
the fastest one wins that is as accurate as the best plan that needs no search.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np

from hdapbench.errors import BudgetExceededError, ModelError, SurrogateError, TargetUnreachableError
from hdapbench.method import Plan, Problem
from hdapbench.method.plans import flops_of
from hdapbench.surrogate.design import training_plans

from .importance import BOTH
from .judging import N_REFERENCES, Candidate, Judge
from .measuring import Measurer
from .parameters import Parameters
from .searching import Searcher
from .stage import Stage


class Hdap(Parameters):
    """Search the widths of least average clustered latency, guided by a surrogate of measured representatives.

    ``guard_levels`` say how much importance a plan may lose, relative to a reference that needs no search: ``ranking``
    (remove the least important channels first, whatever their group) or ``uniform`` pruning. Each level gives the
    fastest plan that meets it. ``hdap`` takes the fastest of these plans whose accuracy on the search split, after
    ``shortlist_epochs`` of fine-tuning, is within ``accuracy_tolerance`` of the best reference's (or one standard
    error, if that is larger). Bisection with at most ``shortlist`` tries finds it; the first try is the fastest plan
    whose recalibrated loss is within ``loss_tolerance`` of the best reference's. If no plan is accurate enough, that
    reference is the plan.

    With ``iterations``, FLOPs fall to the target in that many steps of equal ratio. Each step is a separate search, and
    the model is fine-tuned for ``iteration_epochs`` in between: this is charged, and other methods do not get it.

    ``preset: paper`` is our reading of the public descriptions; parameters given with it override it. The ablations are
    parameters: ``devices: one_cluster`` or ``nominal``, ``goal: flops``, another ``searcher``, ``active_plans: 0``.

    Source: HDAP, homogeneous-device aware pruning, arXiv 2501.15240, in our form.
    Needs: device queries for a fingerprint and, on each cluster, for ``n_plans``, ``active_plans`` and a few more;
    gradients; evaluations and training for the comparison of plans, as far as the budget goes.
    Never sees: nothing is hidden.
    """

    name = "hdap"

    def skip(self, problem: Problem) -> str | None:
        """Reason when the searcher's package is not installed, or the criterion does not apply to the model."""
        if self.searcher == "cma-es" and importlib.util.find_spec("cma") is None:
            return "searcher cma-es needs the package cma; install it with: pip install 'hdapbench[cma]'"
        return problem.training.lack_of(self.criterion)

    def compress(self, problem: Problem) -> Plan:
        """Plan of least measured average clustered latency among the accurate ones.

        Raises
        ------
        BudgetExceededError
            When not even the first plans can be measured.
        TargetUnreachableError
            When the smallest widths exceed the target.
        """
        measured = Measurer(
            problem, kind=self.surrogate, devices=self.devices, equal_weights=self.cluster_weights == "equal"
        )
        dense = problem.cost.dense.flops
        ratio = (problem.target_flops / dense) ** (1 / self.iterations)
        plan: Plan | None = None
        for number in range(1, self.iterations + 1):
            last = number == self.iterations
            target = problem.target_flops if last else int(dense * ratio**number)
            plan = self._step(self._stages(problem, target, plan), measured)
            if self.reconstruct:
                plan = self._reconstructed(problem, plan)
            if not last:
                problem.progress(f"iteration {number} of {self.iterations}: {flops_of(problem, plan):,} FLOPs")
                try:
                    plan = problem.training.fine_tuned(plan, self.iteration_epochs)
                except BudgetExceededError as error:
                    problem.progress(f"no fine-tuning in between: {error}")
        if plan is None:
            raise AssertionError("at least one iteration ran")
        if not measured.too_few:
            _explain_surrogate(problem, measured, plan)
        return plan

    def _stages(self, problem: Problem, target_flops: int, before: Plan | None) -> list[Stage]:
        """An iteration's stage for each criterion that the model and the budget allow."""
        stages = []
        for criterion in BOTH if self.criterion == "auto" else (self.criterion,):
            stage = Stage(
                problem,
                target_flops,
                criterion,
                before=before,
                round_to=self.round_to,
                n_images=self.n_images,
                reconstruct=self.reconstruct,
            )
            try:
                _ = stage.scores
                stages.append(stage)
            except (BudgetExceededError, ModelError) as error:
                if self.criterion != "auto":
                    raise
                problem.progress(f"no importance by {criterion}: {error}")
        return stages or [Stage(problem, target_flops, "l1", before=before, round_to=self.round_to)]

    def _step(self, stages: list[Stage], measured: Measurer) -> Plan:
        """One iteration's plan. When the budget ends in it, the fastest plan known to keep to the guard."""
        problem = stages[0].problem
        names = list(problem.groups)
        problem.remember("uniform_widths", dict(zip(names, stages[0].uniform.tolist(), strict=True)))
        problem.remember("dense_widths", dict(zip(names, problem.cost.sizes.tolist(), strict=True)))
        searchers = [Searcher(self, stage, measured) for stage in stages]
        epochs = problem.training.fine_tune_epochs if self.shortlist_epochs is None else self.shortlist_epochs
        judge = Judge(
            problem,
            epochs=epochs,
            tolerance=self.accuracy_tolerance,
            loss_tolerance=self.loss_tolerance,
            quantity="flops" if self.goal == "flops" else "latency_ms",
        )
        candidates: list[Candidate] = []
        try:
            self._measure(stages, measured, searchers[0])
            candidates = self._candidates(searchers, measured)
            chosen, why = self._chosen(judge, candidates, measured)
        except (BudgetExceededError, TargetUnreachableError, SurrogateError) as error:
            if isinstance(error, BudgetExceededError) and self.goal == "latency" and not measured.measured_any:
                raise
            problem.progress(f"the search ends early: {error}")
            chosen, why = self._without_search(measured, searchers[0], candidates)
            why = f"the search ended early ({error}): {why}"
        for searcher in searchers:
            account = searcher.accounts.get(tuple(chosen.widths.tolist()))
            if account is not None:  # not the last search, but the one that found the plan
                problem.remember("search", account)
        problem.remember("criterion", chosen.stage.criterion)
        problem.remember("accuracies", list(judge.record.values()))
        problem.remember("why", why)
        return chosen.stage.plan(chosen.widths)

    @staticmethod
    def _reconstructed(problem: Problem, plan: Plan) -> Plan:
        """The plan with weights that make up for what it removes, where that can be paid and done."""
        try:
            return problem.training.reconstructed(plan)
        except (BudgetExceededError, ModelError) as error:
            problem.progress(f"weights stay as they are: {error}")
            return plan

    def _measure(self, stages: list[Stage], measured: Measurer, searcher: Searcher) -> None:
        """Plans that spread over the space, then those around the optimum."""
        if self.goal == "flops":
            return
        problem, stage = stages[0].problem, stages[0]
        references = [stage.uniform, *(stage.ranking for stage in stages), problem.cost.sizes]
        n_spread = max(self.n_plans // self.iterations - len(references), 1)
        problem.progress(f"measuring {n_spread + len(references)} plans on {measured.n_columns} clusters")
        spread = training_plans(
            stage.cost, stage.target_flops, n_spread, seed=problem.training.seed, round_to=self.round_to
        )
        measured.add(np.concatenate([np.stack(references), spread]))
        searcher.measure_actively()

    def _candidates(self, searchers: list[Searcher], measured: Measurer) -> list[Candidate]:
        """The references and what the searches found, with latencies of one session.

        Measurements of different sessions differ by the devices' drift: the least of many would be the luckiest.
        """
        found: list[Candidate] = []
        for searcher in searchers:
            stage = searcher.stage
            suffix = f" by {stage.criterion}" if len(searchers) > 1 else ""
            named = {tuple(stage.uniform.tolist()): f"uniform{suffix}"}
            named.setdefault(tuple(stage.ranking.tolist()), f"ranking{suffix}")
            n_references = len(named)
            plans = searcher.candidates()
            if self.choice == "accuracy":
                plans += searcher.between(plans)
            for number, widths in enumerate(plans, start=1):
                named.setdefault(tuple(widths.tolist()), f"candidate {number}{suffix}")
            for number, (plan, name) in enumerate(named.items()):
                widths = np.array(plan, dtype=np.int64)
                found.append(Candidate(stage, widths, 0.0, name, is_reference=number < n_references))
        every = np.stack([candidate.widths for candidate in found])
        cost = searchers[0].stage.problem.cost
        latency = cost.flops(every).astype(float) if self.goal == "flops" else measured.measure(every)
        return [replace(candidate, latency=float(value)) for candidate, value in zip(found, latency, strict=True)]

    def _chosen(self, judge: Judge, candidates: list[Candidate], measured: Measurer) -> tuple[Candidate, str]:
        """The plan to take, and why."""
        found = [candidate for candidate in candidates if not candidate.is_reference]
        if self.choice == "alpha":
            dense_ms = float(measured.surrogate.predict_average(judge.problem.cost.sizes[None])[0])
            some = sorted(found or candidates, key=lambda candidate: candidate.latency)[: self.shortlist]
            return judge.by_penalty(some, dense_ms, self.accuracy_limit), "least latency plus penalty"
        if self.choice == "guard":
            fastest = min(candidates, key=lambda candidate: candidate.latency)
            return fastest, f"{fastest.name}: the fastest plan"
        spare = self.shortlist + N_REFERENCES if self.choice == "accuracy" else 0
        candidates = judge.affordable(candidates, spare)
        losses = judge.losses(candidates)
        if self.choice == "loss":
            good, rival = judge.by_loss(candidates, losses)
            if not good:
                return rival, f"{rival.name}: no faster plan loses as little"
            return good[0], f"{good[0].name}: the fastest plan that loses no more than '{rival.name}'"
        chosen, rival = judge.by_accuracy(candidates, losses, self.shortlist)
        if chosen is rival:
            return rival, f"{rival.name}: no faster plan was as accurate"
        return chosen, f"{chosen.name}: the fastest plan found that is as accurate as '{rival.name}'"

    def _without_search(
        self, measured: Measurer, searcher: Searcher, candidates: list[Candidate]
    ) -> tuple[Candidate, str]:
        """What can be said when the budget is spent or no plan keeps to the guard."""
        stage = searcher.stage
        own = [candidate for candidate in candidates if candidate.stage is stage]
        if own:
            inside = [c for c in own if searcher.space(1.0).violation(c.widths[None])[0] <= 0]
            fastest = min(inside or own, key=lambda candidate: candidate.latency)
            return fastest, f"{fastest.name}: the fastest plan within the guard"
        if measured.measured_any and (known := measured.fastest(searcher.space(1.0), 1)):
            return Candidate(stage, known[0], 0.0, "measured"), "the fastest measured plan within the guard"
        return Candidate(stage, stage.ranking, 0.0, "ranking"), "the reference, for nothing was searched"


def _explain_surrogate(problem: Problem, measured: Measurer, plan: Plan) -> None:
    """Keep the surrogate's report card, and what it predicts of the plan on every cluster."""
    card, rounds = measured.card(), measured.rounds
    problem.remember("surrogate", card.at_optimum(rounds[-1].error) if rounds else card)
    if measured.covers_fleet:
        widths = np.array(plan.widths(list(problem.groups)), dtype=np.int64)
        problem.remember("predicted_ms", measured.surrogate.predict(widths)[0].tolist())
