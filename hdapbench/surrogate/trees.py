"""Gradient-boosted trees as plain arrays: fitted by scikit-learn, evaluated without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hdapbench.arrays import Floats, Integers, parts_of

if TYPE_CHECKING:
    from collections.abc import Sequence


N_TREES, DEPTH = 100, 3
"""The public recipe's."""
_PLANS_AT_A_TIME = 1024


@dataclass(frozen=True)
class Forests:
    """One boosted ensemble per cluster; every tree is a complete one of the same depth.

    Node ``i`` goes on to ``2 i + 1`` where its input is at most its threshold and to ``2 i + 2`` where it is above. A
    tree that stopped early is completed with nodes that always go left.

    Attributes
    ----------
    inputs
        Input that each node compares, shape (n_clusters, n_trees, 2**depth - 1).
    thresholds
        What it is compared with, same shape.
    leaves
        Values of the leaves times the learning rate, shape (n_clusters, n_trees, 2**depth).
    base
        What the trees add to, shape (n_clusters,).
    """

    inputs: Integers
    thresholds: Floats
    leaves: Floats
    base: Floats

    @classmethod
    def fit(cls, inputs: Floats, wanted: Floats, *, seed: int = 0) -> Forests:
        """100 trees of depth 3 for each column of ``wanted``, shape (n_plans, n_clusters), by squared errors."""
        from sklearn.ensemble import GradientBoostingRegressor

        models = []
        for column in wanted.T:
            model = GradientBoostingRegressor(n_estimators=N_TREES, max_depth=DEPTH, random_state=seed)
            models.append(model.fit(inputs, column))
        return cls.from_models(models)

    @classmethod
    def from_models(cls, models: Sequence[Any]) -> Forests:
        """Arrays of fitted ``GradientBoostingRegressor`` of equal ``max_depth`` and number of trees."""
        parts = [_arrays(model) for model in models]
        inputs, thresholds, leaves = (np.stack(arrays) for arrays in zip(*parts, strict=True))
        base = np.array([float(model.init_.constant_[0, 0]) for model in models])
        return cls(inputs, thresholds, leaves, base)

    def predict(self, inputs: Floats) -> Floats:
        """Values of all ensembles, shape (n_plans, n_clusters), for inputs of shape (n_plans, n_inputs)."""
        # scikit-learn compares inputs in single precision: a threshold between two plans must fall as it does there.
        single = np.asarray(inputs, dtype=np.float32)
        return np.concatenate([self._predict(part) for part in parts_of(single, _PLANS_AT_A_TIME)])

    def _predict(self, inputs: NDArray[np.float32]) -> Floats:
        n_clusters, n_trees, n_nodes = self.inputs.shape
        picked, thresholds = self.inputs.reshape(-1), self.thresholds.reshape(-1)
        first = np.arange(n_clusters * n_trees) * n_nodes
        row = np.arange(len(inputs))[:, None]
        node = np.zeros((len(inputs), n_clusters * n_trees), dtype=np.int64)
        for _ in range(n_nodes.bit_length()):
            place = first + node
            node = 2 * node + 1 + (inputs[row, picked[place]] > thresholds[place])
        leaf = np.arange(n_clusters * n_trees) * (n_nodes + 1) + (node - n_nodes)
        values = self.leaves.reshape(-1)[leaf].reshape(len(inputs), n_clusters, n_trees)
        return np.asarray(values.sum(axis=2) + self.base)


def _arrays(model: Any) -> tuple[Integers, Floats, Floats]:
    """Inputs, thresholds and leaves of one ensemble, arrays of shape (n_trees, ...)."""
    depth = model.max_depth
    n_nodes, n_trees = 2**depth - 1, len(model.estimators_)
    inputs = np.zeros((n_trees, n_nodes), dtype=np.int64)
    thresholds = np.full((n_trees, n_nodes), np.inf)
    leaves = np.zeros((n_trees, n_nodes + 1))
    for number, row in enumerate(model.estimators_):
        tree = row[0].tree_
        at: list[int] = [0]  # scikit-learn's node at each place of the level
        for level in range(depth):
            below: list[int] = []
            for offset, node in enumerate(at):
                place = 2**level - 1 + offset
                if tree.children_left[node] < 0:  # a leaf: both sides lead to it
                    below += [node, node]
                    continue
                inputs[number, place], thresholds[number, place] = tree.feature[node], tree.threshold[node]
                below += [int(tree.children_left[node]), int(tree.children_right[node])]
            at = below
        leaves[number] = tree.value[at, 0, 0] * model.learning_rate
    return inputs, thresholds, leaves
