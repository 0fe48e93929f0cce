"""Weights of a network for other classes, as the start of a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from hdapbench.errors import ModelError
from hdapbench.models.weights import load_state, under_own_names


def load_start(
    model: nn.Module,
    state: Mapping[str, Tensor],
    *,
    source: str,
    n_classes: int,
    build: Callable[[int], nn.Module],
) -> tuple[str, ...]:
    """Names of the weights that stay as they were drawn, because their shape follows the number of classes.

    Everything else is filled with the state dict, which must be that of the same network for some number of classes:
    that network is built, and has to take all of it.

    Parameters
    ----------
    model
        Network for ``n_classes``, changed in place.
    build
        Number of classes -> such a network.

    Raises
    ------
    ModelError
        When the weights are of another network.
    """
    named = under_own_names(model, state)
    ours = model.state_dict()
    with torch.random.fork_rng(devices=[]):
        more = build(n_classes + 1).state_dict()
    heads = [name for name, value in ours.items() if name in more and more[name].shape != value.shape]
    counts = {len(named[name]) for name in heads if name in named and named[name].ndim}
    if not heads or counts == {n_classes} or len(counts) != 1:
        load_state(model, state, source=source)  # says what does not fit
        return ()
    with torch.random.fork_rng(devices=[]):
        theirs = build(counts.pop())
    try:
        load_state(theirs, state, source=source)
    except ModelError as error:
        raise ModelError(f"{error}; base.from: weights replaces only what follows the number of classes") from error
    given = theirs.state_dict()
    replaced = tuple(name for name, value in ours.items() if given[name].shape != value.shape)
    model.load_state_dict(ours | {name: value for name, value in given.items() if name not in replaced})
    return replaced
