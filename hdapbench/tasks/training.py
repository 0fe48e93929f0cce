"""The training loop: one recipe for every task, model and method."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hdapbench.errors import DataError, ModelError
from hdapbench.tasks.average import WeightAverage
from hdapbench.tasks.layout import memory_format
from hdapbench.tasks.schedule import learning_rate_factor
from hdapbench.tasks.task import Objective, Task

if TYPE_CHECKING:
    from hdapbench.data import Samples
    from hdapbench.spec import Recipe

MOMENTUM = 0.9
SEED_STRIDE = 100_003
"""Epoch e of seed s shuffles with s * stride + e: no two seeds share an epoch's order within 100,003 epochs."""

Regularizer = Callable[[nn.Module], None]


@dataclass(frozen=True)
class EpochReport:
    """Progress of a training.

    Attributes
    ----------
    epoch, epochs
        The epoch that just ended, from 1, and how many there are; the last may be a fraction of one.
    loss
        Mean training loss of the epoch.
    """

    epoch: int
    epochs: int
    loss: float


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
    """

    epochs: float
    images_seen: int
    final_loss: float | None


@dataclass(frozen=True)
class Setting:
    """What a training is for and where it happens.

    Attributes
    ----------
    task
        Makes the loss.
    device
        ``cpu`` or ``cuda``.
    teacher
        Dense model to learn from, when the recipe asks for distillation.
    """

    task: Task
    device: str = "cpu"
    teacher: nn.Module | None = None


def train_model(
    model: nn.Module,
    data: Samples,
    recipe: Recipe,
    *,
    setting: Setting,
    epochs: float | None = None,
    seed: int,
    on_epoch: Callable[[EpochReport], None] | None = None,
    regularize: Regularizer | None = None,
) -> TrainReport:
    """Train ``model`` in place and report; it is in evaluation mode afterwards.

    The same seed, data and number of threads give the same weights, and the global random state stays as it was.

    Parameters
    ----------
    model
        Takes images of shape (n, channels, height, width).
    data
        Training images; their augmentation is applied.
    recipe
        Optimizer, learning rates, batch size, epochs and the rest.
    setting
        What the training is for and where it happens.
    epochs
        Instead of the recipe's; 0.5 is half the steps of an epoch, 0 does nothing.
    seed
        Fixes the order of images, their augmentation, and dropout.
    on_epoch
        Called after every epoch.
    regularize
        Called with the model after every backward pass; it may change the gradients, which the step then follows.

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
        return TrainReport(epochs=0.0, images_seen=0, final_loss=None)
    if n_images < 2:
        raise DataError(f"training needs two images at least, for batch norm; there are {n_images}")
    n_steps = max(1, round(wanted * _steps_per_epoch(n_images, recipe.batch_size)))
    with torch.random.fork_rng(devices=[]), on_device(model, setting.device), _training_layout(model):
        torch.manual_seed(seed)  # for dropout, within the fork only
        stepper = _Stepper(model, recipe, setting, regularize)
        images_seen, loss = _run(stepper, data, recipe, (n_images, n_steps), seed=seed, on_epoch=on_epoch)
        stepper.finish()
    return TrainReport(epochs=wanted, images_seen=images_seen, final_loss=loss)


def check_device(device: str) -> None:
    """Refuse a device that this machine does not have.

    Raises
    ------
    ModelError
        When it is ``cuda`` and torch finds no GPU.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("device: cuda, but torch finds no GPU here; write device: cpu")


@contextmanager
def on_device(model: nn.Module, device: str) -> Iterator[None]:
    """The model on a device, and afterwards back where it was.

    Raises
    ------
    ModelError
        When this machine has no such device.
    """
    check_device(device)
    before = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    model.to(device)
    try:
        yield
    finally:
        model.to(before)


@contextmanager
def _training_layout(model: nn.Module) -> Iterator[None]:
    # Channels last made steps of all models of the zoo 5 to 50 % faster on one and on two CPU threads.
    model.to(memory_format=torch.channels_last)
    model.train()
    try:
        yield
    finally:
        model.to(memory_format=torch.contiguous_format)
        model.eval()


def _run(
    stepper: _Stepper,
    data: Samples,
    recipe: Recipe,
    amount: tuple[int, int],
    *,
    seed: int,
    on_epoch: Callable[[EpochReport], None] | None,
) -> tuple[int, float]:
    """Make the steps of ``amount`` (images per epoch, steps); images seen, and mean loss of the last epoch."""
    n_images, n_steps = amount
    epochs = math.ceil(n_steps / _steps_per_epoch(n_images, recipe.batch_size))
    step = images_seen = 0
    mean_loss = math.nan
    for epoch in range(epochs):
        total, count = 0.0, 0
        order_seed = seed * SEED_STRIDE + epoch
        batches = data.batches(recipe.batch_size, shuffle_seed=order_seed, augment=True, limit=n_images)
        for images, labels in batches:
            if step == n_steps or len(images) < 2:  # batch norm cannot standardise one value
                break
            rate = recipe.learning_rate * learning_rate_factor(recipe.schedule, step, n_steps)
            loss = stepper.step(images, labels, rate)
            step += 1
            if not math.isfinite(loss):
                raise ModelError(
                    f"training diverged: the loss is {loss} at step {step} of {n_steps} (epoch {epoch + 1}) with "
                    f"learning rate {rate:.3g}; lower the recipe's learning rate"
                )
            total += loss * len(images)
            count += len(images)
        images_seen += count
        mean_loss = total / count
        if on_epoch is not None:
            on_epoch(EpochReport(epoch=epoch + 1, epochs=epochs, loss=mean_loss))
    return images_seen, mean_loss


class _Stepper:
    """Optimizer steps of one training: forward, loss, backward, update, average."""

    def __init__(self, model: nn.Module, recipe: Recipe, setting: Setting, regularize: Regularizer | None) -> None:
        self._model, self._setting, self._regularize = model, setting, regularize
        self._optimizer = _optimizer(model, recipe)
        self._objective: Objective = setting.task.objective(model, label_smoothing=recipe.label_smoothing)
        self._distillation = recipe.distillation if setting.teacher is not None else None
        self._teacher = self._frozen_teacher()
        self._average = WeightAverage(model, recipe.ema) if recipe.ema is not None else None
        self._layout: torch.memory_format | None = None
        self._dtype = {"fp32": None, "bf16": torch.bfloat16, "amp": torch.float16}[recipe.precision]
        self._scaler = torch.amp.GradScaler(setting.device, enabled=recipe.precision == "amp")

    def step(self, images: Tensor, labels: Tensor, rate: float) -> float:
        """One step of the optimizer; the loss before it. Nothing is changed when the loss is not finite."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        images = self._laid_out(images.to(self._setting.device))
        labels = labels.to(self._setting.device)
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._loss(self._forward(self._model, images), images, labels)
        value = float(loss.detach())
        if math.isfinite(value):
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            if self._regularize is not None:
                self._scaler.unscale_(self._optimizer)
                self._regularize(self._model)
            self._scaler.step(self._optimizer)
            self._scaler.update()
            if self._average is not None:
                self._average.update(self._model)
        return value

    def _laid_out(self, images: Tensor) -> Tensor:
        """Images in the order that suits the network, which is found out with the first of them."""
        if self._layout is None:
            self._layout = memory_format(deepcopy(self._model), images)  # batch norms take note of what they see
            for network in (self._model, self._teacher):
                if network is not None:
                    network.to(memory_format=self._layout)
        return images.contiguous(memory_format=self._layout)

    def finish(self) -> None:
        """Leave no gradients in the model, and the averaged weights when the recipe asks for them."""
        self._optimizer.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.copy_to(self._model)

    def _loss(self, outputs: Any, images: Tensor, labels: Tensor) -> Tensor:
        loss = self._objective(outputs, labels)
        if self._distillation is None or self._teacher is None:
            return loss
        with torch.no_grad():
            taught = self._forward(self._teacher, images)
        weight = self._distillation.weight
        distance = self._setting.task.distance(outputs, taught, self._distillation.temperature)
        return (1.0 - weight) * loss + weight * distance

    def _forward(self, model: nn.Module, images: Tensor) -> Any:
        if self._dtype is None:
            return model(images)
        with torch.autocast(self._setting.device, dtype=self._dtype):
            outputs = model(images)
        return _in_single_precision(outputs)

    def _frozen_teacher(self) -> nn.Module | None:
        """Copy of the teacher on the device, in evaluation mode."""
        if self._distillation is None or self._setting.teacher is None:
            return None
        teacher = deepcopy(self._setting.teacher).to(self._setting.device).eval().requires_grad_(False)
        teacher.to(memory_format=torch.channels_last)
        return teacher


def _in_single_precision(outputs: Any) -> Any:
    """The same outputs as float32: losses are summed over many terms."""
    if isinstance(outputs, Tensor):
        return outputs.float() if outputs.is_floating_point() else outputs
    if isinstance(outputs, dict):
        return {name: _in_single_precision(value) for name, value in outputs.items()}
    if isinstance(outputs, list | tuple):
        return type(outputs)(_in_single_precision(value) for value in outputs)
    return outputs


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
