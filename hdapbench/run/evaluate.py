"""Plan + workbench -> compact model -> fine-tune -> accuracy, size, latency: the same for every method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hdapbench.bench.workbench import scoring_session
from hdapbench.errors import SurgeryError
from hdapbench.trial import DeviceLatency, Metrics

if TYPE_CHECKING:
    from torch import nn

    from hdapbench.bench.workbench import Workbench
    from hdapbench.plan import Plan
    from hdapbench.quant.deploy.integer import IntegerModel
    from hdapbench.tasks.training import EpochReport


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
class Evaluation:
    """What was measured of one plan, the raw latencies behind it, and the fine-tuned compact model.

    ``integer`` is the whole-number form of a plan with bit-widths, ``onnx`` the content of the file of a plan that
    brings one; otherwise they are None.
    """

    metrics: Metrics
    devices: tuple[DeviceLatency, ...]
    model: nn.Module
    integer: IntegerModel | None = None
    onnx: bytes | None = None


def measure_plan(bench: Workbench, plan: Plan, *, seed: int) -> PlanLatency:
    """What the fleet takes for a plan, in the session in which plans of this seed are judged."""
    widths = np.array([plan.widths(list(bench.network.cost.groups))], dtype=np.int64)
    clustered = bench.clustered_fleet()
    measured = bench.measure_clusters(widths, session=scoring_session(seed))
    estimate = clustered.average(measured.device_latency_ms, measured.devices)
    return PlanLatency(
        mean_ms=float(estimate.mean_ms[0]),
        low_ms=float(estimate.low_ms[0]),
        high_ms=float(estimate.high_ms[0]),
        p95_ms=float(clustered.percentile(measured.device_latency_ms, 95, measured.devices)[0]),
        worst_cluster_ms=float(measured.latency_ms[0].max()),
        devices=tuple(
            DeviceLatency(
                device=bench.fleet.device_ids[device],
                cluster=int(measured.clusters[place]),
                weight=float(clustered.design.weights[place]),
                samples_ms=tuple(float(sample) for sample in measured.samples_ms[place, 0]),
            )
            for place, device in enumerate(measured.devices)
        ),
    )


def evaluate_plan(
    bench: Workbench,
    plan: Plan,
    *,
    target_flops: int | None,
    seed: int,
    latency: PlanLatency | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
) -> Evaluation:
    """Evaluation of a plan: applied, checked, fine-tuned by the common recipe, tested, measured.

    A plan with bit-widths is quantised before it is fine-tuned, and brought to whole numbers after; its accuracy is
    that of the network that was trained, and the whole-number form's stands beside it. Of a plan with a finished file,
    that file is tested, and neither fine-tuned nor brought to whole numbers.

    The dense reference (``target_flops`` None) is not fine-tuned: it is the base model as it stands.

    Parameters
    ----------
    latency
        From `measure_plan`, where the plan was measured before.

    Raises
    ------
    PlanError
        When the plan does not fit the model.
    SurgeryError
        When the compact model differs from the masked one, or its parameters from the closed form.
    """
    model, difference = bench.apply(plan)
    costs = bench.network.cost.evaluate(np.array([plan.widths(list(bench.network.cost.groups))]))
    n_params = sum(parameter.numel() for parameter in model.parameters())
    if n_params != int(costs.params[0]):
        raise SurgeryError(f"the compact model has {n_params:,} parameters, the closed form {int(costs.params[0]):,}")

    file = bench.onnx_network(plan.file) if plan.file is not None else None
    quantized = bench.quantize(model, plan) if plan.weight_bits and file is None else None
    if quantized is not None:
        model = quantized[0]
    scores = before = bench.test_scores(file or model)
    epochs = 0.0 if target_flops is None or file is not None else float(bench.recipe.epochs)
    if epochs:
        bench.train(model, epochs=epochs, seed=seed, on_epoch=on_epoch)
        scores = bench.test_scores(model)

    deployed = bench.deploy(*quantized) if quantized is not None else None
    bits = None if deployed is None else deployed.metrics
    if file is not None:
        bits = bench.describe_onnx(file, model, plan)

    latency = latency or measure_plan(bench, plan, seed=seed)
    metrics = Metrics(
        flops=int(costs.flops[0]),
        params=n_params,
        size_bytes=int(costs.parameter_bytes[0]) if bits is None else bits.packed_bytes,
        activation_bytes=int(costs.activation_bytes[0]),
        flops_target=target_flops,
        accuracy=scores.accuracy,
        map50=scores.map50,
        accuracy_before=before.accuracy,
        latency_ms=latency.mean_ms,
        latency_low_ms=latency.low_ms,
        latency_high_ms=latency.high_ms,
        p95_ms=latency.p95_ms,
        worst_cluster_ms=latency.worst_cluster_ms,
        latency_source=bench.fleet.source,
        mask_difference=difference,
        fine_tune_epochs=epochs,
        bits=bits,
    )
    integer = None if deployed is None else deployed.model
    return Evaluation(metrics, latency.devices, model, integer, None if file is None else file.content)
