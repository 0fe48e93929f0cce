"""A plan's way to its numbers: Compacted -> Quantized -> FineTuned -> Measured, the same for every method.

Each step is one function from one frozen value to the next. No other module sees the test split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from hdapbench.bench.limit import Limit
from hdapbench.bench.measuring import Measurer, scoring_session
from hdapbench.bench.workbench import Workbench
from hdapbench.cost.hardware import LIMITED_BY, hardware_cost
from hdapbench.cost.model import Costs
from hdapbench.data import DataSplits
from hdapbench.errors import PlanError, SurgeryError
from hdapbench.plan import Plan
from hdapbench.quant.deploy.integer import IntegerModel
from hdapbench.quant.deploy.post_training import OnnxNetwork
from hdapbench.quant.deploy.report import deploy, describe_onnx
from hdapbench.quant.graph.folded import FoldedModel
from hdapbench.quant.training.fixed import FixedNetwork
from hdapbench.spec import TargetKind
from hdapbench.tasks.task import Scores
from hdapbench.tasks.training import EpochReport
from hdapbench.trial import BitMetrics, DeviceLatency, Metrics

DEPLOY_BATCH = 100
"""Images per batch where whole numbers are computed with: windows are unfolded in memory."""


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
        Of what is allowed.
    excess
        What is above the limit, by how much; None where it holds.
    latency
        The plan's, where that was measured.
    """

    share: float
    excess: str | None
    latency: PlanLatency | None = None


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
    """

    plan: Plan
    metrics: Metrics
    devices: tuple[DeviceLatency, ...]
    model: nn.Module
    integer: IntegerModel | None = None
    onnx: bytes | None = None


@dataclass(frozen=True)
class OverLimit:
    """Why a plan is above its limit."""

    plan: Plan
    reason: str


@dataclass(frozen=True)
class Evaluation:
    """How the plans of one trial are evaluated.

    Attributes
    ----------
    bench
        What the trial works with.
    data
        Its data, of which the test split is judged on.
    limit
        What plans must not exceed; None for the dense model, which is not fine-tuned either.
    seed
        Of fine-tuning and of the measuring session.
    on_epoch
        Called after every epoch of fine-tuning.
    """

    bench: Workbench
    data: DataSplits
    limit: Limit | None
    seed: int
    on_epoch: Callable[[EpochReport], None] | None = None

    def carry_out(self, plan: Plan) -> Measured | OverLimit:
        """Numbers of a plan, or why it is above the limit, which is found out before it is fine-tuned.

        Raises
        ------
        PlanError
            When the plan does not fit the model, or lacks the bit-widths that the limit asks for.
        SurgeryError
            When the compact model differs from the masked one, or its parameters from the closed form.
        """
        plan.check(self.bench.network.group_set.sizes)
        flops = int(costs_of(self.bench, plan).flops[0])
        if self.limit is not None and flops > self.limit.flops:
            over = flops / self.limit.flops - 1
            return OverLimit(plan, f"the plan needs {flops:,} FLOPs, {over:.1%} above the target")
        quantized = quantize(self.bench, compact(self.bench, plan))
        use = use_of(self.limit, self.bench, quantized, seed=self.seed)
        if use is not None and use.excess is not None:
            return OverLimit(plan, use.excess)
        return self.measure(self.fine_tune(quantized), use)

    def fine_tune(self, quantized: Quantized) -> FineTuned:
        """A network fine-tuned by the recipe and tested; its whole-number form is compared with it.

        A finished file is neither fine-tuned nor brought to whole numbers, the dense model is not fine-tuned.
        """
        trainer, network, test = self.bench.trainer, quantized.trained, self.data.test
        before = scores = trainer.scores(quantized.tested, test)
        epochs = 0.0 if self.limit is None or quantized.file is not None else float(trainer.recipe.epochs)
        if epochs:
            trainer.fine_tune(network, epochs=epochs, seed=self.seed, on_epoch=self.on_epoch)
            scores = trainer.scores(network, test)
        integer, bits = self._deployed(quantized)
        return FineTuned(quantized, before, scores, epochs, integer, bits)

    def _deployed(self, quantized: Quantized) -> tuple[IntegerModel | None, BitMetrics | None]:
        """Whole-number form, and costs of what is deployed."""
        plan, model = quantized.compacted.plan, quantized.compacted.model
        if quantized.file is not None:
            folded = quantized.folded or self.bench.quantizer.fold(model)
            return None, describe_onnx(quantized.file, model, folded, plan.weight_bits, self._test_batches())
        if quantized.fixed is None or quantized.folded is None:
            return None, None
        deployed = deploy(quantized.fixed, quantized.folded, self._test_batches())
        return deployed.model, deployed.metrics

    def _test_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.data.test.batches(DEPLOY_BATCH, shuffle_seed=None)

    def measure(self, tuned: FineTuned, use: LimitUse | None = None) -> Measured:
        """A network's latency on the fleet, unless its limit asked for that before, and all its numbers."""
        quantized, compacted, bits = tuned.quantized, tuned.quantized.compacted, tuned.bits
        latency = use.latency if use is not None else None
        latency = latency or measure_plan(self.bench.measurer, compacted.plan, seed=self.seed)
        costs = compacted.costs
        metrics = Metrics(
            flops=int(costs.flops[0]),
            params=compacted.n_params,
            size_bytes=int(costs.parameter_bytes[0]) if bits is None else bits.packed_bytes,
            activation_bytes=int(costs.activation_bytes[0]),
            flops_target=None if self.limit is None else self.limit.flops,
            accuracy=tuned.scores.accuracy,
            map50=tuned.scores.map50,
            accuracy_before=tuned.before.accuracy,
            latency_ms=latency.mean_ms,
            latency_low_ms=latency.low_ms,
            latency_high_ms=latency.high_ms,
            p95_ms=latency.p95_ms,
            worst_cluster_ms=latency.worst_cluster_ms,
            latency_source=self.bench.fleet.source,
            mask_difference=compacted.difference,
            fine_tune_epochs=tuned.epochs,
            bits=bits,
            target_share=None if use is None else use.share,
        )
        onnx = None if quantized.file is None else quantized.file.content
        return Measured(compacted.plan, metrics, latency.devices, quantized.trained, tuned.integer, onnx)


def compact(bench: Workbench, plan: Plan) -> Compacted:
    """A plan applied to the dense model and checked against the masked model and the closed forms.

    Raises
    ------
    PlanError
        When the plan does not fit the model.
    SurgeryError
        When the compact model differs from the masked one, or its parameters from the closed form.
    """
    model, difference = bench.compactor.apply(plan)
    compacted = Compacted(plan, model, difference, costs_of(bench, plan))
    n_params = sum(parameter.numel() for parameter in model.parameters())
    if n_params != compacted.n_params:
        raise SurgeryError(f"the compact model has {n_params:,} parameters, the closed form {compacted.n_params:,}")
    return compacted


def quantize(bench: Workbench, compacted: Compacted) -> Quantized:
    """A compact model with the plan's bit-widths, or the plan's finished file, or as it is.

    Raises
    ------
    PlanError
        When the bit-widths do not fit the model.
    UnknownLayerError
        Naming every node that has no integer counterpart.
    """
    plan = compacted.plan
    file = bench.quantizer.onnx_network(plan.file) if plan.file is not None else None
    if not plan.weight_bits:
        return Quantized(compacted, file=file)
    return Quantized(compacted, *bench.quantizer.quantize(compacted.model, plan), file=file)


def use_of(limit: Limit | None, bench: Workbench, quantized: Quantized, *, seed: int) -> LimitUse | None:
    """What a plan uses of a limit; None where FLOPs are limited, which are known from its widths.

    Raises
    ------
    PlanError
        When the plan has no bit-widths that the limit asks for.
    """
    if limit is None or limit.kind == "flops":
        return None
    if limit.dense_ms is not None:
        latency = measure_plan(bench.measurer, quantized.compacted.plan, seed=seed)
        allowed_ms = limit.amount * limit.dense_ms
        excess = f"the fleet takes {latency.mean_ms:.4g} ms on average, above the target of {allowed_ms:.4g} ms"
        return LimitUse(latency.mean_ms / allowed_ms, excess if latency.mean_ms > allowed_ms else None, latency)
    used = bit_cost(quantized, limit.kind)
    excess = f"the plan needs {used:,.0f} ({limit.kind}), above the target of {limit.amount:,.0f}"
    return LimitUse(used / limit.amount, excess if used > limit.amount else None)


def bit_cost(quantized: Quantized, kind: TargetKind) -> float:
    """Exact cost of a network with bit-widths, in the unit of that kind of target: bytes of weights, or cycles.

    Raises
    ------
    PlanError
        When the plan has no bit-widths.
    """
    fixed, folded = quantized.fixed, quantized.folded
    if fixed is None or folded is None:
        raise PlanError(f"a {kind} target asks for bit-widths, and the plan has none (Plan.weight_bits)")
    inputs = {name: fixed.activation_bits[place] for name, place in fixed.graph.input_quantizers.items()}
    name, factor = LIMITED_BY[kind]
    counts = folded.layers.counts_of_layers(quantized.compacted.plan.weight_bits, inputs)
    return float(hardware_cost(name)(folded.layers, counts)) / factor


def measure_plan(measurer: Measurer, plan: Plan, *, seed: int) -> PlanLatency:
    """What the fleet takes for a plan, in the session in which plans of this seed are judged."""
    widths = np.array([plan.widths(list(measurer.network.cost.groups))], dtype=np.int64)
    clusters = measurer.clusters
    measured = measurer.on_clusters(widths, session=scoring_session(seed))
    estimate = clusters.average(measured.device_latency_ms, measured.devices)
    return PlanLatency(
        mean_ms=float(estimate.mean_ms[0]),
        low_ms=float(estimate.low_ms[0]),
        high_ms=float(estimate.high_ms[0]),
        p95_ms=float(clusters.percentile(measured.device_latency_ms, 95, measured.devices)[0]),
        worst_cluster_ms=float(measured.latency_ms[0].max()),
        devices=tuple(
            DeviceLatency(
                device=measurer.fleet.device_ids[device],
                cluster=int(measured.clusters[place]),
                weight=float(clusters.design.weights[place]),
                samples_ms=tuple(float(sample) for sample in measured.samples_ms[place, 0]),
            )
            for place, device in enumerate(measured.devices)
        ),
    )


def costs_of(bench: Workbench, plan: Plan) -> Costs:
    """Exact costs of a plan, of shape (1,)."""
    cost = bench.network.cost
    return cost.evaluate(np.array([plan.widths(list(cost.groups))]))
