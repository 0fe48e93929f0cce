"""Peak memory of a network that is run operation by operation: which buffers live when, and where they lie.

Values lie in one arena without overlap in time and place. Pointwise operations write over an input that nobody reads
after them, and flattening moves nothing where a linear layer alone reads it. The input and the output are the caller's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

IN_PLACE = frozenset({"add", "mul", "relu", "function"})
"""Operations that may write over an input of the size of their output."""

POINTWISE = frozenset({"relu", "function"})

ALIGNMENT = 8
"""Bytes that offsets are a multiple of where the arena holds wide values."""


@dataclass(frozen=True)
class Step:
    """One operation, as far as memory goes.

    Attributes
    ----------
    name, op, inputs
        As in `hdapbench.quant.graph.graph.Operation`.
    area
        Height times width of the output.
    takes_rows
        Whether it is a linear layer.
    width
        Bytes of one value of its output.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    area: int
    takes_rows: bool = False
    width: int = 1


@dataclass(frozen=True)
class Buffers:
    """Which values share a buffer, and when buffers are in use.

    Attributes
    ----------
    steps
        Operations in order of execution; the first is the input, the last the output.
    of_value
        Operation -> the operation that its buffer is named after.
    first, last
        Buffer -> numbers of the first and last step that it is in use at.
    """

    steps: tuple[Step, ...]
    of_value: Mapping[str, str]
    first: Mapping[str, int]
    last: Mapping[str, int]

    @classmethod
    def of(cls, steps: Sequence[Step]) -> Buffers:
        """Buffers of operations in order of execution."""
        readers: dict[str, list[Step]] = defaultdict(list)
        for step in steps:
            for name in step.inputs:
                readers[name].append(step)
        by_name = {step.name: step for step in steps}
        of_value: dict[str, str] = {}
        last: dict[str, int] = {}
        first: dict[str, int] = {}
        position = {step.name: number for number, step in enumerate(steps)}
        output, source = steps[-1].name, steps[0].name

        def last_read(name: str) -> int:
            """Last step that reads a value, through those that share its memory."""
            reads = [
                last_read(reader.name) if moves_nothing(reader, by_name, readers) else position[reader.name]
                for reader in readers[name]
            ]
            return max(reads, default=position[name])

        for number, step in enumerate(steps):
            shared = step.name
            if moves_nothing(step, by_name, readers):
                shared = of_value[step.inputs[0]]
            elif step.op in IN_PLACE and step.name != output:
                for name in step.inputs:
                    same = by_name[name].area * by_name[name].width == step.area * step.width
                    if same and of_value[name] != of_value[source] and last[of_value[name]] == number:
                        shared = of_value[name]
                        break
            of_value[step.name] = shared
            first.setdefault(shared, number)
            last[shared] = max(last.get(shared, number), last_read(step.name))
        return cls(tuple(steps), of_value, first, last)

    @property
    def input(self) -> str:
        """Buffer of the input."""
        return self.of_value[self.steps[0].name]

    @property
    def output(self) -> str:
        """Buffer of the output."""
        return self.of_value[self.steps[-1].name]

    @property
    def in_arena(self) -> tuple[str, ...]:
        """Buffers that are not the caller's."""
        return tuple(name for name in self.first if name not in (self.input, self.output))

    def live(self) -> np.ndarray:
        """Whether each buffer of the arena is in use at each step, shape (n_steps, n_buffers)."""
        steps = np.arange(len(self.steps))[:, None]
        names = self.in_arena
        first, last = (np.array([found[name] for name in names], dtype=int) for found in (self.first, self.last))
        return np.asarray((steps >= first) & (steps <= last))


def moves_nothing(step: Step, by_name: Mapping[str, Step], readers: Mapping[str, Sequence[Step]]) -> bool:
    """Whether an operation leaves its input where and as it is: a flattening that only linear layers read."""
    if step.op != "flatten":
        return False
    return by_name[step.inputs[0]].area == 1 or _order_is_free(step.name, readers)


def _order_is_free(name: str, readers: Mapping[str, Sequence[Step]]) -> bool:
    """Whether only linear layers read a flattened value, whose columns can be brought to any order."""
    return bool(readers[name]) and all(
        reader.takes_rows or (reader.op in POINTWISE and _order_is_free(reader.name, readers))
        for reader in readers[name]
    )


@dataclass(frozen=True)
class Block:
    """A stretch of memory that is in use from one step to another."""

    name: str
    n_bytes: int
    first: int
    last: int


def place(blocks: Sequence[Block], alignment: int = 1) -> tuple[dict[str, int], int]:
    """Offset of each block, and the bytes that all need: the best of three orders of placing them, first fit.

    Blocks in use at the same step do not overlap.
    """
    orders: list[Any] = [
        lambda b: (-b.n_bytes, b.first),
        lambda b: (b.first, -b.n_bytes),
        lambda b: (b.first - b.last, -b.n_bytes),
    ]
    found = [_placed(sorted(blocks, key=key), alignment) for key in orders]
    return min(found, key=lambda entry: entry[1])


def _placed(blocks: Sequence[Block], alignment: int) -> tuple[dict[str, int], int]:
    taken: list[tuple[Block, int]] = []
    for block in blocks:
        offset = 0
        others = sorted(
            (start, start + other.n_bytes)
            for other, start in taken
            if other.first <= block.last and block.first <= other.last
        )
        for start, stop in others:
            if offset + block.n_bytes <= start:
                break
            offset = max(offset, -(-stop // alignment) * alignment)
        taken.append((block, offset))
    total = max((offset + block.n_bytes for block, offset in taken), default=0)
    return {block.name: offset for block, offset in taken}, -(-total // alignment) * alignment
