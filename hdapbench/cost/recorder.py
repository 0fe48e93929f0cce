"""Recorder: notes what a model computes in one forward pass. What has no rule is an error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from hdapbench.axes.follow import note
from hdapbench.axes.labels import AxisLabels, tensors_in
from hdapbench.cost.layers import LAYERS, NORMS
from hdapbench.cost.notes import Notes
from hdapbench.cost.products import Call, Products
from hdapbench.cost.records import LayerRecord
from hdapbench.cost.tracker import Tracker
from hdapbench.errors import UnknownLayerError
from hdapbench.groups import GroupSet

_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_RECURRENT = (nn.RNN, nn.GRU, nn.LSTM)
_WHOLE = (*NORMS, *_POOLS, *_RECURRENT)
"""Modules that are noted as a whole, and not by the operations that they come down to."""
_FACTORS = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1}
"""Matrix product -> position of its first factor among the arguments; the second follows."""
_READS = {"_local_scalar_dense", "nonzero", "equal"}
"""Operations by which Python sees what is in a tensor: what it does then may depend on it."""
_ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"
_NAMESPACES = {"aten", "prim", "prims"}
_REFUSED = tuple(
    f"{name}_"
    for name in (
        *("slow_conv2d", "addbmm", "dot", "mv", "addmv", "addr", "cdist", "fft", "trilinear", "lstm", "gru"),
        *("mkldnn_rnn_layer", "scaled_dot_product", "flash_attention", "efficient_attention"),
        *("native_multi_head_attention", "transformer_encoder_layer_fwd", "linalg"),
    )
)
"""Beginnings of the names of operations that multiply; the name compared ends in an underscore too."""


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes layers, and the operations between them, as the dispatcher sees them.

    Attributes
    ----------
    records
        What was noted, and, at the end, what the forward pass did not reach.
    counted
        Multiply-accumulates, as torch counts them.
    """

    def __init__(self, model: nn.Module, group_set: GroupSet) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.records: tuple[LayerRecord, ...] = ()
        self.counted = 0
        self._model = model
        self._blocks = group_set.blocks
        self._names = {module: name for name, module in model.named_modules()}
        self._running: list[Call] = []  # the innermost last
        self._labels = AxisLabels.of_groups(model, group_set)
        self._tensors = Tracker(model, self._labels)
        self._notes = Notes(self._tensors, self._placed)
        self._products = Products(model, tensors=self._tensors, notes=self._notes, running=self._running)

    @contextmanager
    def watching(self, probe: Tensor) -> Iterator[None]:
        """Note what the model does with a probe in this block; attention is not fused in it."""
        self._refuse_unwatchable()
        self._tensors.remember(probe, -1, 1)
        fused = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        handles = [
            module.register_forward_pre_hook(self._enter, prepend=True, with_kwargs=True) for module in self._names
        ]
        handles += [module.register_forward_hook(self._leave) for module in self._names]
        try:
            with torch.no_grad(), self._labels.following(), sdpa_kernel(SDPBackend.MATH), self:
                yield
            self.records = (*self._notes.records, *map(self._placed, self._products.rest()))
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)
            for handle in handles:
                handle.remove()
            self._running.clear()
            self._tensors.forget()

    def _placed(self, record: LayerRecord) -> LayerRecord:
        """The record with the removable block whose layer it is, or in which it was noted."""
        places = (record.name, self._running[-1].name if self._running else "")
        block = next((block for block in self._blocks if any(map(block.holds, places))), None)
        return replace(record, block=block)

    def _refuse_unwatchable(self) -> None:
        """Refuse modules that take no hooks, and layers whose weight is computed: what would be cut is no weight."""
        for module, name in self._names.items():
            if isinstance(module, torch.jit.ScriptModule):
                raise UnknownLayerError(f"no cost rule for '{name}' ({type(module).__name__}): it is compiled")
            if isinstance(module, LAYERS) and isinstance(vars(module).get("weight"), Tensor):
                held = ", ".join(key for key, _ in module.named_parameters(recurse=False) if key != "bias")
                raise UnknownLayerError(
                    f"no cost rule for '{name}' ({type(module).__name__}: {held}): a hook computes it"
                )
            if isinstance(module, parametrize.ParametrizationList):
                raise UnknownLayerError(f"no cost rule for '{name}' ({type(module).__name__}): it computes a weight")

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._running.append(Call(self._names[module], module, tensors_in((inputs, named))))

    def _leave(self, module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
        call = self._running.pop()
        if not isinstance(module, _WHOLE):
            return
        x, y = call.inputs[0], tensors_in(output)[0]  # max pooling may return indices as well
        if isinstance(module, _POOLS):
            self._notes.add_window(call.name, x, y, window=_window(module))
        elif isinstance(module, _RECURRENT):
            self.counted += self._products.add_recurrent(module, x, y)
        else:
            self._products.add_norm(call.name, module, x, y)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        note(self._labels, func, args, kwargs, output)
        operation = func.__name__.split(".")[0]
        whole = [call.module for call in self._running if isinstance(call.module, _WHOLE)]
        if any(isinstance(module, _RECURRENT) for module in whole):
            return output
        counter = flop_registry.get(func.overloadpacket)
        flops = counter(*args, **(kwargs or {}), out_val=output) // 2 if counter is not None else 0
        self.counted += flops
        inputs = tensors_in((args, kwargs))
        if operation in _FACTORS:
            self._products.add_product(operation, args[_FACTORS[operation]], args[_FACTORS[operation] + 1], output)
        elif operation == "convolution":
            self._products.add_convolution(args, output)
        elif operation == _ATTENTION:
            self._products.add_attention(args[0], args[1], args[2], output[0])
        elif flops or self._is_refused(operation, func.namespace, inputs):
            raise self._no_rule(operation)
        elif not whole:
            self._refuse_reading(operation, inputs)
            self._notes.take(operation, args, inputs, tensors_in(output))
        return output

    def _is_refused(self, operation: str, namespace: str, inputs: list[Tensor]) -> bool:
        """Whether an operation multiplies in a way that has no rule, or is not one of torch's own."""
        if namespace not in _NAMESPACES:
            return any(map(self._tensors.knows, inputs))
        return f"{operation.strip('_')}_".startswith(_REFUSED) and operation != "linalg_vector_norm"

    def _refuse_reading(self, operation: str, inputs: list[Tensor]) -> None:
        """Refuse that Python looks at what comes from the image: what it then does has no fixed cost."""
        source = next((self._tensors.record(tensor) for tensor in inputs if self._tensors.knows(tensor)), None)
        if operation not in _READS or source is None:
            return
        after = f"after '{self._notes.records[source].name}'" if source >= 0 else "of the image itself"
        raise UnknownLayerError(
            f"what {type(self._model).__name__} computes depends on the image: Python reads a value {after} (if, "
            "while, item, a mask); it has no fixed cost"
        )

    def _no_rule(self, operation: str) -> UnknownLayerError:
        module = self._running[-1].module if self._running else self._model
        name = self._names[module]
        place = f"in '{name}' ({type(module).__name__})" if name else f"in {type(module).__name__}"
        return UnknownLayerError(f"no cost rule for the operation '{operation}' {place}")


def _window(module: nn.Module) -> int | None:
    """Height times width of a pooling window, or None for adaptive pooling."""
    if not isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        return None
    size = module.kernel_size
    return size * size if isinstance(size, int) else size[0] * size[1]
