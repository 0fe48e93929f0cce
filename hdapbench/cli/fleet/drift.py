"""``hdapbench fleet drift``: measure a few devices again, and say whether the fingerprint still holds."""

from __future__ import annotations

import argparse
import json
from typing import Any

from hdapbench.cli.fleet import source
from hdapbench.cli.options import seed_number, whole_number
from hdapbench.errors import printable


def add_parser(actions: Any) -> None:
    """Add the action to the parser."""
    parser = actions.add_parser("drift", help="say whether a fingerprint still holds", description=__doc__)
    source.add_fleet_argument(parser, what="a fingerprint that hdapbench took")
    parser.add_argument(
        "--devices", type=whole_number, default=50, metavar="N", help="devices asked again (default: %(default)s)"
    )
    parser.add_argument(
        "--session", type=seed_number, default=1000, metavar="N", help="measuring session (default: %(default)s)"
    )
    source.add_clustering_options(parser)
    source.add_output_options(parser)
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the report; 1 when the fingerprint should be taken again."""
    from hdapbench.fleet.estimate.clustered import cluster_fleet
    from hdapbench.fleet.estimate.drift import detect_drift, measure_again

    found = source.open_source(arguments)
    fingerprint = source.need_fingerprint(found, arguments.file)
    kernels = source.remembered_kernels(fingerprint, arguments.file)
    how = source.clustering_spec(arguments, found.spec)
    clustered = cluster_fleet(found.fleet, fingerprint.latency_ms, how, seed=0)
    devices, latency = measure_again(
        found.fleet,
        kernels,
        fingerprint,
        n_devices=arguments.devices,
        seed=arguments.session,
        variants=source.remembered_variants(fingerprint, found.fleet, arguments),
    )
    report = detect_drift(fingerprint, clustered.clustering, devices, latency)
    content = {
        "holds": report.holds,
        "reasons": list(report.reasons),
        "n_devices": report.n_devices,
        "device_queries": int(latency.size),
        "far_share": report.far_share,
        "moved_share": report.moved_share,
        "change": dict(zip(fingerprint.probes, map(float, report.change), strict=True)),
        "change_error": dict(zip(fingerprint.probes, map(float, report.change_error), strict=True)),
        "taken_at": fingerprint.taken_at,
    }
    print(json.dumps(content, indent=2) if arguments.json else _text(content))
    return 0 if report.holds else 1


def _text(content: dict[str, Any]) -> str:
    verdict = (
        "the fingerprint holds" if content["holds"] else "take the fingerprint again: " + "; ".join(content["reasons"])
    )
    asked = f"{content['n_devices']} devices asked again ({content['device_queries']} device queries)"
    moved = f"{content['moved_share']:.0%} nearest to another than before"
    lines = [verdict, f"{asked}; {content['far_share']:.0%} far from every cluster, {moved}"]
    for name, change in content["change"].items():
        lines.append(f"  {name}: {change:+.2%} (standard error {content['change_error'][name]:.2%})")
    return "\n".join(map(printable, lines))
