"""A board's models measured on this machine: what they gain where they really run, beside their accuracy.

    python -m studies.measured specs/yolov8n-bccd.yaml --workspace .hdapbench [--target 0.5x] [--rounds 15]

Takes the models that `hdapbench run` stored, trains nothing, and times them and the dense model in the same rounds by
`hdapbench measure`. Writes the table in docs/measuring.md: minutes, on a machine that does nothing else.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import fmean
from typing import Any

from hdapbench.leaderboard.board import METRICS
from hdapbench.leaderboard.labels import labels_of
from hdapbench.trial import Result, Status
from studies.runs import said, stored
from studies.tables import options, publish


def table(rows: dict[str, list[Result]], dense: Result, times: dict[str, Any], *, metric: str, first: str) -> list[str]:
    """Markdown, the fastest first; of several seeds, the means."""
    assert dense.metrics is not None
    base = dense.metrics.accuracy
    found = {str(model["key"]): model for model in times["session"]["models"]}
    ms = found[first]["latency_ms"]
    lines = [
        f"| method | latency (ms) | of the dense model's | speed-up | simulated | {metric} (%) | drop (points) | seeds |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
        f"| dense | {ms['median']:.3f} ({ms['low']:.3f} - {ms['high']:.3f}) | 1 | 1.00x | 1.00x | {base:.2%} | | 1 |",
    ]
    told = []
    for label, results in rows.items():
        models = [found[result.trial.id] for result in results]
        metrics = [result.metrics for result in results if result.metrics is not None]
        latency, low, high, ratio = (
            fmean(model[key][part] for model in models)
            for key, part in (("latency_ms", "median"), ("ratio", "low"), ("ratio", "high"), ("ratio", "median"))
        )
        accuracy = fmean(metric.accuracy for metric in metrics)
        simulated = dense.metrics.latency_ms / fmean(metric.latency_ms for metric in metrics)
        told.append(
            (
                ratio,
                (
                    f"| {label} | {latency:.3f} | {ratio:.3f} ({low:.3f} - {high:.3f}) | {1 / ratio:.2f}x | {simulated:.2f}x | "
                    f"{accuracy:.2%} | {100 * (base - accuracy):+.2f} | {len(results)} |"
                ),
            )
        )
    host, session = times["host"], times["session"]
    foreign = [turn["foreign_cores"] for turn in session["rounds"] if turn["counts"]]
    return [
        *lines,
        *(line for _, line in sorted(told)),
        "",
        (
            f"{times['runtime']['runtime']}, {times['runtime']['threads']} thread, batch {times['runtime']['batch']}, "
            f"{host['processor']}; {sum(turn['counts'] for turn in session['rounds'])} rounds, foreign load of "
            f"{min(foreign):.2f} to {max(foreign):.2f} cores. {'; '.join(session['flags']).capitalize() or 'No flags'}."
        ),
    ]


def main() -> int:
    """Measure and write; 0, or 2 where there is nothing to measure."""
    parser = options(__doc__)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--target", default="0.5x", help="default %(default)s")
    parser.add_argument("--rounds", type=int, default=15, help="default %(default)s")
    parser.add_argument("--workspace", type=Path, default=Path(".hdapbench"), help="default %(default)s")
    arguments = parser.parse_args()
    loaded, everything = stored(str(arguments.spec), arguments.workspace)
    results = [result for result in everything if result.metrics]
    labels = labels_of([result.trial for result in results])
    dense = next((result for result in results if result.trial.method == "dense"), None)
    rows: dict[str, list[Result]] = {}
    for result in results:
        if result.status is Status.COMPLETE and str(result.trial.target) == arguments.target:
            rows.setdefault(labels[result.trial.id], []).append(result)
    if dense is None or not rows:
        print(f"no models at {arguments.target}; first: hdapbench run {arguments.spec}", file=sys.stderr)
        return 2
    ids = [result.trial.id for group in rows.values() for result in group]
    first = str(arguments.spec)
    how = ("--rounds", str(arguments.rounds), "--workspace", str(arguments.workspace))
    times = said("measure", first, *ids, *how)  # ratios are to the first
    lines = table(rows, dense, times, metric=METRICS[loaded.spec.task], first=first)
    publish("measuring.md", "measured", f"measured {loaded.spec.name}", lines)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
