"""WeightStore: weights and files that methods hand over, each stored under the hash of its content."""

from __future__ import annotations

import hashlib
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from hdapbench.errors import PlanError
from hdapbench.files import replacing
from hdapbench.models import load_weights, state_hash


@dataclass(frozen=True)
class WeightStore:
    """Weights in the shapes of one dense model, and ONNX files, by handles that plans carry.

    Attributes
    ----------
    dense
        The dense model. Shared: whoever wants to change it takes a deep copy.
    directory
        Where files are kept.
    """

    dense: nn.Module
    directory: Path

    def keep(self, model: nn.Module) -> str:
        """Handle of a model's weights.

        Raises
        ------
        PlanError
            When a shape differs from the dense model's.
        """
        state = {name: value.detach().clone() for name, value in model.state_dict().items()}
        dense = self.dense.state_dict()
        wrong = [name for name in dense if name not in state or state[name].shape != dense[name].shape]
        if wrong or len(state) != len(dense):
            raise PlanError(f"keep_weights needs weights in the dense model's shapes; these differ: {wrong[:5]}")
        handle = state_hash(state)[:16]
        path = self.directory / f"{handle}.pt"
        if not path.exists():
            with replacing(path) as partial:
                torch.save(state, partial)
        return handle

    def model(self, handle: str | None = None) -> nn.Module:
        """The dense model, or a copy with the weights of a handle."""
        if handle is None:
            return self.dense
        model = deepcopy(self.dense)
        load_weights(model, self.directory / f"{handle}.pt")
        return model

    def keep_onnx(self, content: bytes) -> str:
        """Handle of an ONNX file."""
        handle = hashlib.sha256(content).hexdigest()[:16]
        path = self.directory / f"{handle}.onnx"
        if not path.exists():
            with replacing(path) as partial:
                partial.write_bytes(content)
        return handle

    def onnx(self, handle: str) -> bytes:
        """Content of a kept ONNX file."""
        return (self.directory / f"{handle}.onnx").read_bytes()
