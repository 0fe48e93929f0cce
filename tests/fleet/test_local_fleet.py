"""Local fleets: what their specs refuse, how sessions go with stand-in workers, and real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import yaml
from pydantic import TypeAdapter, ValidationError

from hdapbench.arrays import Floats
from hdapbench.bench.network import Network, trace
from hdapbench.errors import FleetError, RuntimeLostError
from hdapbench.fleet.base import DeviceLostError, Workloads
from hdapbench.fleet.exports import ExportedModels, scratch_folder
from hdapbench.fleet.local import fleet as local
from hdapbench.fleet.local.cpu_share import StopAndGo, limit_cpu, means_of_limiting
from hdapbench.fleet.local.device import LocalDevice, devices_of
from hdapbench.fleet.local.fleet import LocalFleet
from hdapbench.fleet.local.hog import Hog
from hdapbench.fleet.open import open_fleet
from hdapbench.spec import AnyFleetSpec, LocalDeviceSpec, LocalFleetSpec, RuntimeSpec
from hdapbench.testing import models as testing_models


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return trace(testing_models.build("plain", n_classes=3).eval(), (3, 16, 16))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


def two_widths(network: Network) -> Workloads:
    sizes = network.cost.sizes
    return network.workloads(np.stack([sizes, np.maximum(sizes // 2, 1)]))


def fleet_spec(**changes: Any) -> LocalFleetSpec:
    values: dict[str, Any] = {"name": "here", "kind": "local", "devices": [{"name": "a"}, {"name": "b"}]}
    return LocalFleetSpec.model_validate(values | changes)


class StandIn:
    """A worker whose times are known: the size of the file, times a factor per device."""

    log: ClassVar[list[tuple[str, str, int]]] = []
    dies: ClassVar[str | None] = None

    def __init__(self, runtime: RuntimeSpec, *, cpus: tuple[int, ...] | None, name: str) -> None:
        self.name, self.closed = name, False
        self.runtime, self.cpus = runtime, cpus
        self.files: dict[str, Path] = {}

    @property
    def pid(self) -> int:
        return os.getpid()

    def load(self, key: str, path: Path) -> None:
        self.files[key] = path

    def unload(self, key: str) -> None:
        del self.files[key]

    def time(self, key: str, runs: int) -> Floats:
        if StandIn.dies == self.name:
            raise RuntimeLostError(self.name, "died")
        StandIn.log.append((self.name, key, runs))
        factor = 2.0 if self.name == "b" else 1.0
        return np.full(runs, factor * self.files[key].stat().st_size / 1e4)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[StandIn]]:
    monkeypatch.setattr(StandIn, "log", [])
    monkeypatch.setattr(StandIn, "dies", None)
    monkeypatch.setattr(local, "ForeignLoad", lambda _: Loaded(0.0))
    return StandIn


class Loaded:
    """A meter that always reads the same."""

    def __init__(self, cores: float | None) -> None:
        self._cores = cores

    def cores(self) -> float | None:
        return self._cores


# Specs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"devices": None}, "lists its devices, or has n_devices and mix"),
        ({"n_devices": 3}, "lists its devices, or has n_devices and mix"),
        ({"devices": []}, "needs at least one"),
        ({"devices": [{"name": "a"}, {"name": "a"}]}, r"devices names \['a'\] twice"),
        ({"devices": [{"name": "a", "cpu_share": 0.0}]}, "greater than or equal to 0.05"),
        ({"devices": [{"name": "a", "cpus": [0], "runtime": {"threads": 2}}]}, "2 threads do not fit on 1"),
        ({"devices": [{"name": "a", "cpus": [1, 1]}]}, "names one twice"),
        ({"devices": None, "n_devices": 3, "mix": [{"name": "a", "share": 0.5}]}, "sum to 0.5, not 1"),
        (
            {"devices": None, "n_devices": 3, "mix": [{"name": "a", "share": 1.0, "cpu_share": [0.9, 0.5]}]},
            "is the least and exceeds",
        ),
    ],
)
def test_a_local_fleet_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        fleet_spec(**changes)


def test_a_mix_gives_the_same_devices_again_in_the_declared_shares() -> None:
    mix = [
        {"name": "quick", "share": 0.6},
        {"name": "slow", "share": 0.4, "cpu_share": [0.2, 0.9], "runtime": {"graph_optimization": "none"}},
    ]
    spec = fleet_spec(devices=None, n_devices=7, mix=mix, seed=3)

    devices = devices_of(spec)

    names = [*(f"quick-{number}" for number in range(4)), *(f"slow-{number}" for number in range(3))]
    assert [device.name for device in devices] == names
    assert devices == devices_of(spec)
    shares = {device.cpu_share for device in devices if device.name.startswith("slow")}
    assert len(shares) == 3
    assert all(0.2 <= share <= 0.9 for share in shares)
    assert devices_of(fleet_spec(devices=None, n_devices=4, mix=mix, seed=3))[2] == devices[4]


def test_threads_on_all_cpus_missing_cpus_and_too_many_hogs_are_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local, "usable_cpus", lambda: (0, 1, 2, 3))
    devices = [
        {"name": "a", "runtime": {"threads": 4}},
        {"name": "b", "cpus": [7]},
        {"name": "c", "memory_hogs": 4},
        {"name": "d", "runtime": {"threads": 3}},
    ]

    with pytest.raises(FleetError) as caught:
        LocalFleet(fleet_spec(devices=devices))

    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "4 threads on 4 CPUs; leave at least one free" in lines[0]
    assert "there are no CPUs [7]" in lines[1]
    assert "4 hogs on 4 CPUs" in lines[2]


# Sessions


def test_repeats_are_spread_over_rounds_that_visit_each_device_once(
    network: Network, cache: Path, stand_in: type[StandIn]
) -> None:
    with LocalFleet(fleet_spec(rounds=2), cache_dir=cache, start=stand_in) as fleet:
        samples = fleet.measure(two_widths(network), np.array([0, 1]), runs=5, seed=1)

    assert samples.shape == (2, 2, 5)
    np.testing.assert_allclose(samples[1], 2 * samples[0])
    assert (samples[0, 0] > samples[0, 1]).all()
    timed = [(name, key, runs) for name, key, runs in stand_in.log if key != "reference" and runs > 2]
    assert sorted(timed) == sorted((name, key, runs) for name in "ab" for key in "01" for runs in (3, 4))
    visits = [name for position, (name, *_) in enumerate(timed) if position % 2 == 0]
    assert sorted(visits[:2]) == sorted(visits[2:]) == ["a", "b"]


def test_one_session_asks_in_the_same_order_again_and_another_in_another(
    network: Network, cache: Path, stand_in: type[StandIn]
) -> None:
    orders = []
    devices = [{"name": name} for name in "abcdefgh"]
    for seed in (1, 1, 2):
        stand_in.log.clear()
        with LocalFleet(fleet_spec(rounds=1, devices=devices), cache_dir=cache, start=stand_in) as fleet:
            fleet.measure(two_widths(network), np.arange(8), runs=3, seed=seed)
        orders.append([name for name, key, _ in stand_in.log if key == "reference"])

    assert orders[0] == orders[1]
    assert orders[0] != orders[2]


@pytest.mark.parametrize(("drift", "factor"), [("divide", 1.0), ("keep", 3.0)])
def test_a_host_that_became_slower_is_told_by_the_reference(
    network: Network, cache: Path, stand_in: type[StandIn], monkeypatch: pytest.MonkeyPatch, drift: str, factor: float
) -> None:
    with LocalFleet(fleet_spec(drift=drift), cache_dir=cache, start=stand_in) as fleet:
        before = fleet.measure(two_widths(network), np.array([0]), runs=3, seed=1)
        honest = stand_in.time
        monkeypatch.setattr(stand_in, "time", lambda self, key, runs: 3 * honest(self, key, runs))
        after = fleet.measure(two_widths(network), np.array([0]), runs=3, seed=2)

    np.testing.assert_allclose(after, factor * before)


def test_visits_under_foreign_load_are_repeated_a_few_times_and_told_of(
    network: Network, cache: Path, stand_in: type[StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = iter([2.0, 0.1, *[1.0] * 100])
    monkeypatch.setattr(local, "ForeignLoad", lambda _: Loaded(next(readings)))
    devices = [{"name": "a"}]
    with LocalFleet(fleet_spec(rounds=6, retries=2, devices=devices), cache_dir=cache, start=stand_in) as fleet:
        fleet.measure(two_widths(network), np.array([0]), runs=6, seed=1)
        told = fleet.describe()["foreign_load"]

    n_attempts = sum(key == "reference" and runs == local.REFERENCE_RUNS + 1 for _, key, runs in stand_in.log) / 2
    # One visit that succeeds at the second try, three that never do, and no patience for the last two.
    assert n_attempts == 2 + 3 * 3 + 2
    assert "above 0.3 in 5 of 6 visits" in str(told)


def test_a_device_whose_process_dies_is_lost_and_starts_anew_when_asked_again(
    network: Network, cache: Path, stand_in: type[StandIn]
) -> None:
    with LocalFleet(fleet_spec(), cache_dir=cache, start=stand_in) as fleet:
        stand_in.dies = "b"
        with pytest.raises(DeviceLostError, match="'here': worker 'b' died") as caught:
            fleet.measure(two_widths(network), np.array([0, 1]), runs=3, seed=1)
        stand_in.dies = None
        samples = fleet.measure(two_widths(network), np.array([1]), runs=3, seed=1)

    assert caught.value.device == 1
    assert (samples > 0).all()


def test_workloads_without_models_cannot_be_measured(network: Network, stand_in: type[StandIn]) -> None:
    workloads = Workloads(network.kernels, network.cost.sizes[None], ("dense",))
    with LocalFleet(fleet_spec(), start=stand_in) as fleet, pytest.raises(FleetError, match="no models to run"):
        fleet.measure(workloads, np.array([0]), runs=3, seed=1)


def test_the_nominal_board_is_the_device_without_conditions(
    network: Network, cache: Path, stand_in: type[StandIn]
) -> None:
    noopt = {"runtime": {"graph_optimization": "none"}}
    with LocalFleet(
        fleet_spec(devices=[{"name": "a"} | noopt, {"name": "b"}]), cache_dir=cache, start=stand_in
    ) as fleet:
        nominal = fleet.sample_nominal(two_widths(network), runs=3, seed=1)
        of_b = fleet.measure(two_widths(network), np.array([1]), runs=3, seed=1)[0]
    with LocalFleet(fleet_spec(devices=[{"name": "a"} | noopt]), cache_dir=cache, start=stand_in) as other:
        nothing = other.sample_nominal(two_widths(network), runs=3, seed=1)

    np.testing.assert_allclose(nominal, of_b)
    assert nothing is None


# Exported models


def test_a_model_is_exported_once_and_by_its_content(network: Network, tmp_path: Path) -> None:
    models, runtime = ExportedModels(tmp_path), RuntimeSpec()
    first = models.file(two_widths(network), 0, runtime)
    stamp = first.stat().st_ino

    again = models.file(network.workloads(network.cost.sizes[None], ("other name",)), 0, runtime)

    assert again == first
    assert again.stat().st_ino == stamp
    assert models.file(two_widths(network), 1, runtime) != first
    assert models.file(two_widths(network), 0, RuntimeSpec(batch=2)) != first


def test_the_least_recently_used_models_go_when_room_is_short(network: Network, tmp_path: Path) -> None:
    models = ExportedModels(tmp_path, most_bytes=1)
    kept, gone = (models.file(two_widths(network), position, RuntimeSpec()) for position in (0, 1))

    models.trim({kept})

    assert kept.exists()
    assert not gone.exists()


# Real processes


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


def alive(pid: int) -> bool:
    return state(pid) not in ("Z", "gone")


def eventually(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 300
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


@pytest.fixture
def busy() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) as process:
        yield process
        process.kill()


def test_two_real_devices_answer_and_leave_nothing_behind(network: Network, cache: Path) -> None:
    devices = [{"name": "whole"}, {"name": "half", "cpu_share": 0.5, "nice": 1}]
    fleet = open_fleet(fleet_spec(devices=devices, rounds=1, retries=0), cache_dir=cache)
    assert isinstance(fleet, LocalFleet)

    with fleet:
        samples = fleet.measure(two_widths(network), np.array([0, 1]), runs=3, seed=0)
        pids = [pid for device in fleet._devices for pid in device.pids]
        facts = fleet.describe()

    assert (samples > 0).all()
    assert len(pids) == 2
    assert not any(map(alive, pids))
    assert facts["kind"] == "local"
    assert "onnxruntime, 1 thread" in str(facts["runtimes"])
    assert means_of_limiting() in str(facts["cpu_share"])


def test_a_killed_worker_is_a_lost_device_and_no_process_is_left(network: Network, cache: Path) -> None:
    with LocalFleet(fleet_spec(devices=[{"name": "a"}], rounds=1, retries=0), cache_dir=cache) as fleet:
        fleet.measure(two_widths(network), np.array([0]), runs=1, seed=0)
        (pid,) = fleet._devices[0].pids
        os.kill(pid, signal.SIGKILL)

        with pytest.raises(DeviceLostError):
            fleet.measure(two_widths(network), np.array([0]), runs=1, seed=0)

        assert fleet._devices[0].pids == ()
    assert not alive(pid)


def test_hogs_run_while_a_device_is_timed_and_are_gone_after_an_error(stand_in: type[StandIn]) -> None:
    device = LocalDevice(LocalDeviceSpec(name="a", memory_hogs=1, cache_hogs=1), start=stand_in)
    with pytest.raises(KeyboardInterrupt), device.active():  # noqa: PT012 - what runs before the error is tested
        pids = device.pids
        assert len(pids) == 2
        assert all(map(alive, pids))
        raise KeyboardInterrupt
    assert eventually(lambda: all(state(pid) == "T" for pid in pids))

    device.close()

    assert not any(map(alive, pids))


def test_hogs_end_with_the_process_that_started_them() -> None:
    program = "import sys; from hdapbench.fleet.local.hog import Hog\nhog = Hog('cache', name='test'); hog.resume(); print(hog.pid, flush=True)\nimport os; os.kill(os.getpid(), 9)"
    parent = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)

    assert eventually(lambda: not alive(int(parent.stdout)))


def test_a_hog_that_dies_midway_makes_its_device_unusable_with_the_reason_and_the_next_time_begins_anew(
    stand_in: type[StandIn], network: Network, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = fleet_spec(devices=[{"name": "beside", "cache_hogs": 1}], rounds=1)
    fleet = LocalFleet(spec, cache_dir=cache, start=stand_in)
    time_model = LocalDevice.time

    def killing(device: LocalDevice, key: str, runs: int) -> Floats:
        (pid,) = [pid for pid in device.pids if pid != os.getpid()]
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        return time_model(device, key, runs)

    with monkeypatch.context() as patch:
        patch.setattr(LocalDevice, "time", killing)
        with pytest.raises(DeviceLostError, match="'cache hog of beside' died: without it the device is not the one"):
            fleet.measure(two_widths(network), np.array([0]), runs=1, seed=0)

    assert fleet.measure(two_widths(network), np.array([0]), runs=1, seed=0).shape == (1, 2, 1)
    fleet.close()


@pytest.mark.parametrize(
    ("condition", "module", "name"),
    [
        ("cpus: [0]", os, "sched_setaffinity"),
        ("nice: 5", os, "setpriority"),
        ("cpu_share: 0.5", signal, "SIGSTOP"),
        ("memory_hogs: 1", signal, "SIGSTOP"),
    ],
)
def test_conditions_that_a_system_has_no_means_for_are_refused_before_anything_is_measured(
    condition: str, module: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, _, value = condition.partition(": ")
    spec = fleet_spec(devices=[{"name": "a", key: yaml.safe_load(value)}])
    monkeypatch.delattr(module, name)

    with pytest.raises(FleetError, match=f"device 'a': this system has no means for '{key}'; leave it out"):
        open_fleet(spec)


@pytest.mark.parametrize("kind", ["local", "command", "ray"])
def test_fleets_that_wait_for_processes_say_that_they_do_not_run_on_windows(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"name": "here", "kind": kind, "devices": [{"name": "a"}]} | (
        {"run": "x {models}"} if kind != "local" else {}
    )
    spec = TypeAdapter(AnyFleetSpec).validate_python(values)
    monkeypatch.setattr("hdapbench.fleet.visits.on_windows", lambda: True)

    with pytest.raises(FleetError, match=f"fleets of kind '{kind}' run on Linux and macOS; on Windows use fleet ask"):
        open_fleet(spec)


def test_a_system_that_tells_no_foreign_load_is_said_and_its_visits_count(
    stand_in: type[StandIn], network: Network, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "ForeignLoad", lambda _: Loaded(None))
    fleet = LocalFleet(fleet_spec(rounds=1), cache_dir=cache, start=stand_in)

    fleet.measure(two_widths(network), np.array([0]), runs=1, seed=0)

    assert fleet.describe()["foreign_load"] == "not told by this system"


def test_stop_and_go_gives_about_its_share_and_lets_go(busy: subprocess.Popen[bytes]) -> None:
    limit = StopAndGo(busy.pid, share=0.2)
    assert eventually(lambda: state(busy.pid) == "T")

    limit.release()

    assert eventually(lambda: state(busy.pid) == "R")


def test_stop_and_go_ends_a_process_whose_measurer_is_gone(busy: subprocess.Popen[bytes]) -> None:
    program = f"from hdapbench.fleet.local.cpu_share import StopAndGo; import os; StopAndGo({busy.pid}, share=0.2); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", program], check=False)

    assert busy.wait(timeout=300) == -signal.SIGKILL


def test_a_limited_process_gets_less_of_the_cpu_than_one_that_is_not(busy: subprocess.Popen[bytes]) -> None:
    limit = limit_cpu(busy.pid, share=0.1, threads=1)
    assert limit is not None
    try:
        used, since = cpu_seconds(busy.pid), time.monotonic()
        assert eventually(lambda: cpu_seconds(busy.pid) > used + 0.03)
        share = (cpu_seconds(busy.pid) - used) / (time.monotonic() - since)
    finally:
        limit.release()

    assert share < 0.6
    assert limit_cpu(busy.pid, share=1.0, threads=1) is None


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_hog_can_be_closed_twice() -> None:
    hog = Hog("cache", name="test")
    hog.close()
    hog.close()

    assert not alive(hog.pid)


def test_folders_of_models_go_with_their_fleet_and_those_of_dead_processes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    dead = tmp_path / f".{int(gone.stdout)}-hdapbench-exports-old"
    dead.mkdir()
    (tmp_path / "mine").mkdir()

    folder = scratch_folder()
    beside = scratch_folder()

    assert sorted(tmp_path.iterdir()) == sorted([folder, beside, tmp_path / "mine"])
