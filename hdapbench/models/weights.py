"""State dicts: loading them strictly and safely, and hashing their content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hdapbench.errors import MissingExtraError, ModelError
from hdapbench.files import expands_beyond_reason
from hdapbench.models.attention import with_separate_heads
from hdapbench.models.checkpoint import tensors_beside_objects, ultralytics_state
from hdapbench.models.resnet import with_identity_shortcuts
from hdapbench.models.torchvision_models import without_auxiliary
from hdapbench.models.yolo import with_split_blocks

SHOWN_KEYS = 5
WRAPPERS = (
    *("checkpoint", "state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights"),
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema", "params_ema", "params"),
)
"""Keys under which training scripts store state dicts, outer ones first; averages where there is nothing else."""

SAFETENSORS = ".safetensors"

PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "encoder.")
"""What DataParallel, torch.compile and training frameworks put before the names of the network that they wrap."""

BATCH_COUNT = "num_batches_tracked"


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill ``model`` in place with the state dict of a file.

    The file is read with ``weights_only``: code in it is never run. A mapping around the state dict is taken off
    (`WRAPPERS`), and so are the prefixes of wrapped networks (`PREFIXES`) where the keys do not fit otherwise. Option-A
    weights of a CIFAR ResNet (zero-padded shortcuts) are completed by equivalent projections. A .pt of ultralytics
    gives the weights of its network.

    Raises
    ------
    ModelError
        When the file cannot be read, is no state dict, does not fit the model (all wrong keys in one message), or
        holds values that are not finite.
    """
    load_state(model, read_state(path), source=str(path))


def read_state(path: Path) -> dict[str, Tensor]:
    """State dict of a file, on the CPU.

    Raises
    ------
    ModelError
        When the file is missing or holds anything else than a flat mapping of names to tensors.
    """
    if path.is_dir():
        raise ModelError(f"weights '{path}': a folder, but the file of a state_dict is needed")
    if not path.is_file():
        raise ModelError(f"weights '{path}': there is no such file")
    if path.suffix == SAFETENSORS:
        return _read_safetensors(path)
    advice = "save weights with torch.save(model.state_dict(), path)"
    if expands_beyond_reason(path):
        raise ModelError(f"weights '{path}': the file expands to many times its size, which torch's never do; {advice}")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the bytes make it raise
        found_state = ultralytics_state(path)
        if found_state is not None:
            return found_state
        beside = tensors_beside_objects(path)
        if beside is not None and any(isinstance(beside.get(wrapper), Mapping) for wrapper in WRAPPERS):
            return _unwrapped(beside, path, advice)
        reason = "holds pickled objects, not only tensors" if "GLOBAL" in str(error) else "is not a file of torch"
        raise ModelError(f"weights '{path}': the file {reason}; {advice}") from error
    if not isinstance(content, Mapping):
        raise ModelError(f"weights '{path}': holds a {type(content).__name__} instead of a state_dict; {advice}")
    return _unwrapped(content, path, advice)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """State dict of a file of safetensors."""
    if find_spec("safetensors") is None:
        raise MissingExtraError("safetensors", "safetensors", f"weights '{path}'")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ModelError(f"weights '{path}': is not a file of safetensors: {' '.join(str(error).split())}") from error
    if not state:
        raise ModelError(f"weights '{path}': not a state_dict, it is empty")
    return state


def _unwrapped(content: Mapping[Any, Any], path: Path, advice: str) -> dict[str, Tensor]:
    """State dict among what a training script stored with it."""
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    wrong = [str(name) for name, value in content.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if wrong or not content:
        found = f"its entries {_shorten(wrong)} are no tensors" if wrong else "it is empty"
        raise ModelError(f"weights '{path}': not a state_dict, {found}; {advice}")
    return dict(content)


def load_state(model: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Fill ``model`` in place with a state dict, every key and shape of which must fit.

    Batch counts of batch norms may be missing, as in files of torch before 0.4.1: torch fills them in as well.

    Raises
    ------
    ModelError
        With the missing keys, the unexpected ones and the wrong shapes, or with what is not finite.
    """
    expected = model.state_dict()
    completed = under_own_names(model, state)
    missing = [name for name in expected if name not in completed and not name.endswith(BATCH_COUNT)]
    unexpected = [name for name in completed if name not in expected]
    shapes = [
        f"{name} {tuple(value.shape)} instead of {tuple(expected[name].shape)}"
        for name, value in completed.items()
        if name in expected and value.shape != expected[name].shape
    ]
    unreal = [
        name
        for name, value in completed.items()
        if name in expected and value.is_complex() and not expected[name].is_complex()
    ]
    problems = [
        f"{len(keys)} {what}: {_shorten(keys)}"
        for what, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", shapes),
            ("complex", unreal),
        )
        if keys
    ]
    if problems:
        only_shapes = shapes and not (missing or unexpected or unreal)
        hint = "; if it is the classes that differ: base: {from: weights}" if only_shapes else ""
        raise ModelError(f"weights '{source}' do not fit the model; {'; '.join(problems)}{hint}")
    _check_finite(model, completed, source)
    expected.update(completed)  # keeps the versions of modules, without which MNASNet refuses its own weights
    model.load_state_dict(expected, strict=True)


def under_own_names(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict without prefixes of wrappers, under the names and in the parts that the network has here."""
    expected = model.state_dict()
    return _under_our_names(model, _without_prefixes(_of_wrapped_network(model, state, expected), expected))


def state_hash(model_or_state: nn.Module | Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values of a state dict, as 64 hexadecimal digits; order does not matter."""
    state = model_or_state.state_dict() if isinstance(model_or_state, nn.Module) else model_or_state
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _without_prefixes(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """State dict without the prefixes of wrappers, taken off while more of its names fit for it."""
    best = state
    while best:
        first = next(iter(best))
        prefix = next((prefix for prefix in PREFIXES if first.startswith(prefix)), None)
        if prefix is None or not all(name.startswith(prefix) for name in best) or best.keys() <= expected.keys():
            break
        best = {name.removeprefix(prefix): value for name, value in best.items()}
    return best if len(best.keys() & expected.keys()) > len(state.keys() & expected.keys()) else state


def _of_wrapped_network(
    model: nn.Module, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> Mapping[str, Tensor]:
    """The part of a state dict under one of `PREFIXES` if it holds all of the network: metrics and teachers go."""
    if not expected.keys() <= _under_our_names(model, state).keys():
        for prefix in PREFIXES:
            part = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            if part and expected.keys() <= _under_our_names(model, part).keys():
                return part
    return state


def _under_our_names(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict with what is cut, left out and added when a network is built here."""
    completed = with_identity_shortcuts(model, without_auxiliary(model, state))
    return with_separate_heads(model, with_split_blocks(model, completed))


def _check_finite(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights and running statistics that are not finite; other buffers, such as masks, may be anything."""
    weights = {name for name, _ in model.named_parameters()}
    wrong = [
        name
        for name, value in state.items()
        if (name in weights or name.endswith(("running_mean", "running_var"))) and not bool(value.isfinite().all())
    ]
    if wrong:
        raise ModelError(f"weights '{source}' hold values that are not finite (NaN or infinite) in {_shorten(wrong)}")


def _shorten(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN_KEYS])
    return f"{shown} and {len(names) - SHOWN_KEYS} more" if len(names) > SHOWN_KEYS else shown
