"""The worker process: ``python -m hdapbench.runtimes.process``, driven by `hdapbench.runtimes.worker.Worker`.

One JSON object per line each way. The first request holds the runtime's settings, later ones load, unload or time a
model. Standard output belongs to the answers; what libraries print there goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

Run = Callable[[], object]


def main() -> int:
    """Exit code of the process: it ends when its input does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    models: dict[str, Run] = {}
    load: Callable[[str], Run] | None = None
    while True:
        request = json.loads(requests.get())
        try:
            answer: dict[str, Any] = {}
            match request["do"]:
                case "start":
                    load = _loader(request["prepare"], request["runtime"], request["cpus"])
                case "load" if load is not None:
                    models[request["key"]] = load(request["path"])
                case "unload":
                    models.pop(request["key"], None)
                case "time":
                    answer["ms"] = time_runs(models[request["key"]], request["runs"])
        except Exception as error:  # noqa: BLE001 - whatever a runtime raises is the parent's to report
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def time_runs(run: Run, runs: int) -> list[float]:
    """Wall time of each of so many runs in ms."""
    found, clock = [], time.perf_counter_ns
    for _ in range(runs):
        started = clock()
        run()
        found.append((clock() - started) / 1e6)
    return found


def _read(requests: queue.SimpleQueue[str]) -> None:
    """Pass lines on. When the parent is gone, so is this process, even in the middle of a run."""
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)


def _loader(prepare: str, runtime: dict[str, Any], cpus: list[int] | None) -> Callable[[str], Run]:
    """Function that loads a file for a runtime; affinity is set before the runtime starts its threads."""
    if cpus is not None and hasattr(os, "sched_setaffinity"):  # elsewhere fleets that ask for it are refused
        os.sched_setaffinity(0, cpus)
    module, _, function = prepare.partition(":")
    load: Callable[[str], Run] = getattr(importlib.import_module(module), function)(runtime)
    return load


if __name__ == "__main__":
    sys.exit(main())
