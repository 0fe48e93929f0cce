"""Whether a reinforcement learning agent finds better strategies than chance, at the same number of evaluations.

    HDAPBENCH_DATA=... python -m studies.amc [--specs resnet56-cifar10 mobilenetv1-cifar10] [--jobs 3]

Base models, data and the target (half of the FLOPs) are those of the specs. The reward of both is accuracy on the
search split, right after pruning, with batch norms estimated anew on 256 training images. Random strategies draw their
shares as the method `random` does; channels stay by L1, as for the agent. Writes the tables in docs/baselines.md: about
half an hour per spec on one core, after its base model is trained; ``--jobs`` seeds run side by side.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from hdapbench_methods.amc.method import Amc, Search
from hdapbench_methods.random import Random

from hdapbench.bench.limit import Limit
from hdapbench.bench.workbench import Workbench
from hdapbench.method import Problem
from hdapbench.spec import BudgetSpec
from hdapbench.testing import RecordingProblem
from studies.runs import open_bench
from studies.tables import options, publish

SEARCH_SHARES = {"resnet56-cifar10": 0.01, "mobilenetv1-cifar10": 0.05, "mobilenetv1": 0.05}
"""Of the training images: 500, 2,500 and 1,010. Where the spec trains its base model, it is the spec's own share."""
TARGET = 0.5


def problem_of(bench: Workbench, seed: int, evaluations: int) -> Problem:
    """Problem at the target with a budget of so many evaluations."""
    target = int(TARGET * bench.network.cost.dense.flops)
    return RecordingProblem(bench, Limit.on_flops(target), seed=seed, budget=BudgetSpec(accuracy_evals=evaluations))


def agent_rewards(bench: Workbench, seed: int, evaluations: int) -> list[float]:
    """Reward of every distinct strategy of one search by the agent, in order."""
    search = Search(Amc(episodes=2 * evaluations), problem_of(bench, seed, evaluations))
    search.best()
    return search.trace


def random_rewards(bench: Workbench, seed: int, evaluations: int) -> list[float]:
    """Reward of so many random strategies."""
    problem = problem_of(bench, seed, evaluations)
    scores = problem.importance(Amc().criterion)
    rewards = []
    for _ in range(evaluations):
        widths = np.array(Random().compress(problem).widths(list(problem.groups)))
        rewards.append(problem.accuracy(problem.plan_by_widths(widths, scores), recalibrate=Amc().recalibrate))
    return rewards


def row(spec: str, seed: int, evaluations: int, workspace: Path) -> str:
    """The table's line for a seed."""
    import torch

    torch.set_num_threads(1)
    overrides = [f"data.search_share={SEARCH_SHARES[spec]}"]
    bench, _ = open_bench(spec, workspace=workspace, overrides=overrides)
    agent = agent_rewards(bench, seed, evaluations)
    chance = random_rewards(bench, seed, evaluations)
    quarter = max(len(agent) // 4, 1)
    shown = (max(agent), np.mean(agent[:quarter]), np.mean(agent[-quarter:]), max(chance), np.mean(chance))
    line = f"| {seed} | " + " | ".join(f"{value:.1%}" for value in shown) + " |"
    print(f"{spec}: {line} {len(agent)} and {len(chance)} evaluations", file=sys.stderr)
    return line


def main() -> int:
    """Run the study; 0."""
    parser = options(__doc__)
    specs = list(SEARCH_SHARES)
    parser.add_argument("--specs", nargs="+", default=specs, choices=specs, help="default all")
    parser.add_argument("--evaluations", type=int, default=100, help="default %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--jobs", type=int, default=1, help="processes; default %(default)s")
    parser.add_argument("--workspace", type=Path, default=Path(".hdapbench"), help="default %(default)s")
    arguments = parser.parse_args()
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        for spec in arguments.specs:
            one = partial(row, spec, evaluations=arguments.evaluations, workspace=arguments.workspace)
            lines = [
                "| seed | agent: best | its first quarter, mean | its last quarter, mean | random: best | mean |",
                "|--:|--:|--:|--:|--:|--:|",
                *pool.map(one, range(arguments.seeds)),
            ]
            publish("baselines.md", "amc", f"amc {spec}", lines)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
