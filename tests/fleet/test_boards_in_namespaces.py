"""Boards behind networks that are slow, lose packets and fail: network namespaces of this host, where root allows them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hdapbench.cost.kernels import KernelModel
from hdapbench.fleet.base import DeviceLostError
from hdapbench.fleet.command.fleet import CommandFleet
from tests.fleet.boards import command_spec
from tests.fleet.test_command_fleet import workloads_that_run

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

AGENT = Path(__file__).with_name("agent.py")
SHAPES = ("netem delay 20ms loss 2%", "tbf rate 20mbit burst 16kbit latency 20ms")
"""The second one delays, and drops what waits for longer than 20 ms."""


def done(command: str) -> bool:
    return subprocess.run(command.split(), capture_output=True).returncode == 0


class Namespace:
    """A namespace with one link to this host; its board listens there."""

    def __init__(self, number: int, folder: Path) -> None:
        mark = f"hb{os.getpid() % 100000}{number}"
        self.namespace, self.link, self.folder = mark, f"{mark}a", folder
        self.server: subprocess.Popen[bytes] | None = None
        block = f"10.211.{os.getpid() % 200}"
        self.address = f"{block}.{4 * number + 2}"
        made = done(f"ip netns add {mark}") and done(
            f"ip link add {self.link} type veth peer name {mark}b netns {mark}"
        )
        made = (
            made
            and done(f"ip addr add {block}.{4 * number + 1}/30 dev {self.link}")
            and done(f"ip link set {self.link} up")
        )
        inside = f"ip netns exec {mark}"
        made = (
            made
            and done(f"{inside} ip addr add {self.address}/30 dev {mark}b")
            and done(f"{inside} ip link set {mark}b up")
        )
        if not made:
            self.close()
            pytest.skip("network namespaces are not allowed here")
        folder.mkdir()
        self.server = subprocess.Popen(
            [*inside.split(), sys.executable, str(AGENT), "serve", self.address, str(folder)]
        )

    def shape(self) -> None:
        if not any(done(f"tc qdisc replace dev {self.link} root {shape}") for shape in SHAPES):
            pytest.skip("tc shapes no links here")

    def vanish(self) -> None:
        assert done(f"ip netns exec {self.namespace} ip link set {self.namespace}b down")

    def close(self) -> None:
        if self.server is not None:
            self.server.kill()
            self.server.wait()
        done(f"ip link del {self.link}")
        done(f"ip netns del {self.namespace}")


@pytest.fixture
def boards(tmp_path: Path) -> Iterator[list[Namespace]]:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("network namespaces need root on Linux")
    made: list[Namespace] = []
    try:
        made.extend(Namespace(number, tmp_path / str(number)) for number in range(3))
        time.sleep(1.0)
        yield made
    finally:
        for board in made:
            board.close()


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
        timeout_seconds=20.0,
        rounds=1,
        runs=5,
        drift="keep",  # whether this host has become slower is not the question
    )
    fleet = CommandFleet(spec, cache_dir=tmp_path / "exports")

    samples = fleet.measure(workloads, np.array([0, 1, 2]), runs=5, seed=0)

    assert np.all(samples > 0)
    assert samples[1, 0].min() < 20.0  # the network is in none of them
    assert sorted(path.name for path in boards[1].folder.iterdir()) == sorted(
        p.name for p in boards[0].folder.iterdir()
    )

    boards[2].vanish()
    fleet.spec = spec.model_copy(update={"timeout_seconds": 2.0})
    with pytest.raises(DeviceLostError, match=r"gone is quarantined: (no answer within 2 s|.* failed with code 1)"):
        fleet.measure(workloads, np.array([0, 1, 2]), runs=5, seed=1)
    assert set(fleet.quarantined) == {"gone"}
    fleet.measure(workloads, np.array([0]), runs=5, seed=1)
