"""Worker: one separate process that loads model files and times them."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

import hdapbench
from hdapbench.arrays import Floats
from hdapbench.errors import MissingExtraError, RuntimeLostError, RuntimeRefusedError
from hdapbench.runtimes.base import find_runtime
from hdapbench.runtimes.conversation import Conversation, ConversationLostError
from hdapbench.spec import RuntimeSpec

START_SECONDS = 120.0
TORCH_ISA = {"avx2": ("AVX2", "avx2"), "sse41": ("SSE41", "default")}
"""Name of an instruction set -> ONEDNN_MAX_CPU_ISA and ATEN_CPU_CAPABILITY."""

NOT_INHERITED = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "OMP_WAIT_POLICY")
"""What a spec says for its devices, and how threads wait where models are trained."""


class Worker:
    """A process of its own that runs model files on one runtime; a context manager.

    The process ends with `close`, and with this process, however that one ends. Ctrl-C does not reach it.

    Parameters
    ----------
    runtime
        Runtime, threads, batch, arithmetic and boundary.
    cpus
        Processors that it may run on; None: all that this process may.
    name
        How errors call it.
    timeout
        Seconds that one request may take until the process counts as lost.

    Raises
    ------
    RuntimeLostError
        When the process does not start.
    MissingExtraError
        When the runtime is not installed.
    PluginError
        When no installed package offers the runtime.
    RuntimeRefusedError
        When the processors are not there.
    """

    def __init__(
        self, runtime: RuntimeSpec, *, cpus: tuple[int, ...] | None = None, name: str = "worker", timeout: float = 300.0
    ) -> None:
        if runtime.runtime == "onnxruntime" and find_spec("onnxruntime") is None:
            raise MissingExtraError("onnxruntime", "onnx", "measuring on onnxruntime")
        prepare = find_runtime(runtime.runtime).prepare
        self.runtime, self.name, self.timeout = runtime, name, timeout
        self._talk = Conversation("hdapbench.runtimes.process", _environment(runtime))
        try:
            settings = {"runtime": runtime.model_dump(mode="json"), "cpus": None if cpus is None else [*cpus]}
            self._ask({"do": "start", "prepare": prepare} | settings, timeout=max(timeout, START_SECONDS))
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Process id."""
        return self._talk.pid

    def load(self, key: str, path: Path) -> None:
        """Load a file of `write_onnx` or `write_program` under a name.

        Raises
        ------
        RuntimeRefusedError
            When the runtime does not take the file.
        RuntimeLostError
            When the process died or does not answer.
        """
        self._ask({"do": "load", "key": key, "path": str(path)})

    def unload(self, key: str) -> None:
        """Forget a model; nothing happens when there is none of that name."""
        self._ask({"do": "unload", "key": key})

    def time(self, key: str, runs: int) -> Floats:
        """Wall time of each run in ms, shape (runs,).

        Raises
        ------
        RuntimeRefusedError
            When the model is not loaded, or fails.
        RuntimeLostError
            When the process died or does not answer.
        """
        return np.array(self._ask({"do": "time", "key": key, "runs": runs})["ms"], dtype=np.float64)

    def close(self) -> None:
        """End the process, and wait until it is gone. May be called again."""
        self._talk.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, request: dict[str, Any], *, timeout: float | None = None) -> dict[str, Any]:
        try:
            answer = self._talk.ask(request, timeout=self.timeout if timeout is None else timeout)
        except ConversationLostError as error:
            raise RuntimeLostError(
                self.name, error.what, exit_code=error.exit_code, last_lines=error.last_lines
            ) from None
        if "error" in answer:
            about = f" with '{request['key']}'" if "key" in request else ""
            raise RuntimeRefusedError(
                f"{self.name} ({self.runtime.text}) cannot {request['do']}{about}: {answer['error']}"
            )
        return answer


def _environment(runtime: RuntimeSpec) -> dict[str, str]:
    """Environment of a worker: its threads, no telemetry, and this very package."""
    own = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    package = str(Path(hdapbench.__file__).parents[1])
    own["PYTHONPATH"] = os.pathsep.join(filter(None, [package, own.get("PYTHONPATH", "")]))
    own |= {name: str(runtime.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    own["ORT_DISABLE_TELEMETRY"] = "1"
    own["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # more of them are processes, which outlive a killed worker
    if runtime.isa in TORCH_ISA:
        own["ONEDNN_MAX_CPU_ISA"], own["ATEN_CPU_CAPABILITY"] = TORCH_ISA[runtime.isa]
    return own
