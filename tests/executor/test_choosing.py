"""Which executor a run has when nobody says which."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hdapbench.executor import choose
from hdapbench.executor.inline import Inline
from hdapbench.executor.process import Processes
from hdapbench.method import Method, Plan, Problem
from hdapbench.method.registry import MethodRegistry
from hdapbench.run.earlier import EarlierResults
from hdapbench.run.job import Job
from hdapbench.run.workspace import Workspace
from hdapbench.spec import load

LOCAL = (
    "fleets[0]={name: here, kind: local, clustering: {n_clusters: 1}, devices: [{name: a, runtime: {runtime: eager}}]}"
)


@pytest.fixture
def job(spec: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A job on a machine of four processors."""
    monkeypatch.setattr(choose, "usable_cpus", lambda: (0, 1, 2, 3))
    monkeypatch.delenv(choose.VARIABLE)

    def made(*overrides: str, method: type[Method] | None = None) -> Job:
        loaded, registry = load("tiny.yaml", overrides), MethodRegistry()
        if method is not None:
            registry.add_class(method)
        workspace = Workspace(Path("work"))
        return Job(loaded, registry, workspace, {}, EarlierResults(loaded.spec, workspace.database, rerun=()))

    return made


def suited(job: Job, n_left: int = 9, **asked: Any) -> tuple[str, int, str]:
    executor, said = choose.Chosen(**asked)._suited(job, n_left)
    n_workers = executor.n_workers if isinstance(executor, Processes) else 1
    return ("inline" if isinstance(executor, Inline) else "process"), n_workers, said


@pytest.mark.parametrize(
    ("overrides", "n_left", "asked", "expected"),
    [
        ((), 9, {}, ("process", 4)),
        ((), 3, {}, ("process", 3)),
        ((), 1, {}, ("inline", 1)),
        (("threads=2",), 9, {}, ("process", 2)),
        (("threads=3",), 9, {}, ("inline", 1)),
        ((), 9, {"n_workers": 2}, ("process", 2)),
        ((), 9, {"n_workers": 7, "name": "process"}, ("process", 7)),
        ((), 9, {"name": "inline"}, ("inline", 1)),
        ((LOCAL,), 9, {}, ("inline", 1)),
        ((LOCAL,), 9, {"name": "process", "n_workers": 4}, ("process", 1)),
    ],
)
def test_workers_are_as_many_as_cores_trials_and_fleets_allow(
    job: Any, overrides: tuple[str, ...], n_left: int, asked: dict[str, Any], expected: tuple[str, int]
) -> None:
    assert suited(job(*overrides), n_left, **asked)[:2] == expected


def test_why_there_is_one_trial_at_a_time_is_said(job: Any) -> None:
    class Mine(Method):
        name = "mine"

        def compress(self, problem: Problem) -> Plan:
            raise NotImplementedError

    assert "would disturb the latencies of fleet 'here'" in suited(job(LOCAL))[2]
    kind, _, said = suited(job(method=Mine))
    assert kind == "inline"
    assert "name a file that holds it" in said


def test_there_is_a_worker_for_each_gpu(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")

    executor, _ = choose.Chosen()._suited(job("device=cuda"), 9)

    assert isinstance(executor, Processes)
    assert (executor.n_workers, list(executor.gpus)) == (2, ["3", "5"])


def test_a_variable_names_the_executor_of_runs_that_name_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choose.VARIABLE, "process")

    assert choose.chosen() == choose.Chosen("process")
    assert choose.chosen("inline") == choose.Chosen("inline")
    assert choose.chosen(address="10.0.0.1:6379") == replace(choose.Chosen("ray"), address="10.0.0.1:6379")
