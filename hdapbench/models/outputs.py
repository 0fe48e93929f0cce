"""What networks return: class scores are taken out of tuples and mappings, once, when the network is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from hdapbench.errors import ModelError
from hdapbench.spec import did_you_mean

Place = tuple[Any, ...]
"""Keys and positions that lead to a tensor of nested outputs; empty where the output is a tensor."""

SCORES = ("logits", "out")
"""Names under which networks return class scores beside other tensors of that shape."""


def settle(model: nn.Module, *, n_classes: int, input_shape: tuple[int, int, int], output: str | None = None) -> None:
    """Run a network once in each mode: lazy layers get their shapes, and class scores are taken out of its outputs.

    A network that does not run, or whose scores are not clear, stays as it is: `hdapbench.tasks.dry_run` says why.

    Parameters
    ----------
    model
        Changed in place; its mode and torch's global generator are left alone.
    n_classes
        Classes that are told apart.
    input_shape
        Channels, height and width of one input.
    output
        Where the scores are, keys and positions with dots between them; None looks for them.

    Raises
    ------
    ModelError
        When nothing is at the place of the output.
    """
    training = model.training
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        images = torch.randn(2, *input_shape)
        try:
            evaluated = model.eval()(images.clone())
            trained = deepcopy(model).train()(images.clone())
        except Exception:  # noqa: BLE001 - the user's code may raise anything; whoever uses the network says what
            return
        finally:
            model.train(training)
    if output is not None:
        take_scores(model, {False: _named(evaluated, output), True: _named(trained, output)})
        return
    places = {False: find_scores(evaluated, n_classes), True: find_scores(trained, n_classes)}
    if None not in places.values() and any(places.values()):
        take_scores(model, places)


def find_scores(outputs: Any, n_classes: int) -> Place | None:
    """Place of the class scores, shape (n, n_classes), or None where no tensor or several may be meant."""
    if isinstance(outputs, Tensor):
        return ()
    found = [place for place, tensor in tensors_of(outputs) if tensor.ndim == 2 and tensor.shape[1] == n_classes]
    named = [place for place in found if place[-1] in SCORES]
    clear = found if len(found) == 1 else named
    return clear[0] if len(clear) == 1 else None


def _named(outputs: Any, name: str) -> Place:
    """Place of a tensor by its name; a network that returns one tensor in one of its modes has it there."""
    if isinstance(outputs, Tensor):
        return ()
    places = {".".join(map(str, place)): place for place, _ in tensors_of(outputs)}
    if name not in places:
        raise ModelError(f"the network's outputs have no '{name}'{did_you_mean(name, places)}")
    return places[name]


def take_scores(model: nn.Module, places: Mapping[bool, Place | None]) -> None:
    """Let a network return the tensor at a place of its outputs alone, in place.

    Its class is replaced by a subclass: names of layers and of weights stay as they are, and copies do the same.

    Parameters
    ----------
    places
        The place in training mode (True) and in evaluation mode (False).
    """
    kind = type(model)

    def forward(self: nn.Module, x: Tensor) -> Any:
        outputs = kind.forward(self, x)
        for step in places[self.training] or ():
            outputs = outputs[step]
        return outputs

    model.__class__ = type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})


def tensors_of(outputs: Any, place: Place = ()) -> Iterator[tuple[Place, Tensor]]:
    """Tensors of nested outputs and their places, in order."""
    if isinstance(outputs, Tensor):
        yield place, outputs
    elif isinstance(outputs, Mapping):
        for key, value in outputs.items():
            yield from tensors_of(value, (*place, key))
    elif isinstance(outputs, list | tuple):
        for number, value in enumerate(outputs):
            yield from tensors_of(value, (*place, number))
