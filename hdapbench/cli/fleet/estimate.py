"""``hdapbench fleet estimate``: a model's average over the fleet from few measured devices, with its interval."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hdapbench.cli.fleet import source
from hdapbench.cli.options import DEFAULT_WORKSPACE, add_trust_option, seed_number, whole_number
from hdapbench.errors import printable

if TYPE_CHECKING:
    from hdapbench.cli.fleet.source import Source
    from hdapbench.cost.kernels import KernelModel
    from hdapbench.fleet.base import Workloads
    from hdapbench.fleet.estimate.clustered import ClusteredFleet
    from hdapbench.fleet.fingerprint import Fingerprint

CURVE_NUMBERS = (2, 4, 8, 16, 32, 64)


def add_parser(actions: Any) -> None:
    """Add the action to the parser."""
    parser = actions.add_parser("estimate", help="estimate a model's average over the fleet", description=__doc__)
    source.add_fleet_argument(parser, what="a fingerprint, or a recording (.csv, .parquet)")
    source.add_clustering_options(parser)
    parser.add_argument(
        "--share",
        type=float,
        nargs="+",
        default=[1.0, 0.5, 0.25],
        metavar="S",
        help="shares of the channels that every group keeps (default: 1.0 0.5 0.25)",
    )
    parser.add_argument("--plan", nargs="+", default=None, metavar="NAME", help="recorded plans (default: all)")
    parser.add_argument("--trial", metavar="ID", help="the plan of a finished trial instead of shares")
    parser.add_argument("--workspace", type=Path, default=DEFAULT_WORKSPACE, metavar="DIR", help="of --trial")
    parser.add_argument("--runs", type=whole_number, default=None, metavar="N", help="repeats per measurement")
    parser.add_argument(
        "--session", type=seed_number, default=500, metavar="N", help="measuring session (default: %(default)s)"
    )
    source.add_output_options(parser, plot="the first estimate against the number of measured devices")
    add_trust_option(parser)
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure the design's devices and print estimates, beside the truth where it is known."""
    from hdapbench.fleet.estimate.choice import choose_estimator
    from hdapbench.fleet.estimate.clustered import cluster_fleet
    from hdapbench.fleet.statistics import conditional_value_at_risk, weighted_percentile

    found = source.open_source(arguments)
    fingerprint = source.need_fingerprint(found, arguments.file)
    how = source.clustering_spec(arguments, found.spec)
    clustered = cluster_fleet(found.fleet, fingerprint.latency_ms, how, seed=0)
    workloads = _workloads(found, fingerprint, arguments)
    runs = found.spec.runs if arguments.runs is None else arguments.runs
    measured = clustered.measure_clusters(workloads, runs=runs, seed=arguments.session)
    estimates = clustered.average(measured.device_latency_ms, measured.devices)
    devices = clustered.device_latency(measured.device_latency_ms, measured.devices)
    truth = found.fleet.mean_latency_ms(workloads)
    content = {
        "fleet": found.fleet.name,
        "source": found.fleet.source,
        "n_devices": found.fleet.n_devices,
        "n_clusters": clustered.n_clusters,
        "n_measured": clustered.n_measured,
        "device_queries": clustered.n_measured * len(workloads),
        "estimator": clustered.estimator,
        "reason": choose_estimator(clustered.n_measured).reason if how.estimator == "auto" else "asked for",
        "estimates": [
            {
                "workload": name,
                "mean_ms": float(estimates.mean_ms[row]),
                "low_ms": float(estimates.low_ms[row]),
                "high_ms": float(estimates.high_ms[row]),
                "p95_ms": float(weighted_percentile(devices[row][:, None], 95, found.fleet.weights)[0]),
                "cvar95_ms": float(conditional_value_at_risk(devices[row][:, None], 0.95, found.fleet.weights)[0]),
                "true_ms": None if truth is None or np.isnan(truth[row]) else float(truth[row]),
            }
            for row, name in enumerate(workloads.ids)
        ],
    }
    if arguments.plot is not None:
        _plot(arguments, clustered, workloads, truth, runs=runs)
    print(json.dumps(content, indent=2) if arguments.json else _text(content))
    return 0


def _workloads(found: Source, fingerprint: Fingerprint, arguments: argparse.Namespace) -> Workloads:
    """What is measured: recorded plans, a trial's plan, or the fingerprint's model at some shares of its channels."""
    from hdapbench.errors import FleetError
    from hdapbench.fleet.base import Workloads

    if found.fleet.plans is not None:
        names = arguments.plan or [plan for plan in found.fleet.plans if plan not in fingerprint.probes]
        return Workloads.named(names or fingerprint.probes)
    kernels = source.remembered_kernels(fingerprint, arguments.file)
    model = fingerprint.conditions["model_spec"]["name"]
    variants = source.remembered_variants(fingerprint, found.fleet, arguments)
    if arguments.trial is not None:
        return Workloads(kernels, _trial_widths(arguments, kernels)[None], (arguments.trial,), variants)
    if not all(0 < share <= 1 for share in arguments.share):
        raise FleetError(f"--share {' '.join(map(str, arguments.share))}: shares are above 0 and at most 1")
    shares = np.array(arguments.share)[:, None]
    widths = np.maximum(np.rint(kernels.sizes * shares), 1).astype(np.int64)
    return Workloads(kernels, widths, tuple(f"{model} at {share:g}" for share in arguments.share), variants)


def _trial_widths(arguments: argparse.Namespace, kernels: KernelModel) -> np.ndarray[Any, Any]:
    """Widths of a trial's plan in the order of the model's groups."""
    from hdapbench.cli.options import existing_database
    from hdapbench.errors import FleetError
    from hdapbench.store.sqlite import open_store

    with open_store(existing_database(arguments.workspace)) as store:
        plan = store.get(arguments.trial).plan
    if plan is None or set(plan.kept) != set(kernels.groups):
        raise FleetError(f"trial {arguments.trial} has no plan of the fingerprint's model")
    return np.array(plan.widths(list(kernels.groups)), dtype=np.int64)


def _plot(
    arguments: argparse.Namespace,
    clustered: ClusteredFleet,
    workloads: Workloads,
    truth: np.ndarray[Any, Any] | None,
    *,
    runs: int,
) -> None:
    from dataclasses import replace

    from hdapbench.fleet.estimate.clustering import cluster_devices
    from hdapbench.render.picture import Curve, estimate_curves

    first = replace(workloads, widths=workloads.widths[:1], ids=workloads.ids[:1])
    curves = []
    for estimator in dict.fromkeys((clustered.estimator, "random")):
        rows = []
        for n in [n for n in CURVE_NUMBERS if n <= clustered.fleet.n_devices] or [1]:
            found = cluster_devices(clustered.fingerprint_ms, n_clusters=n, weights=clustered.fleet.weights, seed=0)
            here = replace(clustered, clustering=found, estimator=estimator, n_representatives=1)
            measured = here.measure_clusters(first, runs=runs, seed=arguments.session)
            estimate = here.average(measured.device_latency_ms, measured.devices)
            rows.append(
                (here.n_measured, *(float(v[0]) for v in (estimate.mean_ms, estimate.low_ms, estimate.high_ms)))
            )
        curves.append(Curve(estimator, *zip(*rows, strict=True)))
    title = (
        f"{first.ids[0]} on {clustered.fleet.name}: average of {clustered.fleet.n_devices:,} devices, 95 % intervals"
    )
    known = None if truth is None or np.isnan(truth[0]) else float(truth[0])
    source.write_plot(arguments.plot, estimate_curves(curves, truth_ms=known, title=title), title=title)


def _text(content: dict[str, Any]) -> str:
    width = max(len(row["workload"]) for row in content["estimates"])
    head = f"{content['fleet']} ({content['source']}): {content['n_measured']} of {content['n_devices']:,} devices"
    lines = [
        f"{head} measured, {content['device_queries']} device queries",
        f"estimator {content['estimator']}: {content['reason']}",
        f"{'':{width}}  {'average':>10} {'95 % interval':>22} {'p95':>9} {'cvar95':>9}  true average",
    ]
    for row in content["estimates"]:
        true = "not known"
        if row["true_ms"] is not None:
            true = f"{row['true_ms']:.4g} ms (estimate {row['mean_ms'] / row['true_ms'] - 1:+.2%})"
        interval = f"{row['low_ms']:.4g} to {row['high_ms']:.4g}"
        lines.append(
            f"{row['workload']:{width}}  {row['mean_ms']:7.4g} ms {interval:>22} {row['p95_ms']:9.4g} "
            f"{row['cvar95_ms']:9.4g}  {true}"
        )
    return "\n".join(map(printable, lines))
