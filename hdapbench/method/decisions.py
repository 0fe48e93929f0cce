"""What a method decided, and why: values that methods remember and ``hdapbench explain`` tells in words.

A plug-in may remember other facts, or the same names in other shapes; those are shown as they were stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt, ValidationError, model_validator

from hdapbench.surrogate.report_card import ReportCard


class _Decision(BaseModel):
    model_config = ConfigDict(frozen=True)


class SearchAccount(_Decision):
    """How a search went: its best value and a bound below it in ``unit``, and (evaluations, best value so far)."""

    algorithm: str
    n_evaluations: int
    unit: Literal["ms", "FLOPs"]
    value: float
    bound: float | None = None
    gap: float | None = None
    levels: str | None = None
    trace: tuple[tuple[PositiveInt, float], ...] = ()
    reason: str | None = None

    @model_validator(mode="after")
    def _a_bound_has_a_gap(self) -> Self:
        if self.bound is not None and self.gap is None:
            raise ValueError("a bound without a gap")
        return self


class MeasuredOptimum(_Decision):
    """What a search found, as predicted and as measured then."""

    predicted_ms: float
    measured_ms: PositiveFloat

    @property
    def error(self) -> float:
        """Predicted over measured, minus one."""
        return self.predicted_ms / self.measured_ms - 1.0


class ComparedPlan(_Decision):
    """A plan that was compared with others, and what was looked at."""

    plan: str
    latency_ms: float | None = None
    flops: float | None = None
    recalibrated_loss: float | None = None
    accuracy_at_once: float | None = None
    accuracy: float | None = None


class Decisions(_Decision):
    """Decisions under the names by which they are remembered; None where there is none of that shape.

    ``predicted_ms`` holds one latency per cluster. ``dense_widths`` and ``uniform_widths`` map groups to channels.
    """

    model_config = ConfigDict(extra="forbid")

    search: SearchAccount | None = None
    surrogate: ReportCard | None = None
    rounds: tuple[MeasuredOptimum, ...] | None = None
    accuracies: tuple[ComparedPlan, ...] | None = None
    predicted_ms: tuple[float, ...] | None = None
    dense_widths: dict[str, PositiveInt] | None = None
    uniform_widths: dict[str, int] | None = None
    why: str | None = None


def read_decisions(stored: Mapping[str, Any]) -> tuple[Decisions, dict[str, Any]]:
    """Stored facts that have the shape of a decision, and all others as they were stored."""
    told, others = Decisions(), {}
    for name, value in stored.items():
        try:
            found = getattr(Decisions.model_validate_json(json.dumps({name: value}), strict=True), name)
        except ValidationError:
            found = None
        if found is None:
            others[name] = value
        else:
            told = told.model_copy(update={name: found})
    return told, others


def as_json(value: object) -> Any:
    """Plain JSON of a decision, of several, or of any other fact; numpy's numbers are numbers.

    Raises
    ------
    TypeError, ValueError
        When it holds what JSON cannot say.
    """
    text = json.dumps(value, allow_nan=False, default=_plain, ensure_ascii=False)
    return json.loads(text.encode("utf-8", "replace"))  # halves of characters, which no file can hold, become "?"


def _plain(value: object) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, ReportCard):
        return asdict(value)
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
