"""Residual blocks that can be removed: modules that are their shortcut once their layers give nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hdapbench.groups import ChannelGroup, ResidualBlock

PROBE_SEED = 20_252


def find_blocks(model: nn.Module, groups: Sequence[ChannelGroup], probe: Tensor) -> tuple[ResidualBlock, ...]:
    """Removable residual blocks of a model, in order of definition; of modules within each other the innermost.

    A block maps one tensor to one of its shape. With all its parameters zero it gives its input back, or the ReLU of
    it: shortcuts with a projection do not. At least one group lies in it entirely, and none of its parameters is used
    elsewhere.

    Parameters
    ----------
    model
        In evaluation mode, on the CPU; it is not changed.
    groups
        The groups that can be pruned.
    probe
        Inputs of the model, shape (n, channels, height, width).
    """
    shapes = _shapes_that_stay(model, probe[:1])
    found: list[ResidualBlock] = []
    for name, module in reversed(list(model.named_modules())):  # what is within a module before the module
        if name not in shapes or any(inner.name.startswith(f"{name}.") for inner in found):
            continue
        own = tuple(group.name for group in groups if all(place.startswith(f"{name}.") for place in _places(group)))
        if not own or _shares_parameters(model, module):
            continue
        after = _left_of(module, shapes[name])
        if after is not None:
            found.append(ResidualBlock(name, own, after))
    return tuple(reversed(found))


def _shapes_that_stay(model: nn.Module, probe: Tensor) -> dict[str, torch.Size]:
    """Module that is called once, with one tensor, and returns one of the same shape -> that shape."""
    calls: dict[str, list[torch.Size | None]] = {}
    with _watched(model, calls), torch.no_grad():
        model(probe)
    return {name: shape for name, (shape, *others) in calls.items() if shape is not None and not others}


@contextmanager
def _watched(model: nn.Module, calls: dict[str, list[torch.Size | None]]) -> Iterator[None]:
    """Note the calls of modules that hold others, as the model runs: shape, or None where shapes differ."""

    def watcher(name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            ends = (*inputs, *named.values(), output)
            tensors = [end for end in ends if isinstance(end, Tensor) and end.is_floating_point()]
            stays = len(tensors) == len(ends) == 2 and bool(inputs) and tensors[0].shape == tensors[1].shape
            calls.setdefault(name, []).append(tensors[0].shape if stays else None)

        return hook

    holders = [
        (name, module) for name, module in model.named_modules() if name and any(True for _ in module.children())
    ]
    handles = [module.register_forward_hook(watcher(name), with_kwargs=True) for name, module in holders]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _places(group: ChannelGroup) -> Iterable[str]:
    """Names of all modules and parameters that a group changes."""
    yield from (member.layer for member in group.members)
    yield from (parameter.name for parameter in group.parameters)
    yield from (size.module for size in group.sizes)


def _shares_parameters(model: nn.Module, module: nn.Module) -> bool:
    """Whether another module holds a parameter of this one."""
    own = {id(parameter) for parameter in module.parameters()}
    inside = {id(part) for part in module.modules()}
    outside = (part for part in model.modules() if id(part) not in inside)
    return any(id(parameter) in own for part in outside for parameter in part.parameters(recurse=False))


def _left_of(module: nn.Module, shape: torch.Size) -> Literal["identity", "relu"] | None:
    """What a module does to its input when all its parameters are zero, if that is nothing or a ReLU.

    A module that does not run alone, or on any numbers, is no block.
    """
    empty = deepcopy(module)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(PROBE_SEED))
    with torch.no_grad():
        for parameter in empty.parameters():
            parameter.zero_()
        try:
            y = empty(x)
        except Exception:  # noqa: BLE001 - anybody's code, which may need what it finds in the whole network
            return None
    if torch.equal(y, x):
        return "identity"
    return "relu" if torch.equal(y, torch.relu(x)) else None
