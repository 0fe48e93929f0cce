"""The trained network that a base model learns from, made to take what the base model takes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from hdapbench.errors import ModelError
from hdapbench.models import build_model, load_state, state_hash
from hdapbench.spec import TeacherSpec
from hdapbench.spec.code import code_hash

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation per channel."""


class Resized(nn.Module):
    """A network that is given images of another size and normalisation than its own.

    Parameters
    ----------
    model
        The network.
    size
        Height and width that images are resized to, bilinearly.
    factor, offset
        What images are multiplied by and what is added then, one value per channel.
    """

    factor: Tensor
    offset: Tensor

    def __init__(self, model: nn.Module, size: tuple[int, int], factor: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.model, self.size = model, size
        self.register_buffer("factor", factor.reshape(1, -1, 1, 1))
        self.register_buffer("offset", offset.reshape(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Outputs for images as the base model takes them, shape (n, channels, height, width)."""
        images = images * self.factor + self.offset
        if tuple(images.shape[-2:]) != self.size:
            images = functional.interpolate(images, size=self.size, mode="bilinear", align_corners=False)
        outputs: Tensor = self.model(images)
        return outputs


def open_teacher(
    spec: TeacherSpec,
    state: Mapping[str, Tensor],
    *,
    input_shape: tuple[int, int, int],
    statistics: Statistics | None,
    n_classes: int,
    base_dir: Path,
) -> tuple[nn.Module, str]:
    """Network of a spec with its weights, in evaluation mode, and a hash of all that its outputs depend on.

    Parameters
    ----------
    spec
        The network.
    state
        Its weights.
    input_shape
        Of the base model.
    statistics
        Mean and standard deviation per channel that the base model's images are normalised by; None: by none.
    n_classes
        Classes of the data.
    base_dir
        Folder that relative paths of the spec start from.

    Raises
    ------
    ModelError
        When it cannot be built, or its weights do not fit.
    MissingExtraError
        When it needs a package that is not installed.
    """
    built = spec.model(input_shape)
    with torch.random.fork_rng(devices=[]):
        model = build_model(built, n_classes=n_classes, base_dir=base_dir)
    load_state(model, state, source=spec.weights)
    told = {
        "teacher": spec.model_dump(mode="json", exclude={"weights"}),
        "state": state_hash(model),
        "code": code_hash(spec.name, base_dir),
    }
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    if spec.normalize is None and built.input_shape == input_shape:
        return model.eval(), digest  # a detector, which gives more than a tensor, is always one of these
    factor, offset = torch.ones(input_shape[0]), torch.zeros(input_shape[0])
    if spec.normalize is not None:
        mean, std = (torch.tensor(values) for values in statistics or (offset.tolist(), factor.tolist()))
        factor = std / torch.tensor(spec.normalize.std)
        offset = (mean - torch.tensor(spec.normalize.mean)) / torch.tensor(spec.normalize.std)
    return Resized(model, built.input_shape[1:], factor, offset).eval(), digest


def check_teacher(teacher: nn.Module, images: Tensor, n_classes: int) -> None:
    """Refuse a teacher that does not give one score per class.

    Raises
    ------
    ModelError
        With what it gives.
    """
    with torch.no_grad():
        outputs = teacher(images)
    if not isinstance(outputs, Tensor) or tuple(outputs.shape) != (len(images), n_classes):
        given = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ModelError(f"the teacher gives {given} for {len(images)} images of {n_classes} classes")
