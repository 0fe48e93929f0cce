"""Joint pruning and mixed precision as one search over bit-widths, with its rivals as parameters."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from hdapbench.errors import ModelError
from hdapbench.method import Method, Plan, Problem
from hdapbench.spec import TargetKind

Choose = Literal["joint", "channel", "layer", "fixed", "sequence", "ilp", "sigma"]


BIT_WIDTHS = r"^(2(,4)?(,8)?|4(,8)?|8)$"
"""Ascending choices of 2, 4 and 8."""


class JointMpq(Method):
    """Search a weight bit-width of 0 (pruned), 2, 4 or 8 per output channel, under a hardware cost, in one training.

    Weight steps have the least error, costs credit what pruning saves in consumers, and the strength of the cost is
    steered to the target. ``choose`` makes the rivals on the same code path: ``channel`` has no 0 bit, ``layer`` one
    bit-width per layer (EdMIPS-like), ``fixed`` the greatest single bit-width that fits, ``sequence`` prunes first,
    fine-tunes, and then searches channel-wise. ``ilp`` solves an integer program over layers' measured sensitivities,
    ``sigma`` goes by the deviations of layers' weights and by what rounding does to their distribution (after
    SigmaQuant, arXiv 2602.22136). All of them train for as many epochs as the search, ``sequence`` for three times as
    many. ``preset: paper`` searches by the published rules on the same path: logits by gradient descent, steps by the
    largest weight, bit-widths settled in the end.

    With ``warm_up``, searches of one seed under several limits share that part of their epochs: it trains at the
    greatest bit-width and watches gradients, which no limit bears on. It is done once and charged to each of them.

    A fleet's latency models know no bit-widths: where latency is the target, ``n_plans`` measured plans price channels,
    those that stay take the greatest bit-width, and the choice is measured until the limit holds.

    Source: arXiv 2407.01054, in our form.
    Needs: a model whose every node has an integer counterpart; is charged for the training of its search, and, where
    latency is the target and thus seen, for device queries.
    Never sees: latency, accuracy.
    """

    name = "joint-mpq"
    targets: ClassVar[frozenset[TargetKind]] = frozenset({"flops", "size", "mpic", "ne16", "latency", "ram", "flash"})

    choose: Choose = Field(
        default="joint", description="joint, or a rival: channel, layer, fixed, sequence, ilp, sigma."
    )
    epochs: float | None = Field(
        default=None, ge=0.0, description="Training epochs of the search; null takes as many as the final fine-tuning."
    )
    weight_bits: str = Field(
        default="2,4,8",
        pattern=BIT_WIDTHS,
        description="Bit-widths besides 0, ascending; a text, for a list is a grid.",
    )
    activation_bits: str = Field(
        default="8", pattern=BIT_WIDTHS, description="Bit-widths of activations, ascending; NE16 has 8 alone."
    )
    least_channels: int = Field(default=1, ge=1, description="Channels of a group that cannot be removed.")
    # These came later: ids of trials without them stay what they were.
    n_plans: int = Field(
        default=100, ge=8, exclude_if=lambda value: value == 100, description="Plans measured under a latency target."
    )
    removal_factor: float = Field(
        default=1.0,
        gt=0.0,
        exclude_if=lambda value: value == 1.0,
        description="Times its estimate that removing a channel is taken to lose, of prices; more for short trainings.",
    )
    preset: Literal["ours", "paper"] = Field(
        default="ours",
        exclude_if=lambda value: value == "ours",
        description="Rules of the search: ours, or as published.",
    )
    warm_up: float = Field(
        default=0.0,
        ge=0.0,
        lt=1.0,
        exclude_if=lambda value: value == 0.0,
        description="Share of its epochs that a search has in common with those of the same seed under other limits.",
    )

    def skip(self, problem: Problem) -> str | None:
        """Say which node of the model has no integer counterpart, or why the cost does not apply."""
        from hdapbench.cost.hardware import hardware_cost

        try:
            layers = problem.quantization.folded().layers
            if "latency" in problem.limit.kinds and problem.limit.others:
                return "meets latency alone, not together with other limits"
            if problem.limit.kind == "latency":
                return None if self.choose == "joint" else "latency knows no bit-widths: choose: joint alone meets it"
            hardware_cost(problem.limit.cost[0])(layers, layers.uniform_counts(8))
        except ModelError as error:
            return str(error)
        return None

    def compress(self, problem: Problem) -> Plan:
        """Plan of channels and bit-widths that meets the target, with the weights of the search."""
        from hdapbench.quant.training.searchable import SearchOptions

        from .search import PRESETS, Searches

        bits, rules = _bits(self.weight_bits), PRESETS[self.preset]
        options = SearchOptions(
            weight_bits=bits,
            activation_bits=_bits(self.activation_bits),
            rule=rules.weight_range,
            granularity="layer" if self.choose == "layer" else "channel",
            least_channels=self.least_channels,
        )
        epochs = problem.training.fine_tune_epochs if self.epochs is None else self.epochs
        searches = Searches(
            problem,
            options,
            epochs,
            rules,
            removal_factor=self.removal_factor,
            warm_up=self.warm_up,
            n_plans=self.n_plans,
        )
        if self.choose == "sequence":
            return searches.in_sequence()
        if self.choose in {"fixed", "ilp", "sigma"}:
            rivals = searches.rivals()
            ways = {"fixed": rivals.fixed, "ilp": rivals.by_integer_programming, "sigma": rivals.by_deviations}
            return ways[self.choose]()
        return searches.at_once((0, *bits) if self.choose == "joint" else bits)

    @model_validator(mode="after")
    def _warm_up_fits(self) -> Self:
        searches = self.preset == "ours" and self.choose in {"joint", "channel", "layer"}
        if self.warm_up and not searches:
            raise ValueError("warm_up is for preset: ours with choose: joint, channel or layer; leave it out")
        return self


def _bits(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))
