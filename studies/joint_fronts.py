"""Joint search against its rivals on finished boards, at equal accuracy: what it stores less, and how many cycles it saves.

    python -m studies.joint_fronts specs/resnet6-digits-rivals.yaml [SPEC ...] --workspace .hdapbench

Reads the trials that `hdapbench run` stored, trains nothing, and writes the tables in docs/bit-widths.md. Intervals are those of
boards: a bootstrap over seeds and test images together.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from statistics import fmean

import numpy as np

from hdapbench.leaderboard.cells import Cells
from hdapbench.leaderboard.statistics import Cell, Curves, bootstrap_fronts, equal_accuracy_lead
from hdapbench.store.brief import brief_of
from hdapbench.trial import BitMetrics, Metrics, Result
from studies.runs import stored
from studies.tables import options, publish

N_REPLICATES = 2000

JUST_BELOW = 1e-9
"""What a rival that is more accurate is taken to be below our front's top, so that the top is read and no average."""

COSTS = {"stored": "stored_bytes", "NE16": "ne16_cycles", "MPIC": "mpic_cycles"}
"""What fronts are about -> the field of `BitMetrics`."""

PUBLISHED = {"w8": 0.4750, "w2": 0.6954}
"""Size reductions at equal accuracy that arXiv 2407.01054 reports in its abstract, against all-8-bit and all-2-bit."""


@dataclass(frozen=True)
class Point:
    """One method at one target: its results by seed.

    Attributes
    ----------
    family
        Whose front it belongs to: ``joint``, ``joint by NE16``, a rival's name, or ``w8``, ``w4``, ``w2``.
    target
        As the spec writes it.
    results
        Seed -> result with bit-widths.
    """

    family: str
    target: str
    results: dict[int, Result]

    @property
    def metrics(self) -> list[Metrics]:
        """Of each seed."""
        return [result.metrics for result in self.results.values() if result.metrics is not None]

    def mean(self, field: str) -> float | None:
        """Mean of a cost over the seeds; None where a seed does not say."""
        values = [getattr(of.bits, field) for of in self.metrics]
        return None if None in values else fmean(values)


def points_of(results: Iterable[Result]) -> list[Point]:
    """Points of all rows with bit-widths, the most stored first."""
    found: dict[tuple[str, str], dict[int, Result]] = {}
    for result in results:
        if result.metrics is not None and result.metrics.bits is not None:
            key = family(result, result.metrics.bits), str(result.trial.target)
            found.setdefault(key, {})[result.trial.seed] = result
    points = [Point(*key, dict(sorted(of.items()))) for key, of in found.items()]
    return sorted(points, key=lambda point: -(point.mean("stored_bytes") or 0.0))


def family(result: Result, bits: BitMetrics) -> str:
    """Whose front a result is a point of."""
    parameters, method = result.trial.parameters, result.trial.method
    if method != "joint-mpq":
        return f"{method} {parameters.get('mode', '')}".strip()
    choose, kind = str(parameters["choose"]), str(result.trial.target).rpartition(" ")[2]
    if choose == "fixed":
        return f"w{max(bits.channels_at_bits)}"
    name = "published rules" if parameters.get("preset") == "paper" else choose
    name += ", shared beginning" if parameters.get("warm_up") else ""
    name += ", activation bits" if parameters.get("activation_bits", "8") != "8" else ""
    return name if kind == "size" else f"{name} by {kind.upper()}"


@dataclass(frozen=True)
class Saving:
    """What one front needs less than another at equal accuracy: a share, with its 95 % interval; negative is more.

    ``accuracies`` are those that are compared. ``given_up`` is how far the rival's best accuracy is above our front's
    top, in [0, 1]: where all of the rival's front is above it, the top is read.
    """

    share: float
    low: float
    high: float
    accuracies: tuple[float, float]
    given_up: float


def saving(points: Sequence[Point], ours: str, rival: str, field: str) -> Saving | None:
    """What our front saves against a rival's of a cost; None where one has no such cost."""
    mine, theirs = ([point for point in points if point.family == name] for name in (ours, rival))
    if not mine or not theirs or any(point.mean(field) is None for point in (*mine, *theirs)):
        return None
    seeds = sorted({seed for point in (*mine, *theirs) for seed in point.results})
    drawn = bootstrap_fronts(
        [_cell(point, field, seeds) for point in (*mine, *theirs)], np.random.default_rng(0), N_REPLICATES
    )
    own, other = drawn[:, : len(mine)], drawn[:, len(mine) :].copy()
    top, best = own[..., 0].max(axis=1), float(other[0, :, 0].max())
    above = other[..., 0].min(axis=1) >= top
    other[above, :, 0] = np.minimum(other[above, :, 0], top[above, None] - JUST_BELOW)
    lead = equal_accuracy_lead(own, Curves(other))
    ends = (1 - 1 / (1 + end) for end in (lead.value, lead.low, lead.high))
    return Saving(*ends, (lead.accuracy_low, lead.accuracy_high), max(0.0, best - float(top[0])))


def _cell(point: Point, field: str, seeds: Sequence[int]) -> Cell:
    briefs = {seed: brief_of(result) for seed, result in point.results.items()}
    costs = {seed: getattr(of.metrics.bits, field) for seed, of in point.results.items() if of.metrics}
    log_cost = np.array([log(costs[seed]) if seed in costs else np.nan for seed in seeds])
    variance = np.where(np.isnan(log_cost), np.nan, 0.0)
    return Cell(point.family, log_cost, variance, Cells(point.family, briefs).outcomes(seeds))


def table(name: str, points: Sequence[Point]) -> str:
    """The points, and what joint search saves against every other front."""
    lines = [f"### {name}", ""]
    lines += [
        "| method | target | stored (kB) | weights (kB) | accuracy (%) | NE16 (k) | MPIC (k) | train epochs | seeds |"
    ]
    lines += ["|---|---|---|---|---|---|---|---|---|"]
    for point in points:
        epochs = fmean(
            of.spent.train_epochs + of.metrics.fine_tune_epochs for of in point.results.values() if of.metrics
        )
        accuracies = [100 * of.accuracy for of in point.metrics]
        costs = [
            _thousands(point.mean(field)) for field in ("stored_bytes", "weight_bytes", "ne16_cycles", "mpic_cycles")
        ]
        said = f"{fmean(accuracies):.2f} ({min(accuracies):.2f} to {max(accuracies):.2f})"
        row = (point.family, point.target, *costs[:2], said, *costs[2:], f"{epochs:.3g}", str(len(point.results)))
        lines.append(f"| {' | '.join(row)} |")
    families = list(dict.fromkeys(point.family for point in points))
    lines += ["", "Saved by the first at equal accuracy, with the 95 % interval (negative: it needs more):", ""]
    lines += ["| of | first | second | saved | 95 % | over accuracies (%) | points given up |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for cost, field in COSTS.items():
        ours = "joint" if cost == "stored" else f"joint by {cost}"
        for rival in families:
            found = saving(points, ours, rival, field) if rival != ours else None
            if found is not None:
                span = " to ".join(dict.fromkeys(f"{100 * end:.1f}" for end in found.accuracies))
                said = (
                    f"{found.share:+.1%} | {found.low:+.1%} to {found.high:+.1%} | {span} | {100 * found.given_up:.2f}"
                )
                lines.append(f"| {cost} | {ours} | {rival} | {said} |")
    published = ", ".join(f"{share:.2%} against {bits}" for bits, share in PUBLISHED.items())
    return "\n".join(
        [*lines, "", f"Published for joint search, of weights alone (full recipe, other data): {published}."]
    )


def _thousands(value: float | None) -> str:
    return "-" if value is None else f"{value / 1000:.2f}"


def main() -> int:
    """Print the tables, and write them."""
    parser = options(__doc__)
    parser.add_argument("specs", nargs="+", metavar="SPEC")
    parser.add_argument("--workspace", type=Path, default=Path(".hdapbench"), metavar="DIR")
    arguments = parser.parse_args()
    parts = []
    for spec in arguments.specs:
        loaded, results = stored(spec, arguments.workspace)
        points = points_of(results)
        if not any(point.family == "joint" for point in points):
            print(f"{spec}: no joint trial has numbers; hdapbench run {spec} makes them", file=sys.stderr)
            return 1
        parts.append(table(loaded.spec.name, points))
    publish("bit-widths.md", "joint_fronts", "fronts", ["\n\n".join(parts)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
