"""IntegerModel -> ONNX in QDQ form, as onnxruntime and other runtimes take it.

Every layer is one operation between DequantizeLinear and QuantizeLinear nodes, which runtimes fuse to one kernel.
Filters of all bit-widths lie side by side in its weight, signed bytes with a scale for each filter.

On x86 without VNNI, onnxruntime adds pairs of products of unsigned and signed bytes in 16 bits, where large weights
saturate. Unsigned bytes do not, but take twice the time with VNNI: where that can happen, they are written on demand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
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
from hdapbench.quant.deploy.post_training import OnnxNetwork

if TYPE_CHECKING:
    import onnx

OPSETS = {2: 25, 4: 21, 8: 21}
"""The first opset with weights of so many bits; scales per channel of uint8 need no newer one."""

IR_VERSIONS = {21: 10, 25: 13}
"""The format that came with each opset."""
N_COMPARED = 16
"""Random images on which a file is compared with the executor."""

MOST_PAIR = 2**15 - 1
"""Where two products of bytes are added in 16 bits."""

INPUT, OUTPUT = "images", "scores"


@dataclass(frozen=True)
class Agreement:
    """How a file that onnxruntime runs and the integer executor compare on random images.

    Attributes
    ----------
    difference, largest
        Largest difference of an output, and largest output.
    n_same, n_compared
        Images for which the same output is greatest, and images.
    saturating
        Layers whose sums may saturate on x86 without VNNI.
    """

    difference: float
    largest: float
    n_same: int
    n_compared: int
    saturating: tuple[str, ...] = ()

    def __str__(self) -> str:
        warning = (
            f"\nnote: sums of {len(self.saturating)} layers ({', '.join(self.saturating[:3])}) may saturate on x86 "
            "without VNNI, unless the session has session.x64quantprecision 1 or the file is exported with --portable"
        )
        told = (
            f"onnxruntime differs from the integer executor by {self.difference:.2g} at most, where outputs reach "
            f"{self.largest:.2g}; the same output is greatest for {self.n_same} of {self.n_compared} random images"
        )
        return told + warning if self.saturating else told


def export_onnx(model: IntegerModel, path: Path, *, small: bool = False, portable: bool = False) -> Agreement:
    """Write a model as ONNX, for any number of normalised float images at once, and compare it with the executor.

    Parameters
    ----------
    model
        What is written.
    path
        The file appears when it is complete and onnxruntime runs it.
    small
        Whether layers of at most 4 or 2 bits are stored in these; the file then needs a runtime of opset 21 or 25.
    portable
        Whether weights are unsigned where signed ones could saturate on x86 without VNNI.

    Raises
    ------
    MissingExtraError
        When onnx or onnxruntime is not installed.
    UnknownLayerError
        When ONNX has no counterpart for an operation.
    PlanError
        When its parts do not fit each other, as in a file that was put together by hand, or onnxruntime refuses it.
    """
    for package in ("onnx", "onnxruntime"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "onnx", "ONNX export")
    import onnx

    try:
        builder = _Graph(small=small, portable=portable)
        graph = builder.model(model)
        onnx.checker.check_model(graph, full_check=True)
        content = graph.SerializeToString()
        saturating = () if portable else tuple(builder.saturating)
        agreement = replace(_compared(model, content), saturating=saturating)
    except UnknownLayerError:
        raise
    except Exception as error:
        raise PlanError(f"the network cannot be exported, its parts do not fit: {said(error)[:200]}") from error
    with replacing(path) as partial:
        partial.write_bytes(content)
    return agreement


@torch.no_grad()
def _compared(model: IntegerModel, content: bytes) -> Agreement:
    x = torch.randn(N_COMPARED, *model.input_shape, generator=torch.Generator().manual_seed(0))
    expected = (run_integer(model, x) * model.operations[-1].scale).flatten(1)
    found = OnnxNetwork(content)(x).flatten(1)
    n_same = int((found.argmax(1) == expected.argmax(1)).sum())
    return Agreement(float((found - expected).abs().max()), float(expected.abs().max()), n_same, N_COMPARED)


class _Graph:
    """Nodes and constants of one model."""

    def __init__(self, *, small: bool, portable: bool) -> None:
        import onnx
        from onnx import helper, numpy_helper

        self._small, self._portable, self._opset = small, portable, OPSETS[8]
        self._onnx, self._helper, self._numpy = onnx, helper, numpy_helper
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._zeros: dict[str, int] = {}  # operation -> zero point of its quantised output
        self._scales: dict[str, float] = {}  # dequantised tensor -> its scale
        self._spans: dict[str, int] = {}  # dequantised tensor -> greatest byte that it is made of
        self.saturating: list[str] = []

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
            case "take":
                channels = self._constant(f"{name}.channels", np.array(operation.arguments["channels"], dtype=np.int64))
                raw = self._node("Gather", [*inputs, channels], f"{name}.raw", axis=1)
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
        self._scales[_real(name)], self._spans[_real(name)] = operation.scale, high + zero
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
        weight, zeros = self._weight(f"{name}.weight", layer, self._spans[source])
        real = self._node("DequantizeLinear", [weight, steps, zeros], f"{name}.w", axis=0)
        whole = self._constant(f"{name}.bias", _array(layer.bias))
        bias_steps = self._constant(f"{name}.bias_steps", sums.astype(np.float32))
        real_bias = self._node("DequantizeLinear", [whole, bias_steps], f"{name}.b", axis=0)
        if layer.shape.stride is None:
            return self._node("Gemm", [source, real, real_bias], f"{name}.raw", transB=1)
        window = _window(layer, filters)
        return self._node("Conv", [source, real, real_bias], f"{name}.raw", group=layer.shape.groups, **window)

    def _weight(self, name: str, layer: IntegerLayer, span: int) -> tuple[str, str]:
        """Names of a layer's weight, as bytes, and of its zero points; ``span`` is the greatest byte of its input."""
        filters, bits = _array(layer.filters), max(part.bits for part in layer.parts)
        saturates = span * _largest_pair(filters) > MOST_PAIR
        if saturates:
            self.saturating.append(name.removesuffix(".weight"))
        zero = 1 << (bits - 1) if saturates and self._portable else 0
        dtype = np.uint8 if zero else np.int8
        zeros = self._constant(f"{name}.zero", np.full(len(filters), zero, dtype=dtype))
        values = (filters.astype(np.int16) + zero).astype(dtype)
        if not self._small or bits == 8:
            return self._constant(name, values), zeros
        tensor = self._onnx.TensorProto
        self._opset = max(self._opset, OPSETS[bits])
        kind = {2: tensor.INT2, 4: tensor.INT4}[bits]
        self._constants.append(self._helper.make_tensor(name, kind, values.shape, values.flatten()))
        # Runtimes carry the cast out once, when they load the file, and fuse as they do with bytes.
        return self._node("Cast", [name], f"{name}.bytes", to=tensor.INT8), zeros

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


def _largest_pair(filters: NDArray[Any]) -> int:
    """Largest sum of two weights of one sign in a filter, without its sign."""
    ordered = np.sort(filters.reshape(len(filters), -1).astype(np.int64), axis=1)
    return int(max(ordered[:, -2:].clip(0).sum(1).max(), -ordered[:, :2].clip(None, 0).sum(1).min()))


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
