"""Trainer: training, recalibration and scoring of a network by the spec's recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from hdapbench.data import Samples
from hdapbench.spec import Recipe
from hdapbench.tasks.checkpoint import Checkpoints
from hdapbench.tasks.device import on_device
from hdapbench.tasks.layout import memory_format
from hdapbench.tasks.recalibrate import recalibrate
from hdapbench.tasks.regularizer import Regularizer
from hdapbench.tasks.stepper import Setting
from hdapbench.tasks.task import Objective, Scores, Task
from hdapbench.tasks.training import EpochReport, TrainReport, train_model

RECALIBRATION_BATCH = 128
PROBE_IMAGES = 4
"""Images on which masked and compact model are compared whenever a plan is applied."""


@dataclass(frozen=True)
class Trainer:
    """How models are trained and scored, the same for every method.

    Attributes
    ----------
    dense
        The dense model: it teaches where the recipe asks for distillation.
    train, search
        Images to train on, and images that methods may score on.
    task
        What the network is trained for and judged by.
    recipe
        How models are fine-tuned.
    device
        Where models are trained and evaluated.
    checkpoints
        Where long trainings are kept while they last.
    """

    dense: nn.Module
    train: Samples
    search: Samples
    task: Task
    recipe: Recipe
    device: str
    checkpoints: Checkpoints | None = None

    @cached_property
    def probe(self) -> Tensor:
        """Normalised training images on which every applied plan is checked."""
        images, _ = next(iter(self.train.batches(PROBE_IMAGES, shuffle_seed=None)))
        return images

    def batches(self, n_images: int, *, seed: int) -> Iterable[tuple[Tensor, Tensor]]:
        """Training images and labels for recalibration, in an order fixed by the seed."""
        return self.train.batches(RECALIBRATION_BATCH, shuffle_seed=seed, limit=n_images)

    def fine_tune(
        self,
        model: nn.Module,
        *,
        epochs: float,
        seed: int,
        on_epoch: Callable[[EpochReport], None] | None = None,
        regularize: Regularizer | None = None,
    ) -> TrainReport:
        """Train a model in place on the training split by the recipe.

        Parameters
        ----------
        regularize
            Called with the model after every backward pass; it may change the gradients.
        """
        return train_model(
            model,
            self.train,
            self.recipe,
            setting=Setting(self.task, self.device, self.dense, self.checkpoints),
            epochs=epochs,
            seed=seed,
            on_epoch=on_epoch,
            regularize=regularize,
        )

    def recalibrate(self, model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Estimate a model's batch norm statistics anew, in place, over batches of images and labels."""
        with on_device(model, self.device):
            # One image has no variance.
            recalibrate(model, (self._moved(images) for images, _ in batches if len(images) > 1))

    def recalibrated_loss(self, model: nn.Module, *, n_images: int, seed: int) -> float:
        """Mean loss of a model on search images, after its batch norms saw training images.

        Parameters
        ----------
        n_images
            Of the training split for the norms, and at most of the search split for the loss.
        seed
            Which training images.
        """
        model.to(memory_format=torch.channels_last)
        total, count = 0.0, 0
        with on_device(model, self.device), torch.no_grad():
            layout = memory_format(model.eval(), self.probe.to(self.device))
            model.to(memory_format=layout)
            many = (images for images, _ in self.batches(n_images, seed=seed) if len(images) > 1)
            recalibrate(model, (self._moved(images, layout) for images in many))
            model.eval()
            for images, labels in self.search.batches(RECALIBRATION_BATCH, shuffle_seed=None, limit=n_images):
                outputs = model(self._moved(images, layout))
                total += float(self.loss(outputs, labels.to(self.device))) * len(images)
                count += len(images)
        return total / count

    def _moved(self, images: Tensor, memory_format: torch.memory_format = torch.preserve_format) -> Tensor:
        """Images on the device."""
        return images.to(self.device, memory_format=memory_format)

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """Scalar training loss of a batch of outputs, the mean over its images."""
        return self._objective(outputs, labels)

    @cached_property
    def _objective(self) -> Objective:
        return self.task.objective(self.dense)

    def scores(self, model: nn.Module, images: Samples, *, outcomes: bool = False) -> Scores:
        """The task's scores of a model on a split, with what each image contributed where that is asked for."""
        with on_device(model, self.device):
            return self.task.scores(model, images, outcomes=outcomes)
