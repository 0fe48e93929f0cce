"""Models -> ONNX files that onnxruntime computes what torch computes from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hdapbench.errors import MissingExtraError, ModelError
from hdapbench.files import replacing
from hdapbench.runtimes.inputs import random_input
from hdapbench.runtimes.model_file import ModelFile, checked, frozen, one_line, quiet
from hdapbench.runtimes.on_onnxruntime import session_options

OPSET = 20
"""The newest that torch's TorchScript-based exporter writes."""

INPUT, OUTPUT = "images", "scores"


def write_onnx(model: nn.Module, input_shape: tuple[int, int, int], path: Path, *, batch: int = 1) -> ModelFile:
    """ONNX file of a model, checked: onnxruntime computes what torch computes.

    Batch norms are folded into convolutions. Of a model that returns several tensors the first is kept: that is what a
    detector decodes. The same model gives the same bytes. The model is left as it is.

    Parameters
    ----------
    model
        Model of one image input.
    input_shape
        Channels, height and width.
    path
        Where to write; the file appears when it is complete and checked.
    batch
        Inputs per run: the file is for batches of this size alone.

    Raises
    ------
    MissingExtraError
        When onnx or onnxruntime is not installed.
    ModelError
        When the model cannot be exported, or the file computes something else.
    """
    _require_onnx()
    x = torch.from_numpy(random_input((batch, *input_shape)))
    subject, expected = frozen(model, x)
    with replacing(path) as partial:
        with quiet():
            exporter = "torchscript"
            try:
                _export(subject, x, partial, dynamo=False)
            except Exception as first:  # noqa: BLE001 - the exporter raises whatever it likes
                exporter = "dynamo"
                try:
                    _export(subject, x, partial, dynamo=True)
                except Exception:  # noqa: BLE001 - the first exporter's complaint is the telling one
                    raise ModelError(f"the model cannot be written as ONNX: {one_line(first)}") from first
        found = torch.from_numpy(_run_onnx(partial, x))
        difference, largest = checked(found, expected, what="onnxruntime")
    return ModelFile(path, path.stat().st_size, difference, largest, OPSET, exporter)


def describe(path: Path, about: Mapping[str, str]) -> None:
    """Put what is known of a model into its file, as metadata that runtimes hand out."""
    import onnx

    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, dict(about))
    with replacing(path) as partial:
        partial.write_bytes(model.SerializeToString())


def _export(subject: nn.Module, x: Tensor, path: Path, *, dynamo: bool) -> None:
    torch.onnx.export(
        subject,
        (x,),
        str(path),
        input_names=[INPUT],
        output_names=[OUTPUT],
        opset_version=OPSET,
        dynamo=dynamo,
        external_data=False,
        verbose=False,
    )


def _run_onnx(path: Path, x: Tensor) -> np.ndarray[Any, Any]:
    import onnxruntime

    options = session_options(threads=1, graph_optimization="all")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        found: np.ndarray[Any, Any] = session.run(None, {INPUT: x.numpy()})[0]
    except Exception as error:
        raise ModelError(f"onnxruntime does not take the model: {one_line(error)}") from error
    return found


def _require_onnx() -> None:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when onnxruntime is imported
    for package in ("onnx", "onnxruntime"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "onnx", "ONNX export")
