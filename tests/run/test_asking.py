"""Jobs for boards that nothing reaches: what is asked, what is taken of the answers, and what a run does meanwhile."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hdapbench.cli.main import main
from hdapbench.fleet.command.board_runner import state
from hdapbench.fleet.open import open_fleet
from hdapbench.spec import RecordedFleetSpec

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

SWALLOWS = """\
import numpy as np
from hdapbench.errors import FleetError
from hdapbench_methods.uniform import Uniform
class Swallows(Uniform):
    name = "swallows"
    def compress(self, problem):
        try:
            problem.devices.latency(np.ones((1, len(problem.cost.groups)), dtype=int))
        except FleetError:
            pass
        return super().compress(problem)
"""


@pytest.fixture
def job(tiny_spec: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Manifest of the first job of a spec whose recording is not there yet."""
    lines = tiny_spec.read_text().replace("resnet20", "resnet6").splitlines()
    fleet = "  - {name: lab, kind: recorded, path: lab.csv, runs: 3, clustering: {n_clusters: 2}}"
    tiny_spec.write_text("\n".join(fleet if "simulated" in line else line for line in lines) + "\n")
    monkeypatch.chdir(tiny_spec.parent)
    assert main(["fleet", "ask", "tiny.yaml", "-o", "job.zip"]) == 0
    return manifest("job.zip")


def manifest(path: str) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        assert "__main__.py" in archive.namelist()
        return dict(json.loads(archive.read("job.json")))


def result(job: dict[str, Any], device: str, speed: float = 1.0, **changes: Any) -> str:
    """File of a board's honest result, or of one that is changed."""
    rng = Random(device)
    answers = []
    for visit in job["visits"]:
        times = [
            [speed * (1 + model) * rng.uniform(0.99, 1.01) for _ in range(visit["runs"])] for model in visit["models"]
        ]
        answers.append({"samples_ms": times, "seconds": 10.0})
    path = Path(f"{job['job'][:4]}-{device}.json")
    path.write_text(json.dumps({"job": job["job"], "device": device, "answers": answers} | changes))
    return str(path)


def lying(job: dict[str, Any], value: float) -> list[dict[str, Any]]:
    return [
        {
            "samples_ms": [[value * (1 + i / 10 + j) for i in range(visit["runs"])] for j in visit["models"]],
            "seconds": 10,
        }
        for visit in job["visits"]
    ]


def test_honest_results_are_taken_and_others_refused_with_the_reason(
    job: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    honest = [result(job, name, speed) for name, speed in (("a", 1.0), ("b", 1.1), ("c", 2.0))]
    wrong = [
        result(job, "nan", answers=lying(job, float("nan"))),
        result(job, "slow-clock", answers=lying(job, 1e6)),
        result(job, "unfinished", answers=lying(job, 1.0)[:1]),
        result(job, "odd", answers=["?"] * len(job["visits"])),
    ]

    assert main(["fleet", "tell", *honest, *wrong, "--json"]) == 1

    (told,) = json.loads(capsys.readouterr().out)
    assert told["devices"] == ["a", "b", "c"]
    expected = {
        "nan": "it gave nan ms",
        "slow-clock": "its samples add up to",
        "unfinished": f"it has 1 of {len(job['visits'])} visits",
        "odd": "an answer is no mapping",
    }
    assert set(told["refused"]) == set(expected)
    assert all(told["refused"][name].startswith(reason) for name, reason in expected.items()), told["refused"]
    fleet = open_fleet(RecordedFleetSpec.model_validate({"name": "lab", "kind": "recorded", "path": "lab.csv"}))
    assert fleet.device_ids == ("a", "b", "c")
    assert fleet.plans == tuple(sorted(job["plans"]))
    assert fleet.recorded_fingerprint().probes == tuple(job["plans"])  # type: ignore[union-attr]


def test_a_result_is_told_once_and_another_day_replaces_it(
    job: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fleet", "tell", result(job, "a"), result(job, "b")]) == 0
    before = Path("lab.csv").read_text()

    assert main(["fleet", "tell", result(job, "a", 3.0)]) == 0
    assert "known already, replaced with --replace: a" in capsys.readouterr().out
    assert Path("lab.csv").read_text() == before

    assert main(["fleet", "tell", result(job, "a", 3.0), "--replace"]) == 0
    rows, old = Path("lab.csv").read_text().splitlines(), before.splitlines()
    assert len(rows) == len(old)
    assert [row for row in rows if row.startswith("b,")] == [row for row in old if row.startswith("b,")]
    assert not {row for row in rows if row.startswith("a,")} & set(old)


def test_a_board_that_is_slower_in_a_later_job_is_corrected_and_one_that_is_throttled_refused(
    job: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fleet", "tell", result(job, "a"), result(job, "b")]) == 0
    assert main(["fleet", "ask", "tiny.yaml", "--all", "--rounds", "2", "-o", "later.zip"]) == 0
    later = manifest("later.zip")
    rows = Path("lab.csv").read_text().splitlines()
    Path("lab.csv").write_text("\n".join([rows[0], *[row for row in rows if row.startswith("b,")]]) + "\n")
    capsys.readouterr()

    assert main(["fleet", "tell", result(later, "a", 1.5), result(later, "c", 1.5), "--json"]) == 0
    medians = {}
    for device in "ac":
        of_device = [row.split(",") for row in Path("lab.csv").read_text().splitlines() if row.startswith(f"{device},")]
        medians[device] = sorted(float(row[3]) for row in of_device)[len(of_device) // 2]
    assert medians["c"] / medians["a"] == pytest.approx(1.5, rel=0.05)  # a is known from before, c is not

    capsys.readouterr()
    Path("lab.csv").write_text("\n".join([rows[0], *[row for row in rows if row.startswith("b,")]]) + "\n")
    assert main(["fleet", "tell", result(later, "a", 2.5), "--json"]) == 1
    (told,) = json.loads(capsys.readouterr().out)
    assert told["refused"]["a"].startswith("throttled: the reference network takes 2.5 times as long")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{}", "is no result of a job; boards write them with: python3 job.zip --device NAME"),
        ("[", "is no result of a job"),
        ('{"job": "0123", "device": "a", "answers": []}', "job '0123' was not asked from the workspace '.hdapbench'"),
        ('{"job": "../../x", "device": "a", "answers": []}', "was not asked from the workspace"),
        (None, "cannot be read: No such file"),
    ],
)
def test_files_that_are_no_results_are_refused_and_nothing_is_written(
    job: dict[str, Any], content: str | None, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        Path("x.json").write_text(content)

    assert main(["fleet", "tell", result(job, "a"), "x.json"]) == 2

    assert complaint in capsys.readouterr().err
    assert not Path("lab.csv").exists()


def test_a_lack_that_a_method_swallows_still_makes_its_trial_wait(
    job: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fleet", "tell", *(result(job, name) for name in "abc")]) == 0
    Path("swallows.py").write_text(SWALLOWS)
    narrowed = ["--set", "targets=[{flops: 0.5x}]", "--set", "methods=[swallows]", "--set", "plugins=[./swallows.py]"]

    assert main(["run", "tiny.yaml", *narrowed]) == 2

    error = capsys.readouterr().err
    assert "1 trials wait for" in error
    assert "hdapbench fleet ask tiny.yaml -o job.zip" in error
    assert main(["fleet", "ask", "tiny.yaml", "-o", "next.zip"]) == 0
    assert not set(manifest("next.zip")["plans"]) & set(job["plans"])


def test_plans_of_another_network_are_refused_though_their_widths_agree(
    job: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fleet", "tell", *(result(job, name) for name in "abc")]) == 0
    noted = Path("lab.plans.json").read_text()
    Path("lab.plans.json").write_text(noted.replace("resnet6@1x8x8", "other@1x8x8"))

    assert main(["check", "tiny.yaml"]) == 2
    assert "was recorded of other@1x8x8, not of resnet6@1x8x8; name a file for each network" in capsys.readouterr().err

    changed = json.loads(noted)
    (model,) = changed["models"].values()
    model["kernels"]["kernels"].pop()
    Path("lab.plans.json").write_text(json.dumps(changed))

    assert main(["run", "tiny.yaml", "--limit", "1", "--json", "--output", "x.md"]) == 1
    reasons = {found["reason"] for found in json.loads(capsys.readouterr().out) if found["trial"]["method"] == "dense"}
    assert "was recorded of another network (resnet6@1x8x8)" in reasons.pop()


def test_a_board_tells_what_its_system_offers_and_leaves_out_the_rest(tmp_path: Path) -> None:
    files = {
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1907200\n",
        "sys/class/devfreq/17000000.gv11b/cur_freq": "1109250000\n",
        "sys/class/thermal/thermal_zone0/type": "CPU-therm\n",
        "sys/class/thermal/thermal_zone0/temp": "41500\n",
        "sys/class/thermal/thermal_zone1/type": "broken\n",
        "sys/class/thermal/thermal_zone1/temp": "?\n",
        "var/lib/nvpmodel/status": "pmode:0002 fmode:fanNull\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)

    found = state(tmp_path)

    assert found["clocks_mhz"] == {"cpu0": 1907.2, "17000000.gv11b": 1109.25}
    assert found["temperature_celsius"] == {"CPU-therm": 41.5}
    assert found["power_mode"] == "pmode:0002 fmode:fanNull"
    assert set(state(tmp_path / "nothing")) == {"host", "machine"}
