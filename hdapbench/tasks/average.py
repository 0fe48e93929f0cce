"""Exponential moving average of a network's weights during training (Polyak and Juditsky 1992)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

WARM_UP = 10
"""The n-th update decays by (1 + n) / (10 + n) at most: early weights are forgotten soon."""


class WeightAverage:
    """Running average of everything in a state dict, statistics of batch norm included.

    Parameters
    ----------
    model
        Where the average starts.
    decay
        Weight of the past, in (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._n_updates = 0
        self._average = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def update(self, model: nn.Module) -> None:
        """Take in the model's present weights."""
        self._n_updates += 1
        decay = min(self._decay, (1 + self._n_updates) / (WARM_UP + self._n_updates))
        with torch.no_grad():
            for name, value in model.state_dict().items():
                self._update_one(self._average[name], value, decay)

    def copy_to(self, model: nn.Module) -> None:
        """Put the average into the model."""
        model.load_state_dict(self._average, strict=True)

    def state(self) -> dict[str, Any]:
        """What `resume` goes on from."""
        return {"n_updates": self._n_updates, "average": self._average}

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._n_updates = state["n_updates"]
        for name, value in state["average"].items():
            self._average[name].copy_(value)

    @staticmethod
    def _update_one(average: Tensor, value: Tensor, decay: float) -> None:
        if average.is_floating_point():
            average.lerp_(value, 1.0 - decay)
        else:
            average.copy_(value)  # counters
