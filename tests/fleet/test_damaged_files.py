"""Files of fleets that were damaged or made by something else: a line that says so, never another error."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from hdapbench.cost.kernel_file import kernels_from_dict, kernels_to_dict
from hdapbench.cost.kernels import KernelModel
from hdapbench.errors import FleetError
from hdapbench.fleet.fingerprint import Fingerprint, load_fingerprint, save_fingerprint
from hdapbench.fleet.recorded.matrix import LatencyMatrix

ODD = (None, True, -1, 1e300, 2**70, "text", "nan", [], {}, [1, [2]], {"a": {}})


def parts(values: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values inside plain values."""
    inner = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [path, *(found for key, value in inner for found in parts(value, (*path, key)))]


def changed(values: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    made = copy.deepcopy(values)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return made


def test_kernels_with_any_value_changed_are_kernels_or_refused(kernels: KernelModel) -> None:
    few = KernelModel(kernels.groups, kernels.sizes, kernels.kernels[:3])
    values = kernels_to_dict(few, with_blocks=True)
    assert kernels_from_dict(json.loads(json.dumps(values))).digest == few.digest

    refused = 0
    for path in parts(values):
        for odd in ODD:
            try:
                found = kernels_from_dict(changed(values, path, odd))
            except FleetError:
                refused += 1
            else:
                assert len(found.digest) == 16
    assert refused > 0.5 * len(parts(values)) * len(ODD)


def test_descriptions_of_plans_with_any_value_changed_are_read_or_refused(tmp_path: Path, kernels: KernelModel) -> None:
    matrix = LatencyMatrix(tmp_path / "lab.csv")
    few = KernelModel(kernels.groups, kernels.sizes, kernels.kernels[:1])
    matrix.describe("net", {"name": "net"}, few, {"dense": kernels.sizes})
    values = json.loads(matrix.plans_path.read_text())

    for path in parts(values):
        for odd in ODD:
            matrix.plans_path.write_text(json.dumps(changed(values, path, odd)))
            with suppress(FleetError):
                matrix.known_plans()
    matrix.plans_path.write_text("[" * 100_000)
    with pytest.raises(FleetError, match=r"lab\.plans\.json' is not what"):
        matrix.known_plans()


def test_fingerprints_with_any_note_changed_are_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "fingerprint.parquet"
    save_fingerprint(Fingerprint(np.full((3, 2), 4.0), ("a", "b"), ("x", "y", "z"), 5, weights=np.full(3, 1 / 3)), path)
    about = json.loads(pl.read_parquet_metadata(path)["hdapbench"])
    frame = pl.read_parquet(path)

    for place in parts(about):
        for odd in ODD:
            frame.write_parquet(path, metadata={"hdapbench": json.dumps(changed(about, place, odd))})
            with suppress(FleetError):
                assert load_fingerprint(path).n_devices == 3
    for other in (frame.drop("device"), frame.drop("weight").with_columns(weight=pl.lit("x"))):
        other.write_parquet(path, metadata={"hdapbench": json.dumps(about)})
        with pytest.raises(FleetError, match="is not a fingerprint"):
            load_fingerprint(path)


def test_fingerprints_cut_anywhere_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "fingerprint.parquet"
    save_fingerprint(Fingerprint(np.full((3, 2), 4.0), ("a", "b"), ("x", "y", "z"), 5), path)
    content = path.read_bytes()

    for size in range(0, len(content), 97):
        path.write_bytes(content[:size])
        with pytest.raises(FleetError, match="is not a fingerprint"):
            load_fingerprint(path)
