"""Stages of a plan's way to its numbers, as frozen values: Compacted -> Quantized -> FineTuned -> Measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

from hdapbench.cost.model import Costs
from hdapbench.plan import Plan
from hdapbench.quant.deploy.integer import IntegerModel
from hdapbench.quant.deploy.post_training import OnnxNetwork
from hdapbench.quant.graph.folded import FoldedModel
from hdapbench.quant.training.fixed import FixedNetwork
from hdapbench.tasks.task import Scores
from hdapbench.trial import BitMetrics, DeviceLatency, Metrics, Outcomes


@dataclass(frozen=True)
class PlanLatency:
    """What the fleet takes for one plan: average and its 95 % interval, tail, slowest cluster (all ms), raw repeats."""

    mean_ms: float
    low_ms: float
    high_ms: float
    p95_ms: float
    worst_cluster_ms: float
    devices: tuple[DeviceLatency, ...]


@dataclass(frozen=True)
class LimitUse:
    """What a plan uses of a limit on something else than FLOPs.

    Attributes
    ----------
    share
        Of what is allowed; the greatest where there are several limits.
    excess
        What is above the limit, by how much; None where it holds.
    latency
        The plan's, where that was measured.
    shares
        Kind of limit -> its share, where there are several.
    """

    share: float
    excess: str | None
    latency: PlanLatency | None = None
    shares: dict[str, float] = field(default_factory=dict)

    @classmethod
    def joint(cls, uses: Mapping[str, LimitUse]) -> LimitUse:
        """Uses of limits that hold at once, by kind, as one."""
        return cls(
            share=max(use.share for use in uses.values()),
            excess="; ".join(use.excess for use in uses.values() if use.excess is not None) or None,
            latency=next((use.latency for use in uses.values() if use.latency is not None), None),
            shares={kind: use.share for kind, use in uses.items()} if len(uses) > 1 else {},
        )


@dataclass(frozen=True)
class Compacted:
    """A plan's physically smaller float model, checked against the masked one.

    ``difference`` is their largest on the probe; ``costs`` are exact, of shape (1,).
    """

    plan: Plan
    model: nn.Module
    difference: float
    costs: Costs

    @property
    def n_params(self) -> int:
        """Number of parameters."""
        return int(self.costs.params[0])


@dataclass(frozen=True)
class Quantized:
    """The network that is trained and tested: the compact model, with bit-widths where the plan has them.

    Attributes
    ----------
    fixed, folded
        The fake-quantised network of a plan with bit-widths, and the float model that it was made of.
    file
        The finished file of a plan that brings one: it is tested as it stands.
    """

    compacted: Compacted
    fixed: FixedNetwork | None = None
    folded: FoldedModel | None = None
    file: OnnxNetwork | None = None

    @property
    def trained(self) -> nn.Module:
        """What is fine-tuned and stored."""
        return self.compacted.model if self.fixed is None or self.file is not None else self.fixed

    @property
    def tested(self) -> nn.Module:
        """What is tested."""
        return self.trained if self.file is None else self.file


@dataclass(frozen=True)
class FineTuned:
    """A network after fine-tuning, its scores before and after, and its whole-number form where it has bit-widths."""

    quantized: Quantized
    before: Scores
    scores: Scores
    epochs: float
    integer: IntegerModel | None = None
    bits: BitMetrics | None = None


@dataclass(frozen=True)
class Measured:
    """All that is known of a plan in the end: what is stored, and the networks behind it.

    Attributes
    ----------
    model
        The fine-tuned network.
    integer
        Its whole-number form, where it has bit-widths.
    onnx
        Content of the finished file of a plan that brings one.
    outcomes
        What each test image contributed to the accuracy.
    """

    plan: Plan
    metrics: Metrics
    devices: tuple[DeviceLatency, ...]
    model: nn.Module
    integer: IntegerModel | None = None
    onnx: bytes | None = None
    outcomes: Outcomes | None = None


@dataclass(frozen=True)
class OverLimit:
    """Why a plan is above its limit."""

    plan: Plan
    reason: str
