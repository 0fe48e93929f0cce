"""Classification networks of timm, with random weights; nothing is downloaded."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from torch import nn

from hdapbench.errors import MissingExtraError, ModelError
from hdapbench.spec import did_you_mean

SHOWN = 12
SET_HERE = frozenset({"pretrained", "num_classes", "in_chans", "checkpoint_path"})
"""Arguments of timm's builders that the spec says in keys of its own."""


def build_timm(name: str, *, n_classes: int, input_shape: tuple[int, int, int], arguments: dict[str, Any]) -> nn.Module:
    """Classification network of timm with random weights, for images of the shape where it depends on it.

    Raises
    ------
    MissingExtraError
        When timm is not installed.
    ModelError
        When timm has no such network, or it does not take the arguments, the channels or the size of images.
    """
    if find_spec("timm") is None:
        raise MissingExtraError("timm", "timm", f"model 'timm:{name}'")
    import timm

    if not timm.is_model(name) or "." in name:
        raise ModelError(f"timm has no architecture '{name}'{_hint(name, timm.list_models())}")
    taken = sorted(SET_HERE & set(arguments))
    if taken:
        raise ModelError(
            f"timm:{name}: remove {', '.join(taken)} from the arguments: model.weights names weights, input_shape the "
            "channels, and classes come from the data"
        )
    chosen = {"pretrained": False, "num_classes": n_classes, "in_chans": input_shape[0]} | arguments
    as_built = "img_size" in arguments or _shape_of(timm, name) == input_shape[1:]
    sizes: tuple[dict[str, Any], ...] = () if as_built else ({"img_size": input_shape[1:]},)
    for size in (*sizes, {}):
        try:
            model: nn.Module = timm.create_model(name, **chosen, **size)
        except TypeError as error:
            if size and "img_size" in str(error):
                continue  # a network that takes images of any size
            raise ModelError(f"timm:{name} does not take the arguments {arguments}: {_line(error)}") from error
        except Exception as error:  # whatever a size or an argument makes its builders raise
            raise ModelError(f"timm:{name} cannot be built for images {list(input_shape)}: {_line(error)}") from error
        _let_widths_follow(model)
        return model
    raise AssertionError


def _let_widths_follow(model: nn.Module) -> None:
    """Let scales of channels take their number from their weights; they note it in a shape."""
    from timm.models.metaformer import Scale

    for module in model.modules():
        if isinstance(module, Scale):
            module.shape = (-1, *module.shape[1:])


def _shape_of(timm: Any, name: str) -> tuple[int, int] | None:
    """Height and width of the images that a network is for unless it is told."""
    config = timm.models.get_pretrained_cfg(name)
    return tuple(config.input_size[1:]) if config is not None else None


def _hint(name: str, known: list[str]) -> str:
    """The closest of many names; those with a tag of weights have a hint of their own."""
    architecture = name.partition(".")[0]
    if architecture in known:
        return f"; did you mean '{architecture}'? Weights are named in model.weights"
    beginning = [other for other in known if other.startswith(architecture.partition("_")[0])]
    return did_you_mean(name, (beginning or known)[:SHOWN]) + ", ..."


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
