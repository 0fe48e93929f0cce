"""Image classification: training by a recipe, and accuracy."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from hdapbench.errors import DataError, ModelError
from hdapbench.tasks.schedule import learning_rate_factor

if TYPE_CHECKING:
    from hdapbench.data import ImageSet
    from hdapbench.spec import Recipe

MOMENTUM = 0.9
SEED_STRIDE = 100_003
"""Epoch e of seed s shuffles with s * stride + e: no two seeds share an epoch's order within 100,003 epochs."""


@dataclass(frozen=True)
class EpochReport:
    """Progress of a training.

    Attributes
    ----------
    epoch, epochs
        The epoch that just ended, from 1, and how many there are; the last may be a fraction of one.
    loss
        Mean training loss of the epoch.
    images_per_second
        Speed of the epoch.
    """

    epoch: int
    epochs: int
    loss: float
    images_per_second: float


@dataclass(frozen=True)
class TrainReport:
    """What a training did.

    Attributes
    ----------
    epochs
        Passes over the training images, fractions included.
    images_seen
        Images, each counted as often as it was seen.
    final_loss
        Mean loss of the last epoch; None when no step was made.
    seconds
        Wall-clock time.
    """

    epochs: float
    images_seen: int
    final_loss: float | None
    seconds: float


def train(
    model: nn.Module,
    data: ImageSet,
    recipe: Recipe,
    *,
    epochs: float | None = None,
    seed: int,
    on_epoch: Callable[[EpochReport], None] | None = None,
    regularize: Callable[[nn.Module], None] | None = None,
) -> TrainReport:
    """Train ``model`` in place and report; it is in evaluation mode afterwards.

    The same seed, data and number of threads give the same weights, and the global random state stays as it was.

    Parameters
    ----------
    model
        Takes images of shape (n, channels, height, width), returns scores of shape (n, n_classes).
    data
        Training images; their augmentation is applied.
    recipe
        Optimizer, learning rates, batch size and epochs.
    epochs
        Instead of the recipe's; 0.5 is half the steps of an epoch, 0 does nothing.
    seed
        Fixes the order of images, their augmentation, and dropout.
    on_epoch
        Called after every epoch.
    regularize
        Called with the model after every backward pass: where penalties are added to the gradients.

    Raises
    ------
    ModelError
        When the loss is no longer finite.
    DataError
        When there are fewer than two training images.
    """
    wanted = float(recipe.epochs if epochs is None else epochs)
    n_images = min(len(data), recipe.max_train_images or len(data))
    if wanted <= 0.0:
        return TrainReport(epochs=0.0, images_seen=0, final_loss=None, seconds=0.0)
    if n_images < 2:
        raise DataError(f"training needs two images at least, for batch norm; there are {n_images}")
    n_steps = max(1, round(wanted * _steps_per_epoch(n_images, recipe.batch_size)))
    started = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # for dropout, within the fork only
        # Channels last made steps of all models of the zoo 5 to 50 % faster on one and on two CPU threads.
        model.to(memory_format=torch.channels_last)
        model.train()
        try:
            images_seen, loss = _run(
                model, data, recipe, n_images, n_steps, seed=seed, on_epoch=on_epoch, regularize=regularize
            )
        finally:
            model.to(memory_format=torch.contiguous_format)
            model.eval()
    return TrainReport(epochs=wanted, images_seen=images_seen, final_loss=loss, seconds=time.perf_counter() - started)


def evaluate(model: nn.Module, data: ImageSet, batch_size: int = 256) -> float:
    """Accuracy in [0, 1], in evaluation mode; the model's mode is restored.

    Raises
    ------
    DataError
        When there are no images.
    """
    if len(data) == 0:
        raise DataError("accuracy needs images, and there are none")
    training = model.training
    model.eval()
    n_correct = 0
    try:
        with torch.no_grad():
            for images, labels in data.batches(batch_size, shuffle_seed=None):
                scores = model(images.contiguous(memory_format=torch.channels_last))
                n_correct += int((scores.argmax(1) == labels).sum())
    finally:
        model.train(training)
    return n_correct / len(data)


def _run(
    model: nn.Module,
    data: ImageSet,
    recipe: Recipe,
    n_images: int,
    n_steps: int,
    *,
    seed: int,
    on_epoch: Callable[[EpochReport], None] | None,
    regularize: Callable[[nn.Module], None] | None,
) -> tuple[int, float]:
    """Make ``n_steps`` steps; images seen, and mean loss of the last epoch."""
    optimizer = _optimizer(model, recipe)
    epochs = math.ceil(n_steps / _steps_per_epoch(n_images, recipe.batch_size))
    step = images_seen = 0
    mean_loss = math.nan
    for epoch in range(epochs):
        started, total, count = time.perf_counter(), 0.0, 0
        order_seed = seed * SEED_STRIDE + epoch
        batches = data.batches(recipe.batch_size, shuffle_seed=order_seed, augment=True, limit=n_images)
        for images, labels in batches:
            if step == n_steps or len(labels) < 2:  # batch norm cannot standardise one value
                break
            rate = recipe.learning_rate * learning_rate_factor(recipe.schedule, step, n_steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = _step(model, optimizer, (images, labels), recipe.label_smoothing, regularize)
            step += 1
            if not math.isfinite(loss):
                raise ModelError(
                    f"training diverged: the loss is {loss} at step {step} of {n_steps} (epoch {epoch + 1}) with "
                    f"learning rate {rate:.3g}; lower the recipe's learning rate"
                )
            total += loss * len(labels)
            count += len(labels)
        images_seen += count
        mean_loss = total / count
        if on_epoch is not None:
            speed = count / max(time.perf_counter() - started, 1e-9)
            on_epoch(EpochReport(epoch=epoch + 1, epochs=epochs, loss=mean_loss, images_per_second=speed))
    return images_seen, mean_loss


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor],
    label_smoothing: float,
    regularize: Callable[[nn.Module], None] | None,
) -> float:
    """One step of the optimizer; the loss before it. Nothing is changed when the loss is not finite."""
    images, labels = batch
    optimizer.zero_grad(set_to_none=True)
    scores = model(images.contiguous(memory_format=torch.channels_last))
    loss = functional.cross_entropy(scores, labels, label_smoothing=label_smoothing)
    value = float(loss.detach())
    if math.isfinite(value):
        loss.backward()  # type: ignore[no-untyped-call]
        if regularize is not None:
            regularize(model)
        optimizer.step()
    return value


def _steps_per_epoch(n_images: int, batch_size: int) -> int:
    """Batches of an epoch; a last batch of a single image is left out."""
    full, rest = divmod(n_images, batch_size)
    return full + (rest > 1)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Optimizer that decays weights of convolutions and linear layers, but neither biases nor norms."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate)
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=MOMENTUM, nesterov=True)
