"""IntegerModel -> ONNX in QDQ form, as onnxruntime and other runtimes take it.

Every layer is one operation between DequantizeLinear and QuantizeLinear nodes, which runtimes fuse to one kernel.
Filters of all bit-widths lie side by side in its weight, each with a scale of its own. Weights are unsigned, at 8 bits
with zero point 128: onnxruntime's kernels for x86 without VNNI saturate sums of unsigned times signed bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdapbench.errors import MissingExtraError, PlanError, UnknownLayerError, said
from hdapbench.files import replacing
from hdapbench.quant.deploy.execute import pooling_window, run_integer
from hdapbench.quant.deploy.integer import IntegerLayer, IntegerModel, IntegerOperation

if TYPE_CHECKING:
    import onnx

OPSETS = {2: 25, 4: 21, 8: 21}
"""The first opset with weights of so many bits; scales per channel of uint8 need no newer one."""

IR_VERSIONS = {21: 10, 25: 13}
"""The format that came with each opset."""
INPUT, OUTPUT = "images", "scores"


def export_onnx(model: IntegerModel, path: Path, *, small: bool = False) -> None:
    """Write a model as ONNX; inputs are normalised float images, shape (n, channels, height, width).

    Raises
    ------
    MissingExtraError
        When onnx is not installed.
    UnknownLayerError
        When ONNX has no counterpart for an operation.
    PlanError
        When its parts do not fit each other, as in a file that was put together by hand.
    """
    try:
        import onnx
    except ImportError:
        raise MissingExtraError("onnx", "onnx", "ONNX export") from None
    try:
        content = _Graph(small=small).model(model)
        onnx.checker.check_model(content, full_check=True)
    except UnknownLayerError:
        raise
    except Exception as error:
        raise PlanError(f"the network cannot be exported, its parts do not fit: {said(error)[:200]}") from error
    with replacing(path) as partial:
        partial.write_bytes(content.SerializeToString())


class _Graph:
    """Nodes and constants of one model."""

    def __init__(self, *, small: bool) -> None:
        import onnx
        from onnx import helper, numpy_helper

        self._small, self._opset = small, OPSETS[8]
        self._onnx, self._helper, self._numpy = onnx, helper, numpy_helper
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._zeros: dict[str, int] = {}  # operation -> zero point of its quantised output
        self._scales: dict[str, float] = {}  # dequantised tensor -> its scale

    def model(self, model: IntegerModel) -> onnx.ModelProto:
        """The whole model."""
        for operation in model.operations[:-1]:
            self._operation(operation)
        last = model.operations[-1]
        self._operation(last)
        self._node("Identity", [_real(last.name)], OUTPUT)
        element = self._onnx.TensorProto.FLOAT
        shape = run_integer(model, torch.zeros(1, *model.input_shape)).shape[1:]
        graph = self._helper.make_graph(
            self._nodes,
            "hdapbench",
            [self._helper.make_tensor_value_info(INPUT, element, ["n", *model.input_shape])],
            [self._helper.make_tensor_value_info(OUTPUT, element, ["n", *shape])],
            self._constants,
        )
        opset = self._helper.make_opsetid("", self._opset)
        return self._helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSIONS[self._opset])

    def _operation(self, operation: IntegerOperation) -> None:
        """Nodes of one operation; its result is a dequantised tensor named after it."""
        name, inputs = operation.name, [_real(source) for source in operation.inputs]
        match operation.op:
            case "input":
                raw = INPUT
            case "layer":
                assert operation.layer is not None  # noqa: S101 - every layer operation has one
                raw = self._layer(operation, operation.layer, inputs[0])
            case "add" | "mul":
                raw = self._node("Add" if operation.op == "add" else "Mul", inputs, f"{name}.raw")
            case "concat":
                raw = self._node("Concat", inputs, f"{name}.raw", axis=1)
            case "flatten":
                raw = self._node("Flatten", inputs, f"{name}.raw", axis=1)
            case "relu":
                raw = self._node("Relu", inputs, f"{name}.raw")
            case "max_pool" | "avg_pool":
                raw = self._pool(operation, inputs[0])
            case _:
                raw = self._table(operation)
        self._quantize(operation, raw)

    def _quantize(self, operation: IntegerOperation, raw: str) -> None:
        """Put a real tensor on the operation's grid; the network's output stays as it is."""
        name, low, high = operation.name, operation.low, operation.high
        if low is None or high is None:
            raw = self._node("Relu", [raw], f"{name}.relu") if low == 0 else raw
            self._node("Identity", [raw], _real(name))
            return
        zero = self._zeros[name] = -min(low, 0)
        self._scales[_real(name)] = operation.scale
        scale = self._constant(f"{name}.scale", np.float32(operation.scale))
        point = self._constant(f"{name}.zero", np.uint8(zero))
        if (low, high) == (-zero, 255 - zero):
            whole = self._node("QuantizeLinear", [raw, scale, point], f"{name}.q")
        else:  # fewer than 8 bits, or a cap: cut as whole numbers, so that what is before is fused all the same
            ends = [self._constant(f"{name}.{end}", np.uint8(v + zero)) for end, v in (("least", low), ("most", high))]
            whole = self._node("QuantizeLinear", [raw, scale, point], f"{name}.uncut")
            whole = self._node("Clip", [whole, *ends], f"{name}.q")
        self._node("DequantizeLinear", [whole, scale, point], _real(name))

    def _layer(self, operation: IntegerOperation, layer: IntegerLayer, source: str) -> str:
        name, filters, sums = operation.name, layer.filters, _array(operation.sum_scale)
        steps = self._constant(f"{name}.steps", (sums / self._scales[source]).astype(np.float32))
        weight, zeros = self._weight(f"{name}.weight", layer)
        real = self._node("DequantizeLinear", [weight, steps, zeros], f"{name}.w", axis=0)
        whole = self._constant(f"{name}.bias", _array(layer.bias))
        bias_steps = self._constant(f"{name}.bias_steps", sums.astype(np.float32))
        real_bias = self._node("DequantizeLinear", [whole, bias_steps], f"{name}.b", axis=0)
        if layer.shape.stride is None:
            return self._node("Gemm", [source, real, real_bias], f"{name}.raw", transB=1)
        window = _window(layer, filters)
        return self._node("Conv", [source, real, real_bias], f"{name}.raw", group=layer.shape.groups, **window)

    def _weight(self, name: str, layer: IntegerLayer) -> tuple[str, str]:
        """Names of a layer's weight, uint8, and of its zero points."""
        filters, bits = _array(layer.filters), max(part.bits for part in layer.parts)
        zero = 1 << (bits - 1)
        zeros = self._constant(f"{name}.zero", np.full(len(filters), zero, dtype=np.uint8))
        values = (filters.astype(np.int16) + zero).astype(np.uint8)
        if not self._small or bits == 8:
            return self._constant(name, values), zeros
        tensor = self._onnx.TensorProto
        self._opset = max(self._opset, OPSETS[bits])
        kind = {2: tensor.UINT2, 4: tensor.UINT4}[bits]
        self._constants.append(self._helper.make_tensor(name, kind, values.shape, values.flatten()))
        # Runtimes carry the cast out once, when they load the file, and fuse as they do with bytes.
        return self._node("Cast", [name], f"{name}.bytes", to=tensor.UINT8), zeros

    def _pool(self, operation: IntegerOperation, source: str) -> str:
        kernel, stride, dilation, pads = pooling_window(operation)
        common: dict[str, Any] = {"kernel_shape": list(kernel), "strides": list(stride), "pads": [*pads, *pads]}
        if operation.op == "max_pool":
            ceil = int(bool(operation.arguments.get("ceil_mode")))
            common |= {"dilations": list(dilation), "ceil_mode": ceil}
            return self._node("MaxPool", [source], f"{operation.name}.raw", **common)
        return self._node("AveragePool", [source], f"{operation.name}.raw", count_include_pad=1, **common)

    def _table(self, operation: IntegerOperation) -> str:
        """A function as a lookup of its input's whole number."""
        assert operation.table is not None  # noqa: S101 - every function operation has one
        name, source = operation.name, operation.inputs[0]
        whole = self._node("Cast", [f"{source}.q"], f"{name}.index", to=self._onnx.TensorProto.INT64)
        offset = operation.table_start + self._zeros[source]
        if offset:
            whole = self._node("Sub", [whole, self._constant(f"{name}.offset", np.int64(offset))], f"{name}.place")
        real = (_array(operation.table).astype(np.float64) * operation.scale).astype(np.float32)
        return self._node("Gather", [self._constant(f"{name}.table", real), whole], f"{name}.raw", axis=0)

    def _node(self, op_type: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(self._helper.make_node(op_type, inputs, [output], name=output, **attributes))
        return output

    def _constant(self, name: str, value: Any) -> str:
        self._constants.append(self._numpy.from_array(np.asarray(value), name))
        return name


def _real(name: str) -> str:
    """Name of an operation's dequantised output."""
    return f"{name}.real"


def _array(values: Tensor) -> NDArray[Any]:
    found: NDArray[Any] = values.numpy()
    return found


def _window(layer: IntegerLayer, weight: Tensor) -> dict[str, Any]:
    """Strides, dilations and pads of a convolution."""
    shape = layer.shape
    assert shape.stride is not None  # noqa: S101 - a convolution
    found: dict[str, Any] = {"strides": list(shape.stride), "dilations": list(shape.dilation)}
    if isinstance(shape.padding, str):
        totals = [d * (k - 1) for d, k in zip(shape.dilation, weight.shape[2:], strict=True)]
        before = [total // 2 if shape.padding == "same" else 0 for total in totals]
        after = [total - first if shape.padding == "same" else 0 for total, first in zip(totals, before, strict=True)]
        return found | {"pads": [*before, *after]}
    return found | {"pads": [*shape.padding, *shape.padding]}
