"""Simpler ways to bit-widths: one for all, integer programming over layers, and layers' deviations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from hdapbench.arrays import Floats, Integers
from hdapbench.errors import TargetUnreachableError
from hdapbench.method import Plan, Problem
from hdapbench.method.at_bits import LossAtBits, trained_at, trained_network
from hdapbench.quant.graph.folded import FoldedModel
from hdapbench.quant.graph.unfold import unfold
from hdapbench.quant.training.assign import Bits, kept_channels, layer_bits
from hdapbench.quant.training.ranges import integer_range, weight_steps

from .goal import Goal

SENSITIVITY_IMAGES = 512
"""Training images that a layer's sensitivity is measured on."""

MEASURED_FOR = 0.5
"""Share of the epochs that measuring may use: where they are few, fewer images are looked at."""

TRIES = 20
"""Programs that are solved at most: costs that are no sum over layers may exceed the limit at first."""

ROUNDS = 4
"""Short trainings between steps of the layers."""

BINS = 64
"""Of the histograms between which divergences are taken."""


@dataclass(frozen=True)
class Rivals:
    """Choices of one bit-width for every selector's channels, and their training.

    Attributes
    ----------
    problem, goal
        The model and its limit.
    weight_bits
        Bit-widths to choose from, ascending, without 0.
    epochs
        Training that a search may use: what choosing leaves of it trains the weights at the bits chosen.
    """

    problem: Problem
    goal: Goal
    weight_bits: tuple[int, ...]
    epochs: float

    def fixed(self) -> Plan:
        """The greatest single bit-width that meets the target."""
        n = len(self.goal.layers.selectors)
        for column in reversed(range(len(self.weight_bits))):
            columns = np.full(n, column)
            if self._cost(columns) <= self.goal.limit:
                return trained_at(self.problem, self._bits(columns), self.epochs)
        least = min(self.weight_bits)
        raise TargetUnreachableError(f"at {least} bits everywhere the cost exceeds the target of {self.goal}")

    def by_integer_programming(self) -> Plan:
        """Least sum of sensitivities under the limit, exactly.

        A sensitivity is what the loss gains when one selector's channels alone have fewer bits than the most: of
        calibrated weights, without training, as in arXiv 2011.10680 with losses in place of second derivatives.
        """
        dense = np.full(len(self.goal.layers.selectors), len(self.weight_bits) - 1)
        n_losses = 1 + len(dense) * (len(self.weight_bits) - 1)
        most = MEASURED_FOR * self.epochs / n_losses
        loss = LossAtBits(self.problem, self.weight_bits, SENSITIVITY_IMAGES, most_epochs=most)
        at_most = loss(self._bits(dense))
        sensitivity = np.zeros((len(dense), len(self.weight_bits)))
        for row, column in np.ndindex(len(dense), len(self.weight_bits) - 1):
            changed = dense.copy()
            changed[row] = column
            sensitivity[row, column] = max(0.0, loss(self._bits(changed)) - at_most)
        self.problem.remember("sensitivities", sensitivity.round(6).tolist())
        chosen = self._solved(sensitivity)
        return trained_at(self.problem, self._bits(chosen), max(0.0, self.epochs - n_losses * loss.epochs))

    def _solved(self, sensitivity: Floats) -> Integers:
        """Column of each selector, shape (n_selectors,), by scipy's solver of mixed-integer programs."""
        from scipy.optimize import Bounds, LinearConstraint, milp

        n, n_bits = sensitivity.shape
        dense = np.full(n, n_bits - 1)
        base = self._cost(dense)
        cost = np.zeros_like(sensitivity)
        for row, column in np.ndindex(n, n_bits - 1):
            changed = dense.copy()
            changed[row] = column
            cost[row, column] = self._cost(changed) - base
        one_each = LinearConstraint(np.kron(np.eye(n), np.ones(n_bits)), 1.0, 1.0)
        room = self.goal.limit - base
        for _ in range(TRIES):
            within = LinearConstraint(cost.reshape(1, -1) / base, -np.inf, room / base)
            found = milp(
                sensitivity.ravel(),
                constraints=[one_each, within],
                bounds=Bounds(0, 1),
                integrality=np.ones(n * n_bits),
            )
            if found.x is None:
                break
            columns: Integers = found.x.reshape(n, n_bits).argmax(1)
            excess = self._cost(columns) - self.goal.limit
            if excess <= 0:
                return columns
            room -= excess
        raise TargetUnreachableError(f"no bit-width of whole layers meets the target of {self.goal}")

    def by_deviations(self) -> Plan:
        """Bits of layers by the standard deviation of their weights, then by what rounding does to their distribution.

        After SigmaQuant (arXiv 2602.22136): k-means on the deviations gives wide layers more bits. Then come rounds of
        short training, each followed by steps. Above the limit the layer gives way whose quantised weights stay closest
        to its float ones, by the Kullback-Leibler divergence of their histograms; below it the layer of the greatest
        divergence gains bits. Ours: the limit holds by the exact cost, and accuracy is what it leaves room for.
        """
        problem, folded = self.problem, self.problem.quantization.folded()
        columns = _clusters(self._deviations(folded), len(self.weight_bits))
        model = folded.model
        for _ in range(ROUNDS):
            columns = self._stepped(columns, self._divergences(folded, model))
            bits = self._bits(columns)
            plan = Plan(kept=kept_channels(folded, bits), weight_bits=layer_bits(folded, bits))
            if self.epochs:
                model = trained_network(problem, folded, plan, self.epochs / ROUNDS, start=model).float_model()
        trained = unfold(problem.model(), model)
        return plan.model_copy(update={"weights": problem.training.keep_weights(trained)})

    def _stepped(self, columns: Integers, divergence: Floats) -> Integers:
        """Columns after steps down until the limit holds, and steps up as long as it does."""
        columns = columns.copy()
        rows = np.arange(len(columns))
        while self._cost(columns) > self.goal.limit:
            may = rows[columns > 0]
            if not len(may):
                raise TargetUnreachableError(f"at the fewest bits the cost exceeds the target of {self.goal}")
            columns[may[np.argmin(divergence[may, columns[may] - 1])]] -= 1
        for row in sorted(rows, key=lambda row: -divergence[row, columns[row]]):
            while columns[row] < len(self.weight_bits) - 1:
                columns[row] += 1
                if self._cost(columns) > self.goal.limit:
                    columns[row] -= 1
                    break
        return columns

    def _weights(self, folded: FoldedModel, model: torch.nn.Module) -> list[list[torch.Tensor]]:
        """Weights of the layers whose output channels each selector has."""
        makes = self.goal.layers.out_channels > 0  # (n_layers, n_selectors)
        modules = dict(model.named_modules())
        return [
            [
                modules[name].get_parameter("weight").detach()
                for name in dict.fromkeys(np.array(folded.layers.names)[of])
            ]
            for of in makes.T.numpy()
        ]

    def _deviations(self, folded: FoldedModel) -> Floats:
        """Standard deviation of each selector's weights, shape (n_selectors,)."""
        found = self._weights(folded, folded.model)
        return np.array([float(torch.cat([weight.flatten() for weight in weights]).std()) for weights in found])

    def _divergences(self, folded: FoldedModel, model: torch.nn.Module) -> Floats:
        """Divergence of float from quantised weights, shape (n_selectors, n_bits): means over a selector's layers."""
        return np.array(
            [
                [np.mean([_divergence(weight, bits) for weight in weights]) for bits in self.weight_bits]
                for weights in self._weights(folded, model)
            ]
        )

    def _cost(self, columns: Integers) -> float:
        return self.goal.cost_of_layers(torch.as_tensor(columns), self.weight_bits)

    def _bits(self, columns: Integers) -> Bits:
        return {
            selector.name: (self.weight_bits[column],) * selector.n_channels
            for selector, column in zip(self.goal.layers.selectors, columns, strict=True)
        }


def _clusters(values: Floats, n_clusters: int) -> Integers:
    """Cluster of each value by k-means, the least first, shape (n_values,)."""
    centres = np.quantile(values, (np.arange(n_clusters) + 0.5) / n_clusters)
    for _ in range(100):
        nearest = np.abs(values[:, None] - centres).argmin(1)
        moved = np.array([values[nearest == k].mean() if (nearest == k).any() else c for k, c in enumerate(centres)])
        if np.array_equal(moved, centres):
            break
        centres = moved
    return np.asarray(np.abs(values[:, None] - np.sort(centres)).argmin(1))


def _divergence(weight: torch.Tensor, bits: int) -> float:
    """Kullback-Leibler divergence of a layer's float weights from its quantised ones, in nats."""
    steps = weight_steps(weight, [bits], "mse")  # (n_channels, 1)
    flat, (low, high) = weight.flatten(1), integer_range(bits)
    rounded = (flat / steps).round().clamp(low, high) * steps
    ends = float(flat.min()), float(flat.max())
    p, q = (np.histogram(of.clamp(*ends).numpy(), BINS, ends)[0] + 1e-3 for of in (flat, rounded))
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())
