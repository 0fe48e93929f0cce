"""HDAP on one's own boards, whole: by commands that reach them, and by jobs that are carried there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdapbench.bench.training import Trainer
from hdapbench.cli.main import main
from hdapbench.fleet.local.cpu_share import limit_cpu
from tests.fleet.boards import HONEST
from tests.fleet.namespaces import AGENT, namespaces

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytestmark = pytest.mark.usefixtures("in_the_folder_of_the_spec")

HDAP = "{name: hdap, parameters: {n_plans: 8, active_plans: 0, guard_levels: [[1.0]], choice: guard, criterion: l1}}"


@pytest.fixture
def spec(tiny_spec: Path) -> Path:
    """Spec of a smaller network with uniform pruning and HDAP."""
    text = tiny_spec.read_text().replace("resnet20", "resnet6").replace("[uniform, random]", f"[uniform, {HDAP}]")
    text = text.replace("targets: [{flops: 0.5x}, {flops: 0.3x}]", "targets: [{flops: 0.5x}]")
    tiny_spec.write_text(text)
    return tiny_spec


def on(spec: Path, fleet: str) -> None:
    """Let a spec name this fleet."""
    lines = [f"  - {fleet}" if "kind: simulated" in line else line for line in spec.read_text().splitlines()]
    spec.write_text("\n".join(lines) + "\n")


def ran(capsys: pytest.CaptureFixture[str], *options: str, code: int = 0) -> dict[str, Any]:
    """Method -> result of a run; a run that stopped has none."""
    capsys.readouterr()
    assert main(["run", "tiny.yaml", "--json", "--output", "board.md", *options]) == code, capsys.readouterr().err
    if code:
        return {"error": capsys.readouterr().err}
    return {result["trial"]["method"]: result for result in json.loads(capsys.readouterr().out)}


def test_hdap_runs_on_six_boards_of_which_one_lies_and_one_vanishes(
    spec: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("honest-a", "slow-a", "slow-bb", "honest-bb", "nan-a", "vanishing-a")
    boards = ", ".join(f"{{name: {name}}}" for name in names)
    common = "kind: command, rounds: 1, runs: 3, retries: 0, clustering: {n_clusters: 2}"
    on(spec, f"{{name: lab, {common}, run: '{HONEST}', devices: [{boards}]}}")
    Path("states").mkdir()
    monkeypatch.setenv("BOARDS_STATE", str(Path("states").resolve()))

    found = ran(capsys)

    fleet = found["dense"]["notes"]["fleet"]
    assert "nan-a: it gave nan ms" in fleet["quarantined"]
    assert "vanishing-a: " in fleet["quarantined"]
    assert fleet["n_remaining"] == 4
    assert found["hdap"]["metrics"]["latency_source"] == "measured"
    assert found["hdap"]["metrics"]["latency_ms"] < found["dense"]["metrics"]["latency_ms"]
    assert {device["device"] for device in found["hdap"]["devices"]} <= set(names[:4])
    assert "vanishing-a" in Path("board.md").read_text()


SHARES = {"whole": 1.0, "fifth-a": 0.2, "fifth-b": 0.2, "least": 0.04}
"""Each a fifth of the one before, and less than what a group of processes gets of a CPU that four others want too."""


@pytest.mark.slow
def test_hdap_runs_on_six_boards_in_namespaces_whose_latencies_follow_their_shares_of_a_cpu(
    spec: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    names = (*SHARES, "lying", "vanishing")
    client = f"{sys.executable} {AGENT}"
    with namespaces(tmp_path, *((SHARES.get(name, 1.0), name) for name in names)) as made:
        boards = ", ".join(f"{{name: {name}, at: {board.address}}}" for name, board in zip(names, made, strict=True))
        # So many runs take longer than what a share lets run at once. What the machine does beside is not the question:
        # drift is kept, and no board is throttled.
        common = "kind: command, rounds: 1, runs: 31, retries: 0, drift: keep, clustering: {n_clusters: 3}"
        spec.write_text(spec.read_text().replace("[1, 8, 8]", "[1, 32, 32]"))
        push = f"{client} push {{at}} {{file}} {{remote}}"
        run = f"{client} run {{at}} {{runner}} --runs {{runs}} {{models}}"
        on(spec, f"{{name: lab, {common}, push: '{push}', run: '{run}', devices: [{boards}]}}")

        found = ran(capsys)

    fleet = found["dense"]["notes"]["fleet"]
    assert "lying: " in fleet["quarantined"]
    assert "vanishing: " in fleet["quarantined"]
    assert fleet["n_remaining"] == 4
    assert found["hdap"]["metrics"]["latency_source"] == "measured"
    fastest = {name: min(np.min(of["samples_ms"]) for of in found[name]["devices"]) for name in ("hdap", "dense")}
    assert fastest["hdap"] < fastest["dense"]  # means have what else the machine did
    means = {SHARES[device["device"]]: np.mean(device["samples_ms"]) for device in found["dense"]["devices"]}
    assert len(means) > 1
    assert sorted(means, key=lambda share: means[share]) == sorted(means, reverse=True)


def test_a_board_that_is_lost_after_clustering_without_a_spare_lets_the_trial_begin_anew(
    spec: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("honest-a", "honest-bb", "late-a")
    boards = ", ".join(f"{{name: {name}}}" for name in names)
    common = "kind: command, rounds: 1, runs: 3, retries: 0, clustering: {n_clusters: 3}"
    on(spec, f"{{name: lab, {common}, run: '{HONEST}', devices: [{boards}]}}")
    Path("states").mkdir()
    monkeypatch.setenv("BOARDS_STATE", str(Path("states").resolve()))

    found = ran(capsys, "--only", "uniform")

    assert {device["device"] for device in found["dense"]["devices"]} == set(names)
    assert {device["device"] for device in found["uniform"]["devices"]} == set(names[:2])
    assert "Devices were lost between trials" in Path("board.md").read_text()
    assert "late-a is quarantined" in Path("board.md").read_text()


SHARES_BY_JOBS = {"nx-1": 1.0, "nx-2": 0.2, "nx-3": 0.2, "nx-4": 1.0, "lying": 1.0, "gone": 1.0}


def carried_out(job: Path, *boards: str) -> list[str]:
    """Results of boards: each a process that has nothing but the job, at its share of a CPU and before all other work."""
    files = [f"{job.stem}-{board}.json" for board in boards]
    for board, file in zip(boards, files, strict=True):
        words = [sys.executable, "-I", str(job), "--device", board, "--pause", "0"]
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={"PATH": ""}) as process:
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, process.pid, -15)
            limit = limit_cpu(process.pid, share=SHARES_BY_JOBS.get(board, 1.0), threads=1)
            assert process.wait() == 0
        if limit is not None:
            limit.release()
        if board == "lying":
            answers = json.loads(Path(file).read_text())
            answers["answers"][0]["samples_ms"][1][0] = float("nan")
            Path(file).write_text(json.dumps(answers))
    return files


def tell(capsys: pytest.CaptureFixture[str], job: Path, *boards: str) -> dict[str, str]:
    """Carry a job out and tell its results; boards that were refused (this machine has other work) do it again."""
    for _ in range(20):
        files = carried_out(job, *boards)
        capsys.readouterr()
        main(["fleet", "tell", "--json", *files])
        refused: dict[str, str] = json.loads(capsys.readouterr().out)[0]["refused"]
        if set(refused) <= {"lying"}:
            return refused
        for file in files:
            Path(file).unlink()
    raise AssertionError("twenty times a board was refused")


@pytest.mark.slow
def test_hdap_runs_by_ask_and_tell_and_new_boards_are_scored_without_training(
    spec: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on(spec, "{name: lab, kind: recorded, path: lab.csv, runs: 3, clustering: {n_clusters: 2}}")
    boards = tuple(SHARES_BY_JOBS)
    trained: list[float] = []
    fine_tune = Trainer.fine_tune
    monkeypatch.setattr(
        Trainer, "fine_tune", lambda self, *a, **k: (trained.append(k["epochs"]), fine_tune(self, *a, **k))[1]
    )

    assert "hdapbench fleet ask tiny.yaml -o job.zip" in ran(capsys, code=2)["error"]
    n_jobs = 0
    while main(["fleet", "ask", "tiny.yaml", "-o", f"job{n_jobs}.zip"]) == 0 and Path(f"job{n_jobs}.zip").exists():
        refused = tell(capsys, Path(f"job{n_jobs}.zip"), *boards)
        assert "it gave nan ms" in refused["lying"]
        boards = tuple(board for board in boards if board != "gone")  # after the first job nobody has heard of it
        n_jobs += 1
        assert n_jobs < 6
        if main(["run", "tiny.yaml", "--output", "board.md"]) == 0:
            break
        error = capsys.readouterr().err
        assert "trials wait for" in error
        assert "hdapbench fleet ask tiny.yaml -o job.zip" in error

    before = ran(capsys)
    assert set(before) == {"dense", "uniform", "hdap"}
    assert before["hdap"]["metrics"]["latency_ms"] < before["dense"]["metrics"]["latency_ms"]
    whole, *fifths = [
        min(min(answer["samples_ms"][0]) for answer in json.loads(Path(f"job0-{board}.json").read_text())["answers"])
        for board in ("nx-1", "nx-2", "nx-3")
    ]
    assert whole < min(fifths)  # of the reference network, which takes longer than a period of a share's quota
    n_trained = len(trained)
    assert n_trained == 2  # each plan once, however often the run stopped

    assert main(["fleet", "ask", "tiny.yaml", "--all", "-o", "all.zip"]) == 0
    tell(capsys, Path("all.zip"), "nx-7", "nx-8")
    after = ran(capsys)

    assert len(trained) == n_trained
    assert after["hdap"]["plan"] == before["hdap"]["plan"]
    assert after["hdap"]["notes"]["scored_again"] == before["hdap"]["artifact"]
    assert after["hdap"]["metrics"]["accuracy"] == before["hdap"]["metrics"]["accuracy"]
    assert after["hdap"]["metrics"]["latency_ms"] != before["hdap"]["metrics"]["latency_ms"]
    assert after["dense"]["notes"]["fleet"]["n_devices"] == 7
    assert "Plans of 2 trials were found on an earlier recording" in Path("board.md").read_text()
