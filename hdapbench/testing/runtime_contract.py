"""What any runtime must do, as a test suite: subclass `RuntimeContract` and return its spec from the fixture."""

from __future__ import annotations

from pathlib import Path

import pytest

from hdapbench.errors import RuntimeRefusedError
from hdapbench.runtimes.base import find_runtime
from hdapbench.runtimes.program_file import write_model
from hdapbench.runtimes.worker import Worker
from hdapbench.spec import RuntimeSpec
from hdapbench.testing import models


class RuntimeContract:
    """Tests that every runtime passes. A subclass overrides the fixture `runtime`."""

    @pytest.fixture
    def runtime(self) -> RuntimeSpec:
        """Spec that names the runtime, at batch 1."""
        raise NotImplementedError("override the fixture `runtime` to return its spec")

    @pytest.fixture
    def model_file(self, runtime: RuntimeSpec, tmp_path: Path) -> Path:
        """File of a tiny model, as the runtime loads it."""
        path = tmp_path / f"tiny{find_runtime(runtime.runtime).suffix}"
        write_model(models.build("plain", n_classes=3), (3, 8, 8), path, runtime=runtime)
        return path

    @pytest.mark.parametrize("boundary", ["engine", "copies", "end_to_end"])
    def test_every_run_is_timed_within_each_boundary(
        self, boundary: str, runtime: RuntimeSpec, model_file: Path
    ) -> None:
        """Times are those of single runs, and differ."""
        with Worker(runtime.model_copy(update={"boundary": boundary})) as worker:
            worker.load("tiny", model_file)
            found = worker.time("tiny", 7)

        assert found.shape == (7,)
        assert (found > 0).all()
        assert len(set(found)) > 1

    def test_a_file_that_is_no_model_is_refused_and_the_worker_goes_on(
        self, runtime: RuntimeSpec, model_file: Path
    ) -> None:
        """The error names worker and model."""
        bad = model_file.with_name(f"bad{model_file.suffix}")
        bad.write_bytes(b"not a model")

        with Worker(runtime, name="device 3") as worker:
            with pytest.raises(RuntimeRefusedError, match=r"device 3 .*cannot load with 'bad'"):
                worker.load("bad", bad)
            with pytest.raises(RuntimeRefusedError, match="cannot time with 'bad'"):
                worker.time("bad", 1)
            worker.load("tiny", model_file)
            assert len(worker.time("tiny", 2)) == 2

    def test_a_file_for_another_batch_is_refused(self, runtime: RuntimeSpec, model_file: Path) -> None:
        """Times of another batch would be taken for those of this one."""
        with (
            Worker(runtime.model_copy(update={"batch": 4})) as worker,
            pytest.raises(RuntimeRefusedError, match="batches of 1"),
        ):
            worker.load("tiny", model_file)

    def test_an_unloaded_model_is_forgotten(self, runtime: RuntimeSpec, model_file: Path) -> None:
        """One that was never there too."""
        with Worker(runtime) as worker:
            worker.load("tiny", model_file)
            worker.unload("tiny")
            worker.unload("never there")

            with pytest.raises(RuntimeRefusedError):
                worker.time("tiny", 1)
