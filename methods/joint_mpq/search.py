"""The searches of `joint-mpq`, and the plans that they give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

from torch import Tensor

from hdapbench.groups import GroupSet
from hdapbench.method import Plan, Problem
from hdapbench.prune.expand import expand_weights
from hdapbench.prune.surgery import apply_plan
from hdapbench.quant.graph.folded import FoldedModel
from hdapbench.quant.graph.unfold import unfold
from hdapbench.quant.training.assign import Bits, kept_channels, layer_bits
from hdapbench.quant.training.choices import RangeRule
from hdapbench.quant.training.discretize import discretize
from hdapbench.quant.training.searchable import SearchNetwork, SearchOptions

from .control import Controller
from .goal import Goal
from .prices import WATCHED_FOR, PriceControl
from .rivals import Rivals


@dataclass(frozen=True)
class Rules:
    """How a search goes.

    Attributes
    ----------
    logits
        ``prices`` or ``descent``.
    weight_range
        How weight steps are found.
    settle_at
        Share of the search after which bit-widths are fixed.
    learning_rate
        Of the logits in descent, by SGD with momentum.
    last_temperature
        Of the logits' softmax in the end.
    """

    logits: Literal["prices", "descent"]
    weight_range: RangeRule
    settle_at: float
    learning_rate: float = 0.01
    last_temperature: float = 0.01


PRESETS: Mapping[str, Rules] = {
    "ours": Rules("prices", "mse", settle_at=0.4),
    "paper": Rules("descent", "minmax", settle_at=1.0),
}
"""Ours, and the rules that arXiv 2407.01054 publishes on the same path."""


@dataclass(frozen=True)
class WarmUp:
    """Where searches under several limits begin: trained at the greatest bit-width, with gradients watched.

    Attributes
    ----------
    state
        Weights, biases and clips by name.
    losses
        As `PriceControl.losses` gives them.
    """

    state: dict[str, Tensor]
    losses: tuple[Tensor, ...]


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
    rules
        How it goes.
    removal_factor
        Of prices, what the estimated loss of removing a channel is multiplied by.
    warm_up
        Share of the epochs that searches under several limits have in common.
    n_plans
        Plans measured where latency is the target.
    """

    problem: Problem
    options: SearchOptions
    epochs: float
    rules: Rules
    removal_factor: float = 1.0
    warm_up: float = 0.0
    n_plans: int = 100

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

    def rivals(self) -> Rivals:
        """Choices of whole layers, under the same limit and with as much training."""
        return Rivals(self.problem, self._goal(), tuple(self.options.weight_bits), self.epochs)

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

    def _goal(self) -> Goal:
        return Goal.of(self.problem, n_plans=self.n_plans, least_channels=self.options.least_channels)

    def _search(self, folded: FoldedModel, goal: Goal, bits: tuple[int, ...]) -> tuple[SearchNetwork, Bits]:
        """Search under a limit; the network and the bits of each selector."""
        problem = self.problem
        begun = self._warmed_up(bits) if self.warm_up else None
        network = self._network(folded, bits)
        if begun is not None:
            network.load_state_dict(begun.state)
        epochs = (1.0 - self.warm_up) * self.epochs

        def find(limit: float) -> Bits:
            return discretize(network.selection, lambda channels: goal.exact(network, channels), limit)

        def settle() -> None:
            network.selection.settle(find(goal.limit) if goal.latency is None else goal.latency.held(find))

        n_steps = max(1, round(self.rules.settle_at * problem.training.n_steps(epochs)))
        asked, temperature = (network, goal.share, goal.target, settle), self.rules.last_temperature
        control: Controller | PriceControl
        if self.rules.logits == "prices":
            control = PriceControl(
                *asked,
                removal_factor=self.removal_factor,
                n_steps=n_steps,
                last_temperature=temperature,
                known=() if begun is None else begun.losses,
            )
        else:
            control = Controller(
                *asked, learning_rate=self.rules.learning_rate, n_steps=n_steps, last_temperature=temperature
            )
        problem.progress(f"searching bit-widths for {epochs:g} epochs")
        problem.train(network, epochs, regularize=control)
        if control.unsettled:  # a search of no steps
            settle()
        chosen = network.choices()
        problem.remember("cost_and_strength", control.trace)
        problem.remember("channels_at_bits", _census(chosen))
        return network, chosen

    def _network(self, folded: FoldedModel, bits: tuple[int, ...]) -> SearchNetwork:
        options = replace(self.options, weight_bits=bits)
        return SearchNetwork(folded, self.problem.quantization.calibrate(folded, options.activation_bits), options)

    def _warmed_up(self, bits: tuple[int, ...]) -> WarmUp:
        """The beginning that searches of this seed share, whatever their limit: trained by the first of them."""
        problem, epochs = self.problem, self.warm_up * self.epochs

        def train() -> WarmUp:
            network = self._network(problem.quantization.folded(), bits)
            watched = PriceControl(
                network,
                lambda _: network.selection.logits.sum(),  # no price is found as long as gradients are watched
                1.0,
                lambda: None,
                n_steps=ceil((problem.training.n_steps(epochs) + 1) / WATCHED_FOR),
                last_temperature=self.rules.last_temperature,
            )
            problem.progress(f"training at {max(bits)} bits for {epochs:g} epochs, once for all limits")
            problem.train(network, epochs, regularize=watched)
            state = {name: value.detach().clone() for name, value in network.state_dict().items()}
            return WarmUp(state, watched.losses())

        key = ("joint-mpq", bits, tuple(self.options.activation_bits), self.rules, epochs)
        return problem.training.shared(key, epochs, train)


def _census(bits: Bits) -> dict[str, int]:
    """Bits -> number of channels, over all groups."""
    every = [value for values in bits.values() for value in values]
    return {str(value): every.count(value) for value in sorted(set(every))}
