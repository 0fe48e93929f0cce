"""One call of ``compress`` on a tiny problem, with everything that it did beside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from hdapbench.bench.limit import Limit
from hdapbench.errors import BudgetExceededError, TimeLimitError
from hdapbench.method import Method
from hdapbench.method.budget import Budget
from hdapbench.method.isolation import Settings
from hdapbench.spec import BudgetSpec, TargetKind, parse_target
from hdapbench.testing.problems import ModelKind, tiny_workbench
from hdapbench.testing.source_line import OwnCode, SourceLine, forgiving, line_that_changes
from hdapbench.testing.state import RandomState, Snapshot, changed_parts, dense_snapshot
from hdapbench.testing.watch import Findings, WatchedProblem, watched

SEED = 5

LONGEST_SECONDS = 120.0
"""What one call may take; the models are tiny."""


@dataclass(frozen=True)
class Assignment:
    """What is asked of a method: a model, a limit, and a budget; a plan, or a reason to skip it."""

    kind: ModelKind
    limit: Limit
    budget: BudgetSpec = field(default_factory=BudgetSpec)
    asked: Literal["compress", "skip"] = "compress"

    @property
    def skipping(self) -> Assignment:
        """The same, where the method is asked for a reason to skip it."""
        return replace(self, asked="skip")

    @classmethod
    def relative(cls, kind: ModelKind, share: float, budget: BudgetSpec | None = None) -> Assignment:
        """Assignment with a FLOPs target relative to the dense model."""
        dense = tiny_workbench(kind).network.cost.dense.flops
        return cls(kind, Limit.on_flops(int(share * dense)), budget or BudgetSpec())

    @classmethod
    def limited(cls, kind: ModelKind, target: TargetKind, share: float) -> Assignment:
        """Assignment with a target of another kind than FLOPs, relative to the dense model, for bits at 8 bits."""
        return cls(kind, tiny_workbench(kind).limit(parse_target(f"{share}x {target}"), seed=SEED))

    @property
    def name(self) -> str:
        """The target in a few letters: ``0.7x``, or ``size``."""
        if self.limit.kind != "flops":
            return self.limit.kind
        return f"{self.limit.flops / tiny_workbench(self.kind).network.cost.dense.flops:.1f}x"

    def problem(self) -> WatchedProblem:
        """Fresh problem, always of the same seed."""
        budget = Budget(self.budget.model_copy(update={"wall_seconds": LONGEST_SECONDS}))
        return WatchedProblem(tiny_workbench(self.kind), self.limit, seed=SEED, budget=budget)


@dataclass(frozen=True)
class Attempt:
    """What came of an assignment: a plan (whatever was returned) or an exception, and what was seen on the way.

    Attributes
    ----------
    problem
        The problem as the method left it; its budget says what was spent.
    findings
        Prints, files, connections, private names, training images.
    changed
        Kind of state (``random``, ``settings``, ``dense``) -> names of the parts that the method changed.
    """

    plan: object
    error: BaseException | None
    problem: WatchedProblem
    findings: Findings
    changed: dict[str, list[str]]

    @property
    def late(self) -> bool:
        """Whether it had to be stopped."""
        stopped = isinstance(self.error, BudgetExceededError | TimeLimitError)
        return stopped and self.problem.budget.spent.wall_seconds > LONGEST_SECONDS


class Attempts:
    """Carries out assignments with one method, and leaves the process as it was.

    Parameters
    ----------
    method
        The method.
    own
        Its code.
    """

    def __init__(self, method: Method, own: OwnCode) -> None:
        self._method, self._own = method, own

    def once(self, assignment: Assignment) -> Attempt:
        """What the method makes of the assignment."""
        problem, findings = assignment.problem(), Findings()
        problem.watch(findings, self._own)
        randomness, settings = RandomState.now(), Settings.now()
        states = _states(assignment, problem)
        before = {what: snapshot() for what, snapshot in states.items()}
        plan: object = None
        error: BaseException | None = None
        try:
            with watched(findings, self._own), problem.budget.enforced():
                plan = getattr(self._method, assignment.asked)(problem)
        except KeyboardInterrupt:
            raise
        except BaseException as raised:  # noqa: BLE001 - whatever a plug-in raises is what is wrong with it
            error = raised
        changed = {what: changed_parts(before[what], snapshot()) for what, snapshot in states.items()}
        randomness.restore()
        settings.restore()
        if changed["dense"]:
            tiny_workbench.cache_clear()  # nobody else gets the model that was spoilt
        return Attempt(plan, error, problem, findings, changed)

    def line_that_changes(self, assignment: Assignment, what: str) -> SourceLine | None:
        """Line of the method that changes ``random``, ``settings`` or ``dense`` state, found by running it again."""
        randomness, settings = RandomState.now(), Settings.now()
        problem = assignment.problem()
        snapshot = _states(assignment, problem)[what]
        before = snapshot()
        found = line_that_changes(
            self._own, lambda: self.quietly(assignment, problem), lambda: bool(changed_parts(before, snapshot()))
        )
        randomness.restore()
        settings.restore()
        if what == "dense":
            tiny_workbench.cache_clear()
        return found

    def line_that_spends(self, assignment: Assignment, account: str) -> SourceLine | None:
        """Line of the method that first charges an account, found by running it again."""
        problem = assignment.problem()
        return line_that_changes(
            self._own, lambda: self.quietly(assignment, problem), lambda: getattr(problem.budget.spent, account) > 0
        )

    def quietly(self, assignment: Assignment, problem: WatchedProblem | None = None) -> None:
        """Call the method, heard by nobody; with a problem of the assignment that is at hand, or a fresh one."""
        problem = problem or assignment.problem()
        with forgiving(), watched(Findings(), self._own), problem.budget.enforced():
            getattr(self._method, assignment.asked)(problem)


def _states(assignment: Assignment, problem: WatchedProblem) -> dict[str, Callable[[], Snapshot]]:
    """What methods must leave alone, by name -> how it is now."""
    bench = tiny_workbench(assignment.kind)
    return {
        "random": lambda: RandomState.now().snapshot(),
        "settings": lambda: Settings.now().snapshot(),
        "dense": lambda: dense_snapshot(bench, problem),
    }
