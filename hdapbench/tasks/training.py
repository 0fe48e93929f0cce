"""The training loop: one recipe for every task, model and method."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hdapbench.data import training_batches
from hdapbench.errors import DataError, ModelError
from hdapbench.models import state_hash
from hdapbench.tasks.device import kept_random_state, on_device
from hdapbench.tasks.regularizer import Regularizer, ResumableRegularizer
from hdapbench.tasks.schedule import learning_rate_factor
from hdapbench.tasks.stepper import Setting, Stepper

if TYPE_CHECKING:
    from hdapbench.data import Samples
    from hdapbench.spec import Recipe
    from hdapbench.tasks.checkpoint import Checkpoint

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
        Called with the model after every backward pass; it may change the gradients, which the step then follows. A
        training with one that is no `ResumableRegularizer` is not kept in checkpoints.

    Raises
    ------
    ModelError
        When the loss is no longer finite, or there is no such device.
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
    job = _Job(data, recipe, seed, n_images, n_steps)
    kept = _kept(job, model, setting, regularize)
    with kept_random_state(setting.device), on_device(model, setting.device), _training_layout(model):
        torch.manual_seed(seed)  # for dropout, within the fork only
        stepper = Stepper(model, recipe, setting, regularize)
        position = _run(stepper, job, kept, on_epoch)
        stepper.finish()
    return TrainReport(epochs=wanted, images_seen=position.images_seen, final_loss=position.mean_loss)


def _kept(job: _Job, model: nn.Module, setting: Setting, regularize: Regularizer | None) -> Checkpoint | None:
    """Where the training is kept; None where nobody asks, or a regularizer may hold what nobody else knows."""
    if setting.checkpoints is None or not (regularize is None or isinstance(regularize, ResumableRegularizer)):
        return None
    return setting.checkpoints.next(job.about(model, setting))


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


@dataclass
class _Position:
    """Where a training is: steps made, epochs ended, images seen in them, and what the epoch under way has come to."""

    step: int = 0
    epoch: int = 0
    images_seen: int = 0
    n_batches: int = 0
    total: float = 0.0
    count: int = 0
    mean_loss: float = math.nan

    def after(self, loss: float, n_images: int) -> None:
        """A step was made."""
        self.step += 1
        self.n_batches += 1
        self.total += loss * n_images
        self.count += n_images

    def end_epoch(self) -> None:
        """The epoch under way has ended."""
        self.images_seen += self.count
        self.mean_loss = self.total / self.count
        self.epoch += 1
        self.n_batches, self.total, self.count = 0, 0.0, 0


@dataclass(frozen=True)
class _Job:
    """A training as it is asked for: images per epoch, steps and epochs in all."""

    data: Samples
    recipe: Recipe
    seed: int
    n_images: int
    n_steps: int

    @property
    def n_epochs(self) -> int:
        return math.ceil(self.n_steps / _steps_per_epoch(self.n_images, self.recipe.batch_size))

    def batches(self, position: _Position) -> Iterator[tuple[Tensor, Tensor]]:
        """What is left of the epoch under way."""
        order_seed = self.seed * SEED_STRIDE + position.epoch
        size, n_done = self.recipe.batch_size, position.n_batches
        return training_batches(self.data, size, shuffle_seed=order_seed, limit=self.n_images, n_done=n_done)

    def about(self, model: nn.Module, setting: Setting) -> dict[str, Any]:
        """What the training depends on, but for its data, which whoever keeps it knows."""
        teacher = setting.teacher if self.recipe.distillation is not None else None
        return {
            "recipe": self.recipe.model_dump_json(),
            "seed": self.seed,
            "images": self.n_images,
            "steps": self.n_steps,
            "task": setting.task.name,
            "device": _named(torch.device(setting.device)),
            "network": state_hash(model),
            "teacher": None if teacher is None else state_hash(teacher),
        }


def _named(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _resumed(stepper: Stepper, job: _Job, kept: Checkpoint | None) -> _Position:
    """Where the training stands: at its beginning, or where it was kept."""
    found = None if kept is None else kept.read()
    if kept is None or found is None:
        return _Position()
    stepper.resume(found["stepper"])
    position = _Position(**found["position"])
    if position.epoch < job.n_epochs:
        part = f", image {position.count:,} of {job.n_images:,}" if position.count else ""
        kept.say(f"the training goes on from epoch {position.epoch + 1} of {job.n_epochs}{part}")
    return position


def _run(
    stepper: Stepper, job: _Job, kept: Checkpoint | None, on_epoch: Callable[[EpochReport], None] | None
) -> _Position:
    """Make the steps that are left; where the training stands then."""
    position, was_kept = _resumed(stepper, job, kept), False
    while position.epoch < job.n_epochs:
        for images, labels in job.batches(position):
            if position.step == job.n_steps or len(images) < 2:  # batch norm cannot standardise one value
                break
            _step(stepper, job, position, images, labels)
            if kept is not None and kept.is_due():
                kept.write(_state(stepper, position))
                was_kept = True
        position.end_epoch()
        if on_epoch is not None:
            on_epoch(EpochReport(epoch=position.epoch, epochs=job.n_epochs, loss=position.mean_loss))
        is_last = position.epoch == job.n_epochs and was_kept
        if kept is not None and (is_last or kept.is_due(epoch_ended=True)):
            kept.write(_state(stepper, position))
            was_kept = True
    return position


def _step(stepper: Stepper, job: _Job, position: _Position, images: Tensor, labels: Tensor) -> None:
    rate = job.recipe.learning_rate * learning_rate_factor(job.recipe.schedule, position.step, job.n_steps)
    loss = stepper.step(images, labels, rate)
    position.after(loss, len(images))
    if not math.isfinite(loss):
        raise ModelError(
            f"training diverged: the loss is {loss} at step {position.step} of {job.n_steps} (epoch "
            f"{position.epoch + 1}) with learning rate {rate:.3g}; lower the recipe's learning rate"
        )


def _state(stepper: Stepper, position: _Position) -> dict[str, Any]:
    return {"stepper": stepper.state(), "position": asdict(position)}


def _steps_per_epoch(n_images: int, batch_size: int) -> int:
    """Batches of an epoch; a last batch of a single image is left out."""
    full, rest = divmod(n_images, batch_size)
    return full + (rest > 1)
