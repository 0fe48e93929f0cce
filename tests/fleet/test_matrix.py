"""The file that `hdapbench fleet measure` fills: rows are added whole, and damaged ones are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hdapbench.errors import FleetError
from hdapbench.fleet.recorded.fleet import RecordedFleet
from hdapbench.fleet.recorded.matrix import LatencyMatrix
from hdapbench.spec import RecordedFleetSpec

SAMPLES = np.arange(1.0, 13.0).reshape(2, 2, 3)


def test_what_is_added_is_a_recorded_fleet_also_where_names_hold_commas_and_quotes(tmp_path: Path) -> None:
    matrix = LatencyMatrix(tmp_path / "lab.csv")
    matrix.append(["rack 1, left", 'the "old" one'], ["dense", "thin"], SAMPLES)
    matrix.append(["001"], ["dense"], SAMPLES[:1, :1])

    fleet = RecordedFleet(RecordedFleetSpec(name="lab", kind="recorded", path=str(matrix.path)))

    assert fleet.device_ids == ("001", "rack 1, left", 'the "old" one')
    np.testing.assert_array_equal(fleet.medians_ms("dense"), [2, 2, 8])
    assert matrix.measured() == {(name, "dense") for name in fleet.device_ids} | {
        (name, "thin") for name in fleet.device_ids[1:]
    }


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the rows stayed, the last one cut, and the next ones were glued to it."""
    matrix = LatencyMatrix(tmp_path / "lab.csv")
    matrix.append(["a"], ["dense", "thin"], SAMPLES[:1])
    before = matrix.path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        matrix.append(["b"], ["dense", "thin"], SAMPLES[1:])

    assert matrix.path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [matrix.path]


@pytest.mark.parametrize(
    ("rows", "line"),
    [("a,dense,0,1.5\na,dense,1,0.02", 3), ("a,dense,0,1.5\na,dense\n", 3), ("a,dense,0,0.02b,dense,0,1\n", 2)],
)
def test_a_row_that_was_cut_or_glued_is_named_and_nothing_is_added(tmp_path: Path, rows: str, line: int) -> None:
    matrix = LatencyMatrix(tmp_path / "lab.csv")
    matrix.path.write_text("device,plan,sample,latency_ms\n" + rows)

    with pytest.raises(FleetError, match=f"line {line} is no whole row .* remove it, and the same command measures"):
        matrix.measured()
