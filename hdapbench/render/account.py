"""Which of a method's decisions are told in words of their own: those in the shapes below.

A plug-in may use the same names for something else; `hdapbench explain` then shows that like any other fact.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, PositiveFloat, PositiveInt, TypeAdapter, ValidationError, model_validator


class _Search(BaseModel):
    """How a search went; its trace holds evaluations and the best value so far."""

    algorithm: str
    n_evaluations: int
    unit: Literal["ms", "FLOPs"]
    value: float
    bound: float | None = None
    gap: float | None = None
    levels: str | None = None
    reason: str | None = None
    trace: list[tuple[PositiveInt, float]] = []

    @model_validator(mode="after")
    def _a_bound_has_a_gap(self) -> Self:
        if self.bound is not None and self.gap is None:
            raise ValueError("a bound without a gap")
        return self


class _Agreement(BaseModel):
    """`hdapbench.surrogate.report_card.Agreement`, without what that module needs."""

    mape: float
    within_5: float
    bias: float
    spearman: float
    kendall: float
    top_k_regret: float
    n: int


class _ReportCard(BaseModel):
    """`hdapbench.surrogate.report_card.ReportCard`."""

    kind: str
    n_plans: int
    n_clusters: int
    plans: _Agreement | None
    devices: _Agreement | None
    learning_curve: list[tuple[int, float]]
    optimum_error: float | None


class _Round(BaseModel):
    """An optimum that was measured."""

    predicted_ms: float
    measured_ms: PositiveFloat


class _Compared(BaseModel):
    """A plan that was compared with others, and what was looked at."""

    plan: str
    latency_ms: float = 0.0
    flops: float = 0.0
    recalibrated_loss: float = 0.0
    accuracy_at_once: float = 0.0
    accuracy: float = 0.0


SHAPES: Mapping[str, TypeAdapter[Any]] = {
    "search": TypeAdapter(_Search),
    "surrogate": TypeAdapter(_ReportCard),
    "rounds": TypeAdapter(list[_Round]),
    "accuracies": TypeAdapter(list[_Compared]),
    "predicted_ms": TypeAdapter(list[float]),
    "dense_widths": TypeAdapter(dict[str, PositiveInt]),
    "uniform_widths": TypeAdapter(dict[str, int]),
    "why": TypeAdapter(str),
}
"""Name of a decision -> what it holds where it is told in words."""


def split_decisions(decisions: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Decisions that are told in words, and the others; both name -> value as it was stored."""
    told = {name: value for name, value in decisions.items() if name in SHAPES and _fits(SHAPES[name], value)}
    return told, {name: value for name, value in decisions.items() if name not in told}


def amount(value: float, unit: str) -> str:
    """``1.205 ms`` or ``23,177,216 FLOPs``."""
    return f"{value:.4g} {unit}" if unit == "ms" else f"{value:,.0f} {unit}"


def search_sentences(search: Mapping[str, Any]) -> list[str]:
    """What a search found, how far from the optimum that is at most, and why it was not the exact one."""
    unit = search["unit"]
    found, of = ("predicted ", " of this surrogate") if unit == "ms" else ("", "")
    said = [
        f"{search['algorithm']}, {search['n_evaluations']:,} evaluations, {found}{amount(search['value'], unit)}",
    ]
    if search.get("bound") is not None:
        over = f" over {search['levels']}" if search.get("levels") else ""
        said.append(
            f"no plan{of} is below {amount(search['bound'], unit)}: within {search['gap']:.2%} of optimal{over}"
        )
    if search.get("reason"):
        said.append(search["reason"])
    return said


def _fits(shape: TypeAdapter[Any], value: object) -> bool:
    try:
        shape.validate_json(json.dumps(value), strict=True)
    except ValidationError:
        return False
    return True
