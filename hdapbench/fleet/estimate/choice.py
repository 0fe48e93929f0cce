"""Which estimator to use: the one that erred least in the study of docs/fleets.md at this many measured devices."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from math import exp, log
from statistics import fmean
from typing import Any

from hdapbench.fleet.estimate.estimators import ESTIMATORS, Estimator

_STUDY = "fleet/estimate/study.json"


@dataclass(frozen=True)
class Choice:
    """An estimator, and why."""

    estimator: Estimator
    reason: str


@cache
def study() -> dict[str, Any]:
    """Results that ``python -m studies.fleets`` wrote: error and coverage per scenario, estimator and n."""
    return dict(json.loads(resources.files("hdapbench").joinpath(_STUDY).read_text()))


def choose_estimator(n_measured: int) -> Choice:
    """Estimator of least error in the study, at the number of measured devices nearest to ``n_measured``.

    Errors of scenarios are averaged geometrically, so that the widest fleet does not decide alone. Of equals the
    earlier in `ESTIMATORS` is taken.
    """
    rows = study()["rows"]
    n = min({row["n"] for row in rows}, key=lambda known: abs(log(known / max(n_measured, 1))))
    errors = {
        name: [row["error_95"] for row in rows if row["n"] == n and row["estimator"] == name] for name in ESTIMATORS
    }
    typical = {name: exp(fmean(map(log, values))) for name, values in errors.items() if values}
    best = min(typical, key=lambda name: typical[name])
    rivals = ", ".join(f"{name} {value:.1%}" for name, value in typical.items() if name != best)
    return Choice(best, f"least 95 % error of the study at {n} devices: {typical[best]:.1%} ({rivals})")
