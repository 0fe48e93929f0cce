"""What plans keep of the model's importance: additive over groups, which an exact search needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from hdapbench.arrays import Floats
from hdapbench.search import AdditiveImportance

Criterion = Literal["auto", "fisher", "sqrt_taylor", "taylor", "l1", "l2", "bn_scale", "osscar", "thinet", "hrank"]
BOTH: tuple[Criterion, ...] = ("fisher", "bn_scale")
"""What ``auto`` searches with: gradients of a network that knows its training images by heart say little, and scales
of batch norms say little where layers share a residual stream."""


def importance_table(groups: Sequence[str], scores: Mapping[str, Floats], criterion: Criterion) -> AdditiveImportance:
    """Importance that a group keeps at every width, as a share of the model's total.

    Fisher scores estimate what removing a channel adds to the loss, so they are added as they are. The others have no
    common unit: there, what a group loses counts with its square, for half of one group costs more than a quarter of
    two. ``python -m studies.importance`` compares them with accuracies after fine-tuning.
    """
    if criterion == "fisher":
        return AdditiveImportance.of_scores([scores[name] for name in groups])
    total = sum(float(scores[name].sum()) for name in groups)
    tables = []
    for name in groups:
        mass = float(scores[name].sum())
        kept = np.concatenate([[0.0], np.cumsum(np.sort(scores[name])[::-1]) / max(mass, 1e-300)])
        tables.append(mass / total * (1.0 - np.maximum(1.0 - kept, 0.0) ** 2))
    return AdditiveImportance(tuple(tables))
