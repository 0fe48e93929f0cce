"""Notes: records of a forward pass, and the rules for operations between layers."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hdapbench.cost.channels import Channels, dimensions, order_of
from hdapbench.cost.records import ChannelCount, LayerRecord, OperationKind
from hdapbench.cost.tracker import Tracker

_ARITHMETIC = {"add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_"}
_FUNCTIONAL_NORMS = {"native_layer_norm", "native_group_norm", "_fused_rms_norm"}
_MOVES = ("upsample_", "roll_", "pixel_shuffle_", "pixel_unshuffle_")
"""Beginnings of the names of operations that write a map anew; the name compared ends in an underscore too."""


class Notes:
    """Records in order of execution, and which of them the tensors come from."""

    def __init__(self, tensors: Tracker) -> None:
        self.records: list[LayerRecord] = []
        self._tensors = tensors

    def append(self, record: LayerRecord, ends: tuple[Tensor, ...], channels: Channels) -> None:
        """Note an operation; the last of its ends is what it wrote, which comes from the image if what it read does."""
        *inputs, y = ends
        self.records.append(record)
        if any(map(self._tensors.knows, inputs)):
            self._tensors.remember(y, len(self.records) - 1, channels)

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
        parts = [self._tensors.lookup(tensor) for tensor in known]
        numbers, channels = tuple(number for number, _ in parts), parts[0][1]
        if operation == "cat" and y.dim() == 4:
            if dimensions(x, args[1:2] or (0,)) == [channels.axis]:
                counts = [part.count for _, part in parts]
                channels = Channels(sum(counts[1:], counts[0]), channels.axis)
            self._add("concat", operation, y, numbers, channels)
        elif operation in _ARITHMETIC and len(known) > 1 and _is_map(y, channels):
            is_sum = operation.startswith("add") and known[0].shape == known[1].shape
            widest = max(range(len(known)), key=lambda number: known[number].numel())
            self._add("add" if is_sum else "elementwise", operation, y, numbers, parts[widest][1])
        else:
            self._carry(operation, args, x, outputs)

    def _note_single(self, operation: str, args: tuple[Any, ...], x: Tensor, outputs: list[Tensor]) -> None:
        """Note an operation that reads one tensor."""
        y = outputs[0]
        source, channels = self._tensors.lookup(x)
        if operation == "mean" and x.dim() == 4 and channels.axis in dimensions(x, args[1:2]):
            self._tensors.remember(y, source, Channels(ChannelCount(1)))
        elif (operation == "mean" and x.dim() == 4) or "pool2d" in operation:
            self.add_window(operation, x, y)
        elif operation in _FUNCTIONAL_NORMS:
            self._add("layer_norm", operation, y, (source,), channels)
        elif f"{operation.strip('_')}_".startswith(_MOVES) or self._is_softmax_of_product(operation, source):
            self._add("elementwise", operation, y, (source,), channels.moved(x, y))
        else:
            self._carry(operation, args, x, outputs)

    def _carry(self, operation: str, args: tuple[Any, ...], x: Tensor, outputs: list[Tensor]) -> None:
        """Note that an operation costs nothing."""
        source, channels = self._tensors.lookup(x)
        for tensor in outputs:
            self._tensors.remember(tensor, source, channels.carried(x, tensor, order_of(operation, x, args)))

    def _is_softmax_of_product(self, operation: str, source: int) -> bool:
        """Whether an operation is the softmax of attention; elsewhere, one is fused into what it reads."""
        return "softmax" in operation and source >= 0 and self.records[source].kind == "matmul"

    def add_window(self, name: str, x: Tensor, y: Tensor, *, window: int | None = None) -> None:
        """Note a pooling of maps; windows that are not known are taken not to overlap."""
        source, channels = self._tensors.lookup(x)
        height, width = channels.extent(x)
        height_out, width_out = channels.extent(y) if y.dim() == 4 else (1, 1)
        whole = height_out == width_out == 1
        stride = max(height // height_out, 1)
        record = LayerRecord(
            name=name,
            kind="global_pool" if whole else "pool",
            inputs=(source,),
            channels_in=channels.count,
            channels_out=channels.count,
            height_in=height,
            width_in=width,
            height_out=height_out,
            width_out=width_out,
            kernel_area=height * width if whole else window or stride * stride,
            stride=stride,
        )
        self.append(record, (x, y), channels if y.dim() == 4 else Channels(channels.count))

    def _add(self, kind: OperationKind, name: str, y: Tensor, inputs: tuple[int, ...], channels: Channels) -> None:
        self.records.append(LayerRecord(name, kind, inputs, channels.count, channels.count, *channels.extent(y) * 2))
        self._tensors.remember(y, len(self.records) - 1, channels)


def _is_map(tensor: Tensor, channels: Channels) -> bool:
    """Whether a tensor is a map of features, or a sequence of tokens, whose channels come last."""
    return tensor.dim() == 4 or (tensor.dim() == 3 and channels.axis == 2)
