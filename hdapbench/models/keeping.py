"""State dicts that the program keeps for itself: written whole, and checked against their hash when they are read."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hdapbench.errors import ModelError
from hdapbench.files import expands_beyond_reason, replacing
from hdapbench.models.weights import state_hash

STATE, HASH = "state_dict", "sha256"


def keep_state(model_or_state: nn.Module | Mapping[str, Tensor], path: Path) -> None:
    """Write a state dict together with its hash.

    Raises
    ------
    ModelError
        When it cannot be written, such as on a full disk.
    """
    state = model_or_state.state_dict() if isinstance(model_or_state, nn.Module) else dict(model_or_state)
    write_tensors({STATE: state, HASH: state_hash(state)}, path)


def write_tensors(content: Mapping[str, Any], path: Path) -> None:
    """Write what `torch.load` reads.

    Raises
    ------
    ModelError
        When it cannot be written, such as on a full disk.
    """
    buffer = BytesIO()  # torch's own writer does not say what is wrong with a disk
    torch.save(content, buffer)
    try:
        with replacing(path) as partial:
            partial.write_bytes(buffer.getbuffer())
    except OSError as error:
        raise ModelError(f"weights '{path}' cannot be written: {error.strerror or error}") from error


def kept_state(path: Path, *, expected: str | None = None) -> dict[str, Tensor] | None:
    """State dict of a file that `keep_state` wrote, or of a plain one; None when it is damaged.

    Parameters
    ----------
    path
        The file.
    expected
        Hash of a plain state dict, where it is known.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    if expands_beyond_reason(path):
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = content.get(STATE, content)
        expected = content.get(HASH, expected)
        return state if expected in (None, state_hash(state)) else None
    except Exception:  # noqa: BLE001 - torch.load raises whatever the bytes make it raise
        return None
