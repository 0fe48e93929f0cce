"""Notes: records of a forward pass, and the rules for operations between layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from hdapbench.cost.channel_axis import carried, dimensions, extent, order_of
from hdapbench.cost.records import LayerRecord, OperationKind
from hdapbench.cost.tracker import Tracker

_ARITHMETIC = {"add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_"}
_FUNCTIONAL_NORMS = {"native_layer_norm", "native_group_norm", "_fused_rms_norm"}
_MOVES = ("upsample_", "roll_", "pixel_shuffle_", "pixel_unshuffle_")
"""Beginnings of the names of operations that write a map anew; the name compared ends in an underscore too."""


class Notes:
    """Records in order of execution, and which of them the tensors come from.

    Parameters
    ----------
    tensors
        What is known of the tensors.
    placed
        Says of a record that is noted now which residual block it is part of.
    """

    def __init__(self, tensors: Tracker, placed: Callable[[LayerRecord], LayerRecord]) -> None:
        self.records: list[LayerRecord] = []
        self._tensors = tensors
        self._placed = placed

    def append(self, record: LayerRecord, ends: tuple[Tensor, ...], axis: int) -> None:
        """Note an operation; the last of its ends is what it wrote, which comes from the image if what it read does.

        Parameters
        ----------
        axis
            Dimension in which the channels of what it wrote lie.
        """
        *inputs, y = ends
        self.records.append(self._placed(record))
        if any(map(self._tensors.knows, inputs)):
            self._tensors.remember(y, len(self.records) - 1, axis)

    def take(self, operation: str, args: tuple[Any, ...], inputs: list[Tensor], outputs: list[Tensor]) -> None:
        """Note an operation between layers, and where its outputs come from."""
        known = [tensor for tensor in inputs if self._tensors.knows(tensor)]
        if not known or not outputs:
            self._tensors.derive(inputs, outputs)
        elif operation == "cat" or operation in _ARITHMETIC:
            self._note_joint(operation, args, known, outputs)
        else:
            self._note_single(operation, args, known[0], outputs)

    def _note_joint(self, operation: str, args: tuple[Any, ...], known: list[Tensor], outputs: list[Tensor]) -> None:
        """Note an operation that may join several tensors."""
        x, y = known[0], outputs[0]
        axis = self._tensors.axis(x)
        if operation == "cat" and y.dim() == 4:
            self._add("concat", operation, known, y, axis)
        elif operation in _ARITHMETIC and len(known) > 1 and (y.dim() == 4 or (y.dim() == 3 and axis == 2)):
            is_sum = operation.startswith("add") and x.shape == known[1].shape
            widest = max(known, key=lambda tensor: tensor.numel())
            self._add("add" if is_sum else "elementwise", operation, known, y, self._tensors.axis(widest))
        else:
            self._carry(operation, args, x, outputs)

    def _note_single(self, operation: str, args: tuple[Any, ...], x: Tensor, outputs: list[Tensor]) -> None:
        """Note an operation that reads one tensor."""
        y = outputs[0]
        source, axis = self._tensors.record(x), self._tensors.axis(x)
        if operation == "mean" and x.dim() == 4 and axis in dimensions(x, args[1:2]):
            self._tensors.remember(y, source, 1)
        elif (operation == "mean" and x.dim() == 4) or "pool2d" in operation:
            self.add_window(operation, x, y)
        elif operation in _FUNCTIONAL_NORMS:
            self._add("layer_norm", operation, [x], y, axis)
        elif f"{operation.strip('_')}_".startswith(_MOVES) or self._is_softmax_of_product(operation, source):
            self._add("elementwise", operation, [x], y, axis)
        else:
            self._carry(operation, args, x, outputs)

    def _carry(self, operation: str, args: tuple[Any, ...], x: Tensor, outputs: list[Tensor]) -> None:
        """Note that an operation costs nothing."""
        source, axis = self._tensors.record(x), self._tensors.axis(x)
        for tensor in outputs:
            self._tensors.remember(tensor, source, carried(x, tensor, axis, order_of(operation, x, args)))

    def _is_softmax_of_product(self, operation: str, source: int) -> bool:
        """Whether an operation is the softmax of attention; elsewhere, one is fused into what it reads."""
        return "softmax" in operation and source >= 0 and self.records[source].kind == "matmul"

    def add_window(self, name: str, x: Tensor, y: Tensor, *, window: int | None = None) -> None:
        """Note a pooling of maps; windows that are not known are taken not to overlap."""
        axis, channels = self._tensors.axis(x), self._tensors.channels(x)
        height, width = extent(x, axis)
        height_out, width_out = extent(y, axis) if y.dim() == 4 else (1, 1)
        whole = height_out == width_out == 1
        stride = max(height // height_out, 1)
        record = LayerRecord(
            name=name,
            kind="global_pool" if whole else "pool",
            inputs=(self._tensors.record(x),),
            channels_in=channels,
            channels_out=channels,
            height_in=height,
            width_in=width,
            height_out=height_out,
            width_out=width_out,
            kernel_area=height * width if whole else window or stride * stride,
            stride=stride,
        )
        self.append(record, (x, y), axis if y.dim() == 4 else 1)

    def _add(self, kind: OperationKind, name: str, inputs: list[Tensor], y: Tensor, axis: int) -> None:
        channels, size = self._tensors.channels(y, axis), extent(y, axis)
        sources = tuple(map(self._tensors.record, inputs))
        self.append(LayerRecord(name, kind, sources, channels, channels, *size, *size), (*inputs, y), axis)
