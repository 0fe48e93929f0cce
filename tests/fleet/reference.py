"""The engine model in plain scalar Python, one kernel and one candidate at a time: what the vectorised one must equal.

Constants are written out here and not read from the profiles, so that a wrong profile file fails too.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

GENERIC = [(128, 128, 8, 1.00), (128, 64, 8, 0.94), (64, 64, 8, 0.84), (128, 32, 8, 0.80), (64, 32, 8, 0.70)]
TILES = {
    "fp32": [*GENERIC, (32, 32, 8, 0.55)],
    "fp16": [*GENERIC, (32, 32, 8, 0.55)],
    "tc16": [(256, 64, 16, 0.95), (128, 128, 16, 1.00), (128, 64, 16, 0.86), (64, 64, 16, 0.70), (64, 32, 16, 0.50)],
}
SKUS = {
    "xavier_nx": {
        "sms": 6,
        "fma": {"fp32": 64, "fp16": 128, "tc16": 512},
        "gpu": 1109.25,
        "emc": 1600,
        "bpc": 32,
        "eff": {"fp32": 0.78, "fp16": 0.78, "tc16": 0.45},
        "mem_eff": 0.60,
        "launch_us": 8,
        "prologue": 6000,
        "wino_gain": 2.2,
    },
    "nano": {
        "sms": 1,
        "fma": {"fp32": 128, "fp16": 256},
        "gpu": 921.6,
        "emc": 1600,
        "bpc": 16,
        "eff": {"fp32": 0.60, "fp16": 0.70},
        "mem_eff": 0.55,
        "launch_us": 20,
        "prologue": 9000,
        "wino_gain": 1.9,
    },
}
EFF_DEPTHWISE = 0.08


@dataclass(frozen=True)
class Stack:
    """Software generation: factor on the width of tiles narrower than 128, and on depthwise compute time."""

    narrow: float = 1.0
    depthwise: float = 1.0


CURRENT, OLD = Stack(), Stack(narrow=1.5)


@dataclass(frozen=True)
class Shape:
    """One kernel with its channel counts: the keys of the reference model."""

    t: str
    ci: int
    co: int
    k: int
    s: int
    hi: int
    wi: int
    ho: int
    wo: int
    res: bool


def kernel_ms(shape: Shape, sku: str, precision: str, stack: Stack = CURRENT) -> tuple[float, float]:
    """Compute and memory time in ms of one kernel on the nominal board."""
    board = SKUS[sku]
    cycles_per_ms = board["gpu"] * 1000
    bytes_per_ms = board["emc"] * 1000 * board["bpc"] * board["mem_eff"]
    if shape.t in ("conv", "fc"):
        _, cycles, moved = winner(shape, sku, precision, stack)
    else:
        cycles, moved = simple(shape, board, precision, stack)
    return cycles / cycles_per_ms, moved / bytes_per_ms


def winner(shape: Shape, sku: str, precision: str, stack: Stack = CURRENT) -> tuple[str, float, float]:
    """Name, cycles and bytes of the candidate that the nominal board runs fastest; the first of equals."""
    board = SKUS[sku]
    best = None
    for name, cycles, moved in candidates(shape, board, precision, stack):
        time = max(cycles / (board["gpu"] * 1000), moved / (board["emc"] * 1000 * board["bpc"] * board["mem_eff"]))
        if best is None or time < best[0]:
            best = (time, (name, cycles, moved))
    return best[1]


def simple(shape: Shape, board: dict, precision: str, stack: Stack) -> tuple[float, float]:
    """Cycles and bytes of depthwise, pooling and elementwise kernels."""
    eb = 4 if precision == "fp32" else 2
    ci, co = padded(shape.ci, precision), padded(shape.co, precision)
    channels = ceil(shape.co / 32) * 32 * stack.depthwise if shape.t == "dw" else shape.co
    rate = board["fma"]["fp32"] * board["sms"] * EFF_DEPTHWISE
    cycles = channels * shape.ho * shape.wo * shape.k**2 / rate + board["prologue"]
    weights = co * shape.k**2 if shape.t == "dw" else 0
    return cycles, eb * (ci * shape.hi * shape.wi + weights + co * shape.ho * shape.wo)


def candidates(shape: Shape, board: dict, precision: str, stack: Stack) -> list[tuple[str, float, float]]:
    """Name, cycles and bytes of every candidate of a matrix kernel, in the order in which ties are decided."""
    eb = 4 if precision == "fp32" else 2
    ci, co = padded(shape.ci, precision), padded(shape.co, precision)
    rows, columns, depth = shape.ho * shape.wo, co, ci * shape.k**2
    outputs = co * shape.ho * shape.wo * (2 if shape.res else 1)
    base = eb * (ci * shape.hi * shape.wi + ci * co * shape.k**2 + outputs)
    rate = board["fma"][precision] * board["eff"][precision]
    tiles = [
        (tm, floor(tn * stack.narrow) if tn < 128 else tn, tk, relative) for tm, tn, tk, relative in TILES[precision]
    ]
    found = []
    for tm, tn, tk, relative in tiles:
        for split in (1, 2, 4, 8):
            ksteps = ceil(ceil(depth / tk) / split)
            if split > 1 and ksteps < 4:
                continue
            per = ceil(ceil(rows / tm) * ceil(columns / tn) * split / board["sms"])
            cycles = per * tm * tn * tk * ksteps / (rate * relative * hide(per)) + board["prologue"]
            found.append((f"split {split}", cycles, base + (0 if split == 1 else 8 * rows * columns * split)))
    if shape.t == "conv" and shape.k == 3 and shape.s == 1 and precision != "tc16":
        transformed = ceil(shape.ho / 2) * ceil(shape.wo / 2)
        for tm, tn, tk, relative in tiles:
            per = ceil(16 * ceil(transformed / tm) * ceil(columns / tn) / board["sms"])
            work = per * tm * tn * tk * ceil(ci / tk) / (rate * relative * hide(per))
            cycles = work * 2.25 / board["wino_gain"] + 2 * board["prologue"]
            found.append(("winograd", cycles, base + 8 * eb * transformed * (ci + co)))
    return found


def network_ms(shapes: list[Shape], sku: str, precision: str, device: tuple[float, float, float, Stack]) -> float:
    """Latency in ms of a network on a device: multipliers alpha, beta, gamma, and its software stack."""
    alpha, beta, gamma, stack = device
    total = 0.0
    for shape in shapes:
        compute, memory = kernel_ms(shape, sku, precision, stack)
        total += SKUS[sku]["launch_us"] / 1000 * alpha + max(beta * compute, gamma * memory)
    return total


def padded(channels: int, precision: str) -> int:
    """Channels as the engine lays them out."""
    return ceil(channels / 8) * 8 if precision == "tc16" else channels


def hide(per: int) -> float:
    """Share of peak at this many blocks on the busiest multiprocessor."""
    return 0.65 if per == 1 else 0.85 if per == 2 else 1.0
