"""What plans keep of the model's importance: additive over groups, which an exact search needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hdapbench.search import AdditiveImportance

Floats = NDArray[np.float64]


def importance_table(groups: Sequence[str], scores: Mapping[str, Floats]) -> AdditiveImportance:
    """Importance that a group keeps at every width, as a share of the model's total.

    What a group loses counts with its square: half of one group costs more than a quarter of two. With plain sums the
    search starved single groups: after a short fine-tune of ResNet56 on CIFAR-10 at 0.5x, one seed, plans had 63 %
    accuracy against 74 % of uniform pruning, with squares 69 %, at 0.93 of its latency.
    """
    total = sum(float(scores[name].sum()) for name in groups)
    tables = []
    for name in groups:
        mass = float(scores[name].sum())
        kept = np.concatenate([[0.0], np.cumsum(np.sort(scores[name])[::-1]) / max(mass, 1e-300)])
        tables.append(mass / total * (1.0 - np.maximum(1.0 - kept, 0.0) ** 2))
    return AdditiveImportance(tuple(tables))
