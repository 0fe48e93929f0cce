"""NNI 3.0's pruners as sources of masks. Compaction goes through the framework's one path, for all methods alike.

NNI masks the filters of single layers. Layers of one channel group need not agree, so the masks are votes: a group
keeps as many channels as its layers do on average, those with the most votes first and the larger norm on ties.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from hdapbench.method import Method, Plan, Problem

if TYPE_CHECKING:
    from torch import nn

TRAINED = frozenset({"slim", "taylor", "linear", "agp"})


class Nni(Method):
    """Remove filters as an NNI pruner masks them, at the sparsity that meets the target."""

    name = "nni"
    extra = "nni"
    pruner: Literal["l1", "l2", "fpgm", "slim", "taylor", "linear", "agp"] = "l1"
    training_steps: int = Field(default=20, ge=1, description="Batches that slim, taylor, linear and agp train on.")
    learning_rate: float = Field(default=0.001, gt=0.0, description="Learning rate of that training.")
    steps: int = Field(default=8, ge=1, description="Sparsities tried.")

    def skip(self, problem: Problem) -> str | None:
        """Reason when nni is not installed, or slim meets a group without batch norm."""
        if importlib.util.find_spec("nni") is None:
            return "nni is not installed; install it with: pip install 'hdapbench[nni]'"
        if self.pruner == "slim" and not all(_targets(problem, name, norm=True) for name in problem.groups):
            return "pruner slim needs batch norm in every group"
        return None

    def compress(self, problem: Problem) -> Plan:
        """Plan of the least sparsity whose masks meet the target, filled up to it."""
        norms = problem.importance("l2")
        votes_of: dict[str, dict[str, Any]] = {}

        def plan_at(sparsity: float) -> Plan:
            problem.progress(f"nni {self.pruner} at sparsity {sparsity:.2f}")
            votes = self._votes(problem, min(sparsity, 0.98))
            scores = {name: votes[name] + 1e-3 * norms[name] / norms[name].max() for name in problem.groups}
            widths = {name: max(1, round(float(vote.sum()))) for name, vote in votes.items()}
            plan = problem.plan_by_widths(widths, scores)
            votes_of[plan.id] = scores
            return plan

        plan = problem.fit(plan_at, steps=self.steps)
        return problem.filled(plan, votes_of[plan.id])

    def _votes(self, problem: Problem, sparsity: float) -> dict[str, Any]:
        """Share of a group's layers that keep each channel: group -> array of shape (n_channels,)."""
        norm = self.pruner == "slim"
        with _quiet():
            model = problem.model().train()
            masks = self._masks(problem, model, sparsity)
        votes = {}
        for name, group in problem.groups.items():
            total = np.zeros(group.n_channels)
            layers = _targets(problem, name, norm=norm)
            for member in group.members:
                if member.layer in layers and member.side == ("both" if norm else "out"):
                    mask = masks[member.layer]["weight"]
                    alive = (mask.reshape(len(mask), -1).abs().sum(1) > 0).double().numpy()[list(member.indices)]
                    total += np.bincount(member.channels, weights=alive, minlength=group.n_channels)
            votes[name] = total / len(layers)
        return votes

    def _masks(self, problem: Problem, model: nn.Module, sparsity: float) -> Any:
        """Masks of an NNI pruner: layer -> {"weight": tensor}."""
        from nni.compression import pruning

        norm = self.pruner == "slim"
        names = [layer for group in problem.groups for layer in _targets(problem, group, norm=norm)]
        kinds = ["BatchNorm2d"] if norm else ["Conv2d", "Linear"]
        config = [{"op_names": names, "op_types": kinds, "sparse_ratio": sparsity}]
        if self.pruner in {"l1", "l2", "fpgm"}:
            kind = {"l1": pruning.L1NormPruner, "l2": pruning.L2NormPruner, "fpgm": pruning.FPGMPruner}[self.pruner]
            return kind(model, config).compress()[1]
        problem.budget.charge("train_epochs", self.training_steps * 64 / problem.n_train_images)
        evaluator = self._evaluator(problem, model)
        if self.pruner == "slim":
            return pruning.SlimPruner(model, config, evaluator, training_steps=self.training_steps).compress()[1]
        if self.pruner == "taylor":
            return pruning.TaylorPruner(model, config, evaluator, training_steps=self.training_steps).compress()[1]
        inner = pruning.L1NormPruner(model, config)
        kind = pruning.LinearPruner if self.pruner == "linear" else pruning.AGPPruner
        interval = max(self.training_steps // 5, 1)
        scheduled = kind(inner, interval_steps=interval, total_times=5, evaluator=evaluator)
        return scheduled.compress(max_steps=interval * 5 + 1, max_epochs=None)[1]

    def _evaluator(self, problem: Problem, model: nn.Module) -> Any:
        """NNI's evaluator around a plain training loop that always reaches the steps it is asked for."""
        import nni
        import torch
        from nni.compression.utils import TorchEvaluator

        limit = self.training_steps * 2

        def train(model: Any, optimizer: Any, step: Any, _scheduler: Any, max_steps: int | None, _epochs: Any) -> None:
            done = 0
            while done < (max_steps or limit):
                for batch in problem.batches(problem.n_train_images):
                    optimizer.zero_grad()
                    step(batch, model).backward()
                    optimizer.step()
                    done += 1
                    if done >= (max_steps or limit):
                        return

        def training_step(batch: Any, model: Any) -> Any:
            return problem.loss(model(batch[0]), batch[1])

        optimizer = nni.trace(torch.optim.SGD)(model.parameters(), lr=self.learning_rate, momentum=0.9)
        return TorchEvaluator(train, optimizer, training_step, dummy_input=problem.example_input())


def _targets(problem: Problem, name: str, *, norm: bool) -> list[str]:
    """Layers of a group that NNI masks: those that produce its channels, or their batch norms."""
    group = problem.groups[name]
    if not norm:
        return list(group.producers)
    from torch import nn

    modules = dict(problem.model().named_modules())
    return [member.layer for member in group.members if isinstance(modules[member.layer], nn.BatchNorm2d)]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """NNI without its log on stdout: importing it installs a handler there, which is taken away again."""
    logger = logging.getLogger("nni")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        import nni.compression  # noqa: F401 - imported for its side effects, here where they are contained

        for handler in list(logger.handlers):
            logger.removeHandler(handler)
        logger.setLevel(logging.ERROR)
        logger.propagate = False
        yield
