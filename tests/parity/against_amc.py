"""AMC's published strategy in our counter, and our clipping under random policies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hdapbench_methods.amc.clipping import ActionClipper

from tests.parity.subjects import network


@dataclass(frozen=True)
class Published:
    """A MobileNetV1 that AMC reports, at 224 x 224: channels of its 14 groups (amc-models), and its MACs."""

    model: str
    widths: tuple[int, ...]
    macs: float


PUBLISHED = (
    Published("full width", (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024), 569e6),
    Published("0.75 of the width", (24, 48, 96, 96, 192, 192, 384, 384, 384, 384, 384, 384, 768, 768), 325e6),
    Published("half the time", (16, 48, 88, 80, 192, 168, 336, 360, 360, 352, 352, 368, 768, 680), 272e6),
    Published("half the FLOPs", (24, 48, 96, 80, 192, 200, 328, 352, 368, 360, 328, 400, 736, 752), 285e6),
)


@dataclass(frozen=True)
class Clipping:
    """Random policies: how many broke the target or the floor, and how near the target they came."""

    model: str
    round_to: int
    n_policies: int
    above_target: int
    below_floor: int
    least_used: float
    most_used: float


def count(published: Published) -> int:
    """MACs of a published model by our counter, all layers, classifier included."""
    return int(network("MobileNetV1", 224).cost.flops(np.array(published.widths))[0])


def clip_random_policies(name: str, side: int, *, round_to: int, n_policies: int = 1000) -> Clipping:
    """Let policies of every mood, from starving to greedy, through the clipping at half the FLOPs."""
    cost = network(name, side).cost
    target = cost.dense.flops // 2
    clipper = ActionClipper.of(cost, target, least_share=0.2, round_to=round_to)
    rng = np.random.default_rng(0)
    widths = np.tile(cost.sizes, (n_policies, 1))
    for plan in widths:
        mood = rng.choice([0.2, 1.0, 5.0])
        for group in range(len(plan)):
            plan[group] = clipper.width(group, plan[:group], float(rng.random() ** mood))
    flops = cost.flops(widths)
    return Clipping(
        model=name,
        round_to=round_to,
        n_policies=n_policies,
        above_target=int((flops > target).sum()),
        below_floor=int((widths < np.ceil(0.2 * cost.sizes)).any(axis=1).sum()),
        least_used=float(flops.min() / target),
        most_used=float(flops.max() / target),
    )
