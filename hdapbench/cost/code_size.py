"""Bytes of the C functions that a generated network consists of: an estimate, as a compiler decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

KERNEL_BYTES: Final = {
    "conv": 580,
    "linear": 430,
    "dot": 190,
    "avg_pool": 262,
    "max_pool": 268,
    "add": 212,
    "mul": 128,
    "rescale": 108,
    "move": 92,
    "table": 26,
    "reorder": 48,
    "take": 56,
}
"""Thumb-2 code of one function per pair of types, by arm-none-eabi-gcc 12 -Os -mcpu=cortex-m4."""

SHARED_BYTES: Final = {"filter": 160, "rescaled": 88}
"""Of functions that do not depend on types."""

POINTWISE_BYTES: Final = 40
POOL_BYTES: Final = 40
TABLE_BYTES: Final = 256
"""Of constants that operations without weights read."""

RESCALING: Final = frozenset({"conv", "linear", "avg_pool", "mul", "rescale"})
RUN_BYTES: Final = 72
CALL_BYTES: Final = 26

STACK_BYTES: Final = 384
"""More than the deepest chain of calls takes: 340 bytes by -fstack-usage of gcc."""


ONCE: Final = 0.72
"""Share of its bytes that a function takes which is called once: the compiler fits it to the call."""

FITTED: Final = 0.93
"""What functions take together, relative to the sum of what each takes alone: estimates are 0 to 16 % too large."""


def code_bytes(kernels: Sequence[tuple[str, str]]) -> int:
    """Bytes of code.

    Parameters
    ----------
    kernels
        Kind and types of the function of each call, what is read first; any texts that tell types apart.
    """
    times = Counter(kernels)
    kinds = {kind for kind, _ in times}
    dots = Counter(types.split()[0] for kind, types in times if kind in {"conv", "linear"})
    total = (
        RUN_BYTES + len(kernels) * CALL_BYTES + sum(KERNEL_BYTES["dot"] * (1 if n > 1 else ONCE) for n in dots.values())
    )
    total += sum(KERNEL_BYTES[kind] * (1 if n > 1 else ONCE) for (kind, _), n in times.items())
    total += SHARED_BYTES["filter"] if "conv" in kinds else 0
    return round(FITTED * (total + (SHARED_BYTES["rescaled"] if kinds & RESCALING else 0)))
