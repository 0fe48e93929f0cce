"""The dense base model: trained once by its recipe, and found again by the hash of all that it came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hdapbench.data import ImageSet
from hdapbench.files import expand_path
from hdapbench.models import (
    build_model,
    calibrate_identity_shortcuts,
    keep_state,
    kept_state,
    load_start,
    load_state,
    published_state,
    read_state,
    state_hash,
)
from hdapbench.spec.code import code_hash
from hdapbench.tasks.classification import Classification
from hdapbench.tasks.device import check_device
from hdapbench.tasks.stepper import Setting
from hdapbench.tasks.teacher import Statistics, open_teacher
from hdapbench.tasks.training import EpochReport, train_model

if TYPE_CHECKING:
    from hdapbench.data import DataSplits, Samples
    from hdapbench.spec import BaseRecipe, ModelSpec

TRAINING = 1
"""Raised whenever training changes what a recipe gives, so that old base models are not used."""

TORCHVISION = "torchvision:"
CALIBRATION_BATCHES = 4
CALIBRATION_BATCH_SIZE = 256


@dataclass(frozen=True)
class DenseBase:
    """A dense model ready to be compressed.

    Attributes
    ----------
    model
        In evaluation mode.
    hash
        SHA-256 of its state dict.
    trained
        Whether it was trained by the recipe, now or earlier, rather than loaded from given weights.
    """

    model: nn.Module
    hash: str
    trained: bool


def prepare_base(
    spec: ModelSpec,
    recipe: BaseRecipe,
    data: DataSplits,
    *,
    base_dir: Path,
    cache_dir: Path,
    setting: Setting | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> DenseBase:
    """Dense model of a spec: its weights when it names some, else trained by the recipe or taken from the cache.

    Where the recipe starts from the weights, it is trained from them.

    Parameters
    ----------
    spec
        Name, arguments and weights of the model.
    recipe
        How to train it when it has no weights; its seed also fixes the initial weights.
    data
        What to train on, and its classes.
    base_dir
        Folder that relative paths of the spec start from.
    cache_dir
        Where trained models are kept: ``base/<hash of model, recipe, data and start>.pt``.
    setting
        What the model is for and where it is trained; classification on the CPU by default.
    on_epoch
        Called after every epoch of training.
    on_progress
        Told when a cached model is damaged and trained again.

    Raises
    ------
    ModelError
        When there is no such device, the model cannot be built or kept, its weights do not fit, or training diverges.
    MissingExtraError
        When the model needs a package that is not installed.
    """
    setting = setting or Setting(Classification())
    check_device(setting.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = build_model(spec, n_classes=data.n_classes, base_dir=base_dir)
    given = None
    if spec.weights is not None:
        given = given_state(spec, n_classes=None if recipe.start else data.n_classes, base_dir=base_dir)
        fill(model, spec, recipe, given, n_classes=data.n_classes, base_dir=base_dir)
        calibrate_identity_shortcuts(model, _calibration_images(data.train))
    trained = spec.weights is None or recipe.start is not None
    if trained:
        known = (data.train.mean, data.train.std) if isinstance(data.train, ImageSet) else None
        teacher, taught_by = given_teacher(spec, recipe, known, n_classes=data.n_classes, base_dir=base_dir)
        if teacher is not None:
            setting = replace(setting, teacher=teacher)
        key = _recipe_key(spec, recipe, data, base_dir, given, taught_by)
        path = cache_dir / "base" / f"{key}.pt"
        state = kept_state(path) if path.is_file() else None
        if state is None:
            if path.is_file() and on_progress is not None:
                on_progress(f"the cached base model '{path}' is damaged; it is trained again")
            owner, kept = f"base-{key}", setting.checkpoints
            with nullcontext() if kept is None else kept.of(owner):
                train_model(model, data.train, recipe, setting=setting, seed=recipe.seed, on_epoch=on_epoch)
            keep_state(model, path)
            if kept is not None:
                kept.forget(owner)
            state = model.state_dict()
        load_state(model, state, source=str(path))
    model.eval()
    return DenseBase(model=model, hash=state_hash(model), trained=trained)


def given_state(spec: ModelSpec, *, n_classes: int | None, base_dir: Path) -> dict[str, Tensor]:
    """State dict of the weights that a spec names.

    Raises
    ------
    ModelError
        When they cannot be read or downloaded, or are published for another number of classes than is asked for.
    """
    weights = str(spec.weights)
    if weights.startswith(TORCHVISION):
        name, published = (text.removeprefix(TORCHVISION) for text in (spec.name, weights))
        return published_state(name, published, n_classes=n_classes)
    return read_state(base_dir / expand_path(weights))


def given_teacher(
    spec: ModelSpec, recipe: BaseRecipe, statistics: Statistics | None, *, n_classes: int, base_dir: Path
) -> tuple[nn.Module | None, str | None]:
    """The network that a recipe of the base model learns from, and a hash of it; nothing where there is none.

    Parameters
    ----------
    statistics
        Mean and standard deviation per channel that the base model's images are normalised by; None: by none.

    Raises
    ------
    ModelError
        When it cannot be built, or its weights cannot be read or do not fit.
    """
    if recipe.teacher is None:
        return None, None
    state = given_state(recipe.teacher.model(spec.input_shape), n_classes=n_classes, base_dir=base_dir)
    return open_teacher(
        recipe.teacher,
        state,
        input_shape=spec.input_shape,
        statistics=statistics,
        n_classes=n_classes,
        base_dir=base_dir,
    )


def fill(
    model: nn.Module,
    spec: ModelSpec,
    recipe: BaseRecipe,
    state: Mapping[str, Tensor],
    *,
    n_classes: int,
    base_dir: Path,
) -> None:
    """Fill a network with its spec's weights; where the recipe starts from them, as far as classes do not differ.

    Raises
    ------
    ModelError
        When they do not fit.
    """
    source = str(spec.weights)
    if recipe.start is None:
        load_state(model, state, source=source)
    else:
        build = partial(_built, spec, base_dir)
        load_start(model, state, source=source, n_classes=n_classes, build=build)


def _built(spec: ModelSpec, base_dir: Path, n_classes: int) -> nn.Module:
    return build_model(spec, n_classes=n_classes, base_dir=base_dir)


def _calibration_images(images: Samples) -> list[torch.Tensor]:
    return [batch for batch, _ in islice(images.batches(CALIBRATION_BATCH_SIZE, shuffle_seed=0), CALIBRATION_BATCHES)]


def _recipe_key(
    spec: ModelSpec,
    recipe: BaseRecipe,
    data: DataSplits,
    base_dir: Path,
    start: Mapping[str, Tensor] | None,
    teacher: str | None,
) -> str:
    """Thirty-two hexadecimal digits of all that a trained base model depends on."""
    content = {
        "version": TRAINING,
        "model": spec.model_dump(mode="json", exclude={"weights"}),
        "recipe": recipe.model_dump(mode="json", exclude={"teacher"}),
        "data": data.content_hash,
    }
    code = code_hash(spec.name, base_dir)
    if code is not None:
        content["code"] = code
    if start is not None:
        content["start"] = state_hash(start)
    if teacher is not None:
        content["teacher"] = teacher
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
