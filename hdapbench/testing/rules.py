"""The rules that every method keeps, and what breaking one looks like."""

from __future__ import annotations

from dataclasses import dataclass

from hdapbench.testing.problems import ModelKind
from hdapbench.testing.source_line import SourceLine

PARAMETERS = "parameters survive JSON"
SKIP = "skip gives None or a reason"
PLAN = "every group is planned"
TARGET = "the target is met"
SEED = "the same seed gives the same plan"
BUDGET = "the budget is kept"
UNREACHABLE = "a target out of reach is said"
UNTOUCHED = "the dense model is left alone"
PUBLIC = "the problem is asked, not opened or changed"
SILENT = "nothing is printed"
FILES = "no file is written"
RANDOM = "global random state is left alone"
SETTINGS = "global settings are left alone"
NETWORK = "nothing is connected to"
CARD = "the card is true"

RULES: dict[str, str] = {
    PARAMETERS: "a trial is known by its parameters, which are stored as JSON and read back",
    SKIP: "None, or a text such as 'needs batch norm', which becomes the trial's row",
    PLAN: "a Plan that keeps a channel or more of every group, removed blocks aside, and reads back as it was",
    TARGET: "FLOPs, as problem.cost counts them, stay at or below problem.target_flops, and costs below problem.limit",
    SEED: "random numbers come from problem.rng, and nothing is remembered from one trial to the next",
    BUDGET: "a spent budget ends in BudgetExceededError or in the best plan so far",
    UNREACHABLE: "TargetUnreachableError when no plan meets the target",
    UNTOUCHED: "models to work on come from problem.model()",
    PUBLIC: "names with an underscore are hdapbench's own, behind them lies the test split; nothing is assigned",
    SILENT: "progress goes through problem.progress(text)",
    FILES: "trained weights go through problem.training.keep_weights, facts through problem.remember",
    RANDOM: "random, numpy.random and torch's generator belong to everybody; draw from problem.rng",
    SETTINGS: "directory, dtype, gradient mode, threads and error handling belong to everybody",
    NETWORK: "what a method needs is in its problem or in its package",
    CARD: "what the docstring says it never sees is not asked for",
}
"""Rule -> what keeping it means."""


@dataclass(frozen=True)
class Violation:
    """A rule that a method breaks.

    Attributes
    ----------
    rule
        One of `RULES`.
    message
        What happened, and what to do.
    kind
        Model on which it happened; None when it does not depend on one.
    place
        Line of the method that did it, where that can be told.
    """

    rule: str
    message: str
    kind: ModelKind | None = None
    place: SourceLine | None = None

    def __str__(self) -> str:
        model = f"{self.kind} model: " if self.kind else ""
        line = f" ({self.place})" if self.place else ""
        return f"{self.rule}: {model}{self.message}{line}"
