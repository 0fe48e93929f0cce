"""IntegerModel -> ONNX in QDQ form, as onnxruntime and other runtimes take it.

Every layer stands between DequantizeLinear and QuantizeLinear nodes, which runtimes fuse to integer kernels. Weights of
8 bits are stored as int8, of 4 bits as int4, two to a byte; this opset has no 2-bit weights, so those are stored as
int4 too. Sub-layers of one layer are convolutions of their own, concatenated.
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

OPSET = 21
"""The first with 4-bit weights."""

IR_VERSION = 10
INPUT, OUTPUT = "images", "scores"


def export_onnx(model: IntegerModel, path: Path) -> None:
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
        content = _Graph().model(model)
        onnx.checker.check_model(content, full_check=True)
    except UnknownLayerError:
        raise
    except Exception as error:
        raise PlanError(f"the network cannot be exported, its parts do not fit: {said(error)[:200]}") from error
    with replacing(path) as partial:
        partial.write_bytes(content.SerializeToString())


class _Graph:
    """Nodes and constants of one model."""

    def __init__(self) -> None:
        import onnx
        from onnx import helper, numpy_helper

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
        return self._helper.make_model(
            graph, opset_imports=[self._helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )

    def _operation(self, operation: IntegerOperation) -> None:
        """Nodes of one operation; its result is a dequantised tensor named after it."""
        name, inputs = operation.name, [_real(source) for source in operation.inputs]
        match operation.op:
            case "input":
                raw = INPUT
            case "layer":
                assert operation.layer is not None  # noqa: S101 - every layer operation has one
                raw = self._layer(name, operation.layer, inputs[0])
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
        if (low, high) != (-zero, 255 - zero):  # fewer than 8 bits, a ReLU on a signed grid, or a cap
            ends = [
                self._constant(f"{name}.{k}", np.float32(v * operation.scale)) for k, v in (("l", low), ("h", high))
            ]
            raw = self._node("Clip", [raw, *ends], f"{name}.cut")
        scale = self._constant(f"{name}.scale", np.float32(operation.scale))
        point = self._constant(f"{name}.zero", np.uint8(zero))
        quantised = self._node("QuantizeLinear", [raw, scale, point], f"{name}.q")
        self._node("DequantizeLinear", [quantised, scale, point], _real(name))

    def _layer(self, name: str, layer: IntegerLayer, source: str) -> str:
        parts, start = [], 0
        depthwise = layer.shape.stride is not None and layer.shape.groups > 1
        if depthwise and len(layer.parts) > 1 and (layer.order is not None or layer.parts[0].weight.shape[1] > 1):
            raise UnknownLayerError(
                f"'{name}': a grouped convolution of several bit-widths has no ONNX counterpart here"
            )
        for part in layer.parts:
            stop = start + len(part.weight)
            part_source = source
            if depthwise and len(layer.parts) > 1:
                part_source = self._slice(f"{name}.in{part.bits}", source, start, stop)
            groups = (stop - start if len(layer.parts) > 1 else layer.shape.groups) if depthwise else layer.shape.groups
            parts.append(self._part(f"{name}.{part.bits}bit", layer, (start, stop), part_source, groups=groups))
            start = stop
        joined = self._node("Concat", parts, f"{name}.joined", axis=1) if len(parts) > 1 else parts[0]
        if layer.order is None:
            return joined
        return self._node(
            "Gather", [joined, self._constant(f"{name}.order", _array(layer.order))], f"{name}.ordered", axis=1
        )

    def _part(self, name: str, layer: IntegerLayer, rows: tuple[int, int], source: str, *, groups: int) -> str:
        """One sub-layer: filters of one bit-width, dequantised per filter."""
        part = next(p for p in layer.parts if name.endswith(f".{p.bits}bit"))
        # Scale and bias are kept in the order of outputs; a sub-layer's filters are in the order of parts.
        from_parts = slice(*rows) if layer.order is None else layer.order.argsort()[slice(*rows)]
        sums, bias = layer.scale[from_parts].double(), layer.bias[from_parts].double()
        unit = self._scales[source]
        steps = self._constant(f"{name}.steps", _array(sums / unit).astype(np.float32))
        weight = self._weight(f"{name}.weight", _array(part.weight), part.bits)
        real = self._node("DequantizeLinear", [weight, steps], f"{name}.w", axis=0)
        whole = self._constant(f"{name}.bias", _array(bias).astype(np.int32))
        bias_steps = self._constant(f"{name}.bias_steps", _array(sums).astype(np.float32))
        real_bias = self._node("DequantizeLinear", [whole, bias_steps], f"{name}.b", axis=0)
        if layer.shape.stride is None:
            return self._node("Gemm", [source, real, real_bias], f"{name}.y", transB=1)
        return self._node("Conv", [source, real, real_bias], f"{name}.y", group=groups, **_window(layer, part.weight))

    def _weight(self, name: str, values: NDArray[Any], bits: int) -> str:
        if bits == 8:
            return self._constant(name, values.astype(np.int8))
        int4 = self._onnx.TensorProto.INT4
        self._constants.append(self._helper.make_tensor(name, int4, values.shape, values.astype(np.int8).flatten()))
        return name

    def _slice(self, name: str, source: str, start: int, stop: int) -> str:
        bounds = [
            self._constant(f"{name}.{k}", np.array([v], dtype=np.int64))
            for k, v in (("start", start), ("stop", stop), ("axis", 1))
        ]
        self._scales[f"{name}.y"] = self._scales[source]
        return self._node("Slice", [source, *bounds], f"{name}.y")

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
