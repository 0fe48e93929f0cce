"""Joint pruning and mixed precision as one search over bit-widths, with its rivals as parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from hdapbench.cost.bits import BitLayers, Counts
from hdapbench.cost.hardware import LIMITED_BY, hardware_cost, reference_cost
from hdapbench.errors import TargetUnreachableError, UnknownLayerError
from hdapbench.method import Method, Plan, Problem
from hdapbench.prune.expand import expand_weights
from hdapbench.prune.groups import GroupSet
from hdapbench.prune.surgery import apply_plan
from hdapbench.quant.assign import Bits, kept_channels, layer_bits
from hdapbench.quant.discretize import discretize
from hdapbench.quant.folded import FoldedModel
from hdapbench.quant.ranges import RangeRule
from hdapbench.quant.searchable import SearchNetwork, SearchOptions
from hdapbench.quant.selection import Sampling
from hdapbench.quant.unfold import unfold
from hdapbench.spec import TargetKind
from methods.joint_mpq.control import Controller

Choose = Literal["joint", "channel", "layer", "fixed", "sequence"]


BIT_WIDTHS = r"^(2(,4)?(,8)?|4(,8)?|8)$"
"""Ascending choices of 2, 4 and 8."""


class JointMpq(Method):
    """Search a weight bit-width of 0 (pruned), 2, 4 or 8 per output channel, under a hardware cost, in one training.

    After arXiv 2407.01054, with weight steps of least error, costs that credit what pruning saves in consumers, and a
    strength of the cost that is steered to the target. ``choose`` makes the rivals on the same code path: ``channel``
    has no 0 bit, ``layer`` one bit-width per layer (EdMIPS-like), ``fixed`` the greatest single bit-width that fits and
    no search, ``sequence`` prunes first, fine-tunes, and then searches channel-wise.
    """

    name = "joint-mpq"
    targets: ClassVar[frozenset[TargetKind]] = frozenset({"flops", "size", "mpic", "ne16"})

    choose: Choose = Field(default="joint", description="joint, or a rival: channel, layer, fixed, sequence.")
    epochs: float | None = Field(
        default=None, ge=0.0, description="Training epochs of the search; null takes as many as the final fine-tuning."
    )
    sampling: Sampling = Field(default="softmax", description="softmax, hard (straight-through), gumbel, gumbel-hard.")
    weight_bits: str = Field(
        default="2,4,8",
        pattern=BIT_WIDTHS,
        description="Bit-widths besides 0, ascending; a text, for a list is a grid.",
    )
    activation_bits: str = Field(
        default="8", pattern=BIT_WIDTHS, description="Bit-widths of activations, ascending; NE16 has 8 alone."
    )
    weight_range: RangeRule = Field(default="mse", description="mse (least error) or minmax (as published).")
    learning_rate: float = Field(default=0.01, gt=0.0, description="Of the logits, by SGD with momentum.")
    last_temperature: float = Field(default=0.01, gt=0.0, le=1.0, description="Of the softmax when the search ends.")
    least_channels: int = Field(default=1, ge=1, description="Channels of a group that cannot be removed.")

    def skip(self, problem: Problem) -> str | None:
        """Say which node of the model has no integer counterpart, or why the cost does not apply."""
        try:
            layers = problem.folded().layers
            hardware_cost(LIMITED_BY[problem.limit[0]][0])(layers, layers.uniform_counts(8))
        except UnknownLayerError as error:
            return str(error)
        return None

    def compress(self, problem: Problem) -> Plan:
        """Plan of channels and bit-widths that meets the target, with the weights of the search."""
        goal = _Goal.of(problem)
        if self.choose == "fixed":
            return self._fixed(problem, goal)
        if self.choose == "sequence":
            return self._sequence(problem, goal)
        bits = (0, *_bits(self.weight_bits)) if self.choose == "joint" else _bits(self.weight_bits)
        network, chosen = self._search(problem, problem.folded(), goal, bits)
        return self._plan(problem, problem.folded(), network, chosen)

    def _search(
        self, problem: Problem, folded: FoldedModel, goal: _Goal, bits: tuple[int, ...]
    ) -> tuple[SearchNetwork, Bits]:
        """Search under a limit; the network and the bits of each selector."""
        activation_bits = _bits(self.activation_bits)
        options = SearchOptions(
            weight_bits=bits,
            activation_bits=activation_bits,
            rule=self.weight_range,
            sampling=self.sampling,
            granularity="layer" if self.choose == "layer" else "channel",
            least_channels=self.least_channels,
        )
        network = SearchNetwork(folded, problem.calibrate(folded, activation_bits), options)
        epochs = problem.fine_tune_epochs if self.epochs is None else self.epochs
        control = Controller(
            network,
            goal.share,
            goal.target,
            n_steps=problem.n_steps(epochs),
            learning_rate=self.learning_rate,
            last_temperature=self.last_temperature,
        )
        problem.progress(f"searching bit-widths for {epochs:g} epochs")
        problem.train(network, epochs, regularize=control.after_backward)
        chosen = discretize(network.selection, lambda channels: goal.exact(network, channels), goal.limit)
        problem.remember("cost_and_strength", control.trace)
        problem.remember("channels_at_bits", _census(chosen))
        return network, chosen

    def _plan(self, problem: Problem, folded: FoldedModel, network: SearchNetwork, chosen: Bits) -> Plan:
        """Plan of the bits found on the dense model, with the weights of the search."""
        activation = network.activation_choices()
        names = [quantizer.name for quantizer in folded.graph.quantizers]
        return Plan(
            kept=kept_channels(folded, chosen),
            weight_bits=layer_bits(folded, chosen),
            activation_bits=dict(zip(names, activation, strict=True)),
            weights=problem.keep_weights(unfold(problem.model(), network.float_model())),
        )

    def _fixed(self, problem: Problem, goal: _Goal) -> Plan:
        """The greatest single bit-width that meets the target."""
        folded = problem.folded()
        for bits in sorted(_bits(self.weight_bits), reverse=True):
            counts = folded.layers.uniform_counts(bits)
            if float(goal.cost(counts)) <= goal.limit:
                chosen = {selector.name: (bits,) * selector.n_channels for selector in folded.layers.selectors}
                return Plan(kept=kept_channels(folded, chosen), weight_bits=layer_bits(folded, chosen))
        raise TargetUnreachableError(
            f"at {min(_bits(self.weight_bits))} bits everywhere the cost exceeds the target of {goal}"
        )

    def _sequence(self, problem: Problem, goal: _Goal) -> Plan:
        """Prune at 8 bits, fine-tune, search bit-widths for what is left: two searches, and a fine-tuning more.

        The reduction is shared evenly, on a logarithmic scale, between pruning and bit-widths; at least what 2 bits
        everywhere cannot reach is pruned.
        """
        folded = problem.folded()
        least = float(goal.cost(folded.layers.uniform_counts(min(_bits(self.weight_bits))))) / goal.reference
        share = min(goal.target**0.5, goal.target / least)
        pruning, chosen = self._search(problem, folded, goal.at(share), (0, 8))
        groups, pruned = GroupSet(tuple(problem.groups.values())), Plan(kept=kept_channels(folded, chosen))
        searched = unfold(problem.model(), pruning.float_model())
        compact = apply_plan(searched, groups, pruned)
        epochs = problem.fine_tune_epochs if self.epochs is None else self.epochs
        problem.progress(f"fine-tuning the pruned model for {epochs:g} epochs")
        problem.train(compact, epochs)
        smaller = FoldedModel.of(compact, folded.input_shape, signed_input=folded.signed_input)
        network, left = self._search(problem, smaller, goal.on(smaller), _bits(self.weight_bits))
        names = [quantizer.name for quantizer in smaller.graph.quantizers]
        dense = expand_weights(searched, unfold(compact, network.float_model()), groups, pruned)
        return Plan(
            kept=pruned.kept,
            weight_bits=layer_bits(smaller, left),
            activation_bits=dict(zip(names, network.activation_choices(), strict=True)),
            weights=problem.keep_weights(dense),
        )


@dataclass(frozen=True)
class _Goal:
    """A target as a limit on a hardware cost.

    ``limit`` and ``reference``, the dense model's at 8 bits, are in units of the cost of that ``name``.
    """

    name: str
    layers: BitLayers
    limit: float
    reference: float

    @classmethod
    def of(cls, problem: Problem) -> _Goal:
        kind, amount = problem.limit
        name, factor = LIMITED_BY[kind]
        layers = problem.folded().layers
        return cls(name, layers, amount * factor, reference_cost(name, layers))

    def at(self, target: float) -> _Goal:
        """The same cost limited to another share of the reference."""
        return replace(self, limit=target * self.reference)

    def on(self, folded: FoldedModel) -> _Goal:
        """The same limit for another model."""
        return replace(self, layers=folded.layers)

    def cost(self, counts: Counts) -> Tensor:
        return hardware_cost(self.name)(self.layers, counts)

    @property
    def target(self) -> float:
        return self.limit / self.reference

    def share(self, counts: Counts) -> Tensor:
        return self.cost(counts) / self.reference

    @torch.no_grad()
    def exact(self, network: SearchNetwork, channels: Tensor) -> float:
        return float(self.cost(network.counts_at(channels)))

    def __str__(self) -> str:
        return f"{self.limit:,.0f} ({self.name})"


def _bits(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _census(bits: Bits) -> dict[str, int]:
    """Bits -> number of channels, over all groups."""
    every = [value for values in bits.values() for value in values]
    return {str(value): every.count(value) for value in sorted(set(every))}
