"""The searches of `joint-mpq`, and the plans that they give."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from hdapbench.cost.bits import BitLayers, ChannelBitCounts
from hdapbench.cost.hardware import CostName, Together, hardware_cost, reference_cost, soft_cost
from hdapbench.errors import TargetUnreachableError
from hdapbench.groups import GroupSet
from hdapbench.method import Plan, Problem
from hdapbench.prune.expand import expand_weights
from hdapbench.prune.surgery import apply_plan
from hdapbench.quant.graph.folded import FoldedModel
from hdapbench.quant.graph.unfold import unfold
from hdapbench.quant.training.assign import Bits, kept_channels, layer_bits
from hdapbench.quant.training.discretize import discretize
from hdapbench.quant.training.searchable import SearchNetwork, SearchOptions

from .control import Controller
from .latency import FleetLatency
from .prices import PriceControl

TIE = 1e-7
"""Share of a maximum by which its smooth form tells equal ones apart."""


@dataclass(frozen=True)
class LogitSteps:
    """How logits come about.

    Attributes
    ----------
    kind
        ``prices`` or ``descent``.
    settle_at
        Share of the search after which bit-widths are fixed.
    learning_rate, last_temperature
        Of the logits in descent, and of their softmax in the end.
    removal_factor
        Of prices, what the estimated loss of removing a channel is multiplied by.
    """

    kind: Literal["prices", "descent"]
    settle_at: float
    learning_rate: float
    last_temperature: float
    removal_factor: float


@dataclass(frozen=True)
class Searches:
    """What a trial searches with.

    Attributes
    ----------
    problem
        The model and its target.
    options
        What the network chooses among.
    epochs
        Training epochs of each search.
    steps
        How logits come about.
    n_plans
        Plans measured where latency is the target.
    """

    problem: Problem
    options: SearchOptions
    epochs: float
    steps: LogitSteps
    n_plans: int

    def at_once(self, bits: tuple[int, ...]) -> Plan:
        """Plan of one search among these weight bits, 0 for pruned, with the weights of the search."""
        folded = self.problem.quantization.folded()
        network, chosen = self._search(folded, self._goal(), bits)
        return Plan(
            kept=kept_channels(folded, chosen),
            weight_bits=layer_bits(folded, chosen),
            activation_bits=dict(zip(folded.graph.quantizers, network.activation_choices(), strict=True)),
            weights=self.problem.training.keep_weights(unfold(self.problem.model(), network.float_model())),
        )

    def fixed(self) -> Plan:
        """The greatest single bit-width that meets the target, with no search."""
        folded, goal = self.problem.quantization.folded(), self._goal()
        for bits in sorted(self.options.weight_bits, reverse=True):
            counts = folded.layers.uniform_counts(bits)
            if float(goal.cost(counts)) <= goal.limit:
                chosen = {selector.name: (bits,) * selector.n_channels for selector in folded.layers.selectors}
                return Plan(kept=kept_channels(folded, chosen), weight_bits=layer_bits(folded, chosen))
        least = min(self.options.weight_bits)
        raise TargetUnreachableError(f"at {least} bits everywhere the cost exceeds the target of {goal}")

    def in_sequence(self) -> Plan:
        """Prune at 8 bits, fine-tune, search bit-widths for what is left: two searches, and a fine-tuning more.

        The reduction is shared evenly, on a logarithmic scale, between pruning and bit-widths; at least what 2 bits
        everywhere cannot reach is pruned.
        """
        problem, bits = self.problem, tuple(self.options.weight_bits)
        folded, goal = problem.quantization.folded(), self._goal()
        least = float(goal.cost(folded.layers.uniform_counts(min(bits)))) / goal.reference
        share = min(goal.target**0.5, goal.target / least)
        pruning, chosen = self._search(folded, goal.at(share), (0, 8))
        groups, pruned = GroupSet(tuple(problem.groups.values())), Plan(kept=kept_channels(folded, chosen))
        searched = unfold(problem.model(), pruning.float_model())
        compact = apply_plan(searched, groups, pruned)
        problem.progress(f"fine-tuning the pruned model for {self.epochs:g} epochs")
        problem.train(compact, self.epochs)
        smaller = FoldedModel.of(compact, folded.input_shape)
        network, left = self._search(smaller, goal.on(smaller), bits)
        dense = expand_weights(searched, unfold(compact, network.float_model()), groups, pruned)
        return Plan(
            kept=pruned.kept,
            weight_bits=layer_bits(smaller, left),
            activation_bits=dict(zip(smaller.graph.quantizers, network.activation_choices(), strict=True)),
            weights=problem.training.keep_weights(dense),
        )

    def _goal(self) -> _Goal:
        return _Goal.of(self.problem, n_plans=self.n_plans, least_channels=self.options.least_channels)

    def _search(self, folded: FoldedModel, goal: _Goal, bits: tuple[int, ...]) -> tuple[SearchNetwork, Bits]:
        """Search under a limit; the network and the bits of each selector."""
        problem, options = self.problem, replace(self.options, weight_bits=bits)
        network = SearchNetwork(folded, problem.quantization.calibrate(folded, options.activation_bits), options)

        def find(limit: float) -> Bits:
            return discretize(network.selection, lambda channels: goal.exact(network, channels), limit)

        def settle() -> None:
            network.selection.settle(find(goal.limit) if goal.latency is None else goal.latency.held(find))

        steps, n_steps = self.steps, max(1, round(self.steps.settle_at * problem.training.n_steps(self.epochs)))
        asked = (network, goal.share, goal.target, settle)
        control: Controller | PriceControl
        if steps.kind == "prices":
            control = PriceControl(
                *asked,
                removal_factor=steps.removal_factor,
                n_steps=n_steps,
                last_temperature=steps.last_temperature,
            )
        else:
            control = Controller(
                *asked, learning_rate=steps.learning_rate, n_steps=n_steps, last_temperature=steps.last_temperature
            )
        problem.progress(f"searching bit-widths for {self.epochs:g} epochs")
        problem.train(network, self.epochs, regularize=control.after_backward)
        if control.unsettled:  # a search of no steps
            settle()
        chosen = network.choices()
        problem.remember("cost_and_strength", control.trace)
        problem.remember("channels_at_bits", _census(chosen))
        return network, chosen


@dataclass(frozen=True)
class _Goal:
    """A target as a limit on a hardware cost.

    ``limit`` and ``reference``, the dense model's at 8 bits, are in units of the cost of that ``name``; latency is in
    units of the dense model's. ``soft_reference`` is the dense model's soft cost.
    """

    name: CostName
    layers: BitLayers
    limit: float
    reference: float
    soft_reference: float
    latency: FleetLatency | None = None

    @classmethod
    def of(cls, problem: Problem, *, n_plans: int, least_channels: int) -> _Goal:
        kind, amount = problem.limit.kind, problem.limit.amount
        layers = problem.quantization.folded().layers
        if kind == "latency":
            latency = FleetLatency.fitted(problem, n_plans=n_plans, least_channels=least_channels)
            return cls(kind, layers, amount, 1.0, 1.0, latency)
        name, most = problem.limit.cost
        return cls(name, layers, most, reference_cost(name, layers), reference_cost(name, layers, soft=True))

    def at(self, target: float) -> _Goal:
        """The same cost limited to another share of the reference."""
        return replace(self, limit=target * self.reference)

    def on(self, folded: FoldedModel) -> _Goal:
        """The same limit for another model."""
        return replace(self, layers=folded.layers)

    def cost(self, counts: ChannelBitCounts) -> Tensor:
        return (self.latency or hardware_cost(self.name))(self.layers, counts)

    @property
    def target(self) -> float:
        return self.limit / self.reference

    @property
    def has_peaks(self) -> bool:
        """Whether the cost is a maximum."""
        return self.name == "ram" or isinstance(self.name, Together)

    def share(self, counts: ChannelBitCounts) -> Tensor:
        """Cost of soft choices, as a share of the dense model's."""
        return (self.latency or soft_cost(self.name))(self.layers, counts) / self.soft_reference

    @torch.no_grad()
    def exact(self, network: SearchNetwork, channels: Tensor) -> float:
        counts = network.counts_at(channels)
        cost = float(self.cost(counts))
        # A maximum stays as it is where one of two equal peaks falls: what is smooth then tells moves apart.
        return cost * (1.0 + TIE * float(self.share(counts))) if self.has_peaks else cost

    def __str__(self) -> str:
        return f"{self.limit:,.0f} ({self.name})"


def _census(bits: Bits) -> dict[str, int]:
    """Bits -> number of channels, over all groups."""
    every = [value for values in bits.values() for value in values]
    return {str(value): every.count(value) for value in sorted(set(every))}
