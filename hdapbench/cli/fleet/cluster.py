"""``hdapbench fleet cluster``: devices that behave alike, the share of each kind, and a device that stands for it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hdapbench.cli.fleet import source
from hdapbench.cli.options import seed_number
from hdapbench.errors import FleetError, printable

if TYPE_CHECKING:
    from hdapbench.fleet.estimate.clustered import ClusteredFleet
    from hdapbench.fleet.fingerprint import Fingerprint

SHOWN = 20
"""New devices printed; --json has all."""


def add_parser(actions: Any) -> None:
    """Add the action to the parser."""
    parser = actions.add_parser("cluster", help="cluster the devices of a fingerprint", description=__doc__)
    source.add_fleet_argument(parser, what="a fingerprint, or a recording (.csv, .parquet)")
    source.add_clustering_options(parser)
    parser.add_argument("--seed", type=seed_number, default=0, help="seed of the clustering (default: %(default)s)")
    parser.add_argument("--stability", action="store_true", help="also say how stable the clusters are (slower)")
    parser.add_argument(
        "--assign", type=Path, metavar="FILE", help="fingerprint or recording of new devices: say where they belong"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help=".csv or .parquet: the cluster of each device"
    )
    source.add_output_options(parser, plot="the fingerprints by cluster")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Cluster and print the clusters from fast to slow."""
    from hdapbench.fleet.estimate.clustered import cluster_fleet
    from hdapbench.fleet.estimate.clustering import stability
    from hdapbench.fleet.estimate.estimators import relative_half_width

    found = source.open_source(arguments)
    fingerprint = source.need_fingerprint(found, arguments.file)
    how = source.clustering_spec(arguments, found.spec)
    clustered = cluster_fleet(found.fleet, fingerprint.latency_ms, how, seed=arguments.seed)
    content = describe(clustered, fingerprint)
    width = relative_half_width(clustered.reference, clustered.clustering, clustered.design)
    content |= {"estimator": clustered.estimator, "n_measured": clustered.n_measured, "expected_half_width": width}
    if arguments.stability:
        content["stability"] = stability(
            fingerprint.latency_ms, method=how.method, n_clusters=clustered.n_clusters, seed=arguments.seed
        )
    if arguments.assign is not None:
        content["assigned"] = _assigned(arguments.assign, fingerprint, clustered)
    if arguments.output is not None:
        _write(arguments.output, clustered, fingerprint)
    if arguments.plot is not None:
        from hdapbench.render.picture import fingerprint_scatter

        title = f"{found.fleet.name}: {fingerprint.n_devices:,} devices in {clustered.n_clusters} clusters"
        picture = fingerprint_scatter(
            fingerprint.latency_ms, clustered.clustering, probes=fingerprint.probes, title=title
        )
        source.write_plot(arguments.plot, picture, title=title)
    print(json.dumps(content, indent=2) if arguments.json else _text(content))
    return 0


def describe(clustered: ClusteredFleet, fingerprint: Fingerprint) -> dict[str, Any]:
    """Clusters as plain values."""
    clustering = clustered.clustering
    return {
        "n_devices": fingerprint.n_devices,
        "n_clusters": clustering.n_clusters,
        "method": clustering.method,
        "probes": list(fingerprint.probes),
        "clusters": [
            {
                "share": float(share),
                "n_devices": int((clustering.labels == number).sum()),
                "mean_ms": [float(value) for value in np.exp(centre)],
                "radius": float(radius),
                "representative": fingerprint.device_ids[ranked[0]],
                "spares": [fingerprint.device_ids[device] for device in ranked[1:]],
            }
            for number, (share, centre, radius, ranked) in enumerate(
                zip(clustering.weights, clustering.centres, clustering.radii, clustering.ranked, strict=True)
            )
        ],
    }


def _text(content: dict[str, Any]) -> str:
    from hdapbench.fleet.estimate.partition import DENSITY_METHODS

    lines = [f"{content['n_devices']:,} devices in {content['n_clusters']} clusters ({content['method']})"]
    heads = "".join(f"{name + ' ms':>12}" for name in content["probes"])
    lines.append(f"{'cluster':>7} {'devices':>10} {'share':>7}{heads}  representative (first spare)")
    for number, cluster in enumerate(content["clusters"]):
        means = "".join(f"{value:12.4g}" for value in cluster["mean_ms"])
        spare = f" ({cluster['spares'][0]})" if cluster["spares"] else " (no spare)"
        size = f"{cluster['n_devices']:>10,} {cluster['share']:>7.1%}"
        lines.append(f"{number:>7} {size}{means}  {cluster['representative']}{spare}")
    if content["method"] in DENSITY_METHODS:
        lines.append(f"{content['method']} finds its own number of clusters")
    lines.append(
        f"measuring {content['n_measured']} devices per model; expected 95 % interval of the fleet's average: "
        f"±{content['expected_half_width']:.1%} ({content['estimator']})"
    )
    for row in content.get("assigned", [])[:SHOWN]:
        far = "" if row["distance"] <= 1 else f"; FAR: {row['distance']:.2f} times the cluster's radius"
        lines.append(f"new device {row['device']}: cluster {row['cluster']}{far}")
    if len(content.get("assigned", [])) > SHOWN:
        lines.append(f"and {len(content['assigned']) - SHOWN:,} more (--json)")
    if "stability" in content:
        lines.append(f"stability: two random halves of the fleet agree to {content['stability']:.2f} (Rand, adjusted)")
    return "\n".join(map(printable, lines))


def _assigned(path: Path, fingerprint: Fingerprint, clustered: ClusteredFleet) -> list[dict[str, Any]]:
    """Cluster of each device of another fingerprint, and its distance in radii."""
    from hdapbench.fleet.fingerprint import load_fingerprint
    from hdapbench.fleet.open import open_fleet

    new = None
    if path.suffix in source.RECORDINGS:
        spec = source.fleet_spec(path, None, []).model_copy(update={"probes": fingerprint.probes})
        new = open_fleet(spec).recorded_fingerprint()
    new = new or load_fingerprint(path)
    if new.probes != fingerprint.probes:
        raise FleetError(
            f"'{path}' has the probes {', '.join(new.probes)}; the clusters are of {', '.join(fingerprint.probes)}"
        )
    found = clustered.clustering.assign(new.latency_ms)
    rows = zip(new.device_ids, found.labels, found.distance, strict=True)
    return [{"device": name, "cluster": int(label), "distance": float(far)} for name, label, far in rows]


def _write(path: Path, clustered: ClusteredFleet, fingerprint: Fingerprint) -> None:
    import polars as pl

    frame = pl.DataFrame({"device": list(fingerprint.device_ids), "cluster": clustered.clustering.labels})
    if path.suffix == ".csv":
        frame.write_csv(path)
    elif path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        raise FleetError(f"-o {path}: name a .csv or .parquet file")
