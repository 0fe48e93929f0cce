"""QuantGraph -> Memory: which values a network has, and how large they are by the channels that are left."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor

from hdapbench.cost.arena import Buffers, Step
from hdapbench.cost.bits import BitLayers
from hdapbench.cost.code_size import POINTWISE_BYTES, POOL_BYTES, TABLE_BYTES, code_bytes
from hdapbench.cost.memory import Memory
from hdapbench.quant.graph.graph import Operation, QuantGraph

MOVES = frozenset({"max_pool", "flatten", "concat", "take"})

KINDS = {"max_pool": "max_pool", "avg_pool": "avg_pool", "add": "add", "mul": "mul", "function": "table"}
"""Functions of generated code by operation, where these are called as the operation is not."""


def memory_of(graph: QuantGraph, layers: BitLayers) -> Memory:
    """Memory of a network.

    Parameters
    ----------
    layers
        Of the same network, with its selectors.
    """
    operations = _without_dropout(graph)
    n = len(layers.selectors)
    rows = {name: number for number, name in enumerate(layers.names)}
    channels: dict[str, Tensor] = {}
    constant: dict[str, float] = {}
    area = {operation.name: prod(operation.shape[1:]) for operation in operations}
    for operation in operations:
        name, inputs = operation.name, operation.inputs
        if operation.op == "input":
            channels[name], constant[name] = torch.zeros(n, dtype=torch.float64), float(operation.shape[0])
        elif operation.op == "layer":
            channels[name], constant[name] = layers.out_channels[rows[name]], 0.0
        elif operation.op == "take":  # channels by number: how many are left is not known before
            channels[name], constant[name] = torch.zeros(n, dtype=torch.float64), float(operation.shape[0])
        elif operation.op == "flatten":
            channels[name] = channels[inputs[0]] * area[inputs[0]]
            constant[name] = constant[inputs[0]] * area[inputs[0]]
        else:
            sources = inputs if operation.op == "concat" else inputs[:1]
            channels[name] = torch.stack([channels[source] for source in sources]).sum(0)
            constant[name] = sum(constant[source] for source in sources)
    steps = tuple(
        Step(
            name=operation.name,
            op=operation.op,
            inputs=operation.inputs,
            area=area[operation.name],
            takes_rows=operation.op == "layer" and len(operation.shape) == 1,
            width=8 if _is_wide(operation, graph) else 1,
        )
        for operation in operations
    )
    numbers = {step.name: number for number, step in enumerate(steps)}
    linear = {step.name for step in steps if step.takes_rows}
    buffers = Buffers.of(steps)
    return Memory(
        buffers=buffers,
        channels=torch.stack([channels[step.name] for step in steps]),
        constant=torch.tensor([constant[step.name] for step in steps], dtype=torch.float64),
        area=torch.tensor([float(step.area) for step in steps], dtype=torch.float64),
        width=torch.tensor([float(step.width) for step in steps], dtype=torch.float64),
        layer_steps=tuple(numbers[name] for name in layers.names),
        packed_by_filter=torch.tensor([name in linear for name in layers.names]),
        fixed_bytes=_fixed_bytes(operations, graph, buffers),
    )


def _without_dropout(graph: QuantGraph) -> list[Operation]:
    """Operations that are carried out, as in lowering."""
    found: list[Operation] = []
    alias: dict[str, str] = {}
    for operation in graph:
        inputs = tuple(alias.get(name, name) for name in operation.inputs)
        if operation.op == "dropout" and operation.quantizer is None:
            alias[operation.name] = inputs[0]
        else:
            found.append(Operation(**{**vars(operation), "inputs": inputs}))
    return found


def _is_wide(operation: Operation, graph: QuantGraph) -> bool:
    """Whether an operation's output lies on no grid: sums that keep their precision."""
    while operation.quantizer is None and operation.op in {*MOVES, "relu", "dropout"}:
        operation = graph.by_name[operation.inputs[0]]
    return operation.quantizer is None


def _fixed_bytes(operations: list[Operation], graph: QuantGraph, buffers: Buffers) -> int:
    """Code, and constants of operations without weights; types of functions are guessed, rather too many."""
    kernels, constants = [], 0
    by_name = {operation.name: operation for operation in operations}
    for step in buffers.steps[1:]:
        operation = by_name[step.name]
        reads = " ".join(_type(by_name[name], by_name) for name in step.inputs)
        writes = "wide" if _is_wide(operation, graph) else _type(operation, by_name).partition("_")[0]
        if operation.op == "layer":
            kernels.append(("linear" if step.takes_rows else "conv", f"{reads} {writes}"))
        elif operation.op == "concat":
            kernels += [("move", f"{_type(by_name[name], by_name)} {writes}") for name in step.inputs]
            constants += POINTWISE_BYTES * len(step.inputs)
        elif operation.op == "flatten":
            kernels += [] if buffers.of_value[step.name] != step.name else [("reorder", f"{reads} {writes}")]
        elif operation.op == "take":
            kernels.append(("take", f"{reads} {writes}"))
            constants += 2 * operation.shape[0]
        elif operation.op == "relu":
            kernels.append(("rescale", f"{reads} {writes}"))
            constants += POINTWISE_BYTES
        else:
            kinds: Mapping[str, int] = {"max_pool": POOL_BYTES, "avg_pool": POOL_BYTES, "function": TABLE_BYTES}
            kernels.append((KINDS[operation.op], f"{reads} {writes}"))
            constants += kinds.get(operation.op, POINTWISE_BYTES)
    return code_bytes(kernels) + constants


def _type(operation: Operation, by_name: Mapping[str, Operation]) -> str:
    """What tells the types of values apart before grids are known: their sign, and what they come from."""
    while operation.op in {*MOVES, "avg_pool"}:
        operation = by_name[operation.inputs[0]]
    if operation.op == "input":
        return "given"
    return "unsigned" if operation.relu or operation.op == "relu" else f"signed_{operation.op}"
