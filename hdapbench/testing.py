"""MethodContract: the rules that every method keeps, as a pytest suite and as one call. Shipped for plug-in authors.

Subclass it and return the method from a fixture::

    class TestMine(MethodContract):
        @pytest.fixture
        def method(self):
            return Mine()

The models are tiny and untrained: a plain chain (with a group of two channels and a single one that nobody can remove),
a residual net, a depthwise net and a net with concatenation.
"""

from __future__ import annotations

import contextlib
import io
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from hdapbench.budget import Budget
from hdapbench.errors import BudgetExceededError, TargetUnreachableError
from hdapbench.method import Method, Problem
from hdapbench.plan import Plan
from hdapbench.spec import BudgetSpec, ClusteringSpec, Recipe, ScenarioSpec, SimulatedFleetSpec

if TYPE_CHECKING:
    from torch import nn

    from hdapbench.workbench import Workbench

ModelKind = Literal["plain", "residual", "depthwise", "concat"]
KINDS: tuple[ModelKind, ...] = ("plain", "residual", "depthwise", "concat")
TARGETS = (0.7, 0.4)
SIDE = 12
N_CLASSES = 4


@dataclass(frozen=True)
class Violation:
    """A rule that a method breaks, and how."""

    rule: str
    message: str


def tiny_model(kind: ModelKind) -> nn.Module:
    """Untrained model with the named structure, for inputs of shape (n, 3, 12, 12); the same weights at every call."""
    import torch

    from hdapbench.testing_models import build

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return build(kind, n_classes=N_CLASSES).eval()


@cache
def tiny_workbench(kind: ModelKind) -> Workbench:
    """Workbench of a tiny model, 64 random images and a simulated fleet of twelve devices."""
    import torch

    from hdapbench.data import DataSplits, ImageSet
    from hdapbench.fleet.open import open_fleet
    from hdapbench.network import trace
    from hdapbench.workbench import Workbench

    generator = torch.Generator().manual_seed(3)

    def images(n: int) -> ImageSet:
        return ImageSet(
            images=torch.randint(0, 256, (n, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8),
            labels=torch.arange(n) % N_CLASSES,
            mean=(0.5,) * 3,
            std=(0.25,) * 3,
            augment="none",
        )

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
        data=DataSplits(train=images(64), search=images(16), test=images(16), n_classes=N_CLASSES, content_hash="tiny"),
        fleet=open_fleet(fleet),
        clustering=ClusteringSpec(n_clusters=3),
        runs=5,
        recipe=Recipe(epochs=1.0, batch_size=32),
        directory=Path(tempfile.gettempdir()) / "hdapbench-testing",
    )


def tiny_problem(
    kind: ModelKind = "plain", *, target: float = 0.5, seed: int = 0, budget: BudgetSpec | None = None
) -> Problem:
    """Problem on a tiny model: what a method is given in a run.

    Parameters
    ----------
    target
        FLOPs target, relative to the dense model.
    budget
        Limits; none by default.
    """
    bench = tiny_workbench(kind)
    return Problem(
        bench,
        target_flops=int(target * bench.network.cost.dense.flops),
        seed=seed,
        budget=Budget(budget or BudgetSpec()),
    )


def check_plan(method: Method, kind: ModelKind, target: float) -> None:
    """Raise `AssertionError` unless the plan fits the model, meets the target and survives JSON."""
    problem = tiny_problem(kind, target=target)
    plan = method.compress(problem)
    assert isinstance(plan, Plan), f"compress returned a {type(plan).__name__}, not a Plan"
    plan.check({name: group.n_channels for name, group in problem.groups.items()})
    flops = int(problem.costs([plan]).flops[0])
    assert flops <= problem.target_flops, (
        f"{flops:,} FLOPs on the {kind} model at {target}x, {flops / problem.target_flops - 1:.1%} above the target; "
        "use problem.solve_ratio, plan_by_scores, fit or filled"
    )
    assert Plan.model_validate_json(plan.model_dump_json()) == plan, "the plan changes when written and read as JSON"


def check_plans(method: Method, kind: ModelKind) -> None:
    """Raise `AssertionError` unless plans at a mild and a strong target are right."""
    for target in TARGETS:
        check_plan(method, kind, target)


def check_reproducible(method: Method, kind: ModelKind) -> None:
    """Raise `AssertionError` unless two problems of one seed get the same plan."""
    first, second = method.compress(tiny_problem(kind, seed=5)), method.compress(tiny_problem(kind, seed=5))
    assert first == second, "the same seed gave two different plans; draw random numbers from problem.rng only"


def check_untouched(method: Method, kind: ModelKind) -> None:
    """Raise `AssertionError` when the method changes the model that it is given to compress."""
    from hdapbench.models import state_hash

    bench = tiny_workbench(kind)
    before = state_hash(bench.network.model)
    method.compress(tiny_problem(kind))
    assert state_hash(bench.network.model) == before, "the dense model's weights changed; work on problem.model()"


def check_silent(method: Method, kind: ModelKind) -> None:
    """Raise `AssertionError` when the method prints; progress goes through problem.progress."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        method.compress(tiny_problem(kind))
    assert not out.getvalue(), f"the method printed {out.getvalue()[:80]!r}; use problem.progress(text)"


def check_random_state(method: Method, kind: ModelKind) -> None:
    """Raise `AssertionError` when global random state of python, numpy or torch changes."""
    import torch

    def state() -> tuple[object, str, str]:
        return random.getstate(), str(np.random.get_state()), torch.get_rng_state().numpy().tobytes().hex()  # noqa: NPY002

    before = state()
    method.compress(tiny_problem(kind))
    changed = [name for name, a, b in zip(("random", "numpy.random", "torch"), before, state(), strict=True) if a != b]
    assert not changed, f"global random state of {', '.join(changed)} changed; draw from problem.rng, or fork torch's"


def check_budget(method: Method, kind: ModelKind) -> None:
    """Raise `AssertionError` when a method spends more than its budget, or fails with anything but the right error."""
    limits = BudgetSpec(device_queries=5, accuracy_evals=0, train_epochs=0.0)
    problem = tiny_problem(kind, budget=limits)
    with contextlib.suppress(BudgetExceededError):
        method.compress(problem)
    spent = problem.budget.spent
    assert spent.device_queries <= 5, "more device queries than the budget allows"
    assert spent.accuracy_evals == 0, "more accuracy evaluations than the budget allows"
    assert spent.train_epochs == 0, "more training than the budget allows"


def check_unreachable(method: Method, kind: ModelKind) -> None:
    """Raise `AssertionError` unless a target below the minimum gives `TargetUnreachableError`."""
    bench = tiny_workbench(kind)
    problem = Problem(bench, target_flops=bench.network.cost.minimum_flops - 1, seed=0, budget=Budget(BudgetSpec()))
    try:
        method.compress(problem)
    except TargetUnreachableError:
        return
    raise AssertionError("a target that no plan meets must raise TargetUnreachableError")


def check_skip(method: Method, kind: ModelKind) -> None:
    """Raise `AssertionError` unless skip gives None or a reason."""
    reason = method.skip(tiny_problem(kind))
    assert reason is None or (isinstance(reason, str) and reason.strip()), "skip returns None or a reason"


RULES: dict[str, Callable[[Method, ModelKind], None]] = {
    "skip gives None or a reason": check_skip,
    "plans fit, meet the target and survive JSON": check_plans,
    "the same seed gives the same plan": check_reproducible,
    "the dense model is left alone": check_untouched,
    "nothing is printed": check_silent,
    "global random state is left alone": check_random_state,
    "the budget is kept": check_budget,
    "a target out of reach is said": check_unreachable,
}
"""Rule -> check; every check runs on every kind of model."""


def check_method(method: Method, kinds: tuple[ModelKind, ...] = KINDS) -> list[Violation]:
    """Rules that a method breaks, each with what happened; empty when it keeps them all.

    Models that the method skips are left out.
    """
    violations = []
    for kind in kinds:
        if method.skip(tiny_problem(kind)):
            continue
        for rule, check in RULES.items():
            try:
                check(method, kind)
            except AssertionError as error:
                violations.append(Violation(rule, f"{kind} model: {error}"))
            except Exception as error:  # noqa: BLE001 - whatever a plug-in raises is what is wrong with it
                violations.append(Violation(rule, f"{kind} model: {type(error).__name__}: {error}"))
    return violations


class MethodContract:
    """pytest suite of all rules; a subclass gives the method as a fixture named ``method``."""

    def test_keeps_every_rule_on_a_plain_model(self, method: Method) -> None:
        """Check a chain of convolutions."""
        self._check(method, "plain")

    def test_keeps_every_rule_on_a_residual_model(self, method: Method) -> None:
        """Check groups that are tied by additions."""
        self._check(method, "residual")

    def test_keeps_every_rule_on_a_depthwise_model(self, method: Method) -> None:
        """Check groups that run through depthwise convolutions."""
        self._check(method, "depthwise")

    def test_keeps_every_rule_on_a_concat_model(self, method: Method) -> None:
        """Check a consumer that belongs to two groups."""
        self._check(method, "concat")

    @staticmethod
    def _check(method: Method, kind: ModelKind) -> None:
        broken = check_method(method, (kind,))
        assert not broken, "\n".join(f"{violation.rule}: {violation.message}" for violation in broken)
