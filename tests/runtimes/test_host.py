from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hdapbench.runtimes.host import read_host
from hdapbench.runtimes.load import read_busy_seconds

CPUINFO = "processor\t: 0\nmodel name\t: Fancy 9000\ncpu MHz\t\t: 2100.5\n\nprocessor\t: 1\ncpu MHz\t\t: 900.0\n"


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_host_tells_what_is_readable(tmp_path):
    write(
        tmp_path,
        {
            "proc/cpuinfo": CPUINFO,
            "proc/loadavg": "1.25 1.0 0.9 1/2 3\n",
            "proc/self/cgroup": "0::/jobs/one\n",
            "sys/fs/cgroup/jobs/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/jobs/one/cpu.max": "max 100000\n",
            "sys/fs/cgroup/jobs/one/memory.max": "1048576\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
            "sys/class/thermal/thermal_zone0/temp": "51500\n",
            "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp\n",
        },
    )

    host = read_host(tmp_path)

    assert host.processor == "Fancy 9000"
    assert host.mhz == (2100.5, 900.0)
    assert host.governor == "powersave"
    assert host.celsius == {"x86_pkg_temp 0": 51.5}
    assert (host.load, host.cpu_quota, host.memory_limit_bytes) == (1.25, 1.5, 1 << 20)
    assert "900-2,100 MHz, governor powersave, 52 °C, limited to 1.5 cores, load 1.25" in host.text


def test_quotas_of_the_first_version_of_control_groups_are_read(tmp_path):
    write(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/\n3:cpu,cpuacct:/slow\n",
            "sys/fs/cgroup/cpu/slow/cpu.cfs_quota_us": "25000\n",
            "sys/fs/cgroup/cpu/slow/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
    )

    host = read_host(tmp_path)

    assert (host.cpu_quota, host.memory_limit_bytes) == (0.25, None)


def test_a_host_that_tells_nothing_leaves_gaps(tmp_path):
    host = read_host(tmp_path)

    assert (host.mhz, host.governor, host.celsius, host.load, host.cpu_quota) == ((), None, {}, None, None)
    json.dumps(host.to_dict(), allow_nan=False)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="needs Linux")
def test_busy_time_of_all_processors_covers_ones_own():
    before = read_busy_seconds([os.getpid()])
    assert before is not None
    while (after := read_busy_seconds([os.getpid()]))[1] - before[1] < 0.2:
        sum(range(10_000))

    assert after[0] - before[0] > 0.05
