"""Parameters of AMC, as a spec gives them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hdapbench.method import Method


class Parameters(Method):
    """Parameters of AMC as a spec sets them; `Amc` explains how they work together."""

    reward: Literal["constrained", "guaranteed"] = Field(
        default="constrained", description="Accuracy under the target, or accuracy guaranteed first."
    )
    episodes: int = Field(default=400, ge=1, description="Strategies tried at most; fewer when the budget ends.")
    warmup_share: float = Field(default=0.25, ge=0.0, le=1.0, description="Share of episodes with random actions.")
    decay: float | None = Field(
        default=None, gt=0.0, le=1.0, description="Factor on the exploration per episode; null fits it to their number."
    )
    discount: float = Field(default=0.0, ge=0.0, le=1.0, description="Weight of later rewards within an episode.")
    imitation: int = Field(default=50, ge=0, description="Steps towards the best strategy so far, per episode.")
    least_share: float = Field(default=0.2, ge=0.0, le=1.0, description="Least share of channels that a group keeps.")
    round_to: int = Field(default=1, ge=1, description="Widths are multiples of this; 8 as published.")
    recalibrate: int = Field(default=256, ge=0, description="Images to estimate batch norms anew on, per evaluation.")
    tune_epochs: float = Field(default=0.0, ge=0.0, description="Fine-tuning before each evaluation.")
    reconstruct: Literal["none", "best", "each"] = Field(
        default="best", description="Which strategies' weights are refit by least squares; each as published."
    )
    criterion: Literal["l1", "l2", "taylor", "consumers", "osscar", "thinet", "hrank"] = Field(
        default="l1", description="Which channels of a group stay."
    )
    warmup_deviation: float | None = Field(
        default=0.35,
        gt=0.0,
        description="Of random actions, around uniform pruning; null draws them from all of [0, 1].",
    )
    deviation: float = Field(default=0.4, gt=0.0, description="Of explored actions when the warm-up ends.")
    least_deviation: float = Field(default=0.2, ge=0.0, description="Below which exploration does not fall.")
    explored: float = Field(
        default=0.25,
        gt=0.0,
        le=1.0,
        description="Share of an episode's actions that explore; the others are the agent's own.",
    )
