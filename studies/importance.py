"""Which quantity, known before any training, follows the accuracy that pruned networks have after it.

    HDAPBENCH_DATA=... python -m studies.importance [--plans 16] [--threads 1]

ResNet56 on CIFAR-10 by specs/resnet56-cifar10.yaml. Random plans at half of the FLOPs, whose stages differ in width, are
pruned by L1, fine-tuned for one epoch of the spec's recipe and evaluated on the search split. Writes the table in
docs/hdap.md: about ten minutes on one core.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from hdapbench.arrays import Floats, Integers
from hdapbench.bench.limit import Limit
from hdapbench.method import Plan, Problem
from hdapbench.testing import RecordingProblem
from studies.runs import open_bench
from studies.tables import options, publish

TARGET = 0.5
STAGE_SPREAD, GROUP_SPREAD = 0.35, 0.25
"""Standard deviations of the logarithms of kept shares: between stages, and between groups of one."""
CRITERIA = ("fisher", "taylor", "sqrt_taylor", "bn_scale", "l1", "l2")


def random_widths(problem: Problem, rng: np.random.Generator) -> Integers:
    """Widths at the target whose stages differ, shape (n_groups,)."""
    stages = sorted({name.split(".")[0] for name in problem.groups})
    of_stage = rng.normal(0.0, STAGE_SPREAD, len(stages))
    logs = np.array([of_stage[stages.index(name.split(".")[0])] for name in problem.groups])
    shares = np.exp(logs + rng.normal(0.0, GROUP_SPREAD, len(logs)))

    def widths(knob: float) -> Integers:
        return np.clip(np.round(shares * knob * problem.cost.sizes), 1, problem.cost.sizes).astype(np.int64)

    low, high = 0.0, 5.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if problem.cost.flops(widths(middle))[0] <= problem.target_flops else (low, middle)
    return widths(low)


def kept(scores: dict[str, Floats], widths: Integers, *, squared: bool) -> float:
    """What is left of the importance; ``squared`` counts what each group loses with its square."""
    total = 0.0
    for name, width in zip(scores, widths, strict=True):
        ordered = np.sort(scores[name])[::-1]
        share = float(ordered[width:].sum() / ordered.sum())
        total -= float(ordered.sum()) * (share**2 if squared else share)
    return total


def main() -> int:
    """Run the study; 0."""
    parser = options(__doc__)
    parser.add_argument("--plans", type=int, default=16, help="default %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="default %(default)s")
    parser.add_argument("--workspace", type=Path, default=Path(".hdapbench"), help="default %(default)s")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    bench, _ = open_bench("resnet56-cifar10", workspace=arguments.workspace)
    target = int(TARGET * bench.network.cost.dense.flops)
    problem = RecordingProblem(bench, Limit.on_flops(target))
    scores = {criterion: problem.importance(criterion) for criterion in CRITERIA}
    rng = np.random.default_rng(5)
    plans = [random_widths(problem, rng) for _ in range(arguments.plans)]
    accuracy, loss, at_once = [], [], []
    for number, widths in enumerate(plans, start=1):
        plan: Plan = problem.plan_by_widths(widths, scores["l1"])
        loss.append(problem.training.recalibrated_loss(plan))
        at_once.append(problem.accuracy(plan))
        accuracy.append(problem.accuracy(plan, 1.0))
        print(f"{number} of {len(plans)}: {accuracy[-1]:.2%}", file=sys.stderr)
    rows: dict[str, list[float]] = {"loss with batch norms recalibrated (negative)": [-value for value in loss]}
    for criterion in CRITERIA:
        rows[f"{criterion} kept"] = [kept(scores[criterion], widths, squared=False) for widths in plans]
        rows[f"{criterion} kept, losses of groups squared"] = [
            kept(scores[criterion], widths, squared=True) for widths in plans
        ]
    rows["accuracy right after pruning"] = at_once
    rows["parameters"] = [float(problem.cost.evaluate(widths[None]).params[0]) for widths in plans]
    ranked = sorted(rows, key=lambda name: -spearmanr(rows[name], accuracy)[0])
    lines = [
        f"{len(plans)} plans, accuracies {min(accuracy):.1%} to {max(accuracy):.1%}:",
        "",
        "| known before training | Spearman with accuracy after fine-tuning |",
        "|---|--:|",
        *(f"| {name} | {spearmanr(rows[name], accuracy)[0]:+.2f} |" for name in ranked),
    ]
    publish("hdap.md", "importance", "importance", lines)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
