"""Parameters of HDAP, as a spec gives them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from hdapbench.method import Method
from hdapbench.search import Algorithm
from hdapbench.surrogate.fit import SurrogateName

from .importance import Criterion
from .measuring import Devices
from .presets import PRESETS, Preset

Guard = Literal["ranking", "uniform", "none"]


class Parameters(Method):
    """Parameters of HDAP as a spec sets them; `Hdap` explains how they work together."""

    preset: Preset = Field(default="default", description="paper: the public recipe.")
    n_plans: int = Field(default=80, ge=8, description="Plans measured before searches, in all iterations together.")
    surrogate: SurrogateName = Field(default="nnls", description="gbrt-on-ratios is the public recipe.")
    searcher: Algorithm = Field(
        default="exact",
        description="exact, genetic, cma-es, ncs (as published), ncs-refined, greedy or random; exact falls back to "
        "genetic, and says so, if the surrogate is not a sum over kernels or the layer graph is too wide.",
    )
    evaluations: int = Field(default=10_000, ge=10, description="Predictions per search, unless it is exact.")
    active_plans: int = Field(
        default=48, ge=0, description="Plans measured in active rounds: the optimum and plans near it, then a refit."
    )
    plans_per_round: int = Field(default=12, ge=1, description="Plans measured per round.")
    tolerance: float = Field(
        default=0.02, ge=0.0, description="Rounds end when prediction and measurement twice differ by at most this."
    )
    devices: Devices = Field(default="fleet", description="Whose latency counts: fleet, one_cluster or nominal.")
    cluster_weights: Literal["share", "equal"] = Field(default="share", description="How clusters are weighted.")
    goal: Literal["latency", "flops"] = Field(default="latency", description="What to minimise; flops needs no device.")
    criterion: Criterion = Field(
        default="auto",
        description="Importance of channels, and so of widths; auto searches by fisher and, if the model has batch "
        "norms, by bn_scale, and compares the results.",
    )
    n_images: int = Field(default=2048, ge=1, description="Training images for importance from gradients.")
    guard: Guard = Field(default="ranking", description="Reference plan whose lost importance limits that of plans.")
    guard_levels: tuple[float, ...] = Field(
        default=(2.0, 1.5, 1.25, 1.0, 0.9),
        min_length=1,
        description="Importance that a plan may lose, relative to the guard's.",
    )
    least_width_share: float = Field(default=0.0, ge=0.0, le=1.0, description="Smallest width, relative to uniform's.")
    least_flops_share: float = Field(
        default=0.0, ge=0.0, le=1.0, description="Smallest share of the FLOPs target to use; 0: only the target binds."
    )
    round_to: int = Field(default=1, ge=1, description="Widths are multiples of this, or dense.")
    choice: Literal["accuracy", "loss", "guard", "alpha"] = Field(
        default="accuracy",
        description="How plans are compared: accuracy (recalibrated loss, then accuracy after fine-tuning), loss (that "
        "loss alone), guard (no comparison) or alpha (the public recipe's penalty).",
    )
    shortlist: int = Field(
        default=4, ge=1, description="Largest number of plans that are fine-tuned (alpha: evaluated)."
    )
    shortlist_epochs: float | None = Field(
        default=None, ge=0.0, description="Epochs of fine-tuning before the comparison; null: as many as the final one."
    )
    accuracy_tolerance: float = Field(default=0.005, ge=0.0, description="Accuracy that a faster plan may lose.")
    loss_tolerance: float = Field(
        default=0.1, ge=0.0, description="Recalibrated loss that a faster plan may add, relative to the reference's."
    )
    accuracy_limit: float = Field(default=0.05, gt=0.0, lt=1.0, description="Accuracy loss without a penalty (alpha).")
    reconstruct: bool = Field(
        default=True, description="Adjust the kept weights to compensate for removed channels, by least squares."
    )
    iterations: int = Field(default=1, ge=1, description="Steps in which FLOPs fall to the target.")
    iteration_epochs: float = Field(default=1.0, ge=0.0, description="Epochs of fine-tuning between steps.")

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        """Parameters of the preset, where none were given; lists, as YAML has them, for tuples."""
        if not isinstance(values, dict):
            return values
        if isinstance(values.get("guard_levels"), list):
            values = values | {"guard_levels": tuple(values["guard_levels"])}
        return PRESETS.get(values.get("preset", "default"), {}) | values
