"""Problem: what most methods ask; what few ask lies in its parts ``devices``, ``training`` and ``quantization``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hdapbench.arrays import Floats, own_copy
from hdapbench.bench.limit import Limit
from hdapbench.cost.ranking import keep_best, top_channels
from hdapbench.cost.target import fill, largest_share, widths_at_share
from hdapbench.errors import printable
from hdapbench.method.budget import Budget
from hdapbench.method.decisions import as_json
from hdapbench.method.devices import Devices
from hdapbench.method.quantization import Quantization
from hdapbench.method.training import Training
from hdapbench.plan import Plan

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from hdapbench.bench.workbench import Workbench
    from hdapbench.cost.model import CostModel
    from hdapbench.groups import ChannelGroup

GRADIENT_CRITERIA = frozenset({"taylor", "sqrt_taylor", "fisher"})
GRADIENT_IMAGES = 512
RANK_IMAGES = 128
"""Most images that feature maps are ranked on: means of ranks hardly depend on which, and each map is decomposed."""

Scores = Mapping[str, "NDArray[np.floating[Any]]"]
"""Group -> score of each channel, shape (n_channels,); higher is kept longer."""


class Problem:
    """What a method may ask. Costly calls are charged to ``budget`` before they are carried out.

    Everything is reproducible from the trial's seed: two problems of the same trial give the same answers to the same
    calls. The test split is out of reach.

    Parameters
    ----------
    bench
        The traced model, its images and its fleet.
    limit
        What plans must not exceed.
    seed
        Seed of the trial.
    budget
        Where costly calls are charged.
    on_progress
        Receives a line of text now and then.
    on_decision
        Receives the name and the value of every fact that the method remembers.

    Attributes
    ----------
    limit, target_flops
        What plans must not exceed, and how many multiply-accumulates that allows.
    groups
        Channel groups by name, in order of execution.
    rng
        The only randomness to use.
    devices
        The fleet: clusters, nominal board, kernels, latency shares.
    training
        Training images, losses, recalibration, reconstruction, fine-tuning, and weights to hand in.
    quantization
        The folded model, calibration, and finished quantised files.
    """

    def __init__(
        self,
        bench: Workbench,
        limit: Limit,
        *,
        seed: int,
        budget: Budget,
        on_progress: Callable[[str], None] | None = None,
        on_decision: Callable[[str, Any], None] | None = None,
    ) -> None:
        self._bench = bench
        self._seed = seed
        self._on_progress = on_progress
        self._on_decision = on_decision
        self.limit = limit
        self.target_flops = limit.flops
        self.budget = budget
        self.rng = np.random.default_rng([seed, 0x48444150])
        self.devices = Devices(bench, seed=seed, budget=budget)
        self.training = Training(bench, seed=seed, budget=budget)
        self.quantization = Quantization(bench)
        self.groups: Mapping[str, ChannelGroup] = {group.name: group for group in bench.network.group_set.groups}

    @cached_property
    def cost(self) -> CostModel:
        """Exact costs over widths, in the order of ``groups``; ``cost.sizes`` are the dense widths."""
        return own_copy(self._bench.network.cost)  # whatever is done to it

    def model(self, weights: str | None = None) -> nn.Module:
        """Fresh deep copy of the trained dense model, in eval mode, with gradients enabled.

        Parameters
        ----------
        weights
            Instead of the dense model's: those of ``Plan.weights``.
        """
        return deepcopy(self._bench.weights.model(weights)).eval().requires_grad_(True)

    def progress(self, text: str) -> None:
        """Tell whoever watches what is going on; also the place where an overlong method is stopped."""
        self.budget.check_time()
        if self._on_progress is not None:
            self._on_progress(text)

    def remember(self, name: str, value: Any) -> None:
        """Keep a value of `hdapbench.method.decisions` or any JSON-able fact; ``hdapbench explain`` shows it.

        Raises
        ------
        TypeError
            When the value cannot be written as JSON.
        """
        name, plain = printable(str(name)), as_json(value)
        if self._on_decision is not None:
            self._on_decision(name, plain)

    def solve_ratio(self, steps: int = 12, round_to: int = 1) -> float:
        """Largest kept share that every group may have under the target, in (0, 1].

        Parameters
        ----------
        steps
            Bisection steps.
        round_to
            Widths are rounded to multiples of this, except in groups smaller than it.

        Raises
        ------
        TargetUnreachableError
            When even the smallest widths exceed the target.
        """
        return largest_share(self.cost, self.target_flops, steps=steps, round_to=round_to)

    def plan_by_importance(self, shares: Mapping[str, float], criterion: str | Scores, *, round_to: int = 1) -> Plan:
        """Plan that keeps the given share of each group, the most important channels first.

        Rounding leaves some FLOPs unused: ``round_to`` channels at a time are added back while the target allows.

        Parameters
        ----------
        shares
            Group -> kept share, in (0, 1].
        criterion
            Name for `importance`, or the scores themselves.
        round_to
            Widths are multiples of this, except in groups smaller than it.
        """
        share = np.array([shares[name] for name in self.groups])
        widths = widths_at_share(self.cost, share, round_to=round_to)
        if int(self.cost.flops(widths)[0]) <= self.target_flops:
            widths = fill(self.cost, widths, self.target_flops, round_to=round_to)
        return self.plan_by_widths(widths, criterion)

    def plan_by_widths(self, widths: Mapping[str, int] | NDArray[np.integer[Any]], criterion: str | Scores) -> Plan:
        """Plan with exactly these widths, keeping the most important channels of each group.

        Parameters
        ----------
        widths
            Group -> number of kept channels, or an array of shape (n_groups,) in the order of ``groups``.
        criterion
            Name for `importance`, or the scores themselves. By the name ``osscar``, its local search goes on from the
            channels of highest score.
        """
        scores = self.importance(criterion) if isinstance(criterion, str) else criterion
        if not isinstance(widths, Mapping):
            widths = {name: int(width) for name, width in zip(self.groups, widths, strict=True)}
        kept = {name: top_channels(scores[name], widths[name]) for name in self.groups}
        if criterion == "osscar":
            from hdapbench.prune.selection import exchanged

            kept = exchanged(self.model(), self._bench.network.group_set, self.training.inputs(), kept)
        return Plan(kept=kept)

    def plan_by_scores(
        self, scores: Scores, *, scope: Literal["global", "local"] = "global", round_to: int = 1
    ) -> Plan:
        """Plan that removes the channels of least score until the target is met, and no more.

        Parameters
        ----------
        scores
            Group -> score of each channel, shape (n_channels,); higher is kept longer.
        scope
            ``global`` compares channels across groups; ``local`` removes the same share of each group.
        round_to
            Widths are multiples of this; what rounding leaves of the target is filled up.

        Raises
        ------
        TargetUnreachableError
            When even the smallest widths exceed the target.
        """
        if scope == "local":
            share = self.solve_ratio(steps=20, round_to=round_to)
            return self.plan_by_importance(dict.fromkeys(self.groups, share), scores, round_to=round_to)
        return Plan(kept=keep_best(self.cost, scores, self.target_flops, round_to=round_to))

    def importance(
        self, criterion: str, *, model: nn.Module | None = None, n_images: int = GRADIENT_IMAGES
    ) -> dict[str, Floats]:
        """Score of every channel of the dense model: group -> array of shape (n_channels,), higher is more important.

        Parameters
        ----------
        criterion
            ``l1``, ``l2``, ``bn_scale``, ``fpgm``, ``lamp``, ``consumers``, ``random``, or, with gradients over
            training images (charged as that share of an epoch), ``taylor``, ``sqrt_taylor`` and ``fisher``, or, by
            looking at them (charged as a third of it), ``hrank``, ``osscar`` and ``thinet``; the last two look at
            those of `Training.reconstructed`, and pay for them together.
        model
            A model of your own in the dense shapes, after training it; the dense model by default.
        n_images
            Training images for gradients and ``hrank`` (at most 128), or all where there are fewer.
        """
        from hdapbench.prune.importance import importance
        from hdapbench.prune.selection import is_selection, selection_importance

        training, batches = self.training, None
        scored, groups = self.model() if model is None else model, self._bench.network.group_set
        if is_selection(criterion):
            return selection_importance(scored, groups, training.inputs(model), criterion)
        n_images = min(n_images, training.n_train_images)
        if criterion in GRADIENT_CRITERIA:
            self.budget.charge("train_epochs", n_images / training.n_train_images)
            batches = training.batches(n_images)
        elif criterion == "hrank":
            n_images = min(n_images, RANK_IMAGES)
            self.budget.charge("train_epochs", training.looking_epochs(n_images))
            batches = training.batches(n_images)
        return importance(scored, groups, criterion, batches=batches, seed=self._seed, loss=training.loss)

    def accuracy(
        self, plan: Plan, fine_tune_epochs: float = 0.0, *, recalibrate: int = 0, reconstruct: bool = False
    ) -> float:
        """Accuracy (of detection mAP50-95) in [0, 1] of a plan on the search split; charged.

        See `hdapbench.method.training.Training.accuracy`.
        """
        return self.training.accuracy(plan, fine_tune_epochs, recalibrate=recalibrate, reconstruct=reconstruct)

    def train(self, model: nn.Module, epochs: float, *, regularize: Callable[[nn.Module], None] | None = None) -> None:
        """Train ``model`` in place on the training split by the spec's fine-tune recipe; charged.

        Parameters
        ----------
        regularize
            Called with the model after every backward pass; it may change the gradients, which the step then follows.
            With a `ResumableRegularizer`, or none, a long training goes on where it was ended.
        """
        self.training.train(model, epochs, regularize=regularize)

    def latency(self, widths: NDArray[np.integer[Any]], *, cluster: int | None = None) -> Floats:
        """Latency in ms of plans on each cluster's measured devices, shape (n_plans, n_clusters); charged.

        Parameters
        ----------
        widths
            Kept channels per group, shape (n_plans, n_groups); which channels does not matter for latency.
            One device query is charged per plan and measured device.
        cluster
            Ask this cluster's representative alone: shape (n_plans, 1), and one device query per plan.
        """
        return self.devices.latency(widths, cluster=cluster)
