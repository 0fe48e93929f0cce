"""QuantGraph: a network as a list of operations, with its activation quantisers. Plain values.

Training, integer execution and export all walk the same list, so they cannot disagree about what the network is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from torch import Tensor

Op = Literal[
    "input", "layer", "add", "mul", "concat", "take", "function", "relu", "max_pool", "avg_pool", "flatten", "dropout"
]


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes
    ----------
    name
        Unique; for a layer the dotted name of its module, otherwise the node of the trace.
    op
        What it does. ``layer`` is a convolution or linear layer, ``function`` a pointwise function other than ReLU,
        ``take`` channels of its input in some order.
    inputs
        Names of the operations that it reads.
    shape
        Shape of its output without the batch.
    quantizer
        Position of the quantiser of its output; None where the output stays as it is.
    relu
        Whether negative values become zero before quantisation.
    cap
        Largest value before quantisation (6 for ReLU6), or None.
    function
        The pointwise function of ``function``.
    arguments
        Keyword arguments of poolings; ``p`` of dropout; ``channels`` of ``take``.
    """

    name: str
    op: Op
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    quantizer: int | None = None
    relu: bool = False
    cap: float | None = None
    function: Callable[[Tensor], Tensor] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class QuantGraph:
    """Operations in order of execution; the last one is the network's output.

    Attributes
    ----------
    operations
        The first is the input.
    quantizers
        Grids of activation values, each by the first operation whose output it quantises; several operations share one
        where tensors are joined without rescaling.
    """

    operations: tuple[Operation, ...]
    quantizers: tuple[str, ...]

    @cached_property
    def by_name(self) -> dict[str, Operation]:
        """Operations by name."""
        return {operation.name: operation for operation in self.operations}

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the convolution and linear layers, in order of execution."""
        return tuple(operation.name for operation in self.operations if operation.op == "layer")

    @cached_property
    def input_quantizers(self) -> dict[str, int]:
        """Layer -> position of the quantiser whose grid its input values lie on."""
        return {name: self.grid_of(self.by_name[name].inputs[0]) for name in self.layers}

    def grid_of(self, name: str) -> int:
        """Position of the quantiser whose grid an operation's output lies on, found through exact operations."""
        operation = self.by_name[name]
        if operation.quantizer is not None:
            return operation.quantizer
        return self.grid_of(operation.inputs[0])

    @cached_property
    def last_use(self) -> dict[str, list[str]]:
        """Operation -> names of values that nobody reads after it."""
        reader: dict[str, str] = {}
        for operation in self.operations:
            for name in operation.inputs:
                reader[name] = operation.name
        done: dict[str, list[str]] = {}
        for name, last in reader.items():
            done.setdefault(last, []).append(name)
        return done

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)
