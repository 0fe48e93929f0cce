"""The process that joins a Ray cluster: ``python -m hdapbench.fleet.ray.driver``, asked by `Link`.

One JSON object per line each way. In a process of its own, Ray changes nothing in the one that trains, cannot hang it,
and meets no other connection to a cluster. What is run on boards is pickled with its code, since this is the main
module: boards need Ray, numpy and onnxruntime, and no hdapbench.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MOST_HELD_BYTES = 1 << 30
"""Models kept in the object store; those that were not used for longest are shipped again."""
GRACE_SECONDS = 15.0
"""A board ends a visit that takes too long by itself; one that does not is hung, and the task is cancelled by force.

It also has so much longer to begin: Ray starts a process on it first."""
TURNS = 10
"""A board that another run uses is waited for as long as so many visits may take."""
GONE = "it is not in the cluster"


class VisitError(Exception):
    """A visit failed; the text says why."""


def on_board(words: list[str], names: list[str], contents: list[Any], timeout: float) -> Iterator[Any]:
    """First a sign that the board has begun, then what the command said: its last 16 MiB, and its code."""
    yield "begun"
    import ray

    with tempfile.TemporaryDirectory(prefix="hdapbench-") as folder:
        for name, content in zip(names, ray.get(contents), strict=True):
            Path(folder, name).write_bytes(content)
        command = [sys.executable if word == "{python}" else word for word in words]
        with Path(folder, ".output").open("wb") as output, Path(folder, ".errors").open("wb") as errors:
            try:
                process = subprocess.Popen(  # noqa: S603 - the user's own command, or the runner that ships
                    command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, start_new_session=True
                )
            except OSError as error:
                yield {"error": f"'{command[0]}' cannot be run: {error}"}
                return
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                yield {"error": f"no answer within {timeout:g} s"}
                return
            finally:
                if hasattr(os, "killpg"):
                    with contextlib.suppress(OSError):  # it has ended
                        os.killpg(process.pid, 9)
                process.kill()
                process.wait()
        said = Path(folder, ".output").read_bytes()[-(16 << 20) :].decode(errors="replace")
        last = Path(folder, ".errors").read_bytes()[-2000:].decode(errors="replace").strip().split("\n")[-1]
        yield {"output": said} if code == 0 else {"error": f"'{command[0]}' failed with code {code}: {last[:200]}"}


class Driver:
    """A connection to a cluster."""

    def __init__(self, address: str) -> None:
        import ray

        self.ray = ray
        ray.init(address=address, log_to_driver=False, configure_logging=False, namespace="hdapbench")
        # A process of its own that ends with the task; no CPUs: boards that offer none to others are asked too.
        self.task = ray.remote(num_cpus=0, max_retries=0, max_calls=1)(on_board)
        self.held: OrderedDict[str, tuple[Any, int]] = OrderedDict()

    def boards(self) -> dict[str, Any]:
        """Resources of the cluster."""
        return {"resources": sorted(self.ray.cluster_resources())}

    def visit(self, resource: str, words: list[str], files: dict[str, str], timeout: float) -> dict[str, Any]:
        """What a board said, and the seconds from when it began."""
        contents = [self.shipped(path) for path in files.values()]
        pinned = self.task.options(num_returns="streaming", resources={resource: 1})
        task = pinned.remote(words, list(files), contents, timeout)
        try:
            self.wait_for_turn(task, resource, timeout)
            began = time.monotonic()
            answer = self.next_of(task, timeout + GRACE_SECONDS)
            if "error" in answer:
                raise VisitError(answer["error"])
            return {"output": answer["output"], "seconds": time.monotonic() - began}
        except self.ray.exceptions.RayError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise VisitError(f"the board or its Ray died: {(lines or [type(error).__name__])[-1][:300]}") from None
        finally:
            self.ray.cancel(task, force=True)

    def wait_for_turn(self, task: Any, resource: str, timeout: float) -> None:
        """Wait until the board begins; others may use it first."""
        patience = timeout + GRACE_SECONDS
        deadline = time.monotonic() + TURNS * patience
        free_since = time.monotonic()
        while not self.ready(task, 1.0):
            now = time.monotonic()
            if self.ray.available_resources().get(resource, 0.0) < 1.0:
                if resource not in self.ray.cluster_resources():
                    raise VisitError(GONE)
                free_since = now  # another run's turn
            if now - free_since > patience:
                raise VisitError(f"it began nothing within {patience:g} s")
            if now > deadline:
                raise VisitError(f"another run used it for {TURNS * patience:g} s")
        self.ray.get(next(task))

    def next_of(self, task: Any, timeout: float) -> dict[str, Any]:
        """Next value of a task."""
        if not self.ready(task, timeout):
            raise VisitError(f"no answer within {timeout:g} s: hung")
        answer: dict[str, Any] = self.ray.get(next(task))
        return answer

    def ready(self, task: Any, timeout: float) -> bool:
        """Whether a task has its next value within so many seconds."""
        return bool(self.ray.wait([task], timeout=timeout)[0])

    def shipped(self, path: str) -> Any:
        """Reference to the content of a file in the object store."""
        if path not in self.held:
            content = Path(path).read_bytes()
            self.held[path] = (self.ray.put(content), len(content))
        self.held.move_to_end(path)
        while len(self.held) > 1 and sum(size for _, size in self.held.values()) > MOST_HELD_BYTES:
            self.held.popitem(last=False)
        return self.held[path][0]


def main() -> int:
    """Exit code of the process: it ends when its input does."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    driver: Driver | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            match request.pop("do"):
                case "join":
                    driver = Driver(request["address"])
                    answer = driver.boards()
                case "visit" if driver is not None:
                    answer = driver.visit(**request)
                case _:
                    answer = {"error": "join first"}
        except Exception as error:  # noqa: BLE001 - whatever Ray raises is the parent's to report
            kind = "" if isinstance(error, VisitError) else f"{type(error).__name__}: "
            answer = {"error": f"{kind}{' '.join(str(error).split())[:500]}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
