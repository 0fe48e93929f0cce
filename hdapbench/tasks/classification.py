"""Image classification: cross-entropy, and top-1 accuracy."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hdapbench.arrays import Booleans
from hdapbench.errors import DataError, ModelError
from hdapbench.models import tensors_of
from hdapbench.tasks.layout import memory_format
from hdapbench.tasks.task import Objective, Scores, Task
from hdapbench.trial import Outcomes

if TYPE_CHECKING:
    from hdapbench.data import Samples


class Classification(Task):
    """One class per image. Outputs are scores of shape (n, n_classes), labels class numbers of shape (n,)."""

    name = "classification"
    metric = "accuracy"

    def objective(self, model: nn.Module, *, label_smoothing: float = 0.0) -> Objective:  # noqa: ARG002
        """Cross-entropy of scores and class numbers."""
        return partial(functional.cross_entropy, label_smoothing=label_smoothing)

    def distance(self, outputs: Tensor, taught: Tensor, temperature: float) -> Tensor:
        """Kullback-Leibler divergence of softened class probabilities, times the temperature squared.

        The factor keeps gradients at one scale whatever the temperature (Hinton et al. 2015, section 2).
        """
        softened = functional.log_softmax(outputs / temperature, 1)
        target = functional.log_softmax(taught / temperature, 1)
        return functional.kl_div(softened, target, reduction="batchmean", log_target=True) * temperature**2

    def example_labels(self, n_images: int, n_classes: int) -> Tensor:
        """Classes in turn."""
        return torch.arange(n_images) % n_classes

    def check_outputs(self, outputs: Any, n_images: int, n_classes: int | None) -> None:
        """Refuse what is no tensor of shape (n_images, n_classes)."""
        wanted = f"classification needs one tensor of shape (n, {n_classes or 'n_classes'})"
        if not isinstance(outputs, Tensor):
            shapes = ", ".join(str(tuple(tensor.shape)) for _, tensor in tensors_of(outputs)) or "no tensors"
            size = f" of {len(outputs)}" if isinstance(outputs, tuple | list | dict) else ""
            raise ModelError(f"the model returns a {type(outputs).__name__}{size} ({shapes}); {wanted}")
        if outputs.ndim != 2 or len(outputs) != n_images or not outputs.is_floating_point():
            kind = "" if outputs.is_floating_point() else f" of {outputs.dtype}"
            raise ModelError(
                f"the model returns a tensor{kind} of shape {tuple(outputs.shape)} for {n_images} images; {wanted}"
            )
        if n_classes is not None and outputs.shape[1] != n_classes:
            raise ModelError(
                f"the model gives {outputs.shape[1]} outputs, the data have {n_classes} classes; let the model's "
                "callable take n_classes, or give its number of outputs in model.arguments"
            )

    def scores(self, model: nn.Module, data: Samples, *, outcomes: bool = False) -> Scores:
        """Top-1 accuracy.

        Raises
        ------
        DataError
            When there are no images.
        """
        right = rightly_named(model, data)
        accuracy = int(right.sum()) / len(right)
        return Scores(accuracy, outcomes=Outcomes.of_images(right) if outcomes else None)


def rightly_named(model: nn.Module, data: Samples, batch_size: int = 256) -> Booleans:
    """Whether the class of each image is named rightly, shape (n_images,); the model's mode is restored.

    Raises
    ------
    DataError
        When there are no images.
    """
    if len(data) == 0:
        raise DataError("accuracy needs images, and there are none")
    training = model.training
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    model.eval()
    right: list[Tensor] = []
    layout = None
    try:
        with torch.no_grad():
            for images, labels in data.batches(batch_size, shuffle_seed=None):
                layout = layout or memory_format(model, images.to(device))
                scores = model(images.to(device).contiguous(memory_format=layout))
                right.append((scores.argmax(1) == labels.to(device)).cpu())
    finally:
        model.train(training)
    return torch.cat(right).numpy()
