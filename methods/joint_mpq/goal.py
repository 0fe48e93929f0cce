"""A target as a limit on a hardware cost: exact, and as a share that a search follows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hdapbench.cost.bits import BitLayers, ChannelBitCounts
from hdapbench.cost.hardware import hardware_cost, reference_cost, soft_cost
from hdapbench.cost.limits import CostName, Together
from hdapbench.method import Problem
from hdapbench.quant.graph.folded import FoldedModel
from hdapbench.quant.training.searchable import SearchNetwork

from .latency import FleetLatency

TIE = 1e-7
"""Share of a maximum by which its smooth form tells equal ones apart."""


@dataclass(frozen=True)
class Goal:
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
    def of(cls, problem: Problem, *, n_plans: int, least_channels: int) -> Goal:
        """The target of a problem; of a fleet's latency, plans are measured."""
        kind, amount = problem.limit.kind, problem.limit.amount
        layers = problem.quantization.folded().layers
        if kind == "latency":
            latency = FleetLatency.fitted(problem, n_plans=n_plans, least_channels=least_channels)
            return cls(kind, layers, amount, 1.0, 1.0, latency)
        name, most = problem.limit.cost
        return cls(name, layers, most, reference_cost(name, layers), reference_cost(name, layers, soft=True))

    def at(self, target: float) -> Goal:
        """The same cost limited to another share of the reference."""
        return replace(self, limit=target * self.reference)

    def on(self, folded: FoldedModel) -> Goal:
        """The same limit for another model."""
        return replace(self, layers=folded.layers)

    def cost(self, counts: ChannelBitCounts) -> Tensor:
        """Exact cost, in the unit of the limit."""
        return (self.latency or hardware_cost(self.name))(self.layers, counts)

    @torch.no_grad()
    def cost_of_layers(self, column: Tensor, weight_bits: tuple[int, ...]) -> float:
        """Exact cost where all channels of a selector have one bit-width.

        Parameters
        ----------
        column : Tensor of int64, shape (n_selectors,)
            Position of each selector's bit-width in ``weight_bits``.
        """
        sizes = torch.tensor([float(selector.n_channels) for selector in self.layers.selectors])
        channels = torch.zeros(len(sizes), len(weight_bits), dtype=torch.float64)
        channels[torch.arange(len(sizes)), column] = sizes.double()
        return float(self.cost(self.layers.counts(channels, weight_bits)))

    @property
    def target(self) -> float:
        """The limit as a share of the reference."""
        return self.limit / self.reference

    def share(self, counts: ChannelBitCounts) -> Tensor:
        """Cost of soft choices, as a share of the dense model's."""
        return (self.latency or soft_cost(self.name))(self.layers, counts) / self.soft_reference

    @torch.no_grad()
    def exact(self, network: SearchNetwork, channels: Tensor) -> float:
        """Exact cost of so many channels of each selector at each bit-width.

        A maximum stays as it is where one of two equal peaks falls: what is smooth then tells moves apart.
        """
        counts = network.counts_at(channels)
        cost = float(self.cost(counts))
        return cost * (1.0 + TIE * float(self.share(counts))) if self.has_peaks else cost

    @property
    def has_peaks(self) -> bool:
        """Whether the cost is a maximum."""
        return self.name == "ram" or isinstance(self.name, Together)

    def __str__(self) -> str:
        return f"{self.limit:,.0f} ({self.name})"
