"""Model files on torch, as the worker process runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hdapbench.runtimes.inputs import largest, random_input, random_pixels, to_input


def prepare(runtime: dict[str, Any]) -> Callable[[str], Callable[[], object]]:
    """Function from a file to what one run of it does."""
    import torch

    torch.set_num_threads(runtime["threads"])
    torch.set_grad_enabled(False)
    torch._dynamo.config.recompile_limit = 1000  # one per model, and a worker may see many
    return lambda path: _load(path, runtime)


def _load(path: str, runtime: dict[str, Any]) -> Callable[[], object]:
    import torch

    program = torch.export.load(path)
    example = program.example_inputs[0][0]
    shape, dtype = tuple(example.shape), example.dtype
    if shape[0] != runtime["batch"]:
        raise ValueError(f"the file holds batches of {shape[0]}, the runtime is for batches of {runtime['batch']}")
    wanted = torch.bfloat16 if runtime["precision"] == "bf16" else torch.float32
    if dtype != wanted:
        raise ValueError(f"the file is in {dtype}, the runtime is for {wanted}")
    module: Callable[..., Any] = program.module()
    if runtime["runtime"] == "compile":
        module = torch.compile(module)
    x, pixels = random_input(shape), random_pixels(shape)
    ready = torch.from_numpy(x).to(dtype)
    module(ready)

    def first(values: Any) -> Any:
        while isinstance(values, tuple | list):
            values = values[0]
        return values.float().numpy()

    match runtime["boundary"]:
        case "engine":
            return lambda: module(ready)
        case "copies":
            return lambda: first(module(torch.from_numpy(x).to(dtype, copy=True))).copy()
        case _:
            return lambda: largest(first(module(torch.from_numpy(to_input(pixels)).to(dtype))))
