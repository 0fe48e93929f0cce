"""WeightStore: weights and files that methods hand over, each stored under the hash of its content."""

from __future__ import annotations

import hashlib
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from hdapbench.errors import PlanError
from hdapbench.files import replacing
from hdapbench.models import keep_state, kept_state, load_state, state_hash


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
        keep_state(state, self._path(handle))  # also over an older one, which may be damaged
        return handle

    def model(self, handle: str | None = None) -> nn.Module:
        """The dense model, or a copy with the weights of a handle.

        Raises
        ------
        PlanError
            When there are none of that handle, or they are damaged.
        """
        if handle is None:
            return self.dense
        path = self._path(handle)
        state = kept_state(path) if path.is_file() else None
        if state is None or state_hash(state)[:16] != handle:
            raise PlanError(f"the weights '{path}' are absent or damaged; the method has to be run again")
        model = deepcopy(self.dense)
        load_state(model, state, source=str(path))
        return model

    def keep_onnx(self, content: bytes) -> str:
        """Handle of an ONNX file."""
        handle = hashlib.sha256(content).hexdigest()[:16]
        with replacing(self._path(handle, ".onnx")) as partial:
            partial.write_bytes(content)
        return handle

    def onnx(self, handle: str) -> bytes:
        """Content of a kept ONNX file.

        Raises
        ------
        PlanError
            When there is none of that handle, or it is damaged.
        """
        path = self._path(handle, ".onnx")
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest()[:16] != handle:
            raise PlanError(f"the file '{path}' is absent or damaged; the method has to be run again")
        return content

    def _path(self, handle: str, suffix: str = ".pt") -> Path:
        return self.directory / f"{handle}{suffix}"
