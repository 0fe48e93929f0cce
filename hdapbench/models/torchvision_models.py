"""Classification networks of torchvision, and their published weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hdapbench.errors import ModelError
from hdapbench.spec import did_you_mean

RGB_CHANNELS = 3

AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
"""Networks with classifiers that only their authors' training runs, and the prefixes of those classifiers' weights."""


def build_torchvision(
    name: str, *, n_classes: int, input_shape: tuple[int, int, int], arguments: dict[str, Any]
) -> nn.Module:
    """Classification network of torchvision with random weights.

    Raises
    ------
    ModelError
        When torchvision has no such network, or it does not take the arguments or the input channels.
    """
    from torchvision import models

    known = sorted(models.list_models(module=models))
    if name not in known:
        raise ModelError(f"torchvision has no classification model '{name}'{did_you_mean(name, known)}")
    if input_shape[0] != RGB_CHANNELS:
        raise ModelError(
            f"torchvision:{name} takes 3 input channels, but input_shape is {list(input_shape)}; write 3 channels there"
        )
    if name in AUXILIARY:
        if arguments.get("aux_logits"):
            raise ModelError(
                f"torchvision:{name}: one classifier is trained here; remove aux_logits from the arguments"
            )
        # Torch's own initialisation: theirs takes seconds, is about to change, and warns of it.
        arguments = {"init_weights": False} | arguments | {"aux_logits": False}
    if name.startswith("vit_") and len(set(input_shape[1:])) == 1:
        arguments = {"image_size": input_shape[1]} | arguments
    elif name == "maxvit_t":
        arguments = {"input_size": input_shape[1:]} | arguments
    try:
        model: nn.Module = models.get_model(name, weights=None, num_classes=n_classes, **arguments)
    except (TypeError, ValueError) as error:
        raise ModelError(f"torchvision:{name} does not take the arguments {arguments}: {error}") from error
    if isinstance(model, models.VisionTransformer):
        _let_width_follow(model)
    return model


def _let_width_follow(model: nn.Module) -> None:
    """Let a vision transformer take the width of its tokens from its weights, not from a number that it notes."""
    kind = type(model)

    def process(self: Any, x: Tensor) -> Tensor:
        wrong = "torchvision's vision transformers take images of {0}x{0} pixels here"
        torch._assert(x.shape[2] == x.shape[3] == self.image_size, wrong.format(self.image_size))
        tokens: Tensor = self.conv_proj(x).flatten(2).transpose(1, 2)
        return tokens

    model.__class__ = type(kind.__name__, (kind,), {"_process_input": process, "__module__": kind.__module__})


def without_auxiliary(model: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """State dict without the weights of auxiliary classifiers that `build_torchvision` leaves out."""
    from torchvision.models import GoogLeNet, Inception3

    if not isinstance(model, GoogLeNet | Inception3):
        return state
    prefixes = tuple(prefix for group in AUXILIARY.values() for prefix in group)
    return {name: value for name, value in state.items() if not name.startswith(prefixes)}


def check_published(model_name: str, weights_name: str, *, n_classes: int | None) -> Any:
    """Member of a model's weights enum; nothing is downloaded.

    Parameters
    ----------
    model_name
        Name as in ``torchvision.models``.
    weights_name
        Member of the model's weights enum, such as ``IMAGENET1K_V2`` or ``DEFAULT``.
    n_classes
        Classes of the data, since published weights classify into classes of their own; None for any number.

    Raises
    ------
    ModelError
        When the model has no such weights, or they are for other classes.
    """
    from torchvision import models

    try:
        choices = models.get_model_weights(model_name)
    except ValueError as error:
        raise ModelError(f"torchvision has no weights for '{model_name}': {error}") from error
    names = [*choices.__members__]
    if weights_name not in names:
        hint = did_you_mean(weights_name, names)
        raise ModelError(f"torchvision:{model_name} has no weights '{weights_name}'{hint}")
    weights = choices[weights_name]
    categories = weights.meta.get("categories", ())
    if n_classes is not None and len(categories) != n_classes:
        raise ModelError(
            f"torchvision:{weights_name} of {model_name} tells {len(categories)} classes apart, "
            f"the data has {n_classes}; write base: {{from: weights}} to train from them, or set model.weights to null"
        )
    return weights


def published_state(model_name: str, weights_name: str, *, n_classes: int | None) -> dict[str, Tensor]:
    """State dict of published weights, from torch's download cache or else downloaded by torchvision.

    Parameters are those of `check_published`.

    Raises
    ------
    ModelError
        When the model has no such weights, they are for other classes, or they cannot be downloaded.
    """
    weights = check_published(model_name, weights_name, n_classes=n_classes)
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"the weights {weights.url} cannot be downloaded ({error}); download the file where there is a network and "
            "name it in model.weights"
        ) from error
    return state
