"""Parameters that belong together: the public recipe, and ours."""

from __future__ import annotations

from typing import Any, Literal

Preset = Literal["default", "paper"]

PAPER: dict[str, Any] = {
    "surrogate": "gbrt-on-ratios",
    "n_plans": 100,
    "searcher": "ncs",
    "evaluations": 300,
    "active_plans": 0,
    "importance_guard": 0.0,
    "least_width_share": 0.0,
    "cluster_weights": "equal",
}
"""Our reading of the public descriptions: gradient-boosted trees on the kept shares of 100 measured plans, negatively
correlated search with ten climbers and 30 generations, and the clusters' unweighted mean."""

PRESETS: dict[Preset, dict[str, Any]] = {"default": {}, "paper": PAPER}
