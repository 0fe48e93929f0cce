"""Trials on a Ray cluster of three nodes on this machine, one of which is lost while a trial runs on it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hdapbench.cli.main import main
from hdapbench.errors import ExecutorError
from hdapbench.executor import choose, on_ray
from hdapbench.executor.luggage import packed
from hdapbench.executor.message import Order
from hdapbench.spec import load
from tests.executor.test_processes import INTERRUPTIBLE
from tests.ray_cluster import ray_cluster

SLOW = """\
import os
import time
from pathlib import Path

from hdapbench.method import Method


class Slow(Method):
    name = "slow"

    def compress(self, problem):
        begun = Path({begun!r})
        if not begun.exists():
            partial = begun.with_suffix(".part")
            partial.write_text(str(os.getppid()))
            partial.rename(begun)
            time.sleep(3600)
        return problem.plan_by_scores(problem.importance("l2"))
"""


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    """Folder for what hosts keep on their nodes, of this test alone."""
    (tmp_path / "hosts").mkdir()
    return tmp_path / "hosts"


@pytest.fixture
def cluster(hosts: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes for trials beside a head that has no processor."""
    monkeypatch.setenv("TMPDIR", str(hosts))
    monkeypatch.setattr(on_ray, "END_SECONDS", 300.0)
    with ray_cluster() as found:
        for _ in range(2):
            found.add_node(num_cpus=1)
        yield found


@pytest.mark.filterwarnings("ignore")
def test_the_board_of_three_nodes_of_which_one_is_lost_is_that_of_one_process(
    spec: Path, cluster: Any, hosts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = Path("begun").absolute()
    Path("slow.py").write_text(SLOW.format(begun=str(begun)))
    options = ["--method", "./slow.py", "--target", "0.5x"]

    def lose() -> None:
        while not begun.exists():
            time.sleep(0.1)
        host = Path("/proc", begun.read_text(), "stat").read_text()
        node = int(host.rpartition(")")[2].split()[1])  # the parent of the host's process
        os.kill(node, signal.SIGKILL)

    thread = threading.Thread(target=lose)
    thread.start()
    code = main(
        ["run", "tiny.yaml", *options, "--address", cluster.address, "--workspace", "ray", "--output", "ray.md"]
    )
    thread.join()
    told = capsys.readouterr().err
    main(["run", "tiny.yaml", *options, "--quiet", "--executor", "inline", "--workspace", "one", "--output", "one.md"])

    assert code == 0
    assert "was lost; it is done again" in told
    assert Path("ray.md").read_text() == Path("one.md").read_text()
    for artifact in Path("one/artifacts").iterdir():
        for name in ("plan.json", "description.json"):
            assert (Path("ray/artifacts") / artifact.name / name).read_bytes() == (artifact / name).read_bytes()
    left = [mark.name for mark in hosts.glob("hdapbench-ray-*/.*-host")]
    assert all(name.startswith(f".{begun.read_text()}@") for name in left), "the lost host alone left its mark"


@pytest.mark.filterwarnings("ignore")
def test_an_interrupt_ends_what_runs_on_the_cluster_and_the_run_goes_on_later(
    spec: Path, cluster: Any, hosts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = Path("begun").absolute()
    Path("slow.py").write_text(SLOW.format(begun=str(begun)))
    options = ["tiny.yaml", "--method", "./slow.py", "--target", "0.5x", "--address", cluster.address]

    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, "run", *options], stderr=subprocess.PIPE, text=True
    ) as run:
        while not begun.exists():
            assert run.poll() is None
            time.sleep(0.1)
        os.kill(run.pid, signal.SIGINT)
        assert run.stderr is not None
        told = run.stderr.read()

    assert run.returncode == 130
    assert "trials are stored; go on with: hdapbench run tiny.yaml" in told
    assert "Traceback" not in told
    host, last = Path("/proc", begun.read_text()), time.monotonic() + 300
    while host.exists() and time.monotonic() < last:
        time.sleep(0.1)
    assert not host.exists()
    assert main(["run", *options]) == 0


def test_a_cluster_that_is_not_there_is_said_before_anything_is_spent() -> None:
    with pytest.raises(ExecutorError, match=r"no executor is called 'rya'; known: inline, process, ray"):
        choose.chosen("rya")
    with pytest.raises(ExecutorError, match=r"10\.0\.0\.1:6379 is for --executor ray"):
        choose.chosen("process", address="10.0.0.1:6379")


def test_what_travels_are_the_files_beside_the_spec_and_methods_from_elsewhere(
    spec: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "mine.py"
    elsewhere.write_text("MINE = 1\n")
    for name in (".git/x", "leaderboards/x", "work/cache/x", "data/x"):
        Path(name).parent.mkdir(parents=True)
        Path(name).write_text(name)
    order = Order(load("tiny.yaml"), (elsewhere,), {}, Path("work").resolve(), ())

    luggage = packed(order)
    there = luggage.unpacked(spec.parent / "there", sys.path)

    assert sorted(luggage.files) == ["methods/0/mine.py", "spec/data/x", "spec/net.py", "spec/tiny.yaml"]
    assert [path.read_text() for path in there.added] == ["MINE = 1\n"]  # type: ignore[union-attr]
    assert Path(there.loaded.source).read_text() == spec.read_text()


def test_a_folder_too_large_to_travel_is_refused(spec: Path) -> None:
    with Path("images.bin").open("wb") as stream:
        os.truncate(stream.fileno(), 200_000_000)

    with pytest.raises(ExecutorError, match=r"holds 200 MB and travels to the cluster, at most 100 MB"):
        packed(Order(load("tiny.yaml"), (), {}, Path(".hdapbench").resolve(), ()))
