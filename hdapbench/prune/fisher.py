"""Fisher importance: how much the loss of single samples leans on a channel, wherever it is consumed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hdapbench.arrays import Floats
from hdapbench.errors import ModelError
from hdapbench.groups import GroupSet

Batches = Iterable[tuple[Tensor, Tensor]]


def fisher_importance(
    model: nn.Module, groups: GroupSet, batches: Batches, loss: Callable[[Any, Tensor], Tensor]
) -> dict[str, Floats]:
    """Fisher information of one gate per channel: group -> array of shape (n_channels,), in squares of the loss.

    A gate that scales a channel in all layers that consume it is one where the model is. The derivative of a sample's
    loss by it is the sum of activation times gradient over those layers' inputs; its mean square over samples
    estimates twice what removing the channel adds to the loss (Theis et al. 2018; for channels that several layers
    share, Liu et al. 2021, "Group Fisher Pruning"). Channels of all groups compare, for the unit is the loss.

    Parameters
    ----------
    model
        Dense model; its weights and mode are left alone, its gradients are cleared.
    batches
        Inputs and labels.
    loss
        Outputs and labels -> scalar mean over the batch.

    Raises
    ------
    ModelError
        When there are no batches, or a consuming layer gets no gradient.
    """
    totals = {group.name: np.zeros(group.n_channels) for group in groups}
    n_samples = 0
    modules = dict(model.named_modules())
    training = model.training
    model.eval()
    with _recorded_inputs(model, groups) as inputs:
        for images, labels in batches:
            inputs.clear()
            model.zero_grad(set_to_none=True)
            with torch.enable_grad():
                torch.autograd.backward(loss(model(images.clone().requires_grad_()), labels) * len(images))
            for group in groups:
                slopes = np.zeros((group.n_channels, len(images)))
                for member in group.members:
                    if member.side == "in":
                        own = _slopes(inputs, member.layer, modules[member.layer], len(images))
                        own = own[:, list(member.indices)]
                        np.add.at(slopes, np.array(member.channels), own.T)
                totals[group.name] += np.square(slopes).sum(1)
            n_samples += len(images)
    model.train(training)
    model.zero_grad(set_to_none=True)
    if not n_samples:
        raise ModelError("gradient criteria need at least one batch of inputs and labels")
    return {name: total / n_samples for name, total in totals.items()}


@contextmanager
def _recorded_inputs(model: nn.Module, groups: GroupSet) -> Iterator[dict[str, list[Tensor]]]:
    """Inputs of all layers that consume a group's channels, as the model runs."""
    consumers = {member.layer for group in groups for member in group.members if member.side == "in"}
    inputs: dict[str, list[Tensor]] = {}

    def recorder(name: str) -> Callable[..., tuple[Any, Any]]:
        def record(_module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
            given = arguments[0] if arguments else named["input"]
            alias = given.view_as(given)  # its gradient is that through this layer alone
            alias.retain_grad()
            inputs.setdefault(name, []).append(alias)
            return (alias, *arguments[1:]), {key: value for key, value in named.items() if key != "input"}

        return record

    modules = dict(model.named_modules())
    handles = [modules[name].register_forward_pre_hook(recorder(name), with_kwargs=True) for name in sorted(consumers)]
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()


def _slopes(inputs: dict[str, list[Tensor]], layer: str, module: nn.Module, n_samples: int) -> Floats:
    """Activation times gradient, summed over positions: shape (n_samples, n_channels of the layer's input).

    Windows of an image that are a batch of their own are positions too.
    """
    total: Floats | None = None
    for tensor in inputs.get(layer, []):
        if tensor.grad is None:
            raise ModelError(
                f"the criterion 'fisher' needs gradients, but the input of '{layer}' gets none: "
                "make sure that the loss depends on the layer"
            )
        product = (tensor.detach() * tensor.grad).double()
        if not isinstance(module, nn.Linear):
            product = product.flatten(2).sum(2)
        elif product.ndim > 2:  # a linear layer has its channels last, whatever it is applied to
            product = product.flatten(1, -2).sum(1)
        if len(product) != n_samples:
            product = product.view(n_samples, -1, product.shape[1]).sum(1)
        value = product.numpy()
        total = value if total is None else total + value
    if total is None:
        raise ModelError(f"the model never ran its layer '{layer}'")
    return total
