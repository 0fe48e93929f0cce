"""Boards behind networks that are slow, lose packets and fail."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hdapbench.cost.kernels import KernelModel
from hdapbench.fleet.base import DeviceLostError
from hdapbench.fleet.command.fleet import CommandFleet
from tests.fleet.boards import command_spec
from tests.fleet.namespaces import AGENT, DELAY_MS, Namespace, namespaces
from tests.fleet.test_command_fleet import workloads_that_run

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")


@pytest.fixture
def boards(tmp_path: Path) -> Iterator[list[Namespace]]:
    with namespaces(tmp_path, *[(1.0, "honest")] * 3) as made:
        yield made


def test_boards_behind_a_bad_network_are_measured_as_near_ones_and_one_that_vanishes_is_lost(
    boards: list[Namespace], tmp_path: Path, kernels: KernelModel
) -> None:
    boards[1].shape()
    workloads = workloads_that_run(kernels)
    client = f"{sys.executable} {AGENT}"
    spec = command_spec(
        push=f"{client} push {{at}} {{file}} {{remote}}",
        run=f"{client} run {{at}} {{runner}} --runs {{runs}} {{models}}",
        devices=[
            {"name": name, "at": board.address} for name, board in zip(("near", "far", "gone"), boards, strict=True)
        ],
        rounds=1,
        runs=5,
        drift="keep",  # whether this host has become slower is not the question
    )
    fleet = CommandFleet(spec, cache_dir=tmp_path / "exports")

    samples = fleet.measure(workloads, np.array([0, 1, 2]), runs=5, seed=0)

    assert np.all(samples > 0)
    assert samples[1, 0].min() < DELAY_MS  # the network is in none of them
    assert sorted(path.name for path in boards[1].folder.iterdir()) == sorted(
        p.name for p in boards[0].folder.iterdir()
    )

    boards[2].vanish()
    fleet.spec = spec.model_copy(update={"timeout_seconds": 2.0})
    with pytest.raises(DeviceLostError, match=r"gone is quarantined: (no answer within 2 s|.* failed with code 1)"):
        fleet.measure(workloads, np.array([2]), runs=5, seed=1)
    fleet.spec = spec
    assert set(fleet.quarantined) == {"gone"}
    fleet.measure(workloads, np.array([0]), runs=5, seed=1)
