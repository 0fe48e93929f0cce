"""State that a method must leave as it found it: global random generators, global settings, the dense model."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hdapbench.method import Problem

if TYPE_CHECKING:
    from hdapbench.bench.workbench import Workbench

Snapshot = dict[str, object]
"""Name of a thing -> something that compares equal as long as the thing is the same."""


def changed_parts(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """Names of the things that differ."""
    return [name for name in before if before[name] != after[name]]


@dataclass(frozen=True)
class RandomState:
    """The global generators of python, numpy and torch."""

    python: Any
    numpy: Any
    torch: Any

    @classmethod
    def now(cls) -> RandomState:
        """State at this moment."""
        import torch

        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state())  # noqa: NPY002 - what is watched

    def restore(self) -> None:
        """Bring the generators back."""
        import torch

        random.setstate(self.python)
        np.random.set_state(self.numpy)  # noqa: NPY002
        torch.set_rng_state(self.torch)

    def snapshot(self) -> Snapshot:
        """What compares."""
        kind, keys, *rest = self.numpy
        return {
            "random": self.python,
            "numpy.random": (kind, keys.tobytes(), *rest),
            "torch": self.torch.numpy().tobytes(),
        }


def dense_snapshot(bench: Workbench, problem: Problem) -> Snapshot:
    """The dense model and what describes it to a method."""
    from hdapbench.models import state_hash

    model = bench.network.model
    return {
        "the dense model's weights": state_hash(model),
        "the dense model's training mode": [module.training for module in model.modules()],
        "the dense model's requires_grad": [parameter.requires_grad for parameter in model.parameters()],
        "the dense model's hooks": [len(module._forward_hooks) for module in model.modules()],
        "problem.cost.sizes": bench.network.cost.sizes.tolist(),
        "problem.groups": [(name, group.n_channels) for name, group in problem.groups.items()],
    }
