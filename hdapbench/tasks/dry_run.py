"""One batch through a network in both modes and through the loss: what training would stumble on, before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hdapbench.errors import HdapbenchError, ModelError
from hdapbench.models import tensors_of
from hdapbench.tasks.stepper import Setting
from hdapbench.tasks.task import Task
from hdapbench.tasks.training import train_model

if TYPE_CHECKING:
    from hdapbench.spec import Recipe

N_IMAGES = 2
SAME = 1e-3
"""Largest difference of two runs on one input, relative to the largest output."""


def dry_run(model: nn.Module, images: Tensor, labels: Tensor, *, task: Task, n_classes: int | None) -> None:
    """Refuse a network that cannot be trained and tested for a task. The network stays as it is.

    Parameters
    ----------
    model
        The network, on the CPU.
    images
        Two or more, shape (n, channels, height, width).
    labels
        As the task has them.
    task
        What the network is for.
    n_classes
        Classes of the data; None where they are not known.

    Raises
    ------
    ModelError
        In one line, with the cause.
    """
    lazy = [name for name, value in model.named_parameters() if isinstance(value, nn.parameter.UninitializedParameter)]
    if lazy:
        why = "the layers were never run" if _runs(model, images) else "the model does not run"
        raise ModelError(f"lazy layers have no shapes yet ({', '.join(lazy[:3])}): {why} on {_shape(images)}")
    other = [(name, value.dtype) for name, value in model.named_parameters() if value.dtype != torch.float32]
    if other:
        raise ModelError(
            f"parameters of {other[0][1]} ('{other[0][0]}'); networks are float32 here: leave out .half(), .double() "
            "and casts"
        )
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        task.objective(model)  # says which networks the task is for
        _evaluate(_copied(model).eval(), images, task, n_classes)
        _train(_copied(model).train(), images, labels, task, n_classes)


@dataclass(frozen=True)
class Examples:
    """A batch as a data set: the same in whatever order, number and augmentation it is asked for."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def batches(
        self,
        batch_size: int,  # noqa: ARG002 - one batch is all there is
        *,
        shuffle_seed: int | None,  # noqa: ARG002
        augment: bool = False,  # noqa: ARG002
        limit: int | None = None,  # noqa: ARG002
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The batch, once."""
        yield self.images, self.labels


def dry_training(model: nn.Module, examples: Examples, *, setting: Setting, recipes: Sequence[Recipe]) -> None:
    """Refuse a network that cannot make one step of some recipes and be scored after it. It stays as it is.

    Raises
    ------
    ModelError
        In one line, with the cause.
    """
    for recipe in recipes:
        copy = _copied(model)
        try:
            train_model(copy, examples, recipe, setting=setting, epochs=1.0, seed=0)
            setting.task.scores(copy, examples)
        except HdapbenchError:
            raise
        except Exception as error:  # the user's code may raise anything
            how = f"in {recipe.precision} on {setting.device}"
            raise ModelError(f"the model cannot be trained {how} and scored: {said(error)}") from error


def _evaluate(model: nn.Module, images: Tensor, task: Task, n_classes: int | None) -> None:
    with torch.no_grad():
        given = images.clone()
        outputs = _outputs(model, given, "in evaluation mode")
        if not torch.equal(given, images):
            raise ModelError("the model changes its input in place; let it work on a copy (x = x.clone())")
        task.check_outputs(outputs, len(images), n_classes)
        _outputs(model, images[:1].clone(), "in evaluation mode on a batch of one (norms without running statistics?)")
        again = _outputs(model, images.clone(), "a second time")
    first, second = ([tensor for _, tensor in tensors_of(values)] for values in (outputs, again))
    if not all(bool(tensor.isfinite().all()) for tensor in first):
        raise ModelError("the model's outputs are not finite (NaN or infinite)")
    if any(a.shape != b.shape or not _close(a, b) for a, b in zip(first, second, strict=True)):
        raise ModelError("two runs on one input differ in evaluation mode (dropout that is always on?)")


def _train(model: nn.Module, images: Tensor, labels: Tensor, task: Task, n_classes: int | None) -> None:
    outputs = _outputs(model, images.clone(), "in training mode")
    task.check_outputs(outputs, len(images), n_classes)
    try:
        loss = task.objective(model)(outputs, labels)
        torch.autograd.backward(loss)
    except HdapbenchError:
        raise
    except Exception as error:  # the user's code may raise anything, also on the way back
        raise ModelError(f"the model cannot be trained: {said(error)}") from error
    if not bool(loss.isfinite()):
        raise ModelError(f"the model cannot be trained: the loss of its first batch is {float(loss)}")
    if not any(parameter.grad is not None for parameter in model.parameters()):
        raise ModelError("the model cannot be trained: no parameter gets a gradient")


def _outputs(model: nn.Module, images: Tensor, how: str) -> Any:
    try:
        return model(images)
    except Exception as error:  # the user's code may raise anything
        raise ModelError(f"the model does not run {how}, images {_shape(images)}: {said(error)}") from error


def _copied(model: nn.Module) -> nn.Module:
    try:
        return deepcopy(model)
    except Exception as error:  # what modules hold may refuse in any way
        raise ModelError(f"the model cannot be copied (copy.deepcopy): {said(error)}") from error


def said(error: BaseException) -> str:
    """Exception in one line of bounded length."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _runs(model: nn.Module, images: Tensor) -> bool:
    try:
        with torch.no_grad():
            deepcopy(model).eval()(images.clone())
    except Exception:  # noqa: BLE001 - the user's code may raise anything
        return False
    return True


def _close(a: Tensor, b: Tensor) -> bool:
    return float((a - b).abs().max()) <= SAME * max(float(a.abs().max()), 1e-6) if a.numel() else True


def _shape(images: Tensor) -> str:
    return "x".join(str(size) for size in images.shape)
