"""How each operation passes the labels of dimensions on. What has no rule freezes the labels that come to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hdapbench.arrays import Integers
from hdapbench.axes.labels import Axes, AxisLabels, tensors_in
from hdapbench.axes.reshape import Axis, blocks, flat, varying

UNEQUAL = "is split into unequal parts"


class Call:
    """One operation: its arguments by position, its output, and where it ran."""

    def __init__(self, labels: AxisLabels, name: str, args: Sequence[Any], named: dict[str, Any], output: Any) -> None:
        self.labels = labels
        self.name = name
        self.args = args
        self.named = named
        self.output = output

    def get(self, position: int, name: str, default: Any = None) -> Any:
        """Argument by position or name."""
        return self.args[position] if position < len(self.args) else self.named.get(name, default)

    @property
    def where(self) -> str:
        """The operation and the module whose code runs it."""
        name, module = self.labels.running
        return f"{self.name} in '{name or type(module).__name__}'"

    @property
    def x(self) -> Tensor:
        """First argument."""
        tensor = self.args[0] if self.args else next(iter(self.named.values()))
        assert isinstance(tensor, Tensor)  # noqa: S101 - rules are for operations that begin with a tensor
        return tensor

    @property
    def axes(self) -> Axes:
        """Labels of the first argument."""
        return self.labels.of(self.x)

    @property
    def y(self) -> Tensor:
        """First output."""
        return tensors_in(self.output)[0]


Rule = Callable[[Call], None]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for operations of aten."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


@cache
def is_pointwise(name: str) -> bool:
    """Whether an operation of aten works on each value by itself, as torch says of it or of its form out of place."""
    packets = [getattr(torch.ops.aten, form, None) for form in (name, name.removesuffix("_"))]
    overloads = [
        getattr(packet, overload) for packet in packets if packet is not None for overload in packet.overloads()
    ]
    return any(torch.Tag.pointwise in overload.tags for overload in overloads)


def numbers(call: Call, position: int, name: str, n_dims: int) -> list[int]:
    """Dimensions that an operation names, counted from the front; all where it names none."""
    value = call.get(position, name)
    chosen = range(n_dims) if value is None else [value] if isinstance(value, int) else list(value) or range(n_dims)
    return [number % max(n_dims, 1) for number in chosen]


@rule(
    *("hardswish", "hardsigmoid", "_prelu_kernel", "_to_copy", "native_dropout", "lift_fresh", "detach", "alias"),
    *("clone", "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "copy", "dropout"),
    *("lift_fresh_copy", "contiguous", "fill", "zero", "bernoulli", "rrelu_with_noise"),
)
def pointwise(call: Call) -> None:
    """Dimensions of equal size meet; those of size 1 are spread."""
    inputs = tensors_in((call.args, call.named))
    for output in tensors_in(call.output):
        found: list[Axis] = []
        for number, size in enumerate(output.shape):
            parts: list[Axis] = []
            for tensor in inputs:
                own = number - output.dim() + tensor.dim()
                if own >= 0 and tensor.shape[own] == size:
                    parts.append(call.labels.of(tensor)[own])
            found.append(call.labels.meet(parts, call.where) if size > 1 else None)
        call.labels.put(output, tuple(found))


@rule("view", "_unsafe_view", "reshape", "_reshape_alias", "_reshape_copy", "view_copy")
def _reshape(call: Call) -> None:
    x, y, axes = call.x, call.y, call.axes
    found: list[Axis] = [None] * y.dim()
    if x.numel():
        for block in blocks(x.shape, y.shape):
            _move(call, block.old, block.new, axes, found)
    for size, axis in zip(y.shape, found, strict=True):
        if axis is not None:
            call.labels.number(size, axis)
    call.labels.put(y, tuple(found))


def _move(call: Call, old: tuple[int, ...], new: tuple[int, ...], axes: Axes, found: list[Axis]) -> None:
    """Labels of a run of dimensions that become others."""
    x, y, labels = call.x, call.y, call.labels
    held = [number for number in old if axes[number] is not None]
    if not held:
        return
    if len(held) > 1:
        for number in held:
            labels.freeze(axes[number], f"two dimensions of channels become one at {call.where}")
        return
    axis = axes[held[0]]
    assert axis is not None  # noqa: S101 - only such are held
    whole = flat(axis, old.index(held[0]), [x.shape[number] for number in old])
    if len(new) == 1:
        found[new[0]] = whole
        return
    grid = whole.reshape([y.shape[number] for number in new])
    along = varying(grid)
    if not along and (grid >= 0).any():
        along = [0]
    if len(along) > 1:
        along = [_cut(call, grid, is_last=held[0] == x.dim() - 1)]
    for position in along:
        other = tuple(number for number in range(grid.ndim) if number != position)
        kept = grid[tuple(slice(None) if number == position else 0 for number in range(grid.ndim))]
        spread = np.expand_dims(kept, other)
        labels.tie(grid, np.broadcast_to(spread, grid.shape), call.where)
        found[new[position]] = kept


def _cut(call: Call, grid: Integers, *, is_last: bool) -> int:
    """Dimension of a grid of channels along which they can be removed, as many at every place of the others.

    Channels that lie in the last dimension are taken for attention's, whose heads come before their width: which of the
    two is cut is the user's choice. Others for those of a shuffle, where the larger dimension leaves more to choose.
    """
    lead = 2 if call.labels.attention == "heads" else 1
    first = grid.ndim - lead if is_last else max(range(grid.ndim), key=lambda number: (grid.shape[number], number))
    ways = [first, *(number for number in reversed(range(grid.ndim)) if number != first)]
    return ways[call.labels.choice(grid, len(ways))]


@rule("permute", "transpose", "t", "numpy_T", "permute_copy", "transpose_copy")
def _permute(call: Call) -> None:
    n_dims = call.x.dim()
    if call.name.startswith("permute"):
        order = numbers(call, 1, "dims", n_dims)
    else:
        pair = (0, 1) if call.name == "t" else (call.args[1], call.args[2])
        first, second = (int(number) % max(n_dims, 1) for number in pair)
        order = list(range(n_dims))
        if n_dims > 1:
            order[first], order[second] = order[second], order[first]
    call.labels.put(call.y, tuple(call.axes[number] for number in order))


@rule("as_strided")
def _as_strided(call: Call) -> None:
    """Pooling sets the strides of its output anew; other uses may be anything."""
    if call.x.shape == call.y.shape and call.x.numel() == call.y.numel():
        call.labels.put(call.y, call.axes)
    else:
        freeze_all(call)


@rule("new_zeros", "new_ones", "new_full", "new_empty", "new_empty_strided", "is_same_size", "sym_size")
def _unlabelled(call: Call) -> None:
    """Tensors that only take their type from another."""
    for output in tensors_in(call.output):
        call.labels.put(output, (None,) * output.dim())


@rule("unsqueeze")
def _unsqueeze(call: Call) -> None:
    number = int(call.args[1]) % (call.x.dim() + 1)
    call.labels.put(call.y, (*call.axes[:number], None, *call.axes[number:]))


@rule("squeeze")
def _squeeze(call: Call) -> None:
    gone = numbers(call, 1, "dim", call.x.dim())
    kept = [n for n in range(call.x.dim()) if n not in gone or call.x.shape[n] != 1]
    call.labels.put(call.y, tuple(call.axes[number] for number in kept))


@rule("expand", "expand_as", "expand_copy")
def _expand(call: Call) -> None:
    fresh = call.y.dim() - call.x.dim()
    sizes = zip(call.axes, call.x.shape, call.y.shape[fresh:], strict=True)
    call.labels.put(call.y, (*[None] * fresh, *[axis if size == then else None for axis, size, then in sizes]))


@rule("repeat")
def _repeat(call: Call) -> None:
    times = list(call.args[1])
    axes = (*[None] * (len(times) - call.x.dim()), *call.axes)
    call.labels.put(
        call.y, tuple(None if axis is None else np.tile(axis, n) for axis, n in zip(axes, times, strict=True))
    )


@rule("repeat_interleave")
def _repeat_interleave(call: Call) -> None:
    times, number = call.get(1, "repeats"), call.get(2, "dim")
    axes = list(call.axes)
    if isinstance(times, int) and isinstance(number, int) and call.y.dim() == len(axes):
        axis = axes[number]
        axes[number] = None if axis is None else np.repeat(axis, times)
        call.labels.put(call.y, tuple(axes))
    else:
        freeze_all(call)


@rule("cat", "concat", "concatenate")
def _cat(call: Call) -> None:
    parts = [tensor for tensor in call.args[0] if tensor.dim() == call.y.dim()]
    number = int(call.get(1, "dim", 0)) % call.y.dim()
    axes = [call.labels.of(tensor) for tensor in parts]
    found: list[Axis] = []
    for own in range(call.y.dim()):
        if own != number:
            found.append(call.labels.meet([axis[own] for axis in axes], call.where) if call.y.shape[own] > 1 else None)
        elif all(axis[own] is None for axis in axes):
            found.append(None)
        else:
            pieces = zip(axes, parts, strict=True)
            found.append(np.concatenate([_labelled(axis[own], tensor.shape[own]) for axis, tensor in pieces]))
    call.labels.put(call.y, tuple(found))


@rule("stack")
def _stack(call: Call) -> None:
    number = int(call.get(1, "dim", 0)) % call.y.dim()
    axes = [call.labels.of(tensor) for tensor in call.args[0]]
    found = [call.labels.meet([axis[own] for axis in axes], call.where) for own in range(call.y.dim() - 1)]
    call.labels.put(call.y, (*found[:number], None, *found[number:]))


def _labelled(axis: Axis, size: int) -> Integers:
    return np.full(size, -1, dtype=np.int64) if axis is None else axis


@rule("split", "split_with_sizes", "split_copy", "unsafe_split", "unsafe_split_with_sizes", "chunk", "unsafe_chunk")
def _split(call: Call) -> None:
    number = int(call.get(2, "dim", 0)) % call.x.dim()
    ends = list(accumulate(part.shape[number] for part in call.output))
    starts = [0, *ends[:-1]]
    axis = call.axes[number]
    if axis is not None and len(ends) > 1:
        if len({end - start for start, end in zip(starts, ends, strict=True)}) == 1:
            for start, end in zip(starts[1:], ends[1:], strict=True):
                call.labels.tie(axis[: ends[0]], axis[start:end], call.where)
            call.labels.number(ends[0], axis[: ends[0]])
        else:
            call.labels.freeze(axis, f"{UNEQUAL} by {call.where}")
            axis = None
    for start, end, part in zip(starts, ends, call.output, strict=True):
        own = None if axis is None else axis[start:end]
        call.labels.put(part, (*call.axes[:number], own, *call.axes[number + 1 :]))


@rule("slice", "narrow")
def _slice(call: Call) -> None:
    number = int(call.get(1, "dim", 0)) % call.x.dim()
    axis, size = call.axes[number], call.x.shape[number]
    if axis is not None and call.y.shape[number] < size:
        start, step = int(call.get(2, "start") or 0), int(call.get(4, "step", 1) or 1)
        start, length = start % size, call.y.shape[number]
        if call.name == "slice" and step == 1 and size % length == 0 and start % length == 0:
            for first in range(length, size, length):
                call.labels.tie(axis[:length], axis[first : first + length], call.where)
            call.labels.number(length, axis[:length])
            axis = axis[start : start + length]
        else:
            call.labels.freeze(axis, f"a slice of it is taken by {call.where}")
            axis = None
    call.labels.put(call.y, (*call.axes[:number], axis, *call.axes[number + 1 :]))


@rule("select", "unbind", "unbind_copy", "select_copy")
def _select(call: Call) -> None:
    number = int(call.get(1, "dim", 0)) % call.x.dim()
    call.labels.freeze(call.axes[number], f"single channels are taken by {call.where}")
    for part in tensors_in(call.output):
        call.labels.put(part, (*call.axes[:number], *call.axes[number + 1 :]))


@rule("index")
def _index(call: Call) -> None:
    chosen = list(call.args[1]) + [None] * (call.x.dim() - len(call.args[1]))
    places = [number for number, index in enumerate(chosen) if index is not None]
    if any(index is not None and index.dtype in {torch.bool, torch.uint8} for index in chosen):
        freeze_all(call)
        return
    for number in places:
        call.labels.freeze(call.axes[number], f"channels are picked by {call.where}")
    fresh = call.y.dim() - (call.x.dim() - len(places))
    rest = [axis for number, axis in enumerate(call.axes) if number not in places]
    in_one_run = places == list(range(places[0], places[-1] + 1)) if places else False
    first = places[0] if in_one_run else 0
    call.labels.put(call.y, (*rest[:first], *[None] * fresh, *rest[first:]))


@rule("embedding")
def _embedding(call: Call) -> None:
    rows, columns = call.axes
    call.labels.freeze(rows, f"rows are looked up by {call.where}")
    call.labels.put(call.y, (*[None] * (call.y.dim() - 1), columns))


@rule("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "mkldnn_rnn_layer")
def freeze_all(call: Call) -> None:
    """Nothing that comes in can be cut."""
    for tensor in tensors_in((call.args, call.named)):
        for axis in call.labels.of(tensor):
            call.labels.freeze(axis, f"{call.where} fixes its channels")
