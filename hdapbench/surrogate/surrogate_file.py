"""Surrogates as .npz files: plain arrays, a version, and a digest of the model that they predict. Never pickle."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hdapbench.cost.kernels import KernelModel
from hdapbench.errors import SurrogateError
from hdapbench.surrogate.base import Surrogate
from hdapbench.surrogate.kinds import KINDS

FORMAT = "hdapbench-surrogate"
VERSION = 1
_HEAD = ("format", "version", "kind", "model", "weights", "n_plans")


def save_surrogate(path: Path, surrogate: Surrogate) -> None:
    """Write a surrogate to a file; `load_surrogate` gives the same predictions.

    Raises
    ------
    SurrogateError
        When the file cannot be written.
    """
    head = {
        "format": np.array(FORMAT),
        "version": np.array(VERSION),
        "kind": np.array(surrogate.kind),
        "model": np.array(model_digest(surrogate.kernels)),
        "weights": surrogate.weights,
        "n_plans": np.array(surrogate.n_plans),
    }
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **head, **surrogate.arrays())
        partial.replace(path)
    except OSError as error:
        raise SurrogateError(f"{path}: the surrogate cannot be written: {error.strerror or error}") from error


def load_surrogate(path: Path, kernels: KernelModel) -> Surrogate:
    """Surrogate of a file, for the model that it was fitted for.

    Parameters
    ----------
    kernels
        Fused kernels of that model.

    Raises
    ------
    SurrogateError
        When the file is absent, no surrogate, of another version or kind, of another model, or damaged.
    """
    arrays = _read(path)
    missing = [name for name in _HEAD if name not in arrays]
    if missing or str(arrays["format"]) != FORMAT:
        raise SurrogateError(f"{path}: not a surrogate that hdapbench saved")
    if int(arrays["version"]) != VERSION:
        raise SurrogateError(
            f"{path}: version {int(arrays['version'])} of the format; this release reads {VERSION}. Fit it anew"
        )
    kind = str(arrays["kind"])
    if kind not in KINDS:
        raise SurrogateError(f"{path}: unknown surrogate '{kind}'; known: {', '.join(KINDS)}")
    if str(arrays["model"]) != model_digest(kernels):
        raise SurrogateError(f"{path}: the surrogate predicts another model than the one given")
    rest = {name: values for name, values in arrays.items() if name not in _HEAD}
    try:
        return KINDS[kind].from_arrays(kernels, arrays["weights"], int(arrays["n_plans"]), rest)
    except KeyError as error:
        raise SurrogateError(f"{path}: damaged, {error} is missing") from error


def model_digest(kernels: KernelModel) -> str:
    """Digest of everything about a model that latency depends on: groups, sizes, kernels; 16 hex digits."""
    digest = hashlib.sha256("\0".join(kernels.groups).encode())
    widths = np.stack([kernels.sizes, *np.eye(len(kernels.sizes), dtype=np.int64)])
    taken, made = kernels.channels(widths)  # what the dense model has, and what each group adds
    for values in (kernels.sizes, taken, made, *kernels.table.values()):
        digest.update(np.ascontiguousarray(values).astype("U" if values.dtype.kind == "U" else "<i8").tobytes())
    return digest.hexdigest()[:16]


def _read(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except FileNotFoundError as error:
        raise SurrogateError(f"{path}: no such file") from error
    except (OSError, ValueError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise SurrogateError(f"{path}: not a surrogate that hdapbench saved ({error})") from error
