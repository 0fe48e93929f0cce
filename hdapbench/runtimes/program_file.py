"""Models -> programs of torch.export, and the right kind of file for any runtime."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from hdapbench.errors import ModelError
from hdapbench.files import replacing
from hdapbench.runtimes.base import find_runtime
from hdapbench.runtimes.inputs import random_input
from hdapbench.runtimes.model_file import ModelFile, checked, frozen, one_line, quiet
from hdapbench.runtimes.onnx_file import write_onnx
from hdapbench.spec import RuntimeSpec


def write_model(model: nn.Module, input_shape: tuple[int, int, int], path: Path, *, runtime: RuntimeSpec) -> ModelFile:
    """File of a model for one runtime: `write_onnx` or `write_program`.

    Raises
    ------
    MissingExtraError, ModelError
        As those two do.
    """
    if find_runtime(runtime.runtime).suffix == ".onnx":
        return write_onnx(model, input_shape, path, batch=runtime.batch)
    return write_program(model, input_shape, path, batch=runtime.batch, precision=runtime.precision)


def write_program(
    model: nn.Module, input_shape: tuple[int, int, int], path: Path, *, batch: int = 1, precision: str = "fp32"
) -> ModelFile:
    """Program of ``torch.export``, checked against the model: what a worker process on torch loads.

    It holds operations and weights, no code of the model's: a worker needs none of its packages.

    Parameters
    ----------
    precision
        ``fp32`` or ``bf16``; bf16 is compared with the model in bf16.

    Raises
    ------
    ModelError
        When the model cannot be exported, or the program computes something else.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    x = torch.from_numpy(random_input((batch, *input_shape))).to(dtype)
    subject, expected = frozen(model, x)
    with replacing(path) as partial:
        try:
            with quiet(), torch.no_grad():
                program = torch.export.export(subject, (x,))
                torch.export.save(program, partial)
                module = torch.export.load(partial).module()
                found = module(x)
        except Exception as error:
            raise ModelError(f"the model cannot be exported for torch: {one_line(error)}") from error
        difference, largest = checked(found.float(), expected.float(), what="the exported program")
    return ModelFile(path, path.stat().st_size, difference, largest, None, "torch.export")
