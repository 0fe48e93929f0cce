"""What live models really cost, counted without the closed form."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode


class _ReadAndWritten(TorchDispatchMode):
    """Values that products read and write, without weights: whatever has three dimensions is taken for an activation."""

    values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        operation = func.__name__.split(".")[0]
        read = {"convolution": args[:1], "mm": args[:1], "addmm": args[1:2], "bmm": args, "baddbmm": args[1:3]}
        if operation in read:
            self.values += sum(tensor.numel() for tensor in (*read[operation], output))
        return output


@contextmanager
def unfused() -> Iterator[None]:
    """Attention as matrix products: torch's counter knows no other on a CPU."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def counted(model: nn.Module, input_shape: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """FLOPs, parameters, their bytes and activation bytes of a live model, by torch's counter and by its operations."""
    read_and_written = _ReadAndWritten()
    with unfused(), FlopCounterMode(display=False) as counter, read_and_written:
        model(torch.zeros(1, *input_shape))
    flops, odd = divmod(counter.get_total_flops(), 2)
    assert odd == 0
    params = sum(parameter.numel() for parameter in model.parameters())
    n_bytes = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return flops, params, n_bytes, read_and_written.values * 4
