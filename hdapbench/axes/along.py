"""Rules for operations along a dimension: reductions, softmax, padding, shuffles of pixels, pooling and resizing."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from hdapbench.arrays import Integers
from hdapbench.axes.labels import tensors_in
from hdapbench.axes.layers import CONVOLUTIONS
from hdapbench.axes.rules import RULES, Call, numbers, pointwise, rule


@rule("index_select", "gather", "sort", "topk", "roll", "flip", "take_along_dim", "cumsum", "cumprod", "_softmax")
def _along(call: Call) -> None:
    """Operations that look at one dimension, or some, and leave the others alone."""
    position, name = {"topk": (2, "dim"), "roll": (2, "dims"), "flip": (1, "dims")}.get(call.name, (1, "dim"))
    gone = numbers(call, position, name, call.x.dim())
    for number in gone:
        call.labels.freeze(call.axes[number], f"its channels meet in {call.where}")
    for output in tensors_in(call.output):
        call.labels.put(output, tuple(None if n in gone else axis for n, axis in enumerate(call.axes)))


RULES |= dict.fromkeys(["_log_softmax", "softmax", "log_softmax", "_safe_softmax", "logcumsumexp"], _along)


@rule(
    *("mean", "sum", "amax", "amin", "max", "min", "var", "std", "var_mean", "std_mean", "prod", "argmax", "argmin"),
    *("any", "all", "logsumexp", "nansum", "median"),
)
def _reduce(call: Call) -> None:
    gone = numbers(call, 1, "dim", call.x.dim())
    if call.name in {"max", "min"} and len(call.args) > 1 and isinstance(call.args[1], Tensor):
        pointwise(call)
        return
    _reduced(call, gone)


@rule("linalg_vector_norm", "norm")
def _norm(call: Call) -> None:
    _reduced(call, numbers(call, 2, "dim", call.x.dim()))


def normalised(call: Call, axis: Integers) -> None:
    """Channels that a statistic runs over: a norm's, whose code holds nothing else, may be taken over fewer."""
    name, module = call.labels.running
    dimension = call.labels.input_dimension(axis)
    is_leaf = next(module.children(), None) is None and next(module.parameters(), None) is not None
    if is_leaf and dimension is not None and not isinstance(module, (*CONVOLUTIONS, nn.Linear)):
        call.labels.notes.norms.append((name, axis, dimension))
    else:
        call.labels.freeze(axis, f"its channels meet in {call.where}")


def _reduced(call: Call, gone: list[int]) -> None:
    for number in gone:
        axis = call.axes[number]
        if axis is not None:
            normalised(call, axis)
    for output in tensors_in(call.output):
        if output.dim() == call.x.dim():
            found = tuple(None if number in gone else axis for number, axis in enumerate(call.axes))
        else:
            found = tuple(axis for number, axis in enumerate(call.axes) if number not in gone)
        call.labels.put(output, found)


@rule("constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d")
def _pad(call: Call) -> None:
    axes = list(call.axes)
    for number, (size, then) in enumerate(zip(call.x.shape, call.y.shape, strict=True)):
        if size != then:
            call.labels.freeze(axes[number], f"is padded to another width by {call.where}")
            axes[number] = None
    call.labels.put(call.y, tuple(axes))


RULES |= dict.fromkeys(["replication_pad2d", "replication_pad3d", "pad"], _pad)


@rule("pixel_shuffle")
def _pixel_shuffle(call: Call) -> None:
    axis, area = call.axes[-3], int(call.args[1]) ** 2
    if axis is not None:
        grid = axis.reshape(-1, area)
        call.labels.tie(grid, np.broadcast_to(grid[:, :1], grid.shape), call.where)
        axis = grid[:, 0]
    call.labels.put(call.y, (*call.axes[:-3], axis, None, None))


@rule("pixel_unshuffle")
def _pixel_unshuffle(call: Call) -> None:
    axis, area = call.axes[-3], int(call.args[1]) ** 2
    call.labels.put(call.y, (*call.axes[:-3], None if axis is None else np.repeat(axis, area), None, None))


@rule("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(call: Call) -> None:
    axis, n_groups = call.axes[1], int(call.args[1])
    if axis is not None:
        grid = axis.reshape(n_groups, -1)
        call.labels.tie(grid, np.broadcast_to(grid[:1], grid.shape), call.where)
        axis = grid.T.reshape(-1)
    call.labels.put(call.y, (call.axes[0], axis, *call.axes[2:]))


@rule("im2col")
def _im2col(call: Call) -> None:
    axis = call.axes[-3]
    repeats = call.y.shape[-2] // call.x.shape[-3]
    call.labels.put(call.y, (*call.axes[:-3], None if axis is None else np.repeat(axis, repeats), None))


@rule("unfold")
def _unfold(call: Call) -> None:
    number = int(call.args[1]) % call.x.dim()
    call.labels.freeze(call.axes[number], f"its channels meet in {call.where}")
    axes = [None if own == number else axis for own, axis in enumerate(call.axes)]
    call.labels.put(call.y, (*axes, None))


def spatial(call: Call) -> None:
    """Pooling and resizing: only dimensions that keep their size keep their labels; others must have none."""
    for output in tensors_in(call.output):
        pairs = zip(call.axes, call.x.shape, output.shape, strict=True)
        call.labels.put(output, tuple(axis if size == then else None for axis, size, then in pairs))


RULES |= {
    f"{prefix}{kind}_pool{n}d{suffix}": spatial
    for prefix in ("", "_", "adaptive_", "_adaptive_")
    for kind in ("avg", "max")
    for n in (1, 2, 3)
    for suffix in ("", "_with_indices")
}
RULES |= {
    f"{prefix}upsample_{kind}": spatial
    for prefix in ("", "_")
    for kind in (
        *("nearest1d", "nearest2d", "nearest3d", "nearest_exact1d", "nearest_exact2d", "linear1d", "bilinear2d"),
        *("bilinear2d_aa", "bicubic2d", "bicubic2d_aa", "trilinear3d"),
    )
}
RULES |= {"fractional_max_pool2d": spatial, "grid_sampler_2d": spatial, "grid_sampler": spatial}
