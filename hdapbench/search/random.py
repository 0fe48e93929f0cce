"""Random search: shares drawn independently, repaired to the limits. What any searcher must beat."""

from __future__ import annotations

import numpy as np

from hdapbench.arrays import Integers
from hdapbench.search.repair import repaired
from hdapbench.search.space import Archive


def search(archive: Archive, start: Integers, rng: np.random.Generator) -> None:
    """Spend an archive's evaluations on random plans, after the given ones."""
    archive.evaluate(start)
    sizes = archive.space.cost.sizes
    while not archive.exhausted:
        shares = rng.uniform(0.05, 1.0, size=(min(256, archive.left), len(sizes)))
        archive.evaluate(repaired(archive.space, shares * sizes))
