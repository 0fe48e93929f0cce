"""Whatever a board says is samples or a reason; and what runs on it needs nothing of this package."""

from __future__ import annotations

import ast
import json
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdapbench.fleet.command import board_runner
from hdapbench.fleet.command.answers import AnswerError, checked_samples, parsed
from hdapbench.fleet.command.boards import RUNNER
from hdapbench.fleet.command.calls import CallError, call
from hdapbench.fleet.command.jobs import Job

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
ROWS = st.lists(st.lists(st.floats() | st.floats(0.01, 10) | VALUES, max_size=3), max_size=4)


@given(st.fixed_dictionaries({}, optional={"samples_ms": ROWS | VALUES}), st.none() | st.floats())
def test_any_answer_is_samples_or_a_reason(answer: dict[str, object], seconds: float | None) -> None:
    try:
        samples = checked_samples(answer, n_models=3, runs=2, seconds=seconds)
    except AnswerError:
        return
    assert samples.shape == (3, 2)
    assert np.all(np.isfinite(samples) & (samples > 0))


@given(st.text() | VALUES.map(json.dumps))
def test_any_output_is_a_mapping_or_a_reason(output: str) -> None:
    with suppress(AnswerError):
        assert isinstance(parsed(output), dict)


def test_the_runner_is_one_file_for_old_pythons_that_needs_numpy_and_onnxruntime_alone() -> None:
    tree = ast.parse(RUNNER.read_text(), feature_version=(3, 8))

    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).partition(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"numpy", "onnxruntime"}


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("while True: print('x' * 1000)", "it said more than 16 MiB"),
        ("import time; time.sleep(30)", "no answer within 1 s"),
        ("import os; os.close(1); os.close(2); import time; time.sleep(30)", "no answer within 1 s"),
        ("raise SystemExit('gone')", "failed with code 1: gone"),
    ],
)
def test_commands_have_limits(code: str, complaint: str) -> None:
    with pytest.raises(CallError, match=complaint):
        call([sys.executable, "-c", code], timeout=1.0 if "sleep" in code else 600.0)


def test_a_command_that_leaves_something_in_the_background_is_over_when_it_ends() -> None:
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3600)'])"

    said = call([sys.executable, "-c", f"{code}; print('done')"], timeout=300.0)

    assert said.output == "done\n"


def test_a_command_that_is_not_there_is_named() -> None:
    with pytest.raises(CallError, match="'no-such-program' cannot be run: "):
        call(["no-such-program"], timeout=1.0)


def test_a_visit_of_a_job_that_finds_the_board_slow_is_repeated_and_again_when_the_job_is_called_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    model.write_bytes(b"")
    job = Job.of(("dense",), [model, model], runs=4, rounds=4, seed=0)
    job.write(tmp_path / "job.zip", [model, model], {"known": 1.0})
    took: list[float] = []
    monkeypatch.setattr(board_runner, "timed", lambda files, runs, _: {"samples_ms": [[took.pop(0)]] * len(files)})
    output = tmp_path / "job-nx.json"

    def called(device: str) -> list[float]:
        options = ["--device", device, "--pause", "0", "-o", str(output)]
        assert board_runner.main([str(tmp_path / "job.zip"), *options]) == 0
        assert not took
        return [answer["samples_ms"][0][0] for answer in json.loads(output.read_text())["answers"]]

    took += [1.0, 9.0, 1.1, 9.0, 7.0, 8.0, 1.2]
    assert called("new") == [1.0, 1.1, 7.0, 1.2]
    took += [1.3]
    assert called("new") == [1.0, 1.1, 1.3, 1.2]
    output.unlink()
    took += [5.0, 1.0, 1.0, 1.0, 1.0]
    assert called("known") == [1.0, 1.0, 1.0, 1.0]
