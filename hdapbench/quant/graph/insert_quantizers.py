"""Quantisers of activations inserted into a list of operations: ReLUs are absorbed, concatenations share a grid."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from hdapbench.quant.graph.graph import Operation, QuantGraph

EXACT = frozenset({"relu", "max_pool", "flatten", "dropout", "concat", "take"})
"""Operations whose output lies on the grid of their input: they need no quantiser."""

ABSORBS_RELU = frozenset({"layer", "add", "mul"})


def insert_quantizers(operations: Sequence[Operation]) -> QuantGraph:
    """Graph of operations in order of execution, with activation quantisers inserted.

    A ReLU that alone reads a layer, sum or product is absorbed: the quantiser after it starts at zero. Every other
    layer, sum, product, average and pointwise function has a quantiser of its own. A layer, sum, product or average
    that yields the network's output has none: its scores keep their precision.
    """
    absorbed = _absorb_relus(list(operations))
    bare = _unquantized_tail(absorbed)
    owner: dict[str, str] = {}  # operation -> representative of its grid
    by_name = {operation.name: operation for operation in absorbed}
    for operation in absorbed:
        if operation.name not in bare and (operation.op not in EXACT or _caps_late(operation)):
            owner[operation.name] = operation.name
    for operation in absorbed:
        if operation.op == "concat":
            first, *others = (source for name in operation.inputs for source in _sources(by_name, owner, name))
            for other in others:
                _unite(owner, first, other)
    return _with_grids(absorbed, owner)


def _absorb_relus(operations: list[Operation]) -> list[Operation]:
    users: dict[str, list[str]] = defaultdict(list)
    for operation in operations:
        for name in operation.inputs:
            users[name].append(operation.name)
    by_name = {operation.name: operation for operation in operations}
    renamed: dict[str, str] = {}
    kept: dict[str, Operation] = {}
    for operation in operations:
        inputs = tuple(renamed.get(name, name) for name in operation.inputs)
        if operation.op == "relu":
            source = by_name[operation.inputs[0]]
            if source.op in ABSORBS_RELU and len(users[source.name]) == 1:
                kept[source.name] = replace(kept[source.name], relu=True, cap=operation.cap)
                renamed[operation.name] = source.name
                continue
        kept[operation.name] = replace(operation, inputs=inputs)
    return list(kept.values())


def _unquantized_tail(operations: list[Operation]) -> set[str]:
    """Names of the operation that yields the output, and of dropouts after it; none where whole numbers need a grid."""
    n_readers: dict[str, int] = defaultdict(int)
    by_name = {operation.name: operation for operation in operations}
    for operation in operations:
        for name in operation.inputs:
            n_readers[name] += 1
    last = operations[-1]
    tail = {last.name}
    while last.op == "dropout" and n_readers[last.inputs[0]] == 1:
        last = by_name[last.inputs[0]]
        tail.add(last.name)
    return tail if last.op != "function" and last.cap is None else set()


def _caps_late(operation: Operation) -> bool:
    """Whether a ReLU that was not absorbed cuts values off, which puts them between grid points."""
    return operation.op == "relu" and operation.cap is not None


def _sources(by_name: dict[str, Operation], owner: dict[str, str], name: str) -> list[str]:
    """Quantised operations whose values reach ``name`` through exact operations."""
    if name in owner:
        return [name]
    return [source for read in by_name[name].inputs for source in _sources(by_name, owner, read)]


def _unite(owner: dict[str, str], first: str, second: str) -> None:
    keep, drop = _root(owner, first), _root(owner, second)
    owner[drop] = keep


def _root(owner: dict[str, str], name: str) -> str:
    while owner[name] != name:
        name = owner[name]
    return name


def _with_grids(operations: list[Operation], owner: dict[str, str]) -> QuantGraph:
    members: dict[str, list[str]] = {}
    for operation in operations:
        if operation.name in owner:
            members.setdefault(_root(owner, operation.name), []).append(operation.name)
    position = {name: number for number, names in enumerate(members.values()) for name in names}
    return QuantGraph(
        operations=tuple(replace(operation, quantizer=position.get(operation.name)) for operation in operations),
        quantizers=tuple(names[0] for names in members.values()),
    )
