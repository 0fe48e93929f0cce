"""A plan's way to its numbers: Compacted -> Quantized -> FineTuned -> Measured, the same for every method.

Each step is one function from one frozen value to the next. No other module sees the test split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from hdapbench.bench.limit import Limit
from hdapbench.bench.measuring import Measurer, scoring_session
from hdapbench.bench.workbench import Workbench
from hdapbench.cost.hardware import hardware_cost
from hdapbench.cost.limits import LIMITED_BY
from hdapbench.cost.model import Costs
from hdapbench.data import DataSplits
from hdapbench.errors import PlanError, SurgeryError
from hdapbench.plan import Plan
from hdapbench.quant.deploy.integer import IntegerModel
from hdapbench.quant.deploy.report import deploy, describe_onnx
from hdapbench.run.stages import Compacted, FineTuned, LimitUse, Measured, OverLimit, PlanLatency, Quantized
from hdapbench.spec import TargetKind
from hdapbench.tasks.training import EpochReport
from hdapbench.trial import BitMetrics, DeviceLatency, Metrics

DEPLOY_BATCH = 100
"""Images per batch where whole numbers are computed with: windows are unfolded in memory."""


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

    def test_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of the test split, for whole-number networks."""
        return self.data.test.batches(DEPLOY_BATCH, shuffle_seed=None)


def evaluate(evaluation: Evaluation, plan: Plan) -> Measured | OverLimit:
    """Numbers of a plan, or why it is above its limit, which is found out before it is fine-tuned.

    Raises
    ------
    PlanError
        When the plan does not fit the model, or lacks the bit-widths that the limit asks for.
    SurgeryError
        When the compact model differs from the masked one, or its parameters from the closed form.
    """
    bench, limit = evaluation.bench, evaluation.limit
    groups = bench.network.group_set
    plan.check(groups.sizes, groups.removable)
    flops = int(costs_of(bench, plan).flops[0])
    if limit is not None and flops > limit.flops:
        return OverLimit(plan, f"the plan needs {flops:,} FLOPs, {flops / limit.flops - 1:.1%} above the target")
    quantized = quantize(bench, compact(bench, plan))
    use = use_of(limit, bench, quantized, seed=evaluation.seed)
    if use is not None and use.excess is not None:
        return OverLimit(plan, use.excess)
    if use is None and bench.fleet.plans is not None:
        measure_plan(bench.measurer, plan, seed=evaluation.seed)  # a recording that lacks it says so before fine-tuning
    return measure(evaluation, fine_tune(evaluation, quantized), use)


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


def fine_tune(evaluation: Evaluation, quantized: Quantized) -> FineTuned:
    """A network fine-tuned by the recipe and tested; its whole-number form is compared with it.

    A finished file is neither fine-tuned nor brought to whole numbers, the dense model is not fine-tuned.
    """
    trainer, network, test = evaluation.bench.trainer, quantized.trained, evaluation.data.test
    epochs = 0.0 if evaluation.limit is None or quantized.file is not None else float(trainer.recipe.epochs)
    before = scores = trainer.scores(quantized.tested, test, outcomes=not epochs)
    if epochs:
        trainer.fine_tune(network, epochs=epochs, seed=evaluation.seed, on_epoch=evaluation.on_epoch)
        scores = trainer.scores(network, test, outcomes=True)
    integer, bits = _deployed(evaluation, quantized)
    return FineTuned(quantized, before, scores, epochs, integer, bits)


def _deployed(evaluation: Evaluation, quantized: Quantized) -> tuple[IntegerModel | None, BitMetrics | None]:
    """Whole-number form, and costs of what is deployed."""
    fixed, folded, file, batches = quantized.fixed, quantized.folded, quantized.file, evaluation.test_batches()
    if file is not None:
        plan, model = quantized.compacted.plan, quantized.compacted.model
        folded = folded or evaluation.bench.quantizer.fold(model)
        return None, describe_onnx(file, model, folded, plan.weight_bits, batches)
    if fixed is None or folded is None:
        return None, None
    deployed = deploy(fixed, folded, batches)
    return deployed.model, deployed.metrics


def measure(evaluation: Evaluation, tuned: FineTuned, use: LimitUse | None = None) -> Measured:
    """A network's latency on the fleet, unless its limit asked for that before, and all its numbers."""
    quantized, compacted, bits = tuned.quantized, tuned.quantized.compacted, tuned.bits
    latency = use.latency if use is not None else None
    latency = latency or measure_plan(evaluation.bench.measurer, compacted.plan, seed=evaluation.seed)
    costs = compacted.costs
    metrics = Metrics(
        flops=int(costs.flops[0]),
        params=compacted.n_params,
        size_bytes=int(costs.parameter_bytes[0]) if bits is None else bits.packed_bytes,
        activation_bytes=int(costs.activation_bytes[0]),
        flops_target=None if evaluation.limit is None else evaluation.limit.flops,
        accuracy=tuned.scores.accuracy,
        map50=tuned.scores.map50,
        accuracy_before=tuned.before.accuracy,
        latency_ms=latency.mean_ms,
        latency_low_ms=latency.low_ms,
        latency_high_ms=latency.high_ms,
        p95_ms=latency.p95_ms,
        worst_cluster_ms=latency.worst_cluster_ms,
        latency_source=evaluation.bench.fleet.source,
        mask_difference=compacted.difference,
        fine_tune_epochs=tuned.epochs,
        bits=bits,
        target_share=None if use is None else use.share,
        target_shares={} if use is None else use.shares,
        product_flops=int(costs.product_flops[0]),
    )
    onnx = None if quantized.file is None else quantized.file.content
    outcomes = tuned.scores.outcomes
    return Measured(compacted.plan, metrics, latency.devices, quantized.trained, tuned.integer, onnx, outcomes)


def use_of(limit: Limit | None, bench: Workbench, quantized: Quantized, *, seed: int) -> LimitUse | None:
    """What a plan uses of a limit; None where FLOPs alone are limited, which are known from its widths.

    Raises
    ------
    PlanError
        When the plan has no bit-widths that the limit asks for.
    """
    if limit is None or limit.kinds == {"flops"}:
        return None
    uses = [_use_of(part, bench, quantized, seed=seed) for part in limit.parts]
    return LimitUse.joint({part.kind: use for part, use in zip(limit.parts, uses, strict=True)})


def _use_of(limit: Limit, bench: Workbench, quantized: Quantized, *, seed: int) -> LimitUse:
    """What a plan uses of one limit."""
    if limit.dense_ms is not None:
        latency = measure_plan(bench.measurer, quantized.compacted.plan, seed=seed)
        allowed_ms = limit.amount * limit.dense_ms
        excess = f"the fleet takes {latency.mean_ms:.4g} ms on average, above the target of {allowed_ms:.4g} ms"
        return LimitUse(latency.mean_ms / allowed_ms, excess if latency.mean_ms > allowed_ms else None, latency)
    if limit.kind == "flops":
        return LimitUse(int(quantized.compacted.costs.flops[0]) / limit.amount, None)  # known to hold
    used = bit_cost(quantized, limit.kind)
    excess = f"the plan needs {used:,.0f} ({limit.kind}), above the target of {limit.amount:,.0f}"
    return LimitUse(used / limit.amount, excess if used > limit.amount else None)


def bit_cost(quantized: Quantized, kind: TargetKind) -> float:
    """Exact cost of a network with bit-widths, in the unit of that kind of target: bytes stored, or cycles.

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
                device=clusters.fleet.device_ids[device],
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
