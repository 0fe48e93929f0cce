"""Networks of ultralytics yaml files, built offline, with blocks that channel groups can be traced through."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from hdapbench.errors import MissingExtraError, ModelError
from hdapbench.models.outputs import take_scores
from hdapbench.spec import did_you_mean
from hdapbench.spec.code import family_yaml, own_yaml, shipped_yamls

YAML_NAME = re.compile(r"[\w./~-]+\.ya?ml")
ACTIVATION = re.compile(r"(torch\.)?nn\.[A-Z][A-Za-z0-9]*\((\w+=)?[-+.\w]*(, *(\w+=)?[-+.\w]*)*\)")
"""A layer of torch.nn with numbers and words in its brackets."""


class SplitC2f(nn.Module):
    """C2f whose first convolution is split into two, one for each half of its channels.

    ultralytics' C2f chunks the output of one convolution; torch-pruning 1.6.1 maps channel indices through that chunk
    wrongly. Two convolutions compute the same, number for number.

    Parameters
    ----------
    block
        The block to take the weights of; it is not changed, but its submodules are shared.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        n_channels = block.cv1.conv.out_channels // 2
        self.cv0 = _half(block.cv1, slice(0, n_channels))
        self.cv1 = _half(block.cv1, slice(n_channels, 2 * n_channels))
        self.cv2 = block.cv2
        self.m = block.m
        # The position in the network's graph, which ultralytics notes on the layers themselves.
        for name in ("i", "f", "type", "np"):
            setattr(self, name, getattr(block, name))

    def forward(self, x: Tensor) -> Tensor:
        """Activations, shape (n, out_channels, h, w)."""
        parts = [self.cv0(x), self.cv1(x)]
        parts.extend(block(parts[-1]) for block in self.m)
        out: Tensor = self.cv2(torch.cat(parts, 1))
        return out


def build_yolo(
    name: str, *, n_classes: int, input_shape: tuple[int, int, int], arguments: dict[str, Any], base_dir: Path
) -> nn.Module:
    """Detection or classification network of an ultralytics yaml, with every C2f split.

    Nothing is downloaded, printed, or written outside a temporary folder.

    Raises
    ------
    MissingExtraError
        When ultralytics is not installed.
    ModelError
        When there is no such yaml, or its network cannot be built.
    """
    if find_spec("ultralytics") is None:
        raise MissingExtraError("ultralytics", "yolo", f"model 'ultralytics:{name}'")
    if not YAML_NAME.fullmatch(name):
        raise ModelError(f"'ultralytics:{name}': name a yaml file, such as ultralytics:yolov8n.yaml")
    if arguments:
        raise ModelError(f"ultralytics:{name} takes no arguments, but model.arguments holds {sorted(arguments)}")
    with quiet_ultralytics():
        from ultralytics.nn import tasks

        path = _yaml_path(name, base_dir)
        try:
            config = tasks.yaml_model_load(path)
            _refuse_code(config, name)
            task = tasks.guess_model_task(config)
            classes = {"detect": tasks.DetectionModel, "classify": tasks.ClassificationModel}
            if task not in classes:
                raise ModelError(f"ultralytics:{name} is a {task} network; only detection and classification are known")
            model: nn.Module = classes[task](config, ch=input_shape[0], nc=n_classes, verbose=False)
        except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RuntimeError) as error:
            raise ModelError(f"ultralytics:{name} cannot be built: {error}") from error
        split_blocks(model)
    if task == "classify":
        take_scores(model, {True: (), False: (1,)})  # in evaluation mode: probabilities, then logits
    return model


def _refuse_code(config: Mapping[str, Any], name: str) -> None:
    """Refuse what ultralytics would evaluate as Python, or call although it is no layer.

    Raises
    ------
    ModelError
        Naming the text.
    """
    import torchvision.ops
    from ultralytics.nn import modules, tasks

    activation = config.get("activation")
    if activation is not None and not ACTIVATION.fullmatch(str(activation)):
        raise ModelError(f"ultralytics:{name}: activation {activation!r} is no layer of torch.nn, such as nn.ReLU()")
    for layer in [*config.get("backbone", ()), *config.get("head", ())]:
        kind = str(layer[2])
        if kind.startswith("nn."):
            found = getattr(nn, kind.removeprefix("nn."), None)
        elif kind.startswith("torchvision.ops."):
            found = getattr(torchvision.ops, kind.removeprefix("torchvision.ops."), None)
        else:
            found = getattr(modules, kind, None) if getattr(tasks, kind, None) is getattr(modules, kind, None) else None
        if not isinstance(found, type) or not issubclass(found, nn.Module):
            raise ModelError(f"ultralytics:{name}: '{kind}' is no layer of ultralytics or torch.nn")


def split_blocks(model: nn.Module) -> int:
    """Number of C2f blocks that were replaced by `SplitC2f`, in place."""
    from ultralytics.nn.modules.block import C2f

    # A subclass with a forward of its own may do something else with the halves.
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, C2f) and type(module).forward is C2f.forward
    ]
    for name in names:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, SplitC2f(model.get_submodule(name)))
    return len(names)


def with_split_blocks(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of an ultralytics network, with the first convolution of each C2f cut in two as `SplitC2f` holds it.

    What is cut already, and what belongs to other networks, stays as it is.
    """
    split = dict(state)
    for name, module in model.named_modules():
        if not isinstance(module, SplitC2f) or any(key.startswith(f"{name}.cv0.") for key in state):
            continue
        for key in [key for key in state if key.startswith(f"{name}.cv1.")]:
            first = f"{name}.cv0.{key.removeprefix(f'{name}.cv1.')}"
            value = state[key]
            halves = (value, value) if value.ndim == 0 else value.chunk(2)
            split[first], split[key] = (half.clone() for half in halves)
    return split


def _half(block: Any, channels: slice) -> nn.Module:
    """Ultralytics Conv with the given output channels of another one."""
    from ultralytics.nn.modules.conv import Conv

    whole: nn.Conv2d = block.conv
    weight = whole.weight[channels].detach().clone()
    half: Any = Conv(whole.in_channels, weight.shape[0], 1, 1)
    half.conv.weight = nn.Parameter(weight)
    # ultralytics changes eps and momentum of all its norms after building.
    half.bn.eps, half.bn.momentum = block.bn.eps, block.bn.momentum
    state = {
        key: value if value.ndim == 0 else value[channels].detach().clone()
        for key, value in block.bn.state_dict().items()
    }
    half.bn.load_state_dict(state)
    half.act = block.act
    half.train(block.training)
    module: nn.Module = half
    return module


def _yaml_path(name: str, base_dir: Path) -> str:
    """Path of a user's yaml, or the name of one that ultralytics ships."""
    own = own_yaml(name, base_dir)
    if own is not None:
        return str(own)
    shipped = shipped_yamls()
    if not {name, family_yaml(name)} & shipped:
        raise ModelError(f"ultralytics has no '{name}'{did_you_mean(name, sorted(shipped))}")
    return name


@cache
def _config_folder() -> str:
    folder = tempfile.mkdtemp(prefix="hdapbench-ultralytics-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@contextmanager
def quiet_ultralytics() -> Iterator[None]:
    """Keep ultralytics from touching the network, the home folder, the environment and torch's threads.

    Its import looks names up in the DNS, writes settings, sets environment variables, and replaces functions: Pillow's
    ``open`` by one that installs a package when it meets a damaged image, and ``torch.save``. It reads the switches
    below at import.
    """
    environment, threads = dict(os.environ), torch.get_num_threads()
    open_image, save, print_options = Image.open, torch.save, np.get_printoptions()
    os.environ.update({"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "0", "ORT_DISABLE_TELEMETRY": "1"})
    os.environ.setdefault("YOLO_CONFIG_DIR", _config_folder())
    os.environ.setdefault("YOLO_VERBOSE", "0")
    try:
        yield
    finally:
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)
        Image.open, torch.save = open_image, save
        np.set_printoptions(**print_options)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
