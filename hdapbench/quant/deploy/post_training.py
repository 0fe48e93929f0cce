"""Post-training quantisation by onnxruntime's own tool, and its models as networks: what a user would reach for."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hdapbench.errors import MissingExtraError, ModelError

Mode = Literal["static", "dynamic"]
Calibration = Literal["minmax", "entropy", "percentile"]

OPSET = 20
INPUT, OUTPUT = "images", "scores"
DYNAMIC = "DynamicQuantizeLinear"
"""Node that finds an activation's range while the model runs."""


@dataclass(frozen=True)
class PostTraining:
    """What onnxruntime's quantiser is told.

    Attributes
    ----------
    mode
        ``static``: 8-bit weights and activations, ranges from calibration images; ``dynamic``: 8-bit weights,
        activations quantised while the model runs.
    per_channel
        A scale per output channel instead of one per layer.
    calibration
        How static ranges are found.
    """

    mode: Mode = "static"
    per_channel: bool = True
    calibration: Calibration = "minmax"


def quantize_after_training(model: nn.Module, images: Sequence[Tensor], options: PostTraining) -> bytes:
    """ONNX model with 8-bit weights, made by `onnxruntime.quantization` of a float model, without any training.

    Parameters
    ----------
    model
        In eval mode.
    images
        Batches of normalised calibration images, shape (n, channels, height, width).
    options
        What the tool is told.

    Raises
    ------
    MissingExtraError
        When onnx or onnxruntime is not installed.
    ModelError
        When the model cannot be written as ONNX, or the tool refuses it.
    """
    _onnxruntime()
    with tempfile.TemporaryDirectory() as folder, _quiet():
        plain, ready, small = (Path(folder) / f"{name}.onnx" for name in ("float", "ready", "int8"))
        try:
            _export(model, images[0][:1], plain)
            _prepare(plain, ready)
            _quantize(ready, small, images, options)
        except Exception as error:  # exporter and quantiser raise whatever comes
            raise ModelError(f"onnxruntime cannot quantise this model: {' '.join(str(error).split())[:200]}") from error
        return small.read_bytes()


def _export(model: nn.Module, image: Tensor, path: Path) -> None:
    """Write a float model as ONNX, batch norms folded."""
    axes = {INPUT: {0: "n"}, OUTPUT: {0: "n"}}
    torch.onnx.export(
        model,
        (image,),
        str(path),
        dynamo=False,  # ten times faster, and needs no further package
        opset_version=OPSET,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_axes=axes,
    )


def _prepare(source: Path, target: Path) -> None:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(str(source), str(target), skip_symbolic_shape=True)


def _quantize(source: Path, target: Path, images: Sequence[Tensor], options: PostTraining) -> None:
    from onnxruntime import quantization as tool

    if options.mode == "dynamic":
        # The CPU kernel of dynamic convolutions takes unsigned weights alone.
        tool.quantize_dynamic(
            str(source), str(target), per_channel=options.per_channel, weight_type=tool.QuantType.QUInt8
        )
        return

    class Reader(tool.CalibrationDataReader):  # type: ignore[misc]
        """Calibration images, a batch at a time."""

        def __init__(self) -> None:
            self._left = iter(images)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            """The next batch."""
            batch = next(self._left, None)
            return None if batch is None else {INPUT: np.ascontiguousarray(batch.numpy())}

    methods = tool.CalibrationMethod
    tool.quantize_static(
        str(source),
        str(target),
        Reader(),
        quant_format=tool.QuantFormat.QDQ,
        per_channel=options.per_channel,
        activation_type=tool.QuantType.QUInt8,
        weight_type=tool.QuantType.QInt8,
        calibrate_method={
            "minmax": methods.MinMax,
            "entropy": methods.Entropy,
            "percentile": methods.Percentile,
        }[options.calibration],
    )


class OnnxNetwork(nn.Module):
    """An ONNX file as a network that onnxruntime computes on one thread, for evaluation alone.

    Attributes
    ----------
    content
        The file.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__()
        runtime = _onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.x64quantprecision", "1")  # or sums saturate on x86 without VNNI
        self.content = content
        self._session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name
        self._one_by_one = self.is_dynamic()

    def forward(self, x: Tensor) -> Tensor:
        """Output of the file for normalised images, shape (n, channels, height, width).

        Ranges found while the model runs are those of a whole batch: such files see one image at a time, as devices do.
        """
        batches = torch.split(x, 1) if self._one_by_one else (x,)
        return torch.cat([self._run(batch) for batch in batches])

    def _run(self, x: Tensor) -> Tensor:
        (found,) = self._session.run([self._output], {self._input: np.ascontiguousarray(x.detach().numpy())})
        return torch.from_numpy(found)

    def weight_bytes(self) -> int:
        """Bytes of the convolution and linear weights in the file, as they are stored; biases and scales left out."""
        import onnx

        graph = onnx.load_from_string(self.content).graph
        sizes = {constant.name: onnx.numpy_helper.to_array(constant) for constant in graph.initializer}
        return sum(int(array.nbytes) for array in sizes.values() if array.ndim > 1)

    def is_dynamic(self) -> bool:
        """Whether activations are quantised while the model runs, which needs floating point."""
        import onnx

        return any(node.op_type == DYNAMIC for node in onnx.load_from_string(self.content).graph.node)


def _onnxruntime() -> Any:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # otherwise it writes a file and starts a thread
    try:
        import onnx  # noqa: F401 - the quantiser needs it
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(str(error.name), "onnx", "post-training quantisation") from None
    return onnxruntime


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No advice of exporter and quantiser, which log to the root logger."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
