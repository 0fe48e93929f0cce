"""``hdapbench fleet estimate``: a model's average over the fleet from few measured devices, with its interval."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hdapbench.cli.fleet import source
from hdapbench.cli.options import add_workspace_options, seed_number, whole_number
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
    add_workspace_options(parser)
    parser.add_argument(
        "--runs",
        type=whole_number,
        default=None,
        metavar="N",
        help="repeats per measurement (default: the fleet's; of a recording all samples)",
    )
    parser.add_argument(
        "--session", type=seed_number, default=500, metavar="N", help="measuring session (default: %(default)s)"
    )
    source.add_output_options(parser, plot="the first estimate against the number of measured devices")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure the design's devices and print estimates, beside the truth where it is known."""
    from hdapbench.fleet.estimate.choice import choose_estimator

    found = source.open_source(arguments)
    fingerprint = source.need_fingerprint(found, arguments.file)
    how = source.clustering_spec(arguments, found.spec)
    workloads = _workloads(found, fingerprint, arguments)
    groups, order = list(_groups(found, fingerprint, how, workloads, arguments.runs)), workloads.ids
    first = groups[0].clustered
    content = {
        "fleet": found.fleet.name,
        "source": found.fleet.source,
        "n_devices": found.fleet.n_devices,
        "n_clusters": first.n_clusters,
        "n_measured": max(group.clustered.n_measured for group in groups),
        "device_queries": sum(group.clustered.n_measured * len(group.workloads) for group in groups),
        "estimator": first.design.estimator,
        "reason": choose_estimator(first.n_measured).reason if how.estimator == "auto" else "asked for",
        "estimates": sorted(
            (row for group in groups for row in _estimates(found, group, arguments)),
            key=lambda row: order.index(row["workload"]),
        ),
    }
    if arguments.plot is not None:
        _plot(arguments, groups[0], found.fleet.mean_latency_ms(groups[0].workloads))
    print(json.dumps(content, indent=2) if arguments.json else _text(content))
    return 0


@dataclass(frozen=True)
class Group:
    """Workloads that are estimated with the same probes from the same devices, with so many repeats."""

    clustered: ClusteredFleet
    workloads: Workloads
    probes: tuple[str, ...]
    runs: int


def _groups(
    found: Source, fingerprint: Fingerprint, how: Any, workloads: Workloads, runs: int | None
) -> Iterator[Group]:
    """What is estimated: no recorded plan is a probe of itself, and one that few devices have comes from all these."""
    from hdapbench.fleet.base import Workloads
    from hdapbench.fleet.estimate.clustered import cluster_fleet
    from hdapbench.fleet.recorded.fleet import RecordedFleet

    fleet = found.fleet
    if not isinstance(fleet, RecordedFleet):
        clustered = cluster_fleet(fleet, fingerprint.latency_ms, how, seed=0)
        yield Group(clustered, workloads, fingerprint.probes, runs or found.spec.runs)
        return
    alike: dict[tuple[str | None, tuple[int, ...] | None], list[str]] = {}
    for plan in workloads.ids:
        left_out = plan if plan in fingerprint.probes else None
        alike.setdefault((left_out, fleet.devices_of(plan)), []).append(plan)
    for (left_out, given), plans in alike.items():
        others = fingerprint if left_out is None else fingerprint.without(left_out)
        clustered = replace(cluster_fleet(fleet, others.latency_ms, how, seed=0), given=given)
        yield Group(clustered, Workloads.named(plans), others.probes, runs or fleet.most_samples(plans))


def _estimates(found: Source, group: Group, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Estimates of a group's workloads as plain values."""
    from hdapbench.fleet.statistics import conditional_value_at_risk, weighted_percentile

    clustered, weights = group.clustered, found.fleet.weights
    measured = clustered.measure_clusters(group.workloads, runs=group.runs, seed=arguments.session)
    estimates = clustered.average(measured.device_latency_ms, measured.devices, measured.noise)
    devices = clustered.device_latency(measured.device_latency_ms, measured.devices)
    truth = found.fleet.mean_latency_ms(group.workloads)
    for row, name in enumerate(group.workloads.ids):
        yield {
            "workload": name,
            "n_measured": clustered.n_measured,
            "mean_ms": float(estimates.mean_ms[row]),
            "low_ms": float(estimates.low_ms[row]),
            "high_ms": float(estimates.high_ms[row]),
            "p95_ms": float(weighted_percentile(devices[row][:, None], 95, weights)[0]),
            "cvar95_ms": float(conditional_value_at_risk(devices[row][:, None], 0.95, weights)[0]),
            "true_ms": None if truth is None or np.isnan(truth[row]) else float(truth[row]),
            "noise_known": measured.noise is None or bool(measured.noise.known[row]),
            "own_probe": name in group.probes,
        }


def _workloads(found: Source, fingerprint: Fingerprint, arguments: argparse.Namespace) -> Workloads:
    """What is measured: recorded plans, a trial's plan, or the fingerprint's model at some shares of its channels."""
    from hdapbench.errors import FleetError
    from hdapbench.fleet.base import Workloads

    if found.fleet.plans is not None:
        return Workloads.named(arguments.plan or _default_plans(found, fingerprint))
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


def _default_plans(found: Source, fingerprint: Fingerprint) -> list[str]:
    """All recorded plans; where the user named the probes, those that are none of them, if there are any."""
    from hdapbench.spec import RecordedFleetSpec

    plans = list(found.fleet.plans or ())
    others = [plan for plan in plans if plan not in fingerprint.probes]
    named = isinstance(found.spec, RecordedFleetSpec) and found.spec.probes
    return others if others and named else plans


def _trial_widths(arguments: argparse.Namespace, kernels: KernelModel) -> np.ndarray[Any, Any]:
    """Widths of a trial's plan in the order of the model's groups."""
    from hdapbench.cli.options import existing_database, workspace_of
    from hdapbench.errors import FleetError
    from hdapbench.store.sqlite import open_store

    with open_store(existing_database(workspace_of(arguments))) as store:
        plan = store.get(arguments.trial).plan
    if plan is None or set(plan.kept) != set(kernels.groups):
        raise FleetError(f"trial {arguments.trial} has no plan of the fingerprint's model")
    return np.array(plan.widths(list(kernels.groups)), dtype=np.int64)


def _plot(arguments: argparse.Namespace, group: Group, truth: np.ndarray[Any, Any] | None) -> None:
    from hdapbench.fleet.estimate.clustering import cluster_devices
    from hdapbench.render.picture import Curve, estimate_curves

    clustered, workloads = group.clustered, group.workloads
    first = replace(workloads, widths=workloads.widths[:1], ids=workloads.ids[:1])
    curves = []
    for estimator in dict.fromkeys((clustered.estimator, "random")):
        rows = []
        for n in [n for n in CURVE_NUMBERS if n <= clustered.fleet.n_devices] or [1]:
            found = cluster_devices(clustered.fingerprint_ms, n_clusters=n, weights=clustered.fleet.weights, seed=0)
            here = replace(clustered, clustering=found, estimator=estimator, n_representatives=1)
            measured = here.measure_clusters(first, runs=group.runs, seed=arguments.session)
            estimate = here.average(measured.device_latency_ms, measured.devices, measured.noise)
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
    known = "average of all" if content["source"] == "measured" else "true average"
    lines = [
        f"{head} measured, {content['device_queries']} device queries",
        f"estimator {content['estimator']}: {content['reason']}",
        f"{'':{width}}  devices {'average':>10} {'95 % interval':>22} {'p95':>9} {'cvar95':>9}  {known}",
    ]
    for row in content["estimates"]:
        true = "not known"
        if row["true_ms"] is not None:
            true = f"{row['true_ms']:.4g} ms (estimate {row['mean_ms'] / row['true_ms'] - 1:+.2%})"
        interval = f"{row['low_ms']:.4g} to {row['high_ms']:.4g}"
        lines.append(
            f"{row['workload']:{width}}  {row['n_measured']:>7,} {row['mean_ms']:7.4g} ms {interval:>22} "
            f"{row['p95_ms']:9.4g} {row['cvar95_ms']:9.4g}  {true}"
        )
    unknown = [row["workload"] for row in content["estimates"] if not row["noise_known"]]
    if unknown:
        lines.append(f"one sample per device, so that intervals leave out measurement noise: {', '.join(unknown)}")
    own = [row["workload"] for row in content["estimates"] if row["own_probe"]]
    if own:
        lines.append(
            f"no other plan is on every device, so that the error says nothing: {', '.join(own)} is its own probe"
        )
    return "\n".join(map(printable, lines))
