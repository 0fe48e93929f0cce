from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from hdapbench.errors import RuntimeLostError, RuntimeRefusedError
from hdapbench.runtimes.onnx_file import write_onnx
from hdapbench.runtimes.program_file import write_model
from hdapbench.runtimes.worker import Worker
from hdapbench.spec import RuntimeSpec
from hdapbench.testing.runtime_contract import RuntimeContract
from tests.prune.small_networks import Depthwise, seeded

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

ONNXRUNTIME = RuntimeSpec()
SHAPE = (3, 8, 8)


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))


@pytest.fixture(scope="module")
def onnx_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "small.onnx"
    write_onnx(small_model(), SHAPE, path)
    return path


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


class TestOnnxruntime(RuntimeContract):
    @pytest.fixture
    def runtime(self) -> RuntimeSpec:
        return ONNXRUNTIME


class TestEager(RuntimeContract):
    @pytest.fixture
    def runtime(self) -> RuntimeSpec:
        return RuntimeSpec(runtime="eager")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_worker_times_a_torch_model_in_each_precision(precision, tmp_path):
    """Also a model whose class the worker cannot import: the file holds operations, no code."""
    runtime = RuntimeSpec(runtime="eager", precision=precision, batch=2, boundary="end_to_end")
    write_model(seeded(Depthwise), SHAPE, tmp_path / "small.pt2", runtime=runtime)

    with Worker(runtime) as worker:
        worker.load("small", tmp_path / "small.pt2")
        found = worker.time("small", 3)

    assert (found > 0).all()


def test_a_worker_on_onnxruntime_imports_no_torch(onnx_path):
    with Worker(ONNXRUNTIME) as worker:
        worker.load("small", onnx_path)
        mapped = Path(f"/proc/{worker.pid}/maps").read_text()

    assert "onnxruntime" in mapped
    assert "libtorch" not in mapped


def test_a_worker_runs_on_the_processors_and_threads_that_it_was_given(onnx_path, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")  # as trainings have it
    some = min(os.sched_getaffinity(0))

    with Worker(RuntimeSpec(threads=1), cpus=(some,)) as worker:
        assert os.sched_getaffinity(worker.pid) == {some}
        environment = Path(f"/proc/{worker.pid}/environ").read_bytes().split(b"\0")

    assert b"OMP_NUM_THREADS=1" in environment
    assert b"ORT_DISABLE_TELEMETRY=1" in environment
    assert not any(variable.startswith(b"OMP_WAIT_POLICY=") for variable in environment)


def test_processors_that_are_not_there_are_refused_in_words():
    with pytest.raises(RuntimeRefusedError, match=r"device 3.*cannot start"):
        Worker(ONNXRUNTIME, cpus=(4095,), name="device 3")


def test_a_worker_that_is_killed_is_reported_with_its_name_and_exit_code(onnx_path):
    with Worker(ONNXRUNTIME, name="device 3") as worker:
        worker.load("small", onnx_path)
        os.kill(worker.pid, signal.SIGKILL)

        with pytest.raises(RuntimeLostError, match=r"'device 3' died \(exit code -9\)") as caught:
            worker.time("small", 10)

    assert caught.value.exit_code == -9


def test_a_worker_that_hangs_is_ended_after_the_timeout(onnx_path):
    with Worker(ONNXRUNTIME, name="device 3", timeout=0.2) as worker:
        os.kill(worker.pid, signal.SIGSTOP)

        with pytest.raises(RuntimeLostError, match=r"no answer for 0\.2 s"):
            worker.time("small", 1)

        assert not is_alive(worker.pid)


def test_what_a_dying_worker_said_is_in_the_error(tmp_path, monkeypatch):
    broken = tmp_path / "onnxruntime.py"
    broken.write_text("import os, sys\nprint('no luck today', file=sys.stderr, flush=True)\nos._exit(3)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    with pytest.raises(RuntimeLostError, match=r"exit code 3.*no luck today"):
        Worker(ONNXRUNTIME)


def test_closing_leaves_no_process_even_when_it_is_stopped():
    worker = Worker(ONNXRUNTIME)
    os.kill(worker.pid, signal.SIGSTOP)

    worker.close()
    worker.close()

    assert not is_alive(worker.pid)
    with pytest.raises(RuntimeLostError, match="was closed"):
        worker.time("small", 1)


def test_a_worker_ends_when_its_parent_is_killed():
    code = (
        "import sys, time\n"
        "from hdapbench.runtimes.worker import Worker\n"
        "from hdapbench.spec import RuntimeSpec\n"
        "print(Worker(RuntimeSpec()).pid, flush=True)\n"
        "time.sleep(3600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    watch = os.pidfd_open(pid)

    parent.kill()
    parent.communicate()

    assert poll_end(watch)


def poll_end(watch: int) -> bool:
    """Whether a process ends."""
    import select

    try:
        return bool(select.select([watch], [], [], 300)[0])
    finally:
        os.close(watch)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "bf16"}, "take runtime: eager"),
        ({"isa": "avx2"}, "no switch for isa"),
        ({"runtime": "eager", "graph_optimization": "none"}, "graph_optimization is onnxruntime's"),
        ({"runtime": "eager", "precision": "bf16", "isa": "sse41"}, "no bf16 instructions"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RuntimeSpec(**settings)


def test_a_runtime_names_what_differs():
    assert RuntimeSpec().text == "onnxruntime, 1 thread, batch 1, fp32, engine"
    assert RuntimeSpec(runtime="eager", threads=2, isa="sse41").text.endswith("2 threads, batch 1, fp32, engine, sse41")
