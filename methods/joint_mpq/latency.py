"""A fleet's average latency as a cost of kept channels: predicted, differentiable, and held by measuring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.bits import BitLayers, ChannelBitCounts
from hdapbench.errors import TargetUnreachableError
from hdapbench.method import Problem
from hdapbench.quant.training.assign import Bits
from hdapbench.surrogate.fitted import fitted_latency, spread_plans

WINDOW = 0.5
"""Share of a group's channels between the two widths that a slope is taken from. Latency climbs in stairs, tiles of 16
to 128 channels: from one channel to the next it changes by nothing or a whole tile, over half of a group by a part."""

ROUNDS = 6
"""Choices of channels that are measured at most."""

SESSIONS = 4
"""Sessions in which each of them is measured, as sessions differ and the runner has one of its own."""

DEVIATIONS = 2.6
"""Standard deviations between sessions by which the mean stays below the limit: another session exceeds that in one
case of twenty (Student's t with three degrees of freedom, for one more session: 2.35 times the root of 1 + 1/4)."""

CLOSE = 0.03
"""A choice below the limit by no more than this part of what channels can save at all is not improved any more. Of a
small network that is little, as most of its latency is no channel's."""


@dataclass(frozen=True)
class WidthCost:
    """Predicted cost of widths that may be soft, with slopes.

    Attributes
    ----------
    predict
        Widths of shape (n_plans, n_groups) -> cost, shape (n_plans,).
    sizes
        Channels of each group in the dense model, shape (n_groups,).
    """

    predict: Callable[[Integers], Floats]
    sizes: Integers
    _known: dict[bytes, float] = field(default_factory=dict, repr=False)

    def __call__(self, widths: Tensor) -> Tensor:
        """Cost at soft widths, shape (n_groups,): a float64 scalar that gradients flow through."""
        cost: Tensor = _Predicted.apply(widths, self)
        return cost

    def at(self, widths: Floats) -> float:
        """Cost at the nearest whole widths with a channel in every group."""
        whole = np.clip(np.rint(widths), 1, self.sizes).astype(np.int64)
        key = whole.tobytes()  # choices of bits are many, of widths few
        if key not in self._known:
            self._known[key] = float(self.predict(whole[None])[0])
        return self._known[key]

    def slopes(self, widths: Floats) -> Floats:
        """Change of the cost per channel of each group, shape (n_groups,).

        From the predictions at both ends of a window around the width, with all other groups as they are. The window
        spans half of the group, and is moved where it would reach below one channel or beyond all.
        """
        whole = np.clip(np.rint(widths), 1, self.sizes).astype(np.int64)
        span = np.minimum(np.maximum(np.rint(WINDOW * self.sizes), 1), self.sizes - 1).astype(np.int64)
        low = np.clip(whole - span // 2, 1, self.sizes - span)
        groups = np.arange(len(whole))
        plans = np.tile(whole, (2 * len(whole), 1))
        plans[groups, groups] = low
        plans[len(whole) + groups, groups] = low + span
        below, above = self.predict(plans).reshape(2, -1)
        return np.asarray((above - below) / np.maximum(span, 1))


class _Predicted(torch.autograd.Function):
    """Prediction at the nearest whole widths; the gradient is `WidthCost.slopes`."""

    @staticmethod
    def forward(ctx: Any, widths: Tensor, cost: WidthCost) -> Tensor:
        ctx.cost = cost
        ctx.save_for_backward(widths)
        return widths.new_tensor(cost.at(widths.detach().numpy()))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (widths,) = ctx.saved_tensors
        return gradient * torch.as_tensor(ctx.cost.slopes(widths.detach().numpy())), None


@dataclass(frozen=True)
class FleetLatency:
    """Average clustered latency as a share of the dense model's: a cost of kept channels, whatever their bits.

    Attributes
    ----------
    problem
        Where plans are measured.
    cost
        Share predicted for widths in the order of the problem's groups.
    positions
        Of the groups among the selectors of a model's layers.
    least
        Share measured with the fewest channels.
    """

    problem: Problem
    cost: WidthCost
    positions: tuple[int, ...]
    least: float

    @classmethod
    def fitted(cls, problem: Problem, *, n_plans: int, least_channels: int) -> FleetLatency:
        """Latency predicted from measured plans; charged.

        Raises
        ------
        TargetUnreachableError
            When the narrowest plan is measured above the limit.
        """
        narrowest = np.minimum(least_channels, problem.cost.sizes)
        least = float(problem.devices.latency_share(narrowest)[0])
        if least > problem.limit.amount:
            raise TargetUnreachableError(
                f"with the fewest channels the fleet still takes {least:.1%} of the dense model's average latency, "
                f"above the limit of {problem.limit.amount:.1%}"
            )
        plans = spread_plans(problem.cost, problem.target_flops, n_plans, problem.rng)
        devices = problem.devices
        problem.progress(f"measuring {len(plans)} plans on {devices.n_measured} devices")
        measured, weights = problem.latency(plans), devices.cluster_weights
        predict = fitted_latency(devices.kernels, plans, measured, weights=weights, tiling=devices.tiling)
        # Both ends are what was measured, however far a noisy fit is off there: no limit between them is out of reach.
        dense, end = predict(np.stack([problem.cost.sizes, narrowest]))
        per_ms = (1.0 - least) / max(dense - end, 1e-9 * dense)
        names = [selector.name for selector in problem.quantization.folded().layers.selectors]
        return cls(
            problem=problem,
            cost=WidthCost(lambda widths: 1.0 + (predict(widths) - dense) * per_ms, problem.cost.sizes),
            positions=tuple(names.index(name) for name in problem.groups),
            least=least,
        )

    def __call__(self, _: BitLayers, counts: ChannelBitCounts) -> Tensor:
        """Share predicted for counts, hard or soft."""
        return self.cost(counts.kept[list(self.positions)])

    def held(self, find: Callable[[float], Bits]) -> Bits:
        """Bits found for a limit on the prediction with which the limit holds when it is measured; charged.

        Predictions err between the narrowest and the dense model, where they are what was measured. A choice that is
        measured above the limit, or leaves much of it, bounds the limit on the prediction from above or below; the next
        lies between these bounds, interpolated, and every third time in the middle, as stairs can hold that up. The
        widest that holds is returned.

        Parameters
        ----------
        find
            Limit on the predicted share -> bits of each selector's channels.

        Raises
        ------
        TargetUnreachableError
            When none of them holds.
        """
        problem, limit = self.problem, self.problem.limit.amount
        slack = CLOSE * (1.0 - self.least)
        # Bounds: a limit on the prediction, and what was measured of the channels found under it.
        # What is predicted strays; that all channels take what the dense model takes is certain.
        aim, low, high = limit if limit < 1 else inf, (self.least, self.least), (1.0, 1.0)
        held, known = dict[float, Bits](), dict[tuple[int, ...], float]()
        for number in range(ROUNDS):
            if held and problem.budget.remaining("device_queries") < 2 * SESSIONS * problem.devices.n_measured:
                break
            try:
                bits = find(aim)
            except TargetUnreachableError:  # said below, with what was measured
                break
            widths = tuple(sum(b > 0 for b in bits[name]) for name in problem.groups)
            if widths not in known:
                known[widths] = self._measured(widths)
            share = known[widths]
            if share > limit:
                high = (aim, share)
            else:
                held[share], low = bits, (aim, share)
                if share >= limit - slack or widths == tuple(problem.cost.sizes):
                    break
            part = 0.5 if number % 3 == 2 else np.clip((limit - slack / 2 - low[1]) / (high[1] - low[1]), 0.1, 0.9)
            aim = low[0] + float(part) * (high[0] - low[0])
        problem.remember("measured_latency_shares", list(known.values()))
        if not held:
            measured = ", ".join(f"{share:.2%}" for share in known.values()) or "none"
            raise TargetUnreachableError(
                f"no choice of channels holds the limit of {limit:.2%} of the dense model's average latency; measured, "
                f"with what sessions differ: {measured}"
            )
        return held[max(held)]

    def _measured(self, widths: tuple[int, ...]) -> float:
        """Share that another session exceeds rarely."""
        shares = [float(self.problem.devices.latency_share(np.array(widths))[0]) for _ in range(SESSIONS)]
        return float(np.mean(shares) + DEVIATIONS * np.std(shares, ddof=1))
