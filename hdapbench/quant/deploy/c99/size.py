"""Flash and RAM that generated code takes on a Cortex-M4."""

from __future__ import annotations

from dataclasses import dataclass

from hdapbench.cost.code_size import STACK_BYTES, code_bytes
from hdapbench.quant.deploy.c99.source import CCode


@dataclass(frozen=True)
class Footprint:
    """Bytes on the device.

    Attributes
    ----------
    constants
        Weights, biases, multipliers, shifts, tables and structures: exact.
    code
        Functions: estimated.
    arena
        Where values lie while the network runs: exact.
    caller
        Input and output, which the caller holds: exact.
    stack
        An upper bound.
    """

    constants: int
    code: int
    arena: int
    caller: int
    stack: int = STACK_BYTES

    @property
    def flash(self) -> int:
        """Constants and code."""
        return self.constants + self.code

    @property
    def ram(self) -> int:
        """Peak of everything that is written."""
        return self.arena + self.caller + self.stack


def footprint(code: CCode) -> Footprint:
    """What generated code takes."""
    calls, operations = code.calls, code.model.operations
    kernels = [
        (c.kernel.kind, f"{c.kernel.reads[0]}{c.kernel.offset} {c.kernel.reads} {c.kernel.writes}") for c in calls
    ]
    ends = [code.values.by_name[operation.name] for operation in (operations[0], operations[-1])]
    return Footprint(
        constants=code.constant_bytes,
        code=code_bytes(kernels),
        arena=code.arena_bytes,
        caller=sum(value.n * value.width for value in ends),
    )
