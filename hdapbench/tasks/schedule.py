"""Learning rates per step, as fractions of a recipe's peak."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["onecycle", "cosine", "constant"]

WARM_UP_SHARE = 0.3
START_DIVISOR = 25.0
FINAL_DIVISOR = 1e4
"""The one-cycle policy starts at 1/25 of the peak and ends at 1/10,000 of that start (Smith and Topin 2018)."""


def learning_rate_factor(schedule: Schedule, step: int, n_steps: int) -> float:
    """Learning rate at a step, divided by the recipe's learning rate.

    Parameters
    ----------
    schedule
        ``constant``; ``cosine`` from 1 to 0; ``onecycle`` up over the first 30 % of the steps, then down to nearly 0.
    step
        From 0 to ``n_steps - 1``.
    n_steps
        Steps of the whole training.
    """
    if schedule == "constant":
        return 1.0
    progress = step / n_steps
    if schedule == "cosine":
        return _between(1.0, 0.0, progress)
    if progress < WARM_UP_SHARE:
        return _between(1.0 / START_DIVISOR, 1.0, progress / WARM_UP_SHARE)
    end = 1.0 / (START_DIVISOR * FINAL_DIVISOR)
    return _between(1.0, end, (progress - WARM_UP_SHARE) / (1.0 - WARM_UP_SHARE))


def _between(start: float, end: float, progress: float) -> float:
    """Value of a half cosine wave that leads from start to end."""
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * progress))
