"""Model names of specs -> modules."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from hdapbench.errors import ModelError
from hdapbench.models.attention import separate_heads
from hdapbench.models.mobilenet import MobileNetV1
from hdapbench.models.outputs import settle
from hdapbench.models.resnet import CifarResNet
from hdapbench.models.timm_models import build_timm
from hdapbench.models.tiny import DsCnn, ResNet6, ResNet8, small_resnet18
from hdapbench.models.torchvision_models import build_torchvision
from hdapbench.models.user_code import build_user_model
from hdapbench.models.vgg import MINIMUM_SIDE, VGG7_LAYERS, VGG16_LAYERS, CifarVgg
from hdapbench.models.yolo import build_yolo
from hdapbench.spec import did_you_mean

if TYPE_CHECKING:
    from hdapbench.spec import ModelSpec

ZOO: Mapping[str, Callable[..., nn.Module]] = {
    "resnet20": partial(CifarResNet, 20),
    "resnet56": partial(CifarResNet, 56),
    "vgg16": partial(CifarVgg, VGG16_LAYERS),
    "vgg7": partial(CifarVgg, VGG7_LAYERS),
    "mobilenetv1": MobileNetV1,
    "resnet6": ResNet6,
    "resnet8": ResNet8,
    "dscnn": DsCnn,
    "resnet18-64px": small_resnet18,
}
"""Models that ship with hdapbench: name -> builder with keywords ``n_classes`` and ``in_channels``."""


def build_model(spec: ModelSpec, *, n_classes: int, base_dir: Path) -> nn.Module:
    """Network of a spec with random weights, drawn from torch's global generator; ``spec.weights`` is not read.

    Attention that is known is replaced by an equal form whose heads can be cut (`hdapbench.models.attention`). Networks
    of the user's code run once: lazy layers get their shapes, and where class scores come in a tuple or a mapping, they
    alone are returned from then on.

    Parameters
    ----------
    spec
        Name, input shape and builder arguments.
    n_classes
        Outputs of the network.
    base_dir
        Folder that relative paths in the name start from.

    Raises
    ------
    ModelError
        When the name is unknown, or the builder refuses its arguments.
    MissingExtraError
        When the model needs a package that is not installed.
    """
    model = _built(spec, n_classes, base_dir)
    separate_heads(model)
    return model


def _built(spec: ModelSpec, n_classes: int, base_dir: Path) -> nn.Module:
    """The network as its package or the user's code builds it."""
    source, separator, rest = spec.name.partition(":")
    if not separator:
        return _build_zoo(spec, n_classes)
    arguments = dict(spec.arguments)
    if source == "torchvision":
        return build_torchvision(rest, n_classes=n_classes, input_shape=spec.input_shape, arguments=arguments)
    if source == "timm":
        return build_timm(rest, n_classes=n_classes, input_shape=spec.input_shape, arguments=arguments)
    if source == "ultralytics":
        return build_yolo(
            rest, n_classes=n_classes, input_shape=spec.input_shape, arguments=arguments, base_dir=base_dir
        )
    model = build_user_model(
        spec.name, n_classes=n_classes, input_shape=spec.input_shape, arguments=arguments, base_dir=base_dir
    )
    settle(model, n_classes=n_classes, input_shape=spec.input_shape, output=spec.output)
    return model


def _build_zoo(spec: ModelSpec, n_classes: int) -> nn.Module:
    if spec.name not in ZOO:
        hint = did_you_mean(
            spec.name, [*ZOO, "torchvision:NAME", "timm:NAME", "ultralytics:NAME.yaml", "module:callable"]
        )
        raise ModelError(f"unknown model '{spec.name}'{hint}")
    side = MINIMUM_SIDE.get(spec.name, 1)
    if min(spec.input_shape[1:]) < side:
        raise ModelError(
            f"{spec.name} halves its input {side.bit_length() - 1} times and needs {side}x{side} pixels at least; "
            f"input_shape is {list(spec.input_shape)}"
        )
    builder = ZOO[spec.name]
    known = [name for name in inspect.signature(builder).parameters if name not in ("n_classes", "in_channels")]
    unknown = [name for name in spec.arguments if name not in known]
    if unknown:
        names = ", ".join(known) or "none"
        raise ModelError(f"{spec.name} does not take the arguments {unknown}; it takes: {names}")
    return builder(n_classes=n_classes, in_channels=spec.input_shape[0], **spec.arguments)
