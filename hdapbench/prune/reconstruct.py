"""Weights that make up for removed channels: what layers gave on real inputs, given again from the channels left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from hdapbench.errors import ModelError
from hdapbench.groups import GroupSet
from hdapbench.plan import Plan

POSITIONS = 16
"""Positions per image at which a convolution is looked at, drawn per batch; layers with fewer use all of them."""
RIDGE = 1e-2
"""Weight of the change of weights in the fit, relative to the mean variance of the layer's inputs."""


@dataclass
class LayerStatistics:
    """Sums over a layer's input patches, of kernel height times width values per channel.

    Attributes
    ----------
    products
        Sum of products of each two inputs, shape (n_inputs, n_inputs).
    sums
        Sum of each input, shape (n_inputs,).
    n_rows
        Patches seen.
    """

    products: Tensor
    sums: Tensor
    n_rows: int = 0

    def covariance(self) -> Tensor:
        """Covariance of the inputs, shape (n_inputs, n_inputs)."""
        mean = self.sums / self.n_rows
        return self.products / self.n_rows - torch.outer(mean, mean)


@dataclass
class InputStatistics:
    """Statistics of all layers that consume prunable channels, by name; see `input_statistics`."""

    layers: dict[str, LayerStatistics] = field(default_factory=dict)


def input_statistics(
    model: nn.Module, groups: GroupSet, images: Iterable[Tensor], *, seed: int = 0, positions: int = POSITIONS
) -> InputStatistics:
    """Second moments of the inputs of every convolution and linear layer that consumes prunable channels.

    Parameters
    ----------
    model
        Its mode is restored.
    images
        Batches of normalised images, shape (n, channels, height, width) each.
    seed
        Seed of the positions that are looked at.
    positions
        Positions per image.

    Raises
    ------
    ModelError
        When there are no images.
    """
    generator = torch.Generator().manual_seed(seed)
    found = InputStatistics()
    training = model.training
    model.eval()

    def add(name: str, module: nn.Module, x: Tensor) -> None:
        rows = _patches(module, x, positions, generator)
        n_inputs = rows.shape[1]
        known = found.layers.get(name)
        if known is None:
            known = LayerStatistics(rows.new_zeros(n_inputs, n_inputs), rows.new_zeros(n_inputs))
            found.layers[name] = known
        known.products.addmm_(rows.T, rows)
        known.sums += rows.sum(0)
        known.n_rows += len(rows)

    with _watched(model, groups, add), torch.no_grad():
        for batch in images:
            model(batch)
    model.train(training)
    for layer in found.layers.values():
        layer.products, layer.sums = layer.products.cpu(), layer.sums.cpu()
    if not found.layers:
        raise ModelError("weights can be reconstructed from images only, and there are none")
    return found


def reconstructed(
    model: nn.Module, groups: GroupSet, plan: Plan, statistics: InputStatistics, *, ridge: float = RIDGE
) -> nn.Module:
    """Copy of a model, in its dense shapes, whose layers make up for the inputs that a plan removes.

    Each layer's weights of the kept inputs are the least-squares fit to the outputs that all inputs gave (He et al.
    2017, "Channel pruning for accelerating very deep neural networks"), up to a constant: batch norms must be
    recalibrated; where a layer has a bias, that takes it up. A ridge draws them to what they were. Layers are fitted
    one by one, each to the inputs that the dense model has.

    Parameters
    ----------
    statistics
        Statistics of this model's inputs, from `input_statistics`.
    ridge
        Weight of the change of weights, relative to the mean variance of the layer's inputs.
    """
    changed = deepcopy(model)
    modules = dict(changed.named_modules())
    for name, gone in _removed_inputs(groups, plan).items():
        module, seen = modules[name], statistics.layers.get(name)
        if seen is None or not gone or not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        kernel_area = module.weight[0, 0].numel()
        is_gone = torch.zeros(len(seen.sums) // kernel_area, dtype=torch.bool)
        is_gone[list(gone)] = True
        is_gone = is_gone.repeat_interleave(kernel_area)
        with torch.no_grad():
            change = _change(module.weight.flatten(1), seen.covariance(), is_gone, ridge)
            if module.bias is not None:
                lost = module.weight.flatten(1)[:, is_gone] @ seen.sums[is_gone]
                module.bias += (lost - change @ seen.sums[~is_gone]) / seen.n_rows
            weight = module.weight.flatten(1).clone()
            weight[:, ~is_gone] += change
            module.weight.copy_(weight.view_as(module.weight))
    return changed


def _change(weight: Tensor, covariance: Tensor, is_gone: Tensor, ridge: float) -> Tensor:
    """What the weights of kept inputs gain, shape (n_outputs, n_kept)."""
    kept = covariance[~is_gone][:, ~is_gone].double()
    shared = covariance[is_gone][:, ~is_gone].double()
    strength = ridge * float(kept.diagonal().mean()) + 1e-12
    system = kept + strength * torch.eye(len(kept), dtype=kept.dtype)
    wanted = weight[:, is_gone].double() @ shared
    change: Tensor = torch.linalg.solve(system, wanted.T)
    return change.T.to(weight.dtype)


def _removed_inputs(groups: GroupSet, plan: Plan) -> dict[str, set[int]]:
    """Layer -> indices of the inputs that a plan removes."""
    plan.check(groups.sizes, groups.removable)
    blocks = groups.removed_blocks(plan.kept)
    removed: dict[str, set[int]] = {}
    for group in groups:
        kept = set(plan.kept[group.name])
        for member in group.members:
            if member.side == "in" and not any(block.holds(member.layer) for block in blocks):
                pairs = zip(member.indices, member.channels, strict=True)
                removed.setdefault(member.layer, set()).update(i for i, channel in pairs if channel not in kept)
    return removed


@contextmanager
def _watched(model: nn.Module, groups: GroupSet, add: Callable[[str, nn.Module, Tensor], None]) -> Iterator[None]:
    """Hand over the inputs of layers that consume prunable channels, as the model runs."""
    modules: Mapping[str, nn.Module] = dict(model.named_modules())
    consumers = sorted({member.layer for group in groups for member in group.members if member.side == "in"})
    watched = [name for name in consumers if can_be_fitted(modules[name])]

    def watcher(name: str) -> Callable[..., None]:
        return lambda module, arguments, named: add(name, module, arguments[0] if arguments else named["input"])

    handles = [modules[name].register_forward_pre_hook(watcher(name), with_kwargs=True) for name in watched]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def can_be_fitted(module: nn.Module) -> bool:
    """Whether every output of a layer reads all its inputs: what reconstruction and choice by it work on."""
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)


def _patches(module: nn.Module, x: Tensor, positions: int, generator: torch.Generator) -> Tensor:
    """What a layer multiplies its weights with, at random places: shape (n_rows, n_inputs)."""
    if not isinstance(module, nn.Conv2d):
        return x.reshape(-1, x.shape[-1]).float()
    if isinstance(module.padding, str) or module.padding_mode != "zeros":
        raise ModelError(f"convolutions padded by '{module.padding}' and {module.padding_mode} cannot be reconstructed")
    (top, left), stride, dilation = module.padding, module.stride, module.dilation
    padded = nn.functional.pad(x, (left, left, top, top)).float()
    height, width = (step * (size - 1) + 1 for step, size in zip(dilation, module.kernel_size, strict=True))
    n_rows = (padded.shape[2] - height) // stride[0] + 1
    n_columns = (padded.shape[3] - width) // stride[1] + 1
    places = torch.randperm(n_rows * n_columns, generator=generator)[:positions].tolist()
    found = []
    for place in places:
        row, column = place // n_columns * stride[0], place % n_columns * stride[1]
        patch = padded[:, :, row : row + height : dilation[0], column : column + width : dilation[1]]
        found.append(patch.flatten(1))
    return torch.cat(found)
