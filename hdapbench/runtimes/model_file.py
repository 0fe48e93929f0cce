"""What every writer of model files does: freeze the model, keep the exporter quiet, check the outcome."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hdapbench.errors import ModelError

TOLERANCE = 1e-4
"""Largest difference from torch that is let through, as a share of the largest output: single precision over a hundred
layers stays ten times below."""

ROW_TOLERANCE = 1e-3
"""The same for one row of a detector's output; small scores come from large numbers that cancel."""

TINY = 1e-3
"""Outputs below this count as of this size."""


@dataclass(frozen=True)
class ModelFile:
    """A model as a file.

    Attributes
    ----------
    path
        Where it stands.
    n_bytes
        Its size.
    difference, largest
        Largest absolute difference from torch over all outputs of a probe batch, and the largest absolute output.
    opset
        Of ONNX; None for an exported program.
    exporter
        What wrote it: ``torchscript``, ``dynamo`` or ``torch.export``.
    """

    path: Path
    n_bytes: int
    difference: float
    largest: float
    opset: int | None
    exporter: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"path": str(self.path)}


class _First(nn.Module):
    """A model whose output is the first tensor of what another returns."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """First tensor."""
        found = self.model(x)
        while isinstance(found, tuple | list):
            found = found[0]
        if isinstance(found, dict):
            found = next(iter(found.values()))
        tensor: Tensor = found
        return tensor


def frozen(model: nn.Module, x: Tensor) -> tuple[nn.Module, Tensor]:
    """Copy in evaluation mode, of the input's type, and what it computes.

    The forward pass also fills what detectors keep from call to call, such as anchors of this input size.
    """
    subject = _First(copy.deepcopy(model)).to(device="cpu", dtype=x.dtype).eval().requires_grad_(requires_grad=False)
    with torch.inference_mode(mode=False), torch.no_grad():
        expected = subject(x)
    return subject, expected


def checked(found: Tensor, expected: Tensor, *, what: str) -> tuple[float, float]:
    """Largest difference and largest output over everything.

    Raises
    ------
    ModelError
        When the differences are too large. Detectors return rows of different units, boxes in pixels beside scores
        below 1: each row of an output of more than two axes is held to its own size too.
    """
    if found.shape != expected.shape:
        raise ModelError(f"{what} returns shape {tuple(found.shape)}, torch {tuple(expected.shape)}")
    apart = (found - expected).abs()
    difference, largest = float(apart.max()), float(expected.abs().max())
    limits = [(difference, largest, TOLERANCE)]
    if expected.ndim > 2:
        rows = [values.transpose(0, 1).flatten(1).amax(1) for values in (apart, expected.abs())]
        worst = int((rows[0] / rows[1].clamp_min(TINY)).nan_to_num(nan=torch.inf).argmax())
        limits.append((float(rows[0][worst]), float(rows[1][worst]), ROW_TOLERANCE))
    for apart_by, reach, tolerance in limits:
        if not apart_by <= tolerance * max(reach, TINY):  # NaN is refused too
            raise ModelError(
                f"{what} differs from torch by {apart_by:.2g} where outputs reach {reach:.2g}; "
                f"{tolerance:g} of that is let through"
            )
    return difference, largest


@contextmanager
def quiet() -> Iterator[None]:
    """Neither warnings nor log lines: exporters report each of their own deprecations."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def one_line(error: Exception) -> str:
    """First sentence or so of an exporter's report, which may run over pages."""
    return " ".join(str(error).split())[:300] or type(error).__name__
