"""Joint search against its rivals on a finished board: who is smaller at equal accuracy, and by how much.

    python -m studies.joint_fronts specs/dscnn-speech-joint.yaml [SPEC ...] --workspace .hdapbench

Reads the trials that `hdapbench run` stored, trains nothing, and writes the tables in docs/bit-widths.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from hdapbench.trial import Result
from studies.runs import stored
from studies.tables import options, publish

EQUAL = 0.005
"""Accuracies closer than this count as equal."""

PUBLISHED = {"w8": 0.4750, "w2": 0.6954}
"""Size reductions at equal accuracy that arXiv 2407.01054 reports in its abstract, against all-8-bit and all-2-bit."""


@dataclass(frozen=True)
class Point:
    """One method at one target, averaged over its seeds.

    Attributes
    ----------
    family
        ``joint``, a rival's name, or ``w8``, ``w4``, ``w2``.
    size
        Bytes of packed weights.
    accuracy
        On the test split, in [0, 1].
    epochs
        Training of search and fine-tuning.
    seconds
        Wall-clock time of a trial, measured on a shared machine.
    n_seeds
        Seeds behind it.
    """

    family: str
    size: float
    accuracy: float
    epochs: float
    seconds: float
    n_seeds: int


def points_of(results: Iterable[Result]) -> list[Point]:
    """Points of all rows under a limit on size, smallest first; equal plans at several targets are one point."""
    found: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        limited = str(result.trial.target).endswith("size")
        if limited and result.metrics is not None and result.metrics.bits is not None:
            found.setdefault((_family(result), str(result.trial.target)), []).append(result)
    points = []
    for (family, _), rows in found.items():
        metrics = [row.metrics for row in rows if row.metrics is not None]
        points.append(
            Point(
                family,
                fmean(m.bits.weight_bytes for m in metrics if m.bits is not None),
                fmean(m.accuracy for m in metrics),
                fmean(row.spent.train_epochs + m.fine_tune_epochs for row, m in zip(rows, metrics, strict=True)),
                fmean(row.seconds for row in rows),
                len(rows),
            )
        )
    return sorted(dict.fromkeys(points), key=lambda point: (point.size, -point.accuracy))


def _family(result: Result) -> str:
    if result.trial.method != "joint-mpq":
        return f"{result.trial.method} {result.trial.parameters.get('mode', '')}".strip()
    choose = str(result.trial.parameters["choose"])
    if choose != "fixed":
        return choose
    assert result.metrics is not None
    assert result.metrics.bits is not None
    (bits,) = result.metrics.bits.channels_at_bits
    return f"w{bits}"


def beaten(points: Sequence[Point], family: str) -> tuple[int, int]:
    """Points of a rival to which some joint point is smaller at equal or better accuracy, and points that it has."""
    joint = [point for point in points if point.family == "joint"]
    rivals = [point for point in points if point.family == family]
    lost = [
        rival for rival in rivals if any(p.size < rival.size and p.accuracy >= rival.accuracy - EQUAL for p in joint)
    ]
    return len(lost), len(rivals)


def beating(points: Sequence[Point], family: str) -> int:
    """Joint points that are smaller than some point of a rival at equal or better accuracy."""
    rivals = [point for point in points if point.family == family]
    return sum(
        any(p.size < r.size and p.accuracy >= r.accuracy - EQUAL for r in rivals) for p in points if p.family == "joint"
    )


def size_at(points: Sequence[Point], accuracy: float) -> float | None:
    """Bytes at which the joint front reaches an accuracy, between its points by straight lines; None above its top.

    Below the front's lowest point, that point's size: nothing smaller was measured.
    """
    front: list[Point] = []
    for point in points:
        if point.family == "joint" and (not front or point.accuracy > front[-1].accuracy):
            front.append(point)
    if not front or accuracy > front[-1].accuracy:
        return None
    if accuracy <= front[0].accuracy:
        return front[0].size
    above = next(k for k, point in enumerate(front) if point.accuracy >= accuracy)
    low, high = front[above - 1], front[above]
    return low.size + (high.size - low.size) * (accuracy - low.accuracy) / (high.accuracy - low.accuracy)


def table(name: str, points: Sequence[Point]) -> str:
    """The points, who is beaten, what size is saved, and what training costs."""
    lines = [f"### {name}", "", "| method | weights (kB) | accuracy (%) | train epochs | seconds | seeds |"]
    lines += ["|---|---|---|---|---|---|"]
    lines += [
        f"| {p.family} | {p.size / 1000:.2f} | {100 * p.accuracy:.2f} | {p.epochs:g} | {p.seconds:.0f} | {p.n_seeds} |"
        for p in points
    ]
    rivals = [family for family in dict.fromkeys(p.family for p in points) if family != "joint"]
    lines += [
        "",
        "| rival | its points beaten | joint points that beat one | size saved at equal accuracy | within 0.5 |",
    ]
    lines += ["|---|---|---|---|---|"]
    for rival in rivals:
        lost, n = beaten(points, rival)
        lines.append(
            f"| {rival} | {lost} of {n} | {beating(points, rival)} | {_saved(points, rival, 0.0)} | "
            f"{_saved(points, rival, EQUAL)} |"
        )
    published = ", ".join(f"{share:.2%} against {bits}" for bits, share in PUBLISHED.items())
    lines += [
        "",
        f"Published for joint search (arXiv 2407.01054, full recipe, other data): {published}.",
        *_training(points),
    ]
    return "\n".join(lines)


def _saved(points: Sequence[Point], rival: str, slack: float) -> str:
    """Share of a rival's size that the joint front saves, at the best of its points."""
    mine = [(point.size, size_at(points, point.accuracy - slack)) for point in points if point.family == rival]
    saved = [1.0 - size / rivals for rivals, size in mine if size is not None]
    return f"{max(saved):.1%}" if saved else "not reached"


def _training(points: Sequence[Point]) -> list[str]:
    joint, sequence = ([p for p in points if p.family == family] for family in ("joint", "sequence"))
    if not joint or not sequence:
        return []
    epochs = fmean(p.epochs for p in joint) / fmean(p.epochs for p in sequence)
    seconds = fmean(p.seconds for p in joint) / fmean(p.seconds for p in sequence)
    return [
        "",
        f"Joint search and fine-tuning train {epochs:.2f} of the sequence's epochs, in {seconds:.2f} of its time.",
    ]


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
