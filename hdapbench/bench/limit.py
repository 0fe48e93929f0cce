"""Limit: what a target allows, in the numbers of one model on one fleet."""

from __future__ import annotations

from dataclasses import dataclass

from hdapbench.spec import TargetKind


@dataclass(frozen=True)
class Limit:
    """What a plan must not exceed. Methods, runner and stages share this one value.

    Attributes
    ----------
    kind
        What is limited.
    amount
        How much: multiply-accumulates, bytes that a device stores, cycles, or a share of the dense model's average
        clustered latency.
    flops
        Multiply-accumulates that a plan must not exceed: the dense model's where something else is limited.
    dense_ms
        The dense model's average clustered latency in ms, measured as a plan's is; None for limits of other kinds.
    """

    kind: TargetKind
    amount: float
    flops: int
    dense_ms: float | None = None

    @classmethod
    def on_flops(cls, flops: int) -> Limit:
        """Limit on multiply-accumulates."""
        return cls("flops", flops, flops)
