"""Rules for layers and products: what they sum over meets, and the output has the other dimensions."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from hdapbench.axes.along import normalised
from hdapbench.axes.labels import tensors_in
from hdapbench.axes.reshape import Axis
from hdapbench.axes.rules import Call, rule


@rule("convolution", "_convolution", "mkldnn_convolution", "convolution_overrideable")
def _convolution(call: Call) -> None:
    labels, x, weight, bias = call.labels, call.axes[-call.y.dim() + 1], call.args[1], call.args[2]
    rows, columns = labels.of(weight)[:2]
    transposed, n_groups = bool(call.args[6]), int(call.args[8])
    n_in, n_out = call.x.shape[-call.y.dim() + 1], call.y.shape[-call.y.dim() + 1]
    out: Axis
    if 1 < n_groups == n_in:
        out = rows if not transposed or n_in == n_out else None
        if x is not None and out is not None:
            labels.tie(np.repeat(x, n_out // n_in), out, call.where)
        elif x is not None or rows is not None:
            labels.freeze(x, f"meets a tensor of fixed size at {call.where}")
            labels.freeze(rows, f"follows channels that cannot be cut at {call.where}")
            out = None
    else:
        consumed, out = (rows, columns) if transposed else (columns, rows)
        if n_groups > 1 and transposed:
            out = None if out is None else np.tile(out, n_groups)
        elif n_groups > 1:
            consumed = None if consumed is None else np.tile(consumed, n_groups)
        _sum_over(call, x, consumed)
        if n_groups > 1:
            _equal_parts(call, consumed if transposed else out, n_groups)
    if isinstance(bias, Tensor):
        out = labels.meet([out, labels.of(bias)[0]], call.where) if n_out > 1 else None
    batch = call.axes[: call.x.dim() - call.y.dim() + 1] if call.x.dim() == call.y.dim() else ()
    labels.put(call.y, (*batch[:1], out, *[None] * (call.y.dim() - 2)))


def _equal_parts(call: Call, axis: Axis, n_groups: int) -> None:
    """Every group of a grouped convolution loses as many channels, at the same places."""
    if axis is not None:
        grid = axis.reshape(n_groups, -1)
        call.labels.tie(grid, np.broadcast_to(grid[:1], grid.shape), call.where)


def _sum_over(call: Call, first: Axis, second: Axis) -> None:
    """Two dimensions that a product sums over."""
    if first is None and second is None:
        return
    if first is None or second is None:
        for axis in (first, second):
            call.labels.freeze(axis, f"meets a tensor of fixed size at {call.where}")
        return
    call.labels.tie(first, second, call.where)
    call.labels.notes.consumed.append(first[first >= 0])


@rule("mm", "bmm", "matmul", "mv", "dot")
def _product(call: Call) -> None:
    _multiply(call, call.args[0], call.args[1])


@rule("addmm", "baddbmm", "addmv", "addbmm")
def _added_product(call: Call) -> None:
    _multiply(call, call.args[1], call.args[2])
    axes = list(call.labels.of(call.y))
    added = call.args[0]
    for number in range(call.y.dim()):
        own = number - call.y.dim() + added.dim()
        if own >= 0 and added.shape[own] == call.y.shape[number] > 1:
            axes[number] = call.labels.meet([axes[number], call.labels.of(added)[own]], call.where)
    call.labels.put(call.y, tuple(axes))


def _multiply(call: Call, first: Tensor, second: Tensor) -> None:
    labels, a, b = call.labels, call.labels.of(first), call.labels.of(second)
    _sum_over(call, a[-1], b[-2] if len(b) > 1 else b[-1])
    batch: list[Axis] = []
    if first.dim() == second.dim() == 3:
        batch = [labels.meet([a[0], b[0]], call.where) if call.y.dim() == 3 and call.y.shape[0] > 1 else None]
    rest = [*(a[-2:-1] if first.dim() > 1 else ()), *(b[-1:] if second.dim() > 1 else ())]
    labels.put(call.y, tuple([*batch, *rest][-call.y.dim() :]) if call.y.dim() else ())


@rule(
    "scaled_dot_product_attention",
    *(f"_scaled_dot_product_{kind}" for kind in ("flash_attention_for_cpu", "attention_math", "flash_attention")),
    *(f"_scaled_dot_product_{kind}" for kind in ("efficient_attention", "fused_attention_overrideable")),
)
def _attention(call: Call) -> None:
    labels = call.labels
    query, key, value = (labels.of(tensor) for tensor in call.args[:3])
    _sum_over(call, query[-1], key[-1])
    lead: list[Axis] = []
    for number in range(len(query) - 2):
        parts = [axes[number] for axes in (query, key, value)]
        mask = call.get(3, "attn_mask")
        if isinstance(mask, Tensor) and mask.dim() > len(query) - number - 1:
            own = number - len(query) + mask.dim()
            if mask.shape[own] == call.y.shape[number]:
                parts.append(labels.of(mask)[own])
        lead.append(labels.meet(parts, call.where) if call.args[0].shape[number] > 1 else None)
    for axis in (key[-2], value[-2]):
        labels.freeze(axis, f"its channels meet in {call.where}")
    labels.put(call.y, (*lead, query[-2], value[-1]))


@rule(
    *("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "batch_norm"),
    *("_batch_norm_no_update", "_batch_norm_with_update", "cudnn_batch_norm"),
)
def _batch_norm(call: Call) -> None:
    parts = [call.axes[1], *(call.labels.of(t)[0] for t in tensors_in(call.args[1:5]) if t.dim() == 1)]
    axis = call.labels.meet(parts, call.where) if call.x.shape[1] > 1 else None
    call.labels.put(call.y, (call.axes[0], axis, *call.axes[2:]))


@rule("native_layer_norm", "layer_norm", "_fused_rms_norm", "rms_norm")
def _layer_norm(call: Call) -> None:
    shape = list(call.args[1])
    axes = list(call.axes)
    last = axes[-1]
    if len(shape) > 1:
        for axis in axes[-len(shape) :]:
            call.labels.freeze(axis, f"is normalised together with positions by {call.where}")
        axes[-len(shape) :] = [None] * len(shape)
    elif last is not None:
        parts: list[Axis] = [last, *(call.labels.of(tensor)[0] for tensor in tensors_in(call.args[2:4]))]
        axes[-1] = _normalised(call, parts)
    call.labels.put(call.y, tuple(axes))


@rule("native_group_norm", "group_norm")
def _group_norm(call: Call) -> None:
    native = call.name == "native_group_norm"
    n_groups = int(call.args[6] if native else call.args[1])
    weights = call.args[1:3] if native else call.args[2:4]
    axes = list(call.axes)
    if axes[1] is not None:
        _equal_parts(call, axes[1], n_groups)
        parts: list[Axis] = [axes[1], *(call.labels.of(tensor)[0] for tensor in tensors_in(weights))]
        axes[1] = _normalised(call, parts)
    call.labels.put(call.y, tuple(axes))


def _normalised(call: Call, parts: list[Axis]) -> Axis:
    """Channels over which statistics are taken: removed ones must not count in them."""
    axis = call.labels.meet(parts, call.where)
    if axis is not None:
        normalised(call, axis)
    return axis
