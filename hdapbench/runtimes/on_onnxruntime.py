"""Model files on onnxruntime, as the worker process runs them. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hdapbench.runtimes.inputs import largest, random_input, random_pixels, to_input

LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "none": "ORT_DISABLE_ALL",
}


def prepare(runtime: dict[str, Any]) -> Callable[[str], Callable[[], object]]:
    """Function from a file to what one run of it does."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)  # warnings about the host are not about the model
    return lambda path: _load(path, runtime)


def session_options(*, threads: int, graph_optimization: str) -> Any:
    """Options of a session whose threads sleep while they wait: spinning ones steal from the other processes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, LEVELS[graph_optimization])
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def _load(path: str, runtime: dict[str, Any]) -> Callable[[], object]:
    import onnxruntime

    options = session_options(threads=runtime["threads"], graph_optimization=runtime["graph_optimization"])
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    taken = session.get_inputs()[0]
    # Free sizes are those of the batch: other axes are fixed by whoever writes the file.
    shape = [size if isinstance(size, int) else runtime["batch"] for size in taken.shape]
    if shape[0] != runtime["batch"]:
        raise ValueError(f"the file holds batches of {shape[0]}, the runtime is for batches of {runtime['batch']}")
    x, pixels = random_input(shape), random_pixels(shape)
    match runtime["boundary"]:
        case "engine":
            binding = session.io_binding()
            binding.bind_cpu_input(taken.name, x)
            for output, value in zip(session.get_outputs(), session.run(None, {taken.name: x}), strict=True):
                binding.bind_ortvalue_output(output.name, onnxruntime.OrtValue.ortvalue_from_numpy(value))
            return lambda: session.run_with_iobinding(binding)
        case "copies":
            return lambda: session.run(None, {taken.name: x.copy()})
        case _:
            return lambda: largest(session.run(None, {taken.name: to_input(pixels)})[0])
