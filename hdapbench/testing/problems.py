"""Tiny problems: what a method is given in a run, on untrained models, in milliseconds.

A plain chain (with a group of two channels and a single one that nobody can remove), a residual net, a depthwise net
and a net with concatenation.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hdapbench.bench.limit import Limit
from hdapbench.fleet.open import open_fleet
from hdapbench.method import Problem
from hdapbench.method.budget import Budget
from hdapbench.spec import BudgetSpec, ClusteringSpec, Recipe, ScenarioSpec, SimulatedFleetSpec

if TYPE_CHECKING:
    from torch import nn

    from hdapbench.bench.workbench import Workbench
    from hdapbench.data import DataSplits

ModelKind = Literal["plain", "residual", "depthwise", "concat"]
KINDS: tuple[ModelKind, ...] = ("plain", "residual", "depthwise", "concat")
SIDE = 12
N_CLASSES = 4


def tiny_model(kind: ModelKind) -> nn.Module:
    """Untrained model with the named structure, for inputs of shape (n, 3, 12, 12); the same weights at every call."""
    import torch

    from hdapbench.testing.models import build

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return build(kind, n_classes=N_CLASSES).eval()


@cache
def _folder() -> Path:
    """Folder of this process alone for weights that methods hand over, gone with it."""
    folder = tempfile.mkdtemp(prefix="hdapbench-testing-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@cache
def tiny_data() -> DataSplits:
    """Data set of 64, 16 and 16 random images."""
    import torch

    from hdapbench.data import DataSplits, ImageSet

    generator = torch.Generator().manual_seed(3)

    def images(n: int) -> ImageSet:
        return ImageSet(
            images=torch.randint(0, 256, (n, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8),
            labels=torch.arange(n) % N_CLASSES,
            mean=(0.5,) * 3,
            std=(0.25,) * 3,
            augment="none",
        )

    return DataSplits(train=images(64), search=images(16), test=images(16), n_classes=N_CLASSES, content_hash="tiny")


@cache
def tiny_workbench(kind: ModelKind) -> Workbench:
    """Workbench of a tiny model, `tiny_data` and a simulated fleet of twelve devices."""
    from hdapbench.bench.network import trace
    from hdapbench.bench.workbench import Workbench

    fleet = SimulatedFleetSpec(
        name="tiny",
        kind="simulated",
        sku="nano",
        scenario=ScenarioSpec(base="mixed"),
        n_devices=12,
        seed=1,
        runs=5,
    )
    return Workbench(
        network=trace(tiny_model(kind), (3, SIDE, SIDE)),
        train=tiny_data().train,
        search=tiny_data().search,
        fleet=open_fleet(fleet),
        clustering=ClusteringSpec(n_clusters=3),
        runs=5,
        recipe=Recipe(epochs=1.0, batch_size=32),
        directory=_folder(),
    )


class RecordingProblem(Problem):
    """A problem that keeps what a method remembers, by name, in ``decisions``."""

    def __init__(
        self,
        bench: Workbench,
        limit: Limit,
        *,
        seed: int = 0,
        budget: BudgetSpec | None = None,
        on_progress: Callable[[str], None] | None = None,
    ) -> None:
        self.decisions: dict[str, Any] = {}
        spendable, decided = Budget(budget or BudgetSpec()), self.decisions.__setitem__
        super().__init__(bench, limit, seed=seed, budget=spendable, on_progress=on_progress, on_decision=decided)


def tiny_problem(
    kind: ModelKind = "plain", *, target: float = 0.5, seed: int = 0, budget: BudgetSpec | None = None
) -> RecordingProblem:
    """Problem on a tiny model: what a method is given in a run.

    Parameters
    ----------
    target
        FLOPs target, relative to the dense model.
    budget
        Limits; none by default.
    """
    bench = tiny_workbench(kind)
    limit = Limit.on_flops(int(target * bench.network.cost.dense.flops))
    return RecordingProblem(bench, limit, seed=seed, budget=budget)
