"""Model files of workloads: each exported once, named by content, the oldest removed when they take too much room."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hdapbench.errors import FleetError
from hdapbench.files import is_left_over, process_mark, replacing
from hdapbench.fleet.base import Workloads
from hdapbench.runtimes.base import find_runtime
from hdapbench.spec import RuntimeSpec

if TYPE_CHECKING:
    from torch import nn

MOST_BYTES = 4 << 30
REFERENCE = "reference"
REFERENCE_SHAPE = (64, 56, 56)
REFERENCE_LAYERS = 4
REFERENCE_MACS = REFERENCE_LAYERS * 9 * REFERENCE_SHAPE[0] ** 2 * REFERENCE_SHAPE[1] * REFERENCE_SHAPE[2]


_SCRATCH = "hdapbench-exports-"


def scratch_folder() -> Path:
    """A new folder for model files that are kept nowhere else; those of processes that died are removed."""
    for left in Path(tempfile.gettempdir()).glob(f".*-{_SCRATCH}*"):
        if is_left_over(left):
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{process_mark()}{_SCRATCH}"))


class ExportedModels:
    """Model files in a folder.

    Parameters
    ----------
    directory
        Made when the first file is written.
    most_bytes
        Of all files together; those that were not used for longest go first.
    """

    def __init__(self, directory: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self.directory, self._most_bytes = directory, most_bytes

    def file(self, workloads: Workloads, position: int, runtime: RuntimeSpec) -> Path:
        """File of one workload for a runtime, built and exported when there is none yet.

        Raises
        ------
        FleetError
            When the workloads do not say how they are built.
        """
        variants = workloads.variants
        if variants is None:
            raise FleetError("these workloads have no models to run; devices that run them need Workloads.variants")
        widths = np.asarray(workloads.widths[position], dtype=np.int64)
        about = (variants.model_id, workloads.kernels.digest, variants.input_shape, widths.tolist())
        path = self._path(repr(about), runtime)
        if path.exists():
            os.utime(path)
        else:
            self._write(variants.build(widths), variants.input_shape, path, runtime)
        return path

    def reference(self, runtime: RuntimeSpec) -> Path:
        """File of the fixed network by which drift is told."""
        path = self._path(f"{REFERENCE} {REFERENCE_SHAPE} {REFERENCE_LAYERS}", runtime)
        if not path.exists():
            self._write(_reference_network(), REFERENCE_SHAPE, path, runtime)
        return path

    def trim(self, keep: Collection[Path]) -> None:
        """Remove the files that were not used for longest, until the others take no more room than allowed."""
        files = sorted(self.directory.glob("*.*"), key=lambda path: path.stat().st_mtime)
        total = sum(path.stat().st_size for path in files)
        for path in files:
            if total <= self._most_bytes:
                return
            if path not in keep:
                total -= path.stat().st_size
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()

    def _path(self, about: str, runtime: RuntimeSpec) -> Path:
        settings = (runtime.batch, runtime.precision)
        name = hashlib.sha256(f"{about} {settings}".encode()).hexdigest()[:24]
        return self.directory / f"{name}{find_runtime(runtime.runtime).suffix}"

    def _write(self, model: nn.Module, shape: tuple[int, int, int], path: Path, runtime: RuntimeSpec) -> None:
        import torch

        from hdapbench.runtimes.program_file import write_model

        n_threads = torch.get_num_threads()
        # A model's few forward passes on all CPUs wait for whoever keeps one of them busy: 16 s instead of 2.
        torch.set_num_threads(1)
        try:
            with replacing(path) as partial:
                write_model(model, shape, partial, runtime=runtime)
        finally:
            torch.set_num_threads(n_threads)


def _reference_network() -> nn.Module:
    """Some milliseconds of 3x3 convolutions, the same in all versions of this package."""
    import torch
    from torch import nn

    channels = REFERENCE_SHAPE[0]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(REFERENCE_LAYERS)]
    return nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())]).eval()
