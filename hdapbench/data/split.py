"""Stratified orders: any prefix of such an order holds every class in its share of the whole."""

from __future__ import annotations

import numpy as np

from hdapbench.arrays import Integers

SPLIT_SEED = 20_080_901
"""All splits of a data set use this seed, so that results of different specs can be compared."""


def stratified_order(labels: Integers, *, seed: int = SPLIT_SEED) -> Integers:
    """Permutation of the images, every prefix of which is stratified by class.

    Splits are then plain slices, and slices of a mapped file cost no memory.

    Parameters
    ----------
    labels : ndarray, shape (n,)
        Class of each image.
    seed
        Fixes which images of a class come first.
    """
    rng = np.random.default_rng(seed)
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        # The k-th image of a class stands at (k + u) / n of the whole, with one u per class to avoid ties.
        ranks = rng.permutation(len(members)) + rng.uniform(0.25, 0.75)
        position[members] = ranks / len(members)
    return np.argsort(position, kind="stable")


def share_count(n_images: int, share: float, n_classes: int) -> int:
    """Images in a part of the given share: at least one per class, and at least one per class left over."""
    return int(np.clip(round(share * n_images), min(n_classes, n_images // 2), n_images - n_classes))
