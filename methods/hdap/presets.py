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
    "criterion": "l1",
    "guard": "none",
    "least_flops_share": 0.97,
    "choice": "alpha",
    "reconstruct": False,
    "shortlist": 10,
    "iterations": 5,
    "cluster_weights": "equal",
}
"""Our reading of the public descriptions: gradient-boosted trees on the kept shares of 100 measured plans, negatively
correlated search with ten climbers and 30 generations, accuracy as a penalty of those ten, five rounds of pruning and
fine-tuning that use each FLOPs target up, and the clusters' unweighted mean. How channels are chosen is not described;
L1 is the usual choice."""

PRESETS: dict[Preset, dict[str, Any]] = {"default": {}, "paper": PAPER}
