"""Stepper: the steps of one training, and all that they change, to be kept and brought back."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from hdapbench.tasks.average import WeightAverage
from hdapbench.tasks.layout import memory_format
from hdapbench.tasks.regularizer import Regularizer, ResumableRegularizer
from hdapbench.tasks.task import Objective, Task

if TYPE_CHECKING:
    from hdapbench.spec import Recipe
    from hdapbench.tasks.checkpoint import Checkpoints

MOMENTUM = 0.9


@dataclass(frozen=True)
class Setting:
    """What a training is for and where it happens.

    Attributes
    ----------
    task
        Makes the loss.
    device
        ``cpu``, ``cuda`` or a GPU's ``cuda:1``.
    teacher
        Dense model to learn from, when the recipe asks for distillation.
    checkpoints
        Where long trainings are kept while they last; nowhere by default.
    """

    task: Task
    device: str = "cpu"
    teacher: nn.Module | None = None
    checkpoints: Checkpoints | None = None


class Stepper:
    """Optimizer steps of one training: forward, loss, backward, update, average."""

    def __init__(self, model: nn.Module, recipe: Recipe, setting: Setting, regularize: Regularizer | None) -> None:
        self._model, self._setting, self._regularize = model, setting, regularize
        self._device = torch.device(setting.device)
        self._optimizer = _optimizer(model, recipe)
        self._objective: Objective = setting.task.objective(model, label_smoothing=recipe.label_smoothing)
        self._distillation = recipe.distillation if setting.teacher is not None else None
        self._teacher = self._frozen_teacher()
        self._average = WeightAverage(model, recipe.ema) if recipe.ema is not None else None
        self._layout: torch.memory_format | None = None
        self._dtype = {"fp32": None, "bf16": torch.bfloat16, "amp": torch.float16}[recipe.precision]
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=recipe.precision == "amp")

    def step(self, images: Tensor, labels: Tensor, rate: float) -> float:
        """One step of the optimizer; the loss before it. Nothing is changed when the loss is not finite."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        images = self._laid_out(images.to(self._device))
        labels = labels.to(self._device)
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

    def finish(self) -> None:
        """Leave no gradients in the model, and the averaged weights when the recipe asks for them."""
        self._optimizer.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.copy_to(self._model)

    def state(self) -> dict[str, Any]:
        """All that steps change, random numbers included; `resume` goes on from it to the same bits."""
        regularize = self._regularize
        return {
            "tensors": {name: tensor.detach() for name, tensor in _tensors(self._model)},
            "attributes": _attributes(self._model),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "average": None if self._average is None else self._average.state(),
            "regularizer": regularize.state() if isinstance(regularize, ResumableRegularizer) else {},
            "random": _random_state(self._device),
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave, of a stepper of the same network and recipe."""
        modules = dict(self._model.named_modules())
        here = dict(_tensors(self._model))
        with torch.no_grad():
            for name, kept in state["tensors"].items():
                if name in here and here[name].shape == kept.shape:
                    here[name].copy_(kept)
                else:  # a buffer that the first steps made
                    module, _, key = name.rpartition(".")
                    modules[module].register_buffer(key, kept.to(self._device), persistent=False)
        for name, attributes in state["attributes"].items():
            modules[name].__dict__.update(attributes)
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        if self._average is not None:
            self._average.resume(state["average"])
        if isinstance(self._regularize, ResumableRegularizer):
            self._regularize.resume(state["regularizer"])
        _put_random_state(state["random"], self._device)

    def _laid_out(self, images: Tensor) -> Tensor:
        """Images in the order that suits the network, which is found out with the first of them."""
        if self._layout is None:
            self._layout = memory_format(deepcopy(self._model), images)  # batch norms take note of what they see
            for network in (self._model, self._teacher):
                if network is not None:
                    network.to(memory_format=self._layout)
        return images.contiguous(memory_format=self._layout)

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
        with torch.autocast(self._device.type, dtype=self._dtype):
            outputs = model(images)
        return _in_single_precision(outputs)

    def _frozen_teacher(self) -> nn.Module | None:
        """Copy of the teacher on the device, in evaluation mode."""
        if self._distillation is None or self._setting.teacher is None:
            return None
        teacher = deepcopy(self._setting.teacher).to(self._device).eval().requires_grad_(False)
        teacher.to(memory_format=torch.channels_last)
        return teacher


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by name, also those that are no part of a state dict."""
    return chain(model.named_parameters(), model.named_buffers())


def _attributes(model: nn.Module) -> dict[str, dict[str, bool | int | float | Tensor]]:
    """Numbers and tensors that modules keep as plain attributes, such as a temperature that falls."""
    found = {
        name: {
            key: value.detach() if isinstance(value, Tensor) else value
            for key, value in vars(module).items()
            if isinstance(value, bool | int | float | Tensor)
        }
        for name, module in model.named_modules()
    }
    return {name: attributes for name, attributes in found.items() if attributes}


def _random_state(device: torch.device) -> dict[str, Any]:
    _, keys, *rest = np.random.get_state()  # noqa: NPY002 - networks of users may draw from it
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "python": random.getstate(),
        "numpy": (torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest),
    }


def _put_random_state(state: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    random.setstate(state["python"])
    keys, *rest = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002


def _in_single_precision(outputs: Any) -> Any:
    """The same outputs as float32: losses are summed over many terms."""
    if isinstance(outputs, Tensor):
        return outputs.float() if outputs.is_floating_point() else outputs
    if isinstance(outputs, dict):
        return {name: _in_single_precision(value) for name, value in outputs.items()}
    if isinstance(outputs, list | tuple):
        return type(outputs)(_in_single_precision(value) for value in outputs)
    return outputs


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
