"""The dense base model: trained once by its recipe, and found again by the hash of all that it came from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from hdapbench.files import expand_path
from hdapbench.models import (
    build_model,
    calibrate_identity_shortcuts,
    load_state,
    load_weights,
    published_state,
    source_file,
    state_hash,
)
from hdapbench.tasks.classification import Classification
from hdapbench.tasks.training import EpochReport, Setting, fit, on_device

if TYPE_CHECKING:
    from hdapbench.data import DataSplits, Samples
    from hdapbench.spec import BaseRecipe, ModelSpec

TRAINING = 1
"""Raised whenever training changes what a recipe gives, so that old base models are not used."""

TORCHVISION = "torchvision:"
CALIBRATION_BATCHES = 4
CALIBRATION_BATCH_SIZE = 256


@dataclass(frozen=True)
class BaseModel:
    """A dense model ready to be compressed.

    Attributes
    ----------
    model
        In evaluation mode.
    weights_path
        File of its state dict; None for weights that torchvision keeps.
    hash
        SHA-256 of its state dict.
    trained
        Whether it was trained by the recipe, now or earlier, rather than loaded from given weights.
    test_accuracy
        The task's metric in [0, 1] on the test split.
    """

    model: nn.Module
    weights_path: Path | None
    hash: str
    trained: bool
    test_accuracy: float


def prepare_base(
    spec: ModelSpec,
    recipe: BaseRecipe,
    data: DataSplits,
    *,
    base_dir: Path,
    cache_dir: Path,
    setting: Setting | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
) -> BaseModel:
    """Dense model of a spec: from its weights when it names some, else trained by the recipe or taken from the cache.

    Parameters
    ----------
    spec
        Name, arguments and weights of the model.
    recipe
        How to train it when it has no weights; its seed also fixes the initial weights.
    data
        What to train and test on.
    base_dir
        Folder that relative paths of the spec start from.
    cache_dir
        Where trained models are kept: ``base/<hash of model, recipe and data>.pt``.
    setting
        What the model is for and where it is trained; classification on the CPU by default.
    on_epoch
        Called after every epoch of training.

    Raises
    ------
    ModelError
        When the model cannot be built, its weights do not fit, or training diverges.
    """
    setting = setting or Setting(Classification())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = build_model(spec, n_classes=data.n_classes, base_dir=base_dir)
    path: Path | None
    if spec.weights is None:
        path = cache_dir / "base" / f"{_recipe_key(spec, recipe, data, base_dir)}.pt"
        if not path.is_file():
            fit(model, data.train, recipe, setting=setting, seed=recipe.seed, on_epoch=on_epoch)
            _save(model, path)
        load_weights(model, path)
    else:
        path = _load_given(model, spec, data, base_dir)
    model.eval()
    with on_device(model, setting.device):
        scores = setting.task.scores(model, data.test)
    return BaseModel(
        model=model,
        weights_path=path,
        hash=state_hash(model),
        trained=spec.weights is None,
        test_accuracy=scores.accuracy,
    )


def _load_given(model: nn.Module, spec: ModelSpec, data: DataSplits, base_dir: Path) -> Path | None:
    """Fill the model with the weights that the spec names; their file, if it is the user's."""
    weights = spec.weights or ""
    path = None
    if weights.startswith(TORCHVISION):
        name = spec.name.removeprefix(TORCHVISION)
        state = published_state(name, weights.removeprefix(TORCHVISION), n_classes=data.n_classes)
        load_state(model, state, source=weights)
    else:
        path = base_dir / expand_path(weights)
        load_weights(model, path)
    calibrate_identity_shortcuts(model, _calibration_images(data.train))
    return path


def _calibration_images(images: Samples) -> list[torch.Tensor]:
    return [batch for batch, _ in islice(images.batches(CALIBRATION_BATCH_SIZE, shuffle_seed=0), CALIBRATION_BATCHES)]


def _recipe_key(spec: ModelSpec, recipe: BaseRecipe, data: DataSplits, base_dir: Path) -> str:
    """Thirty-two hexadecimal digits of all that a trained base model depends on."""
    content = {
        "version": TRAINING,
        "model": spec.model_dump(mode="json", exclude={"weights"}),
        "recipe": recipe.model_dump(mode="json"),
        "data": data.content_hash,
    }
    code = source_file(spec.name, base_dir)
    if code is not None:
        content["code"] = hashlib.sha256(code.read_bytes()).hexdigest()
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _save(model: nn.Module, path: Path) -> None:
    """Write a state dict in one step: a kill leaves the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    torch.save(model.state_dict(), partial)
    partial.replace(path)
