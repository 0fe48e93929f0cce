"""Boards behind networks of their own: network namespaces of this host, where root allows them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fleet.agent import PORT

AGENT = Path(__file__).with_name("agent.py")
ROOT = Path(__file__).parents[2]
DELAY_MS = 200
"""Of every packet: more than a model takes that a busy machine runs."""
SHAPES = (f"netem delay {DELAY_MS}ms loss 2%", "tbf rate 20mbit burst 16kbit latency 20ms")
"""The second one delays by little, and drops what waits for longer than 20 ms."""


def done(command: str) -> bool:
    return subprocess.run(command.split(), capture_output=True).returncode == 0


class Namespace:
    """A namespace with one link to this host; its board listens there."""

    def __init__(self, number: int, folder: Path, *, share: float = 1.0, kind: str = "honest") -> None:
        mark = f"hb{os.getpid()}n{number}"
        self.namespace, self.link, self.folder = mark, f"{mark}a", folder
        self.server: subprocess.Popen[bytes] | None = None
        block = f"10.{211 + os.getpid() // 250 % 40}.{os.getpid() % 250}"  # other tests may run beside
        self.address = f"{block}.{4 * number + 2}"
        inside = f"ip netns exec {mark}"
        made = all(
            done(command)
            for command in (
                f"ip netns add {mark}",
                f"ip link add {self.link} type veth peer name {mark}b netns {mark}",
                f"ip addr add {block}.{4 * number + 1}/30 dev {self.link}",
                f"ip link set {self.link} up",
                f"{inside} ip addr add {self.address}/30 dev {mark}b",
                f"{inside} ip link set {mark}b up",
            )
        )
        if not made:
            self.close()
            pytest.skip("network namespaces are not allowed here")
        folder.mkdir()
        self.server = subprocess.Popen(
            [*inside.split(), sys.executable, str(AGENT), "serve", self.address, str(folder), str(share), kind],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )

    def wait(self) -> None:
        """Until its board listens."""
        for _ in range(6000):
            assert self.server is not None
            assert self.server.poll() is None, "the board has ended"
            try:
                socket.create_connection((self.address, PORT), timeout=1.0).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise AssertionError(f"the board at {self.address} does not listen")

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


@contextmanager
def namespaces(folder: Path, *boards: tuple[float, str]) -> Iterator[list[Namespace]]:
    """A namespace for each board: its share of a CPU, and what it does."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("network namespaces need root on Linux")
    made: list[Namespace] = []
    try:
        for number, (share, kind) in enumerate(boards):
            made.append(Namespace(number, folder / f"board-{number}", share=share, kind=kind))
        for board in made:
            board.wait()
        yield made
    finally:
        for board in made:
            board.close()
