"""Method: the base class of all pruning methods, those that ship and those of plug-ins."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

from hdapbench.plan import Plan
from hdapbench.spec import TargetKind

if TYPE_CHECKING:
    from hdapbench.method.problem import Problem


class Method(BaseModel, ABC):
    """Base of all methods. Fields of a subclass are its parameters in the spec.

    Attributes
    ----------
    name
        How a spec names the method.
    extra
        The pip extra that brings the packages it needs, or None.
    targets
        Kinds of targets that it can meet; trials of other kinds are skipped.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: ClassVar[str]
    extra: ClassVar[str | None] = None
    targets: ClassVar[frozenset[TargetKind]] = frozenset({"flops"})

    def skip(self, problem: Problem) -> str | None:  # noqa: ARG002 - subclasses use it
        """Reason why this method cannot take the problem ("needs batch norm"), or None."""
        return None

    @abstractmethod
    def compress(self, problem: Problem) -> Plan:
        """Plan that meets ``problem.target_flops``, and ``problem.limit`` where the target is of another kind.

        Raises
        ------
        TargetUnreachableError
            When no plan of this method meets the target.
        BudgetExceededError
            When the method needs more than its budget.
        """
