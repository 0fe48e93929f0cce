"""torch-pruning's importance criteria (Fang et al. 2023, DepGraph), brought to the exact FLOPs target.

torch-pruning scores whole groups, every coupled layer included, and prunes to a channel ratio. Its scores are used as
they are; how many channels go follows from the FLOPs target instead of a ratio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from hdapbench.method import Method, Plan, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

Scores = dict[str, "NDArray[np.float64]"]


class TorchPruning(Method):
    """Remove the channels of least group importance as torch-pruning scores them, until the target is met."""

    name = "torch-pruning"
    importance: Literal["magnitude", "bn-scale", "lamp", "fpgm", "taylor", "hessian", "random"] = "magnitude"
    scope: Literal["global", "local", "isomorphic"] = Field(
        default="local", description="Compare channels across groups, within each, or among groups of equal structure."
    )
    n_images: int = Field(default=256, ge=1, description="Training images for taylor and hessian gradients.")

    def skip(self, problem: Problem) -> str | None:
        """Reason when bn-scale meets a group without batch norm."""
        if self.importance == "bn-scale" and (bare := _without_norm(problem)):
            return f"importance bn-scale needs batch norm; the group '{bare}' has none"
        return None

    def compress(self, problem: Problem) -> Plan:
        """Plan by torch-pruning's scores."""
        scores = self._scores(problem)
        if self.scope != "isomorphic":
            return problem.plan_by_scores(scores, scope=self.scope)
        scopes = _isomorphic_scopes(problem)
        plan = problem.fit(lambda knob: _pruned_by_scope(scores, scopes, knob), steps=16)
        return problem.filled(plan, scores)

    def _scores(self, problem: Problem) -> Scores:
        """Score of every channel of every group, shape (n_channels,) each."""
        import torch_pruning

        model = problem.model()
        graph = torch_pruning.DependencyGraph()
        graph.build_dependency(model, example_inputs=problem.example_input(), verbose=False)
        scorer = self._scorer(problem, model)
        modules = dict(model.named_modules())
        scores: Scores = {}
        for name, group in problem.groups.items():
            root = modules[name]
            prune = graph.get_pruner_of_module(root).prune_out_channels
            found = scorer(graph.get_pruning_group(root, prune, list(range(group.n_channels))))
            scores[name] = np.asarray(found.detach().double().numpy())
        return scores

    def _scorer(self, problem: Problem, model: nn.Module) -> Any:
        """Importance object of torch-pruning, with the gradients that it reads."""
        import torch
        from torch_pruning import importance as criteria

        if self.importance in {"taylor", "hessian"}:
            n_images = min(self.n_images, problem.n_train_images)
            problem.budget.charge("train_epochs", n_images / problem.n_train_images)
            return self._gradient_scorer(problem, model, n_images)
        if self.importance == "random":
            return lambda group: torch.from_numpy(problem.rng.random(len(group[0].idxs)))
        return {
            "magnitude": criteria.GroupMagnitudeImportance,
            "bn-scale": criteria.BNScaleImportance,
            "lamp": criteria.LAMPImportance,
            "fpgm": criteria.FPGMImportance,
        }[self.importance]()

    def _gradient_scorer(self, problem: Problem, model: nn.Module, n_images: int) -> Any:
        """Scorer that has seen gradients: of batches for taylor, of single images for hessian."""
        import torch
        from torch_pruning import importance as criteria

        hessian = self.importance == "hessian"
        scorer = criteria.GroupHessianImportance() if hessian else criteria.GroupTaylorImportance()
        model.zero_grad()
        for images, labels in problem.batches(n_images, batch_size=1 if hessian else 64):
            if hessian:
                model.zero_grad()
            torch.autograd.backward(problem.loss(model(images), labels))
            if hessian:
                scorer.accumulate_grad(model)
        return scorer


def _without_norm(problem: Problem) -> str | None:
    """First group with no batch norm among its members, or None."""
    from torch import nn

    modules = dict(problem.model().named_modules())
    for name, group in problem.groups.items():
        if not any(isinstance(modules[member.layer], nn.BatchNorm1d | nn.BatchNorm2d) for member in group.members):
            return name
    return None


def _isomorphic_scopes(problem: Problem) -> list[list[str]]:
    """Groups of equal structure (kinds and sides of their members) together (Fang et al. 2024)."""
    modules = dict(problem.model().named_modules())
    scopes: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for name, group in problem.groups.items():
        structure = tuple((type(modules[member.layer]).__name__, member.side) for member in group.members)
        scopes.setdefault(structure, []).append(name)
    return list(scopes.values())


def _pruned_by_scope(scores: Scores, scopes: list[list[str]], share: float) -> Plan:
    """Plan that removes the given share of the channels of each scope; each group keeps its best channel."""
    kept: dict[str, tuple[int, ...]] = {}
    for names in scopes:
        everything = np.sort(np.concatenate([scores[name] for name in names]))
        n_removed = int(share * len(everything))
        threshold = everything[n_removed - 1] if n_removed else -np.inf
        for name in names:
            stays = np.flatnonzero(scores[name] > threshold)
            kept[name] = tuple(int(c) for c in (stays if len(stays) else [np.argmax(scores[name])]))
    return Plan(kept={name: kept[name] for name in scores})
