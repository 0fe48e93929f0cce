"""Method -> the rules that it breaks, on each kind of model, with the line that did it."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Iterator

import numpy as np

from hdapbench.bench.limit import Limit
from hdapbench.errors import BudgetExceededError, HdapbenchError, PlanError, TargetUnreachableError
from hdapbench.method import Method, Plan
from hdapbench.method.card import HIDEABLE, OPEN, card_of
from hdapbench.method.plans import flops_of
from hdapbench.spec import BudgetSpec
from hdapbench.testing import rules
from hdapbench.testing.attempt import LONGEST_SECONDS, SEED, Assignment, Attempt, Attempts
from hdapbench.testing.divergence import line_that_differs
from hdapbench.testing.problems import KINDS, ModelKind, tiny_workbench
from hdapbench.testing.rules import Violation
from hdapbench.testing.source_line import OwnCode, SourceLine, line_that_returns
from hdapbench.testing.watch import NetworkRefusedError

TARGETS = (0.7, 0.4)
LATENCY_TARGET = 0.97
"""Tiny models with one channel per group still take 0.89 to 0.94 of the dense one's latency."""

BUDGETS = (
    BudgetSpec(device_queries=5, accuracy_evals=0, train_epochs=0.0),
    BudgetSpec(device_queries=45, accuracy_evals=2, train_epochs=1.5),
)
"""Next to nothing, and what ends in the middle: a fingerprint of the tiny fleet alone is 36 queries."""

ACCOUNTS = {"latency": "device_queries", "accuracy": "accuracy_evals", "training images": "train_epochs"}


def check_method(method: Method, kinds: tuple[ModelKind, ...] = KINDS) -> list[Violation]:
    """Rules that a method breaks, each with what happened and where; empty when it keeps them all.

    Models that the method skips are left out.
    """
    checker = _Checker(method)
    found = list(checker.of_parameters())
    for kind in kinds:
        if not checker.late:  # it would be as late on every other model
            found += checker.on(kind)
    return list(dict.fromkeys(found))


def skipped_kinds(method: Method, kinds: tuple[ModelKind, ...] = KINDS) -> dict[ModelKind, str]:
    """Kinds of models that a method skips, and its reasons."""
    reasons: dict[ModelKind, str] = {}
    attempts = Attempts(method, OwnCode.of(type(method)))
    for kind in kinds:  # what skip does beside is reported by check_method
        reason = attempts.once(Assignment.relative(kind, TARGETS[0]).skipping).plan
        if isinstance(reason, str) and reason.strip():
            reasons[kind] = reason
    return reasons


class _Checker:
    """Checks one method."""

    def __init__(self, method: Method) -> None:
        self._method = method
        self._own = OwnCode.of(type(method))
        self._attempts = Attempts(method, self._own)
        self.late = False

    def of_parameters(self) -> Iterator[Violation]:
        """What is wrong whatever the model."""
        try:
            written = json.loads(json.dumps(self._method.model_dump(mode="json"), allow_nan=False))
            same = type(self._method)(**written) == self._method
        except Exception as error:  # noqa: BLE001 - pydantic and json raise several kinds
            fields = " ".join(str(error).split())[:200]
            yield Violation(
                rules.PARAMETERS,
                f"they cannot be written as JSON and read back: {fields}; use numbers, texts, lists of them and None",
            )
            return
        if not same:
            yield Violation(rules.PARAMETERS, "read back from JSON they are not what they were")

    def on(self, kind: ModelKind) -> Iterator[Violation]:
        """What is wrong on one kind of model."""
        skipping = Assignment.relative(kind, TARGETS[0]).skipping
        asked = self._attempts.once(skipping)
        yield from self._of_conduct(asked, skipping)
        yield from self._of_state(self._attempts.once(skipping), skipping)
        yield from self._of_card(asked, skipping)
        if asked.error is not None:
            yield Violation(rules.SKIP, f"skip raised {_said(asked.error)}", kind, self._own.of_error(asked.error))
            return
        reason = asked.plan
        if reason is not None and not (isinstance(reason, str) and reason.strip()):
            place = self._definition("skip")
            yield Violation(rules.SKIP, f"skip returned {reason!r}; None or a reason is meant", kind, place)
            return
        if reason is not None:
            return
        yield from self._of_other_targets(kind)
        if "flops" not in self._method.targets:
            return
        mild, strong = (Assignment.relative(kind, share) for share in TARGETS)
        first = self._attempts.once(mild)
        second = first if first.late else self._attempts.once(mild)
        yield from self._of_plan(first, mild)
        yield from self._of_conduct(first, mild)
        # The first run also imports what the method needs, and some packages draw random numbers when imported.
        yield from self._of_state(second, mild)
        if first.error is not None:
            return
        yield from self._of_seed(first, second, mild)
        yield from self._of_card(second, mild)
        again = self._attempts.once(strong)
        yield from self._of_plan(again, strong)
        for budget in BUDGETS:
            yield from self._of_budget(Assignment.relative(kind, TARGETS[0], budget))
        yield from self._of_unreachable(kind)

    def _of_plan(self, attempt: Attempt, assignment: Assignment) -> Iterator[Violation]:
        """A plan, which fits and meets the target."""
        kind, plan, error = assignment.kind, attempt.plan, attempt.error
        if isinstance(error, NetworkRefusedError):
            return
        if error is not None:
            message = f"at {assignment.name} compress raised {_said(error)}"
            self.late = attempt.late
            if attempt.late:
                late = f"compress did not end in {LONGEST_SECONDS:g} s, and other models were not tried"
                message = f"at {assignment.name} {late}"
            yield Violation(rules.PLAN, message, kind, self._own.of_error(error) or self._definition("compress"))
            return
        if not isinstance(plan, Plan):
            message = f"compress returned a {type(plan).__name__}, not a Plan"
            yield Violation(rules.PLAN, message, kind, self._returned(assignment))
            return
        try:
            groups = tiny_workbench(kind).network.group_set
            plan.check(groups.sizes, groups.removable)
        except PlanError as wrong:
            message = "; ".join(str(wrong).splitlines()[:3])
            yield Violation(rules.PLAN, f"at {assignment.name} {message}", kind, self._returned(assignment))
            return
        flops = flops_of(assignment.problem(), plan)
        if flops > assignment.limit.flops:
            over = flops / assignment.limit.flops - 1
            message = (
                f"at {assignment.name} the plan needs {flops:,} FLOPs, {over:.1%} above the target; "
                "use problem.solve_ratio or plan_by_scores"
            )
            yield Violation(rules.TARGET, message, kind, self._returned(assignment))
        yield from self._of_limit(plan, assignment)
        if (reason := _unusable(plan, kind)) is not None:
            yield Violation(rules.PLAN, reason, kind, self._returned(assignment))

    def _of_limit(self, plan: Plan, assignment: Assignment) -> Iterator[Violation]:
        """A target of another kind than FLOPs is met."""
        if assignment.limit.kind == "flops":
            return
        from hdapbench.run.evaluate import compact, quantize, use_of

        bench = tiny_workbench(assignment.kind)
        try:
            use = use_of(assignment.limit, bench, quantize(bench, compact(bench, plan)), seed=SEED)
        except PlanError as wrong:
            yield Violation(rules.PLAN, f"at {assignment.name} {wrong}", assignment.kind, self._returned(assignment))
            return
        if use is not None and use.excess is not None:
            yield Violation(rules.TARGET, use.excess, assignment.kind, self._returned(assignment))

    def _of_other_targets(self, kind: ModelKind) -> Iterator[Violation]:
        """Plans and conduct under the other kinds of targets that the method claims to meet, where in reach."""
        for target in sorted(self._method.targets - {"flops"}):
            assignment = Assignment.limited(kind, target, LATENCY_TARGET if target == "latency" else TARGETS[0])
            asked = self._attempts.once(assignment.skipping)
            if asked.error is not None or asked.plan is not None:
                continue
            attempt = self._attempts.once(assignment)
            yield from self._of_conduct(attempt, assignment)
            yield from self._of_card(attempt, assignment)
            if not isinstance(attempt.error, TargetUnreachableError):
                yield from self._of_plan(attempt, assignment)

    def _of_conduct(self, attempt: Attempt, assignment: Assignment) -> Iterator[Violation]:
        """What the method did beside planning."""
        kind, findings = assignment.kind, attempt.findings
        seen = (
            (rules.PUBLIC, findings.private, "{}"),
            (rules.SILENT, findings.printed, "it printed {}; use problem.progress(text)"),
            (rules.FILES, findings.written, "it wrote {}; use problem.training.keep_weights or problem.remember"),
            (rules.NETWORK, findings.connected, "it asked for {}"),
        )
        for rule, found, text in seen:
            if found:
                what, place = found[0]
                yield Violation(rule, text.format(what), kind, place)

    def _of_state(self, attempt: Attempt, assignment: Assignment) -> Iterator[Violation]:
        """What the method left changed."""
        states = (
            ("random", rules.RANDOM, "{} changed; draw from problem.rng, or fork torch's generator"),
            ("settings", rules.SETTINGS, "{} changed"),
            ("dense", rules.UNTOUCHED, "{} changed; work on problem.model(), and on copies of arrays"),
        )
        for what, rule, text in states:
            if parts := attempt.changed[what]:
                place = self._attempts.line_that_changes(assignment, what)
                yield Violation(rule, text.format(", ".join(parts)), assignment.kind, place)

    def _of_seed(self, first: Attempt, second: Attempt, assignment: Assignment) -> Iterator[Violation]:
        """The same plan again."""
        if isinstance(first.plan, Plan) and second.plan != first.plan:
            what = "two runs of one seed gave two plans" if second.error is None else f"again: {_said(second.error)}"
            place = line_that_differs(self._own, lambda: self._attempts.quietly(assignment))
            hint = "; they part at this line" if place else ""
            message = f"{what}{hint}; draw random numbers from problem.rng only"
            yield Violation(rules.SEED, message, assignment.kind, place)

    def _of_card(self, attempt: Attempt, assignment: Assignment) -> Iterator[Violation]:
        """Nothing is asked for that the card says is never seen."""
        for hidden in card_of(type(self._method)).never_sees:
            if hidden == "latency" and assignment.limit.kind == "latency":
                continue  # a method that is given a limit on it may look at it
            if hidden not in ACCOUNTS:
                if hidden != OPEN:
                    known = ", ".join((*HIDEABLE, OPEN))
                    yield Violation(rules.CARD, f"'Never sees: {hidden}' cannot be checked; known: {known}")
                continue
            account = ACCOUNTS[hidden]
            spent = getattr(attempt.problem.budget.spent, account)
            if spent:
                place = self._attempts.line_that_spends(assignment, account)
                message = f"the card says it never sees {hidden}, and {spent:g} {account} were spent"
                yield Violation(rules.CARD, message, assignment.kind, place)
            elif hidden == "training images" and attempt.findings.images:
                message = "the card says it never sees training images, and it reads them"
                yield Violation(rules.CARD, message, assignment.kind, attempt.findings.images[0][1])

    def _of_budget(self, assignment: Assignment) -> Iterator[Violation]:
        """A tight budget ends in the right error or in a plan that is right."""
        attempt = self._attempts.once(assignment)
        spent, limits = attempt.problem.budget.spent, assignment.budget
        for account in ACCOUNTS.values():
            if getattr(spent, account) > getattr(limits, account):
                yield Violation(rules.BUDGET, f"more {account} than the budget allows", assignment.kind)
        if isinstance(attempt.error, BudgetExceededError | TargetUnreachableError):
            return
        said = (
            f"with {limits.device_queries} device queries, {limits.accuracy_evals} evaluations and "
            f"{limits.train_epochs:g} epochs"
        )
        if attempt.error is not None:
            message = f"{said} it raised {_said(attempt.error)}; let BudgetExceededError through or return a plan"
            yield Violation(rules.BUDGET, message, assignment.kind, self._own.of_error(attempt.error))
            return
        for wrong in self._of_plan(attempt, assignment):
            yield Violation(rules.BUDGET, f"{said}: {wrong.message}", assignment.kind, wrong.place)

    def _of_unreachable(self, kind: ModelKind) -> Iterator[Violation]:
        """A target below the least possible FLOPs is refused."""
        network = tiny_workbench(kind).network
        least = np.array(
            [not any(name in block for block in network.group_set.removable) for name in network.cost.groups]
        )
        assignment = Assignment(kind, Limit.on_flops(int(network.cost.flops(least)[0]) - 1))
        attempt = self._attempts.once(assignment)
        if isinstance(attempt.error, TargetUnreachableError):
            return
        wanted = "a target that no plan meets must raise TargetUnreachableError"
        if attempt.error is not None:
            place = self._own.of_error(attempt.error)
            yield Violation(rules.UNREACHABLE, f"{wanted}, not {_said(attempt.error)}", kind, place)
        else:
            yield Violation(rules.UNREACHABLE, f"{wanted}; a plan was returned", kind, self._returned(assignment))

    def _returned(self, assignment: Assignment) -> SourceLine | None:
        return line_that_returns(self._own, lambda: self._attempts.quietly(assignment))

    def _definition(self, name: str) -> SourceLine | None:
        function = getattr(type(self._method), name)
        file = inspect.getsourcefile(function)
        return SourceLine(file, function.__code__.co_firstlineno) if file else None


def _unusable(plan: Plan, kind: ModelKind) -> str | None:
    """Why a plan that fits cannot be stored, or cut out of the model, or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            same = Plan.model_validate_json(plan.model_dump_json()) == plan
    except Exception as error:  # noqa: BLE001 - pydantic raises several kinds
        return f"the plan cannot be written and read as JSON: {_said(error)}"
    if not same:
        return "the plan changes when written and read as JSON"
    from hdapbench.run.evaluate import bit_cost, compact, quantize

    try:
        quantized = quantize(tiny_workbench(kind), compact(tiny_workbench(kind), plan))
        if plan.weight_bits:
            bit_cost(quantized, "size")
    except HdapbenchError as error:
        return f"the plan cannot be carried out: {_said(error)}"
    return None


def _said(error: BaseException) -> str:
    """Exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
