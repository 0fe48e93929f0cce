"""What live models really cost, counted without the closed form."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def counted(model: nn.Module, input_shape: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """FLOPs, parameters, their bytes and activation bytes of a live model, by torch's counter and by hooks."""
    values = 0

    def count(_module: nn.Module, inputs: tuple[torch.Tensor, ...], named: dict, output: torch.Tensor) -> None:
        nonlocal values
        values += [*inputs, *named.values()][0].numel() + output.numel()

    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [module.register_forward_hook(count, with_kwargs=True) for module in layers]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *input_shape))
    for hook in hooks:
        hook.remove()
    flops, odd = divmod(counter.get_total_flops(), 2)
    assert odd == 0
    params = sum(parameter.numel() for parameter in model.parameters())
    n_bytes = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return flops, params, n_bytes, values * 4
